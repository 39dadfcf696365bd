package simcard

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"math"
	"slices"
	"sync"
)

// Convention says which online sequence a purse means: that before the load
// added one to it, or after. Cards in the field differ.
type Convention int

const (
	// ProofBefore is the sequence the load was initialised with.
	ProofBefore Convention = iota
	// ProofAfter is that sequence plus one.
	ProofAfter
)

// PurseConfig describes a purse as it was personalised. The zero value of every
// field but the keys gives a usable card.
type PurseConfig struct {
	// Serial is the last 8 bytes of the application serial number, Prefix the
	// first two: bytes 10..19 of the public information file.
	Serial [8]byte
	Prefix [2]byte
	// DLK and DTK are this card's load and TAC keys.
	DLK, DTK [16]byte
	// Balance is in the card's unit, fen or 0.01 m3.
	Balance uint32
	// Seq and OfflineSeq are the next online and offline sequence numbers.
	Seq, OfflineSeq uint16
	// Convention is the sequence GET TRANSACTION PROVE wants, LogSeq the one a
	// load's log record carries.
	Convention, LogSeq Convention
	// KeepProof: PROVE may be asked again and again. Without it, once. The next
	// INITIALIZE clears the proof either way.
	KeepProof bool
	// PIN, two to six BCD bytes, must be verified in this power session before
	// 80 50; nil: none. Three tries.
	PIN []byte
	// LogCapacity is the number of log records, newest first; 0 means 10,
	// negative means no log file.
	LogCapacity int
	// T0: answers of commands with data are fetched with GET RESPONSE (61xx).
	T0 bool
	// AID selects the application; nil means A00000000386980701.
	AID []byte
	// Type is the purse: 01 ED, 02 EP; 0 means 02.
	Type byte
	// InfoSFI and LogSFI are short file identifiers; 0 means 15 and 18 (hex).
	InfoSFI, LogSFI byte
	// KeyIndexes are the load keys the card knows; nil means 01.
	KeyIndexes []byte
	// KeyVersion and AlgID are what INITIALIZE answers.
	KeyVersion, AlgID byte
	// Limit is the largest balance; 0 means 7FFFFFFF.
	Limit uint32
	// Random gives the card's random numbers; nil means crypto/rand.
	Random func() [4]byte
	// Reset is the ATR; nil means that of a CPU card with the protocol T0 says.
	Reset []byte
}

// LoadDone is one load that the card has committed.
type LoadDone struct {
	Seq      uint16 // the sequence it was initialised with
	Amount   uint32
	Terminal [6]byte
	Date     [4]byte // BCD YYYYMMDD, as the host gave it
	Time     [3]byte // BCD hhmmss
	MAC2     [4]byte
	TAC      [4]byte
	Balance  uint32 // after the load
}

// Purse is a virtual PBOC electronic purse. A load commits balance, sequence,
// log record and proof as one step: no tear separates them. Arm gives it faults.
type Purse struct {
	faults
	cfg PurseConfig

	mu       sync.Mutex
	powered  bool
	selected bool
	pinOK    bool
	pinTries int
	pending  []byte // waiting for GET RESPONSE
	load     *pendingLoad

	balance uint32
	seq     uint16
	offline uint16
	log     [][]byte // newest first
	proof   *proof
	loads   []LoadDone
	inits   int
}

type pendingLoad struct {
	amount   uint32
	terminal [6]byte
	key      [8]byte
	seq      uint16
}

type proof struct {
	seq uint16
	tac [4]byte
}

// NewPurse personalises a card.
func NewPurse(c PurseConfig) *Purse {
	if c.LogCapacity == 0 {
		c.LogCapacity = 10
	}
	if c.AID == nil {
		c.AID = []byte{0xA0, 0x00, 0x00, 0x00, 0x03, 0x86, 0x98, 0x07, 0x01}
	}
	if c.Type == 0 {
		c.Type = 0x02
	}
	if c.InfoSFI == 0 {
		c.InfoSFI = 0x15
	}
	if c.LogSFI == 0 {
		c.LogSFI = 0x18
	}
	if c.KeyIndexes == nil {
		c.KeyIndexes = []byte{0x01}
	}
	if c.Limit == 0 {
		c.Limit = math.MaxInt32
	}
	if c.Random == nil {
		c.Random = func() (r [4]byte) {
			_, _ = rand.Read(r[:]) // never fails
			return r
		}
	}
	if c.Reset == nil {
		history := []byte{0x80, 0x31, 0x80, 0x65, 0xB0, 0x83, 0x11, 0x48, 0xC8}
		if c.T0 {
			c.Reset = append([]byte{0x3B, 0x69, 0x00, 0x00}, history...)
		} else { // T=1 is announced in TD1, and then a check byte ends the ATR
			c.Reset = append([]byte{0x3B, 0x89, 0x01}, history...)
			var tck byte
			for _, b := range c.Reset[1:] {
				tck ^= b
			}
			c.Reset = append(c.Reset, tck)
		}
	}
	return &Purse{cfg: c, balance: c.Balance, seq: c.Seq, offline: c.OfflineSeq, pinTries: 3}
}

// ATR is the answer to reset.
func (p *Purse) ATR() []byte { return slices.Clone(p.cfg.Reset) }

// PowerOn starts a power session: nothing selected, no PIN, no load pending.
func (p *Purse) PowerOn() { p.power(true) }

// PowerOff ends it. Balance, sequences, log and proof stay.
func (p *Purse) PowerOff() { p.power(false) }

func (p *Purse) power(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.powered, p.selected, p.pinOK = on, false, false
	p.pending, p.load = nil, nil
}

// Exchange executes one APDU; nil means no answer.
func (p *Purse) Exchange(cmd []byte) []byte { return p.Reply(cmd).bytes(cmd) }

// Reply executes one APDU under the armed faults.
func (p *Purse) Reply(cmd []byte) Reply {
	return p.apply(cmd, func(c *cut) ([]byte, bool) {
		if c != nil { // a CPU card has no effect in parts
			return nil, false
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.execute(cmd), true
	})
}

// Status words of the purse.
const (
	swOK          = 0x9000
	swSecurity    = 0x6982
	swBlocked     = 0x6983
	swConditions  = 0x6985
	swNoFile      = 0x6A82
	swNoRecord    = 0x6A83
	swParams      = 0x6A86
	swLength      = 0x6700
	swINS         = 0x6D00
	swCLA         = 0x6E00
	swMAC         = 0x9302
	swKeyIndex    = 0x9403
	swNoProof     = 0x9406
	swPINTries    = 0x63C0
	swMore        = 0x6100
	swRightLength = 0x6C00
)

// command is a short APDU taken apart.
type command struct {
	cla, ins, p1, p2 byte
	data             []byte
	le               int // -1: none, 256: 00
}

func parseCommand(b []byte) (command, bool) {
	if len(b) < 4 {
		return command{}, false
	}
	c := command{cla: b[0], ins: b[1], p1: b[2], p2: b[3], le: -1}
	b = b[4:]
	if len(b) == 0 {
		return c, true
	}
	if len(b) > 1 {
		n := int(b[0])
		if n == 0 || len(b) < 1+n || len(b) > 2+n {
			return command{}, false
		}
		c.data, b = b[1:1+n], b[1+n:]
	}
	if len(b) == 1 {
		if c.le = int(b[0]); c.le == 0 {
			c.le = 256
		}
	}
	return c, true
}

// execute runs one command; the caller holds mu.
func (p *Purse) execute(raw []byte) []byte {
	c, ok := parseCommand(raw)
	if !p.powered || !ok {
		return status(swLength)
	}
	if c.cla == 0x00 && c.ins == 0xC0 {
		return p.getResponse(c)
	}
	p.pending = nil
	load := p.load
	p.load = nil // whatever comes after 80 50 and is not 80 52 ends the load
	switch uint16(c.cla)<<8 | uint16(c.ins) {
	case 0x00A4:
		return p.selectFile(c)
	case 0x00B0:
		return p.readBinary(c)
	case 0x00B2:
		return p.readRecord(c)
	case 0x0020:
		return p.verify(c)
	case 0x0084:
		if c.le != 4 && c.le != 8 {
			return status(swLength)
		}
		r, s := p.cfg.Random(), p.cfg.Random()
		return p.out(c, append(r[:], s[:]...)[:c.le])
	}
	if c.cla != 0x80 {
		return status(swCLA)
	}
	switch c.ins {
	case 0x5C, 0x50, 0x52, 0x5A:
		if !p.selected {
			return status(swConditions)
		}
	}
	switch c.ins {
	case 0x5C:
		if c.p1 != 0 || c.p2 != p.cfg.Type {
			return status(swParams)
		}
		return p.out(c, binary.BigEndian.AppendUint32(nil, p.balance))
	case 0x50:
		return p.initLoad(c)
	case 0x52:
		return p.creditLoad(c, load)
	case 0x5A:
		return p.prove(c)
	}
	return status(swINS)
}

// out answers data in the way of the card's transmission protocol.
func (p *Purse) out(c command, data []byte) []byte {
	switch {
	case p.cfg.T0 && len(c.data) > 0:
		p.pending = data
		return status(swMore | uint16(len(data)&0xFF))
	case c.le == 256 && !p.cfg.T0, c.le < 0, c.le == len(data):
		return answer(data...)
	case c.le < len(data) && len(c.data) == 0 && c.ins == 0xB0:
		return answer(data[:c.le]...)
	}
	return status(swRightLength | uint16(len(data)&0xFF))
}

func (p *Purse) getResponse(c command) []byte {
	n := len(p.pending)
	switch {
	case n == 0:
		return status(swConditions)
	case c.le < 0:
		return status(swLength)
	case c.le > n:
		return status(swRightLength | uint16(n&0xFF))
	}
	data := p.pending[:c.le]
	p.pending = p.pending[c.le:]
	if rest := len(p.pending); rest > 0 {
		return append(slices.Clone(data), status(swMore|uint16(rest&0xFF))...)
	}
	return answer(data...)
}

func (p *Purse) selectFile(c command) []byte {
	switch {
	case c.p1 == 0x04 && len(c.data) >= 5 && bytes.HasPrefix(p.cfg.AID, c.data):
		p.selected = true
	case c.p1 == 0x00 && bytes.Equal(c.data, []byte{0x3F, 0x01}),
		c.p1 == 0x00 && bytes.Equal(c.data, []byte{0x10, 0x01}):
		p.selected = true
	case c.p1 == 0x00 && (len(c.data) == 0 || bytes.Equal(c.data, []byte{0x3F, 0x00})):
		p.selected = false
		return p.out(c, []byte{0x6F, 0x02, 0x84, 0x00})
	default:
		return status(swNoFile)
	}
	p.pinOK = false
	aid := append([]byte{0x84, byte(len(p.cfg.AID))}, p.cfg.AID...)
	own := append([]byte{0xA5, 0x03, 0x88, 0x01}, p.cfg.InfoSFI)
	fci := append([]byte{0x6F, byte(len(aid) + len(own))}, aid...)
	return p.out(c, append(fci, own...))
}

// info is the public information file, 30 bytes.
func (p *Purse) info() []byte {
	b := make([]byte, 30)
	copy(b, []byte{0x86, 0x98, 0x07, 0x00, 0xFF, 0xFF, 0xFF, 0xFF, p.cfg.Type, 0x01})
	copy(b[10:], p.cfg.Prefix[:])
	copy(b[12:], p.cfg.Serial[:])
	copy(b[20:], []byte{0x20, 0x20, 0x01, 0x01, 0x20, 0x99, 0x12, 0x31})
	return b
}

func (p *Purse) readBinary(c command) []byte {
	if !p.selected || c.p1 != 0x80|p.cfg.InfoSFI {
		return status(swNoFile)
	}
	b := p.info()
	if int(c.p2) >= len(b) || c.le < 0 {
		return status(0x6B00)
	}
	return p.out(c, b[c.p2:])
}

func (p *Purse) readRecord(c command) []byte {
	if !p.selected || c.p2 != p.cfg.LogSFI<<3|4 || p.cfg.LogCapacity < 0 {
		return status(swNoFile)
	}
	n := int(c.p1)
	if n < 1 || n > len(p.log) {
		return status(swNoRecord)
	}
	return p.out(c, slices.Clone(p.log[n-1]))
}

func (p *Purse) verify(c command) []byte {
	switch {
	case p.cfg.PIN == nil:
		return status(swNoRecord)
	case p.pinTries == 0:
		return status(swBlocked)
	case len(c.data) < 2 || len(c.data) > 6:
		return status(swLength)
	case !bytes.Equal(c.data, p.cfg.PIN):
		p.pinTries--
		p.pinOK = false
		return status(swPINTries | uint16(p.pinTries))
	}
	p.pinTries, p.pinOK = 3, true
	return status(swOK)
}

func (p *Purse) initLoad(c command) []byte {
	switch {
	case c.p1 != 0 || c.p2 != p.cfg.Type:
		return status(swParams)
	case len(c.data) != 11:
		return status(swLength)
	case p.cfg.PIN != nil && !p.pinOK:
		return status(swSecurity)
	case !slices.Contains(p.cfg.KeyIndexes, c.data[0]):
		return status(swKeyIndex)
	}
	amount := binary.BigEndian.Uint32(c.data[1:5])
	if p.seq == math.MaxUint16 || uint64(p.balance)+uint64(amount) > uint64(p.cfg.Limit) {
		return status(swConditions)
	}
	p.proof = nil
	p.inits++
	random := p.cfg.Random()
	l := &pendingLoad{
		amount: amount, terminal: [6]byte(c.data[5:11]), seq: p.seq,
		key: sessionKey(p.cfg.DLK, random, p.seq),
	}
	in := binary.BigEndian.AppendUint32(nil, p.balance)
	in = append(in, c.data[1:5]...)
	in = append(in, p.cfg.Type)
	in = append(in, l.terminal[:]...)
	mac1 := mac4(l.key, in)
	p.load = l
	out := binary.BigEndian.AppendUint32(nil, p.balance)
	out = binary.BigEndian.AppendUint16(out, p.seq)
	out = append(out, p.cfg.KeyVersion, p.cfg.AlgID)
	out = append(append(out, random[:]...), mac1[:]...)
	return p.out(c, out)
}

func (p *Purse) creditLoad(c command, l *pendingLoad) []byte {
	switch {
	case c.p1 != 0 || c.p2 != 0:
		return status(swParams)
	case len(c.data) != 11:
		return status(swLength)
	case l == nil:
		return status(swConditions)
	}
	common := loadInput(l.amount, p.cfg.Type, l.terminal, [4]byte(c.data), [3]byte(c.data[4:]))
	mac2 := [4]byte(c.data[7:])
	if mac4(l.key, common) != mac2 {
		return status(swMAC)
	}
	in := binary.BigEndian.AppendUint32(nil, p.balance+l.amount)
	in = append(binary.BigEndian.AppendUint16(in, l.seq), common...)
	tac := mac4(tacKey(p.cfg.DTK), in)
	done := LoadDone{
		Seq: l.seq, Amount: l.amount, Terminal: l.terminal, Date: [4]byte(c.data),
		Time: [3]byte(c.data[4:]), MAC2: mac2, TAC: tac, Balance: p.balance + l.amount,
	}
	p.balance = done.Balance
	p.seq = l.seq + 1
	p.proof = &proof{seq: l.seq + uint16(p.cfg.Convention), tac: tac}
	p.record(l.seq+uint16(p.cfg.LogSeq), p.cfg.Type, l.amount, done.Terminal, done.Date, done.Time)
	p.loads = append(p.loads, done)
	return p.out(c, tac[:])
}

// record pushes one log record and drops the oldest.
func (p *Purse) record(seq uint16, typ byte, amount uint32, term [6]byte, date [4]byte, tm [3]byte) {
	if p.cfg.LogCapacity < 0 {
		return
	}
	r := binary.BigEndian.AppendUint16(nil, seq)
	r = append(r, 0, 0, 0)
	r = binary.BigEndian.AppendUint32(r, amount)
	r = append(append(r, typ), term[:]...)
	r = append(append(r, date[:]...), tm[:]...)
	p.log = slices.Insert(p.log, 0, r)
	p.log = p.log[:min(len(p.log), p.cfg.LogCapacity)]
}

func (p *Purse) prove(c command) []byte {
	switch {
	case c.p1 != 0 || len(c.data) != 2:
		return status(swParams)
	case c.p2 != p.cfg.Type:
		return status(swNoProof)
	case p.proof == nil:
		return status(swConditions)
	case binary.BigEndian.Uint16(c.data) != p.proof.seq:
		return status(swNoProof)
	}
	tac := p.proof.tac
	if !p.cfg.KeepProof {
		p.proof = nil
	}
	return p.out(c, append([]byte{0, 0, 0, 0}, tac[:]...))
}
