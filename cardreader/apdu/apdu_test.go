package apdu_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"vcckiosk/cardreader"
	"vcckiosk/cardreader/apdu"
)

func TestCommandBytes(t *testing.T) {
	t.Parallel()
	full := strings.Repeat("AB", 255)
	for name, tc := range map[string]struct {
		c    apdu.Command
		want string // empty: an error
	}{
		"case 1, nothing either way":        {apdu.Command{CLA: 0x80, INS: 0x01, P1: 2, P2: 3, Le: apdu.NoLe}, "80010203"},
		"case 1, zero Le sends none":        {apdu.Command{CLA: 0x80, INS: 0x01, P1: 2, P2: 3}, "80010203"},
		"case 2, an answer":                 {apdu.Command{CLA: 0x80, INS: 0x5C, P2: 2, Le: 4}, "805C000204"},
		"case 2, 256 goes out as 00":        {apdu.Command{INS: 0xC0, Le: apdu.MaxLe}, "00C0000000"},
		"case 3, data":                      {apdu.Command{INS: 0x20, Data: []byte{0x12, 0x34}, Le: apdu.NoLe}, "0020000002" + "1234"},
		"case 4, data and an answer":        {apdu.Command{CLA: 0x80, INS: 0x5A, P2: 2, Data: []byte{0, 1}, Le: 8}, "805A000202" + "0001" + "08"},
		"255 bytes of data fit":             {apdu.Command{Data: mustHex(t, full), Le: 256}, "00000000FF" + full + "00"},
		"256 bytes of data do not":          {apdu.Command{Data: make([]byte, 256)}, ""},
		"an Le beyond a short APDU":         {apdu.Command{Le: 257}, ""},
		"an Le below none is not a command": {apdu.Command{Le: -2}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := tc.c.Bytes()
			if (err != nil) != (tc.want == "") {
				t.Fatalf("error %v, want bytes %q", err, tc.want)
			}
			if !bytes.Equal(got, mustHex(t, tc.want)) {
				t.Fatalf("got %X, want %s", got, tc.want)
			}
		})
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, short := range [][]byte{nil, {}, {0x90}} {
		if _, err := apdu.Parse(short); !errors.Is(err, apdu.ErrEmptyAnswer) {
			t.Errorf("Parse(%X): %v, want ErrEmptyAnswer", short, err)
		}
	}
	answer := []byte{1, 2, 3, 0x61, 0x10}
	r, err := apdu.Parse(answer)
	if err != nil || !bytes.Equal(r.Data, answer[:3]) || r.SW != 0x6110 {
		t.Fatalf("got %X %v %v", r.Data, r.SW, err)
	}
	if _ = append(r.Data, 0xEE); answer[3] != 0x61 {
		t.Fatal("appending to Data reaches into the answer")
	}
}

func TestStatusLengths(t *testing.T) {
	t.Parallel()
	for sw := range 0x10000 {
		s := apdu.Status(sw)
		want := sw & 0xFF
		if want == 0 {
			want = 256
		}
		n, ok := s.More()
		if ok != (sw>>8 == 0x61) || ok && n != want {
			t.Fatalf("%04X.More() = %d, %v", sw, n, ok)
		}
		n, ok = s.Exact()
		if ok != (sw>>8 == 0x6C) || ok && n != want {
			t.Fatalf("%04X.Exact() = %d, %v", sw, n, ok)
		}
		if s.OK() != (sw == 0x9000) {
			t.Fatalf("%04X.OK() = %v", sw, s.OK())
		}
	}
}

func TestStatusIsAnErrorThatSaysWhich(t *testing.T) {
	t.Parallel()
	for sw, want := range map[apdu.Status]string{
		apdu.WrongMAC: "card status 9302 (wrong MAC)",
		0x6581:        "card status 6581 (memory failure)",
		0x6F12:        "card status 6F12",
	} {
		if got := sw.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, sw := range []apdu.Status{apdu.FileInvalidated, apdu.CardLocked, apdu.ApplicationLocked} {
		if !errors.Is(sw, cardreader.ErrBlocked) {
			t.Errorf("%v is not ErrBlocked", sw)
		}
	}
	if errors.Is(apdu.WrongMAC, cardreader.ErrBlocked) {
		t.Error("a wrong MAC is not a blocked card")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{0x90})
	f.Add([]byte{0x90, 0x00})
	f.Add([]byte{1, 2, 3, 4, 0x61, 0x04})
	f.Fuzz(func(t *testing.T, answer []byte) {
		r, err := apdu.Parse(answer)
		if err != nil {
			if len(answer) >= 2 {
				t.Fatalf("%X: %v", answer, err)
			}
			return
		}
		back := append(bytes.Clone(r.Data), r.SW.SW1(), r.SW.SW2())
		if !bytes.Equal(back, answer) {
			t.Fatalf("%X became %X", answer, back)
		}
		_ = r.SW.Error()
	})
}

func mustHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
