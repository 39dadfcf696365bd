package signed

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// vector is one line of testdata/vectors.json, which was made by another
// program from the page in doc.go.
type vector struct {
	Name    string `json:"name"`
	Seed    string `json:"seed"` // of the private key, RFC 8032
	Public  string `json:"public"`
	KeyID   string `json:"keyId"`
	Purpose string `json:"purpose"`
	Device  string `json:"device"`
	Counter uint64 `json:"counter"`
	Expires int64  `json:"expires"`
	Next    string `json:"next"`
	Payload string `json:"payload"` // hex
	Signed  string `json:"signed"`  // hex: what the signature is over
	Text    string `json:"text"`
}

func vectors(t testing.TB) (all []vector) {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &all); err != nil || len(all) < 4 {
		t.Fatalf("%d vectors: %v", len(all), err)
	}
	return all
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (v vector) private(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	return ed25519.NewKeyFromSeed(unhex(t, v.Seed))
}

func (v vector) envelope(t testing.TB) Envelope {
	t.Helper()
	e := Envelope{Purpose: v.Purpose, Device: v.Device, Counter: v.Counter, Expires: time.Unix(v.Expires, 0), Payload: unhex(t, v.Payload)}
	copy(e.Next[:], unhex(t, v.Next))
	return e
}

func ring(t testing.TB, keys ...ed25519.PrivateKey) Ring {
	t.Helper()
	var public []ed25519.PublicKey
	for _, k := range keys {
		public = append(public, k.Public().(ed25519.PublicKey))
	}
	r, err := NewRing(public...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

var (
	noon = time.Unix(1795478400, 0)
	good = Envelope{Purpose: "command", Device: "QC0001", Counter: 7, Expires: noon.Add(time.Hour), Payload: []byte(`{"cmd":"keyCheck"}`)}
	want = Want{Purpose: "command", Device: "QC0001", Now: noon}
)

func seal(t testing.TB, e Envelope, k ed25519.PrivateKey) []byte {
	t.Helper()
	b, err := Seal(e, k)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			k := v.private(t)
			public := k.Public().(ed25519.PublicKey)
			if hex.EncodeToString(public) != v.Public || ID(public).String() != v.KeyID {
				t.Errorf("key %x with id %v", public, ID(public))
			}
			b := seal(t, v.envelope(t), k)
			if Text(b) != v.Text {
				t.Errorf("sealed\n%s, want\n%s", Text(b), v.Text)
			}
			if m := message(v.Purpose, b[:len(b)-ed25519.SignatureSize]); hex.EncodeToString(m) != v.Signed {
				t.Errorf("signed\n%x, want\n%s", m, v.Signed)
			}
			raw, err := FromText(v.Text)
			if err != nil || !bytes.Equal(raw, b) {
				t.Fatalf("text reads as %x: %v", raw, err)
			}
			e, err := ring(t, k).Open(raw, Want{v.Purpose, v.Device, time.Unix(v.Expires, 0)})
			if err != nil {
				t.Fatal(err)
			}
			in := v.envelope(t)
			if e.Counter != in.Counter || !e.Expires.Equal(in.Expires) || e.Next != in.Next || !bytes.Equal(e.Payload, in.Payload) || e.Key.String() != v.KeyID {
				t.Errorf("opened %+v", e)
			}
		})
	}
}

// TestEveryByteCounts changes each byte of an envelope, cuts it at each place
// and adds one: nothing of it verifies.
func TestEveryByteCounts(t *testing.T) {
	t.Parallel()
	k := key(1)
	r, b := ring(t, k), seal(t, good, k)
	for i := range b {
		for _, flip := range []byte{1, 0x20, 0x80} {
			c := bytes.Clone(b)
			c[i] ^= flip
			if e, err := r.Open(c, want); err == nil || e.Purpose != "" {
				t.Errorf("byte %d changed by %02x: %v %+v", i, flip, err, e)
			}
		}
		if _, err := r.Open(b[:i], want); !errors.Is(err, ErrFormat) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
	if _, err := r.Open(append(bytes.Clone(b), 0), want); !errors.Is(err, ErrFormat) {
		t.Errorf("with a byte behind it: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	k, next, stranger := key(1), key(2), key(3)
	change := func(f func(*Envelope)) Envelope { e := good; f(&e); return e }
	for _, c := range []struct {
		name  string
		e     Envelope
		by    ed25519.PrivateKey
		spoil func(b []byte) []byte
		want  error
		told  bool // the envelope is returned
	}{
		{"as it should be", good, k, nil, nil, true},
		{"by the next key", good, next, nil, nil, true},
		{"by a stranger", good, stranger, nil, ErrKey, false},
		{"by a stranger under our key's id", good, stranger, func(b []byte) []byte {
			id := ID(k.Public().(ed25519.PublicKey))
			copy(b[5+1+7+1+6+8+8:], id[:])
			return b
		}, ErrSignature, false},
		{"for another purpose", change(func(e *Envelope) { e.Purpose = "bundle" }), k, nil, ErrPurpose, true},
		{"for another device", change(func(e *Envelope) { e.Device = "QC0002" }), k, nil, ErrDevice, true},
		{"for a device with other case", change(func(e *Envelope) { e.Device = "qc0001" }), k, nil, ErrDevice, true},
		{"in its last second", change(func(e *Envelope) { e.Expires = noon }), k, nil, nil, true},
		{"a second too late", change(func(e *Envelope) { e.Expires = noon.Add(-time.Second) }), k, nil, ErrExpired, true},
		{"GM suite", good, k, func(b []byte) []byte { b[4] = byte(GM); return b }, ErrSuite, false},
		{"no such suite", good, k, func(b []byte) []byte { b[4] = 9; return b }, ErrSuite, false},
		{"counter zero", good, k, func(b []byte) []byte { clear(b[20:28]); return b }, ErrFormat, false},
		{"counter beyond 63 bits", good, k, func(b []byte) []byte { b[20] = 0x80; return b }, ErrFormat, false},
		{"expiry zero", good, k, func(b []byte) []byte { clear(b[28:36]); return b }, ErrFormat, false},
		{"expiry after the year 9999", good, k, func(b []byte) []byte { b[28] = 1; return b }, ErrFormat, false},
		{"payload longer than it is", good, k, func(b []byte) []byte { b[52] = 0xFF; return b }, ErrFormat, false},
		{"purpose with upper case", good, k, func(b []byte) []byte { b[6] = 'C'; return b }, ErrFormat, false},
		{"purpose with NUL", good, k, func(b []byte) []byte { b[8] = 0; return b }, ErrFormat, false},
		{"device with a blank", good, k, func(b []byte) []byte { b[15] = ' '; return b }, ErrFormat, false},
		{"device too long", good, k, func(b []byte) []byte { b[13] = 33; return b }, ErrFormat, false},
		{"other magic", good, k, func(b []byte) []byte { b[3] = '2'; return b }, ErrFormat, false},
		{"nothing", good, k, func([]byte) []byte { return nil }, ErrFormat, false},
		{"much too long", good, k, func(b []byte) []byte { return append(b, make([]byte, MaxEnvelope)...) }, ErrFormat, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := seal(t, c.e, c.by)
			if c.spoil != nil {
				b = c.spoil(b)
			}
			e, err := ring(t, k, next).Open(b, want)
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if (e.Purpose != "") != c.told {
				t.Errorf("envelope %+v", e)
			}
		})
	}
	if _, err := (Ring{}).Open(seal(t, good, k), want); !errors.Is(err, ErrNoKey) {
		t.Errorf("without a key: %v", err)
	}
}

func TestSealRefusesWhatOpenWould(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(*Envelope){
		"no purpose":       func(e *Envelope) { e.Purpose = "" },
		"purpose too long": func(e *Envelope) { e.Purpose = strings.Repeat("a", 33) },
		"digit first":      func(e *Envelope) { e.Purpose = "1a" },
		"slash":            func(e *Envelope) { e.Purpose = "a/b" },
		"no device":        func(e *Envelope) { e.Device = "" },
		"every device":     func(e *Envelope) { e.Device = "*" },
		"no counter":       func(e *Envelope) { e.Counter = 0 },
		"large counter":    func(e *Envelope) { e.Counter = 1 << 63 },
		"no expiry":        func(e *Envelope) { e.Expires = time.Time{} },
		"far expiry":       func(e *Envelope) { e.Expires = time.Unix(lastSecond+1, 0) },
		"large payload":    func(e *Envelope) { e.Payload = make([]byte, MaxPayload+1) },
		"GM":               func(e *Envelope) { e.Suite = GM },
	} {
		e := good
		f(&e)
		if b, err := Seal(e, key(1)); err == nil {
			t.Errorf("%s: sealed as %x", name, b)
		}
	}
	if _, err := Seal(good, nil); err == nil {
		t.Error("sealed without a key")
	}
	e := good
	e.Payload, e.Device, e.Purpose = make([]byte, MaxPayload), strings.Repeat("d", 32), strings.Repeat("p", 32)
	b := seal(t, e, key(1))
	if len(b) != MaxEnvelope || len(Text(b)) != MaxText {
		t.Errorf("the longest envelope has %d bytes, %d as text; want %d and %d", len(b), len(Text(b)), MaxEnvelope, MaxText)
	}
	if _, err := ring(t, key(1)).Open(b, Want{e.Purpose, e.Device, noon}); err != nil {
		t.Errorf("the longest envelope: %v", err)
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	s := Text(seal(t, good, key(1)))
	stray := s[:len(s)-1] + "B" // bits beyond the last byte
	for name, bad := range map[string]string{
		"padding": s + "=", "line end": s[:10] + "\n" + s[10:], "carriage return": s + "\r", "blank": " " + s,
		"standard alphabet": strings.Repeat("+/", 40), "stray bits": stray, "too long": strings.Repeat("A", MaxText+1),
	} {
		if name == "stray bits" && len(s)%4 == 0 {
			continue // nothing beyond the last byte
		}
		if b, err := FromText(bad); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: read as %d bytes, %v", name, len(b), err)
		}
	}
	if strings.ContainsAny(s, "+/=") {
		t.Errorf("%s", s)
	}
}

func TestCounter(t *testing.T) {
	t.Parallel()
	e := Envelope{Counter: 7}
	if e.After(6) != nil || !errors.Is(e.After(7), ErrReplayed) || !errors.Is(e.After(8), ErrReplayed) {
		t.Error("counter 7 after 6, 7, 8")
	}
}

func TestRing(t *testing.T) {
	t.Parallel()
	a, b := key(1).Public().(ed25519.PublicKey), key(2).Public().(ed25519.PublicKey)
	for name, keys := range map[string][]ed25519.PublicKey{
		"no key": nil, "three": {a, b, key(3).Public().(ed25519.PublicKey)}, "short": {a[:31]}, "twice the same": {a, a},
		"point of small order": {unhex(t, smallOrder[2])}, "the same with another sign": {append(unhex(t, smallOrder[2])[:31:31], 0x85)},
	} {
		if _, err := NewRing(keys...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	r := ring(t, key(1), key(2))
	if r.Position(ID(a)) != 0 || r.Position(ID(b)) != 1 || r.Position(KeyID{1}) != -1 || !r.Has(ID(b)) || r.Has(KeyID{1}) || !r.Has(KeyID{}) || r.Len() != 2 || r.At(1) != ID(b) {
		t.Error("positions in the ring")
	}
	if (KeyID{}).String() != "none" {
		t.Error("the zero id has a name")
	}
	if k, err := ParseKey(hex.EncodeToString(a)); err != nil || !k.Equal(a) {
		t.Errorf("key read as %x: %v", k, err)
	}
	for _, s := range []string{"", "zz", hex.EncodeToString(a[:31])} {
		if _, err := ParseKey(s); err == nil {
			t.Errorf("%q is a key", s)
		}
	}
	// The ring must not change under its owner's hands.
	mine := bytes.Clone(a)
	r, err := NewRing(mine)
	if err != nil {
		t.Fatal(err)
	}
	mine[0] ^= 1
	if r.Position(ID(a)) != 0 {
		t.Error("the ring shares its keys")
	}
}

// TestSmallOrderKeysAreForgeable shows why they are refused: with the neutral
// element as key a signature needs no private key.
func TestSmallOrderKeysAreForgeable(t *testing.T) {
	t.Parallel()
	neutral := unhex(t, smallOrder[1])
	forged := append(bytes.Clone(neutral), make([]byte, 32)...) // R = neutral, S = 0
	if !ed25519.Verify(neutral, []byte("anything"), forged) {
		t.Skip("the library refuses such keys by itself")
	}
	if _, err := NewRing(neutral); err == nil {
		t.Error("accepted")
	}
}

func FuzzOpen(f *testing.F) {
	k := key(1)
	r := ring(f, k)
	f.Add(seal(f, good, k))
	f.Add([]byte(magic))
	for _, v := range vectors(f) {
		b, err := FromText(v.Text)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, body, signature, err := parse(b)
		if err == nil {
			if !bytes.Equal(append(bytes.Clone(body), signature...), b) {
				t.Errorf("%x is read as %x %x", b, body, signature)
			}
			if again, err := e.body(); err != nil || !bytes.Equal(again, body) {
				t.Errorf("%x is written as %x: %v", body, again, err)
			}
		}
		if opened, oerr := r.Open(b, want); oerr == nil && !bytes.Equal(seal(t, opened, k), b) {
			t.Errorf("a second form of an envelope: %x", b)
		} else if oerr == nil && err != nil {
			t.Error("opened what does not parse")
		}
		if back, err := FromText(Text(b)); len(b) <= MaxEnvelope && (err != nil || !bytes.Equal(back, b)) {
			t.Errorf("text of %x reads as %x: %v", b, back, err)
		}
	})
}

func FuzzText(f *testing.F) {
	f.Add("VktFMQ")
	f.Add("VktFMQ==")
	f.Fuzz(func(t *testing.T, s string) {
		if b, err := FromText(s); err == nil && Text(b) != s {
			t.Errorf("%q is a second text of %x", s, b)
		}
	})
}
