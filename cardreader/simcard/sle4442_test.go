package simcard

import (
	"bytes"
	"fmt"
	"testing"
)

const (
	sleSelect  = "FFA400000106"
	slePresent = "FF20000003 AABBCC"
)

func blank() [256]byte {
	var m [256]byte
	for i := range m {
		m[i] = byte(i)
	}
	return m
}

// inReader is a powered card with its type selected; open: code presented.
func inReader(t testing.TB, open bool) *SLE4442 {
	t.Helper()
	c := NewSLE4442(blank(), [3]byte{0xAA, 0xBB, 0xCC})
	c.ReaderChecks = true
	c.PowerOn()
	say(t, c, sleSelect, "9000")
	if open {
		say(t, c, slePresent, "9007")
	}
	return c
}

func TestPresentCodeCountsDownAndUp(t *testing.T) {
	t.Parallel()
	c := inReader(t, false)
	say(t, c, "FFB1000004", "07000000 9000")
	say(t, c, "FF20000003 000000", "9003")
	say(t, c, "FF20000003 000000", "9001")
	say(t, c, slePresent, "9007")
	say(t, c, "FFB1000004", "07000000 9000")
	for _, want := range []string{"9003", "9001", "9000", "9000"} {
		say(t, c, "FF20000003 000000", want)
	}
	say(t, c, slePresent, "9000") // dead for ever, and this is not success
	say(t, c, "FFB1000004", "00000000 9000")
	say(t, c, "FFD0004001 77", "6300")
	say(t, c, "FFB0004001", "409000") // still readable
	if presented, wrong, _ := c.Codes(); presented != 6 || wrong != 5 {
		t.Errorf("presented %d, wrong %d", presented, wrong)
	}
}

func TestPowerLossDuringPresentCostsOneTry(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{0: 7, 1: 3} {
		c := inReader(t, false)
		c.Arm(Fault{INS: 0x20, When: Byte, N: n})
		say(t, c, slePresent, "-")
		if c.Counter() != want {
			t.Errorf("torn at step %d: counter %d, want %d", n, c.Counter(), want)
		}
	}
}

func TestWritesNeedTheCode(t *testing.T) {
	t.Parallel()
	c := inReader(t, false)
	say(t, c, "FFD0004002 1122", "6300")
	c.ReaderChecks = false
	say(t, c, "FFD0004002 1122", "9000") // a reader that does not look
	if c.Image() != blank() {
		t.Fatal("written without the code")
	}
	say(t, c, slePresent, "9007")
	say(t, c, "FFD0004002 1122", "9000")
	say(t, c, "FFB0003F04", "3F1122429000")
	// The code's validity ends with the power, also when the reader cycles it.
	say(t, c, sleSelect, "9000")
	c.ReaderChecks = true
	say(t, c, "FFD0004001 33", "6300")
	say(t, c, slePresent, "9007")
	c.PowerOff()
	c.PowerOn()
	say(t, c, "FFD0004001 33", "6300")
	say(t, c, "FFB0000001", "6300") // and the type has to be selected again
	if c.Image()[0x40] != 0x11 {
		t.Error("written in another power session")
	}
}

func TestProtectedBytesStay(t *testing.T) {
	t.Parallel()
	c := inReader(t, true)
	c.Protect(2, 40)
	say(t, c, "FFD0000104 FFFFFFFF", "6300")
	say(t, c, "FFB0000104", "FF02FFFF9000")
	say(t, c, "FFD1000401 00", "6300") // compares before it burns
	say(t, c, "FFD1000401 FF", "9000")
	say(t, c, "FFD0000401 00", "6300")
	say(t, c, "FFB2000004", "EBFFFFFF9000")
}

func TestByteWiseTears(t *testing.T) {
	t.Parallel()
	// Old content 40 41 42 43; new 7F 00 F0 43.
	const write = "FFD0004004 7F00F043"
	for _, c := range []struct {
		n    int
		rest Rest
		want string
	}{
		{0, Untouched, "40414243"},
		{0, Erased, "FF414243"},
		{1, Untouched, "7F414243"},
		{1, Erased, "7F414243"},  // 41 to 00 needs no erase
		{1, Partial, "7F404243"}, // one of its two bits is gone
		{2, Erased, "7F00FF43"},
		{2, Partial, "7F00FC43"},
		{3, Erased, "7F00F043"},
		{4, Erased, "7F00F043"},
		{99, Partial, "7F00F043"},
	} {
		card := inReader(t, true)
		card.Arm(Fault{INS: 0xD0, When: Byte, N: c.n, Rest: c.rest})
		say(t, card, write, "-")
		m := card.Image()
		if got := fmt.Sprintf("%X", m[0x40:0x44]); got != c.want {
			t.Errorf("torn after %d bytes, rest %d: %s, want %s", c.n, c.rest, got, c.want)
		}
		if !bytes.Equal(m[:0x40], func() []byte { b := blank(); return b[:0x40] }()) || m[0x44] != 0x44 {
			t.Error("bytes outside the write changed")
		}
	}
}

func TestAWrapperTearsByteWiseToo(t *testing.T) {
	t.Parallel()
	c := inReader(t, true)
	w := NewFaulty(c)
	w.Arm(Fault{INS: 0xD0, When: Byte, N: 1})
	say(t, w, "FFD0004004 7F00F043", "-")
	if m := c.Image(); m[0x40] != 0x7F || m[0x41] != 0x41 {
		t.Errorf("image % X", m[0x40:0x44])
	}
}

func TestWearAndHistory(t *testing.T) {
	t.Parallel()
	c := inReader(t, true)
	say(t, c, "FFD0004003 40AA42", "9000") // one byte of three changes
	say(t, c, "FFD0004003 40AA42", "9000") // none
	say(t, c, "FFD0004101 BB", "9000")
	w := c.Wear()
	if w[0x40] != 0 || w[0x41] != 2 || w[0x42] != 0 {
		t.Errorf("wear %v", w[0x40:0x43])
	}
	h := c.History()
	if len(h) != 3 || h[0] != blank() || h[1][0x41] != 0xAA || h[2] != c.Image() {
		t.Errorf("history of %d images", len(h))
	}
}

func TestChangeCode(t *testing.T) {
	t.Parallel()
	c := inReader(t, false)
	say(t, c, "FFD2000103 010203", "6300")
	say(t, c, slePresent, "9007")
	say(t, c, "FFD2000103 010203", "9000")
	if !c.CodeIs([3]byte{1, 2, 3}) {
		t.Error("code not changed")
	}
	c.Arm(Fault{INS: 0xD2, When: Byte, N: 1})
	say(t, c, "FFD2000103 090909", "-")
	if !c.CodeIs([3]byte{9, 0xFF, 3}) {
		t.Error("a torn change leaves new, erased, old")
	}
}

func TestReadVariants(t *testing.T) {
	t.Parallel()
	c := inReader(t, false)
	say(t, c, "FFB000F010", "F0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF9000")
	say(t, c, "FFB000F011", "6700")
	say(t, c, "FFB00000", "6700")
	if got := c.Exchange(unhex(t, "FFB0000000")); len(got) != 258 {
		t.Errorf("whole card: %d bytes", len(got))
	}
	c.ProtectionInRead = true
	say(t, c, "FFB0001002", "1011FFFFFFFF9000")
	say(t, c, "FFA400000105", "6300")
	say(t, c, "FFB0001002", "6300")
	say(t, c, "00A40000023F00", "6E00")
}

func TestMeters(t *testing.T) {
	t.Parallel()
	l := DefaultLayout()
	image := func(count, gas uint64) [256]byte {
		m := blank()
		l.Count.Put(&m, count)
		l.Gas.Put(&m, gas)
		return m
	}
	for _, c := range []struct {
		name       string
		mode       Mode
		last       int
		count, gas uint64
		took       bool
	}{
		{"strict takes the next count", Strict, 4, 5, 700, true},
		{"strict leaves the count it has taken", Strict, 5, 5, 700, false},
		{"strict leaves a count that jumps", Strict, 3, 5, 700, false},
		{"lax takes a repeated count", Lax, 5, 5, 700, true},
		{"lax finds nothing", Lax, 4, 5, 0, false},
		{"strict finds nothing", Strict, 4, 5, 0, false},
	} {
		m := NewMeter(c.mode, l)
		m.SetLast(c.last)
		card := NewSLE4442(image(c.count, c.gas), [3]byte{})
		v := m.Insert(card)
		if v.Took != c.took || v.Count != int(c.count) {
			t.Errorf("%s: %v, count %d", c.name, v.Took, v.Count)
		}
		after := card.Image()
		if c.took {
			if v.Volume != uint32(c.gas) || l.Gas.Get(after) != 0 || l.Return.Get(after) != c.gas || m.Total() != c.gas || m.Last() != int(c.count) {
				t.Errorf("%s: visit %+v", c.name, v)
			}
		} else if after != v.Before || m.Total() != 0 || m.Last() != c.last {
			t.Errorf("%s: the card or the meter changed", c.name)
		}
		if l.Count.Get(after) != c.count {
			t.Errorf("%s: the meter touched the count", c.name)
		}
		if again := m.Insert(card); again.Took || len(m.Visits()) != 2 {
			t.Errorf("%s: taken twice", c.name)
		}
	}
}

func TestFieldsOutsideTheImageAreNotThere(t *testing.T) {
	t.Parallel()
	m := blank()
	for _, f := range []Field{{}, {255, 2}, {-1, 2}, {0, 9}} {
		f.Put(&m, 1)
		if f.Get(m) != 0 || m != blank() {
			t.Errorf("field %+v", f)
		}
	}
}

func FuzzSLE4442Exchange(f *testing.F) {
	for _, s := range []string{
		sleSelect, slePresent, "FFB0000000", "FFB1000004", "FFD0004004 7F00F043", "FFD1000001 00", "FFD2000103 010203", "FF",
	} {
		f.Add(unhex(f, s), 0, 0, true)
		f.Add(unhex(f, s), 1, 1, false)
	}
	f.Fuzz(func(t *testing.T, cmd []byte, n, rest int, open bool) {
		c := inReader(t, open)
		if got := c.Exchange(cmd); len(got) < 2 {
			t.Fatalf("%X answers %X without a fault", cmd, got)
		}
		if !open && c.Image() != blank() {
			if presented, wrong, _ := c.Codes(); presented == wrong {
				t.Fatalf("%X wrote without the code", cmd)
			}
		}
		c.Arm(Fault{When: Byte, N: n, Rest: Rest(rest)})
		if got := c.Exchange(cmd); got != nil {
			t.Fatalf("torn during %X and answered %X", cmd, got)
		}
	})
}
