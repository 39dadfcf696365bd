package epurse_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"vcckiosk/cardreader/epurse"
)

// errTorn stands for any error of a transport.
var errTorn = errors.New("reader lost the card")

// card is a fake purse card with the keys and values of one vector. It is judged from outside: loads and counts.
type card struct {
	v        vector
	t0       bool // 61xx and 00 C0
	after    bool // keeps the proof under the sequence after counting up
	emptyLog bool // its log is filled with FF instead of having no records
	pin      []byte
	tries    int
	pinOK    bool
	sixC     bool // answers a wrong PIN from the 6C0x family
	balance  uint32
	seq      uint16
	begun    []byte // data of 80 50
	proofFor uint16
	proof    []byte
	log      [][]byte
	waiting  []byte

	loads int             // committed loads
	sent  map[byte]int    // commands by INS
	trace strings.Builder // everything sent and answered
}

var (
	serial   = [8]byte{0x86, 0, 0, 0, 0x12, 0x34, 0x56, 0x78}
	terminal = [6]byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66}
	date     = [4]byte{0x20, 0x26, 0x01, 0x02}
	tm       = [3]byte{0x03, 0x04, 0x05}
)

func newCard(v vector) *card {
	return &card{
		v: v, balance: binary.BigEndian.Uint32(unhex(v.balance)), seq: binary.BigEndian.Uint16(unhex(v.seq)),
		tries: 3, sent: map[byte]int{},
	}
}

func (c *card) mac2() [4]byte { return [4]byte(unhex(c.v.mac2)) }

func info() []byte {
	return join(unhex("4741532020202020"), []byte{0x02, 0x01, 0x00, 0x00}, serial[:], unhex("20250101"), unhex("20351231"), []byte{0, 0})
}

// Transmit answers as the card does.
func (c *card) Transmit(_ context.Context, cmd []byte) ([]byte, error) {
	c.sent[cmd[1]]++
	answer := c.answer(cmd)
	c.trace.WriteString(strings.ToUpper(hex.EncodeToString(cmd)) + " -> " + strings.ToUpper(hex.EncodeToString(answer)) + "\n")
	return answer, nil
}

func (c *card) answer(cmd []byte) []byte {
	if cmd[1] == 0xC0 {
		if len(c.waiting) == 0 {
			return unhex("6985")
		}
		out := append(c.waiting, 0x90, 0x00)
		c.waiting = nil
		return out
	}
	c.waiting = nil
	data, le := body(cmd)
	out, sw := c.do(cmd, data)
	switch {
	case sw != 0x9000:
		out = nil
	case c.t0 && len(out) > 0 && len(data) > 0:
		c.waiting = out
		return []byte{0x61, byte(len(out))}
	case len(data) == 0 && le != len(out):
		return []byte{0x6C, byte(len(out))}
	}
	return append(bytes.Clone(out), byte(sw>>8), byte(sw))
}

// body is the command's data and Le (0: none).
func body(cmd []byte) ([]byte, int) {
	switch {
	case len(cmd) == 4:
		return nil, 0
	case len(cmd) == 5:
		return nil, int(cmd[4])
	case len(cmd) == 5+int(cmd[4]):
		return cmd[5:], 0
	}
	return cmd[5 : 5+int(cmd[4])], int(cmd[len(cmd)-1])
}

func (c *card) do(cmd, data []byte) ([]byte, uint16) {
	kind := unhex(c.v.kind)
	switch [2]byte(cmd[:2]) {
	case [2]byte{0x00, 0xA4}:
		c.begun, c.pinOK = nil, false
		return unhex("6F00"), 0x9000
	case [2]byte{0x00, 0xB0}:
		return info(), 0x9000
	case [2]byte{0x00, 0x20}:
		return nil, c.verify(data)
	case [2]byte{0x00, 0xB2}:
		if n := int(cmd[2]); n <= len(c.log) {
			return c.log[n-1], 0x9000
		}
		if c.emptyLog && cmd[2] <= 10 {
			return bytes.Repeat([]byte{0xFF}, 23), 0x9000
		}
		return nil, 0x6A83
	case [2]byte{0x80, 0x5C}:
		return binary.BigEndian.AppendUint32(nil, c.balance), 0x9000
	case [2]byte{0x80, 0x5A}:
		if c.proof == nil || binary.BigEndian.Uint16(data) != c.proofFor {
			return nil, 0x9406
		}
		return join(make([]byte, 4), c.proof), 0x9000
	case [2]byte{0x80, 0x50}:
		if c.pin != nil && !c.pinOK {
			return nil, 0x6982
		}
		if data[0] != 0x01 {
			return nil, 0x9403
		}
		c.proof = nil
		c.begun = bytes.Clone(data)
		old := binary.BigEndian.AppendUint32(nil, c.balance)
		mac1 := mac4(c.session(), join(old, data[1:5], kind, data[5:11]))
		return join(old, c.seqBytes(), []byte{0x01, 0x00}, unhex(c.v.random), mac1), 0x9000
	case [2]byte{0x80, 0x52}:
		return c.credit(data)
	}
	return nil, 0x6D00
}

func (c *card) credit(data []byte) ([]byte, uint16) {
	if c.begun == nil {
		return nil, 0x6985
	}
	moved := join(c.begun[1:5], unhex(c.v.kind), c.begun[5:11], data[:7]) // amount, type, terminal, date, time
	ok := bytes.Equal(mac4(c.session(), moved), data[7:11])
	amount := binary.BigEndian.Uint32(c.begun[1:5])
	c.begun = nil
	if !ok {
		return nil, 0x9302
	}
	c.balance += amount
	c.loads++
	c.proof = mac4(tacKey(unhex(c.v.dtk)), join(binary.BigEndian.AppendUint32(nil, c.balance), c.seqBytes(), moved))
	c.log = append([][]byte{join(c.seqBytes(), []byte{0, 0, 0}, moved)}, c.log...)
	c.proofFor = c.seq
	c.seq++
	if c.after {
		c.proofFor = c.seq
	}
	return c.proof, 0x9000
}

func (c *card) verify(pin []byte) uint16 {
	switch {
	case c.tries > 0 && bytes.Equal(pin, c.pin):
		c.tries, c.pinOK = 3, true
		return 0x9000
	case c.tries > 0:
		c.tries--
	}
	switch {
	case c.tries == 0 && c.sixC:
		return 0x6A83
	case c.tries == 0:
		return 0x6983
	case c.sixC:
		return 0x6C00 | uint16(c.tries)
	}
	return 0x63C0 | uint16(c.tries)
}

func (c *card) session() []byte {
	return sessionKey(unhex(c.v.dlk), unhex(c.v.random), c.seqBytes())
}

func (c *card) seqBytes() []byte { return binary.BigEndian.AppendUint16(nil, c.seq) }

func addHex(a, b string) []byte {
	return binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(unhex(a))+binary.BigEndian.Uint32(unhex(b)))
}

func params() epurse.Params {
	return epurse.Params{Type: epurse.TypePurseLoad, KeyIndex: 1, Terminal: terminal}
}

// fault replaces the answer to one command.
type fault struct {
	after  bool   // the card acts first
	answer []byte // what comes back; nil with err nil: empty
	err    error
}

// faulty injects one fault at the n-th command, 1-based.
type faulty struct {
	c   *card
	at  int
	f   fault
	n   int
	hit bool
}

func (f *faulty) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	f.n++
	if f.n != f.at {
		return f.c.Transmit(ctx, cmd)
	}
	f.hit = true
	if f.f.after {
		_, _ = f.c.Transmit(ctx, cmd)
	} else {
		f.c.sent[cmd[1]]++
	}
	return f.f.answer, f.f.err
}

// script answers from a list and counts; it fails the test on more commands than answers.
type script struct {
	t       *testing.T
	answers []string
	got     []string
	calls   atomic.Int32
}

func (s *script) Transmit(_ context.Context, cmd []byte) ([]byte, error) {
	s.got = append(s.got, strings.ToUpper(hex.EncodeToString(cmd)))
	n := int(s.calls.Add(1))
	if n > len(s.answers) {
		s.t.Errorf("command %d is one too many: %X", n, cmd)
		return nil, errTorn
	}
	if s.answers[n-1] == "!" {
		return nil, errTorn
	}
	return unhex(s.answers[n-1]), nil
}
