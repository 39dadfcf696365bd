package signed

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// KeyID names a public key.
type KeyID [8]byte

// ID is the id of an Ed25519 public key.
func ID(public ed25519.PublicKey) (id KeyID) {
	h := sha256.New()
	h.Write([]byte("vcckiosk/key/1\x00"))
	h.Write([]byte{byte(Intl)})
	h.Write(public)
	copy(id[:], h.Sum(nil))
	return id
}

// String is 16 lower-case hex digits, or "none".
func (k KeyID) String() string {
	if k == (KeyID{}) {
		return "none"
	}
	return hex.EncodeToString(k[:])
}

// Ring is the public keys a device takes signed things from: the present one
// and, before a change of keys, the next. The zero Ring takes nothing.
type Ring struct {
	keys []ed25519.PublicKey
}

// ErrNoKey: the ring is empty; nothing signed is taken.
var ErrNoKey = errors.New("no key for signed things is configured")

// NewRing makes a ring of one or two keys, the present one first.
func NewRing(keys ...ed25519.PublicKey) (Ring, error) {
	var r Ring
	if len(keys) == 0 || len(keys) > 2 {
		return r, fmt.Errorf("ring of %d keys: want one or two", len(keys))
	}
	for i, k := range keys {
		if len(k) != ed25519.PublicKeySize {
			return Ring{}, fmt.Errorf("key %d has %d bytes: want %d", i+1, len(k), ed25519.PublicKeySize)
		}
		if weak(k) {
			return Ring{}, fmt.Errorf("key %d is of small order: anybody can sign for it", i+1)
		}
		r.keys = append(r.keys, append(ed25519.PublicKey{}, k...))
	}
	if len(keys) == 2 && keys[0].Equal(keys[1]) {
		return Ring{}, errors.New("both keys are the same")
	}
	return r, nil
}

// ParseKey reads a public key of 64 hex digits, as a configuration has it.
func ParseKey(s string) (ed25519.PublicKey, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, errors.New("want an Ed25519 public key of 64 hex digits")
	}
	return b, nil
}

// Len is how many keys there are.
func (r Ring) Len() int { return len(r.keys) }

// Position is where the key stands in the ring: 0 for the present one, 1 for
// the next, -1 for one that is not there. A caller that has taken an envelope
// of a later place must refuse earlier places from then on, durably: a key that
// was changed because it leaked must not come back.
func (r Ring) Position(id KeyID) int {
	for i, k := range r.keys {
		if ID(k) == id {
			return i
		}
	}
	return -1
}

// At is the id of the key in a place from 0 to Len()-1.
func (r Ring) At(place int) KeyID { return ID(r.keys[place]) }

// Has tells whether the ring knows a key; the zero id, which announces
// nothing, counts as known.
func (r Ring) Has(id KeyID) bool { return id == (KeyID{}) || r.Position(id) >= 0 }

// Want is what an envelope must be for.
type Want struct {
	Purpose string
	Device  string
	// Now is compared with the expiry; an envelope is good in its last second.
	Now time.Time
}

// Open reads and verifies an envelope. Its errors come in this order: ErrNoKey,
// ErrFormat, ErrSuite, ErrKey, ErrSignature; then, of an authentic envelope,
// ErrPurpose, ErrDevice, ErrExpired. With the last three the envelope is
// returned besides the error, so that its refusal can name it; with the others
// it is empty. Replay is the caller's check: Envelope.After.
func (r Ring) Open(b []byte, w Want) (Envelope, error) {
	if len(r.keys) == 0 {
		return Envelope{}, ErrNoKey
	}
	e, body, signature, err := parse(b)
	if err != nil {
		return Envelope{}, err
	}
	if e.Suite != Intl {
		return Envelope{}, fmt.Errorf("%w: suite %d", ErrSuite, e.Suite)
	}
	at := r.Position(e.Key)
	if at < 0 {
		return Envelope{}, fmt.Errorf("%w: %v", ErrKey, e.Key)
	}
	if !ed25519.Verify(r.keys[at], message(e.Purpose, body), signature) {
		return Envelope{}, ErrSignature
	}
	switch {
	case e.Purpose != w.Purpose:
		return e, fmt.Errorf("%w: %s, want %s", ErrPurpose, e.Purpose, w.Purpose)
	case e.Device != w.Device:
		return e, fmt.Errorf("%w: %s", ErrDevice, e.Device)
	case w.Now.Unix() > e.Expires.Unix():
		return e, fmt.Errorf("%w: at %s", ErrExpired, e.Expires.Format(time.RFC3339))
	}
	return e, nil
}

// weak reports the encodings of the eight points of small order (RFC 8032 and
// their non-canonical forms): with such a key, signatures can be made up.
func weak(k ed25519.PublicKey) bool {
	var y [32]byte
	copy(y[:], k)
	y[31] &= 0x7F // the sign of x
	for _, w := range smallOrder {
		if hex.EncodeToString(y[:]) == w {
			return true
		}
	}
	return false
}

// smallOrder has the y coordinates: 0, 1, the two of order 8, p-1, p, p+1.
var smallOrder = []string{
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}
