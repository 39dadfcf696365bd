package memcard_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"vcckiosk/cardreader/apdu"
	"vcckiosk/cardreader/memcard"
)

var (
	errTorn = errors.New("reader lost the card")
	psc     = [3]byte{0xA1, 0xB2, 0xC3}
)

// chip is a fake SLE4442 behind an ACS reader. Pulled at byte n, it holds n new bytes, one erased byte and the rest old.
type chip struct {
	mem       [256]byte
	psc       [3]byte
	counter   byte
	open      bool
	tail      int  // bytes after those read
	old       bool // firmware of 2006
	selected  bool
	tearAt    int // bytes written before the card is torn; -1: never
	tornErr   error
	written   int
	commands  map[byte]int
	longest   int
	presented int
}

func newChip() *chip {
	c := &chip{psc: psc, counter: 7, tearAt: -1, commands: map[byte]int{}}
	for i := range c.mem {
		c.mem[i] = byte(i)
	}
	return c
}

func (c *chip) Transmit(_ context.Context, cmd []byte) ([]byte, error) {
	c.commands[cmd[1]]++
	done := []byte{0x90, 0x00}
	switch cmd[1] {
	case 0xA4:
		c.selected, c.open = bytes.Equal(cmd, []byte{0xFF, 0xA4, 0, 0, 1, 6}), false
		return done, nil
	case 0xB0:
		n := int(cmd[4])
		if len(cmd) != 5 || int(cmd[3])+n > 256 {
			return []byte{0x67, 0x00}, nil
		}
		out := append(bytes.Clone(c.mem[cmd[3]:int(cmd[3])+n]), make([]byte, c.tail)...)
		return append(out, done...), nil
	case 0xB1:
		return []byte{c.counter, 0, 0, 0, 0x90, 0x00}, nil
	case 0x20:
		c.presented++
		if c.counter != 0 && bytes.Equal(cmd[5:], c.psc[:]) {
			c.counter, c.open = 7, true
		} else {
			c.counter &= c.counter - 1
		}
		if c.old {
			return []byte{c.counter, cmd[5], cmd[6], cmd[7], 0x90, 0x00}, nil
		}
		return []byte{0x90, c.counter}, nil
	case 0xD2:
		if c.open {
			c.psc = [3]byte(cmd[5:])
		}
		return done, nil
	case 0xD0:
		c.longest = max(c.longest, int(cmd[4]))
		if int(cmd[4]) != len(cmd)-5 {
			return []byte{0x67, 0x00}, nil
		}
		for i, b := range cmd[5:] {
			if !c.open {
				break
			}
			if c.written == c.tearAt {
				c.mem[int(cmd[3])+i] = 0xFF
				return nil, c.tornErr
			}
			c.mem[int(cmd[3])+i] = b
			c.written++
		}
		return done, nil
	}
	return []byte{0x6D, 0x00}, nil
}

// script answers from a list: "!" is an error of the transport.
type script struct {
	t       *testing.T
	answers []string
	got     []string
}

func (s *script) Transmit(_ context.Context, cmd []byte) ([]byte, error) {
	s.got = append(s.got, strings.ToUpper(hex.EncodeToString(cmd)))
	if len(s.got) > len(s.answers) {
		s.t.Errorf("command %d is one too many: %X", len(s.got), cmd)
		return nil, errTorn
	}
	a := s.answers[len(s.got)-1]
	if a == "!" {
		return nil, errTorn
	}
	b, err := hex.DecodeString(a)
	if err != nil {
		s.t.Fatal(err)
	}
	return b, nil
}

func TestReadTakesBothFormsOfAnswer(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, tail := range []int{0, 4} {
		c := newChip()
		c.tail = tail
		m := memcard.New(c, memcard.Family{})
		if err := m.Select(ctx); err != nil || !c.selected {
			t.Fatalf("select: %v, %v", err, c.selected)
		}
		got, err := m.Read(ctx)
		if err != nil || !bytes.Equal(got, c.mem[:]) {
			t.Fatalf("tail %d: %X %v", tail, got, err)
		}
	}
}

func TestReadRefusesWhatItDoesNotUnderstand(t *testing.T) {
	t.Parallel()
	good := strings.Repeat("AB", 128) + "9000"
	for name, tc := range map[string]struct {
		answers []string
		want    error
	}{
		"one byte short": {[]string{strings.Repeat("AB", 127) + "9000"}, memcard.ErrAnswer},
		"one byte more":  {[]string{strings.Repeat("AB", 129) + "9000"}, memcard.ErrAnswer},
		"nothing":        {[]string{"9000"}, memcard.ErrAnswer},
		"refused":        {[]string{"6300"}, apdu.Status(0x6300)},
		"torn half way":  {[]string{good, ""}, apdu.ErrEmptyAnswer},
		"error half way": {[]string{good, "!"}, errTorn},
	} {
		got, err := memcard.New(&script{t: t, answers: tc.answers}, memcard.ACS).Read(context.Background())
		if !errors.Is(err, tc.want) || errors.Is(err, memcard.ErrOutcomeUnknown) || got != nil {
			t.Errorf("%s: %X, %v", name, got, err)
		}
	}
}

func TestCounter(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]int{
		"070000009000": 3, "030000009000": 2, "060000009000": 2, "050000009000": 2,
		"010000009000": 1, "040000009000": 1, "000000009000": 0, "079000": 3,
		"FF0000009000": -1, "0F0000009000": -1, "9000": -1, "6300": -1, "": -1, "!": -1,
	} {
		s := &script{t: t, answers: []string{answer}}
		got, err := memcard.New(s, memcard.ACS).Counter(context.Background())
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%s: %d, %v", answer, got, err)
		}
		if s.got[0] != "FFB1000004" {
			t.Errorf("sent %v", s.got)
		}
	}
}

// TestPresentJudgesEveryAnswer: the status is inverted, 9007 is the only success and 9000 a dead card.
func TestPresentJudgesEveryAnswer(t *testing.T) {
	t.Parallel()
	for sw := range 0x10000 {
		s := &script{t: t, answers: []string{"070000009000", fmt.Sprintf("%04X", sw)}}
		err := memcard.New(s, memcard.ACS).Present(context.Background(), psc)
		_, refused := errors.AsType[*memcard.StatusError](err)
		switch {
		case sw == 0x9007:
			if err != nil {
				t.Fatalf("9007: %v", err)
			}
		case sw == 0x9000:
			if !errors.Is(err, memcard.ErrLocked) {
				t.Fatalf("9000: %v", err)
			}
		case sw>>8 == 0x90:
			if !errors.Is(err, memcard.ErrWrongCode) {
				t.Fatalf("%04X: %v", sw, err)
			}
		case !refused || !errors.Is(err, apdu.Status(sw)):
			t.Fatalf("%04X: %v", sw, err)
		}
		if err != nil && strings.Contains(strings.ToUpper(err.Error()), "A1B2C3") {
			t.Fatalf("the code is in %q", err)
		}
	}
	for name, tc := range map[string]struct {
		answer string
		want   error
	}{
		"2006, right":           {"07A1B2C39000", nil},
		"2006, wrong":           {"03A1B2C39000", memcard.ErrWrongCode},
		"2006, locked":          {"00A1B2C39000", memcard.ErrLocked},
		"2006, no such counter": {"FFA1B2C39000", memcard.ErrOutcomeUnknown},
		"empty":                 {"", memcard.ErrOutcomeUnknown},
		"torn":                  {"!", memcard.ErrOutcomeUnknown},
	} {
		s := &script{t: t, answers: []string{"070000009000", tc.answer}}
		if err := memcard.New(s, memcard.ACS).Present(context.Background(), psc); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
		if s.got[1] != "FF20000003A1B2C3" {
			t.Errorf("sent %v", s.got)
		}
	}
}

func TestPresentSparesTheLastTries(t *testing.T) {
	t.Parallel()
	for counter, want := range map[string]error{
		"030000009000": memcard.ErrTriesLow, "010000009000": memcard.ErrTriesLow, "000000009000": memcard.ErrLocked,
		"FF0000009000": memcard.ErrAnswer, "6300": apdu.Status(0x6300), "": apdu.ErrEmptyAnswer, "!": errTorn,
	} {
		s := &script{t: t, answers: []string{counter}} // a second command fails the test
		err := memcard.New(s, memcard.ACS).Present(context.Background(), psc)
		if !errors.Is(err, want) || errors.Is(err, memcard.ErrOutcomeUnknown) {
			t.Errorf("counter %q: %v, want %v", counter, err, want)
		}
	}
	for _, old := range []bool{false, true} {
		c := newChip()
		c.old, c.psc = old, [3]byte{9, 9, 9}
		m := memcard.New(c, memcard.ACS)
		if err := m.Present(context.Background(), psc); !errors.Is(err, memcard.ErrWrongCode) {
			t.Fatalf("got %v", err)
		}
		for range 3 {
			if err := m.Present(context.Background(), psc); !errors.Is(err, memcard.ErrTriesLow) {
				t.Fatalf("got %v", err)
			}
		}
		if c.presented != 1 || c.counter == 0 {
			t.Fatalf("presented %d times, counter %d", c.presented, c.counter)
		}
	}
}

func TestWriteSendsOneRunInPieces(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	c := newChip()
	m := memcard.New(c, memcard.ACS)
	if err := m.Present(ctx, psc); err != nil {
		t.Fatal(err)
	}
	want := c.mem
	data := bytes.Repeat([]byte{0x5A}, 100)
	copy(want[0x40:], data)
	if err := m.Write(ctx, 0x40, data); err != nil {
		t.Fatal(err)
	}
	if c.mem != want || c.commands[0xD0] != 4 || c.longest != 32 {
		t.Fatalf("%d commands, longest %d, memory %X", c.commands[0xD0], c.longest, c.mem)
	}
	if err := m.Write(ctx, 255, []byte{1}); err != nil || c.mem[255] != 1 {
		t.Fatalf("last byte: %v", err)
	}
	if err := m.ChangeCode(ctx, [3]byte{1, 2, 3}); err != nil || c.psc != [3]byte{1, 2, 3} {
		t.Fatalf("change code: %v", err)
	}
	sent := c.commands[0xD0]
	for _, bad := range []struct{ off, n int }{{-1, 1}, {0, 0}, {256, 1}, {255, 2}, {0, 257}, {1 << 62, 1}} {
		if err := m.Write(ctx, bad.off, make([]byte, bad.n)); !errors.Is(err, memcard.ErrRange) {
			t.Errorf("%d bytes at %d: %v", bad.n, bad.off, err)
		}
	}
	if c.commands[0xD0] != sent {
		t.Error("something was sent for bytes outside the memory")
	}
}

// TestTornWriteIsUnknownAndEndsThere tears the card at every byte of a write.
func TestTornWriteIsUnknownAndEndsThere(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	data := bytes.Repeat([]byte{0x5A}, 70)
	for _, tornErr := range []error{nil, errTorn} {
		for at := range data {
			c := newChip()
			c.tearAt, c.tornErr = at, tornErr
			m := memcard.New(c, memcard.ACS)
			if err := m.Present(ctx, psc); err != nil {
				t.Fatal(err)
			}
			err := m.Write(ctx, 0x40, data)
			if !errors.Is(err, memcard.ErrOutcomeUnknown) {
				t.Fatalf("torn at %d: %v", at, err)
			}
			if c.commands[0xD0] != at/32+1 {
				t.Fatalf("torn at %d: %d commands", at, c.commands[0xD0])
			}
			if c.written != at || c.mem[0x40+at] != 0xFF || at > 0 && c.mem[0x40+at-1] != 0x5A {
				t.Fatalf("torn at %d: the card holds %X", at, c.mem)
			}
		}
	}
}

func TestRefusedChangesAreStatusErrors(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, sw := range []string{"6300", "6700", "6A81", "6F00", "9007", "6104", "6C20"} {
		s := &script{t: t, answers: []string{"9000", sw, sw, sw}}
		m := memcard.New(s, memcard.ACS)
		for what, err := range map[string]error{
			"write":  m.Write(ctx, 0, make([]byte, 40)),
			"change": m.ChangeCode(ctx, psc),
			"select": m.Select(ctx),
		} {
			e, ok := errors.AsType[*memcard.StatusError](err)
			if !ok || e.SW.OK() || errors.Is(err, memcard.ErrOutcomeUnknown) {
				t.Errorf("%s of %s: %v", sw, what, err)
			}
		}
	}
	for _, answer := range []string{"", "90", "!"} {
		s := &script{t: t, answers: []string{answer, answer}}
		m := memcard.New(s, memcard.ACS)
		if err := m.ChangeCode(ctx, psc); !errors.Is(err, memcard.ErrOutcomeUnknown) || strings.Contains(strings.ToUpper(err.Error()), "A1B2C3") {
			t.Errorf("change code answered %q: %v", answer, err)
		}
		if err := m.Select(ctx); err == nil || errors.Is(err, memcard.ErrOutcomeUnknown) {
			t.Errorf("select answered %q: %v", answer, err)
		}
	}
}

func TestAnotherFamilyIsOnlyData(t *testing.T) {
	t.Parallel()
	f := memcard.ACS
	f.Name, f.ReadMax, f.WriteMax = "narrow", 100, 16
	f.Read, f.Write = [3]byte{0xFE, 0x01, 0x02}, [3]byte{0xFE, 0x03, 0x04}
	f.CodeOK, f.CodeLocked, f.CodeSW1 = 0x9100, 0x9103, 0x91
	s := &script{t: t, answers: []string{
		strings.Repeat("AB", 100) + "9000", strings.Repeat("AB", 100) + "9000", strings.Repeat("AB", 56) + "9000",
		"9000", "9000", "070000009000", "9100", "070000009000", "9103", "070000009000", "9101",
	}}
	m := memcard.New(s, f)
	ctx := context.Background()
	if b, err := m.Read(ctx); err != nil || len(b) != 256 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	if err := m.Write(ctx, 0x20, make([]byte, 17)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []error{nil, memcard.ErrLocked, memcard.ErrWrongCode} {
		if err := m.Present(ctx, psc); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	for i, want := range []string{"FE01020064", "FE01026464", "FE0102C838", "FE03042010", "FE03043001"} {
		if !strings.HasPrefix(s.got[i], want) {
			t.Errorf("command %d: %s, want %s", i, s.got[i], want)
		}
	}
}

// FuzzReadAnswer lets the reader answer anything to the commands that read.
func FuzzReadAnswer(f *testing.F) {
	f.Add(append(make([]byte, 128), 0x90, 0x00))
	f.Add(append(make([]byte, 132), 0x90, 0x00))
	f.Add([]byte{0x07, 0, 0, 0, 0x90, 0x00})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, answer []byte) {
		m := memcard.New(same(answer), memcard.ACS)
		b, err := m.Read(context.Background())
		n := len(answer) - 2
		whole := (n == 128 || n == 132) && bytes.HasSuffix(answer, []byte{0x90, 0x00})
		if (err == nil) != whole {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if err == nil && !bytes.Equal(b, append(bytes.Clone(answer[:128]), answer[:128]...)) {
			t.Fatalf("read %X of %X", b, answer)
		}
		tries, err := m.Counter(context.Background())
		if err == nil && (tries < 0 || tries > memcard.Tries || n < 1) {
			t.Fatalf("%d tries of %X", tries, answer)
		}
	})
}

// same is a reader that gives one answer to everything.
type same []byte

func (s same) Transmit(context.Context, []byte) ([]byte, error) { return bytes.Clone(s), nil }
