package signed

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// Limits of an envelope, in bytes.
const (
	MaxPayload = 64 << 10
	MaxName    = 32 // purpose, device id
	// MaxEnvelope is the longest envelope, MaxText the longest one as text.
	MaxEnvelope = 43 + 2*MaxName + MaxPayload + ed25519.SignatureSize
	MaxText     = (MaxEnvelope*8 + 5) / 6
)

const (
	magic      = "VKE1"
	fixed      = 43           // bytes besides names, payload and signature
	lastSecond = 253402300799 // 9999-12-31T23:59:59Z
)

// Suite says which algorithms an envelope is made with.
type Suite byte

// The suites. GM is reserved: it parses and nothing signs or verifies it yet.
const (
	Intl Suite = 1 // Ed25519
	GM   Suite = 2 // SM2 with SM3
)

// Errors of Seal and Open. None of them is cured by trying again with the same
// bytes, but ErrKey after a new key was configured.
var (
	// ErrFormat: not an envelope, byte for byte; the text says where.
	ErrFormat = errors.New("not a signed envelope")
	// ErrSuite: made with algorithms that are not built in.
	ErrSuite = errors.New("signed with algorithms not known here")
	// ErrKey: signed by a key that is not in the ring. Nothing of the envelope
	// can be believed, the device id included.
	ErrKey = errors.New("signed by an unknown key")
	// ErrSignature: names a known key and was not made with it, or was altered.
	ErrSignature = errors.New("signature is wrong")
	// ErrPurpose, ErrDevice and ErrExpired are told of an authentic envelope
	// only: it was made for something else, for another device, or is too old.
	ErrPurpose = errors.New("signed for another purpose")
	ErrDevice  = errors.New("signed for another device")
	ErrExpired = errors.New("has expired")
	// ErrReplayed: its counter is not above the highest one taken.
	ErrReplayed = errors.New("counter was used before")
)

// Envelope is one signed thing. The zero value is not a valid one.
type Envelope struct {
	Suite   Suite // Intl when zero, for Seal
	Purpose string
	Device  string // deviceId of the one device it is for
	Counter uint64 // 1..2^63-1, per device and purpose higher than any before
	Expires time.Time
	Key     KeyID // of the key that signed; Seal fills it in
	Next    KeyID // of the key that will follow; zero: none is planned
	Payload []byte
}

// After tells whether the envelope's counter is above last, the highest one
// taken before: nil, or ErrReplayed.
func (e Envelope) After(last uint64) error {
	if e.Counter <= last {
		return fmt.Errorf("%w: %d, after %d", ErrReplayed, e.Counter, last)
	}
	return nil
}

// Seal writes and signs e. It is for the side that gives orders, tests and
// simulators; a kiosk never signs. Key is that of private, whatever e says.
func Seal(e Envelope, private ed25519.PrivateKey) ([]byte, error) {
	if e.Suite == 0 {
		e.Suite = Intl
	}
	if e.Suite != Intl {
		return nil, ErrSuite
	}
	if len(private) != ed25519.PrivateKeySize {
		return nil, errors.New("seal: not an Ed25519 private key")
	}
	public, _ := private.Public().(ed25519.PublicKey)
	e.Key = ID(public)
	body, err := e.body()
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return append(body, ed25519.Sign(private, message(e.Purpose, body))...), nil
}

// body is everything but the signature.
func (e Envelope) body() ([]byte, error) {
	at := e.Expires.Unix()
	switch {
	case !isPurpose(e.Purpose):
		return nil, fault("purpose", "want 1 to 32 of a-z 0-9 -, a letter first")
	case !isDevice(e.Device):
		return nil, fault("device", "want 1 to 32 letters, digits, dot, dash, underscore")
	case e.Counter < 1 || e.Counter > math.MaxInt64:
		return nil, fault("counter", "want 1..2^63-1")
	case at < 1 || at > lastSecond:
		return nil, fault("expiry", "want a date before the year 10000")
	case len(e.Payload) > MaxPayload:
		return nil, fault("payload", "longer than 65536 bytes")
	}
	b := make([]byte, 0, fixed+len(e.Purpose)+len(e.Device)+len(e.Payload)+ed25519.SignatureSize)
	b = append(b, magic...)
	b = append(b, byte(e.Suite), byte(len(e.Purpose)))
	b = append(b, e.Purpose...)
	b = append(b, byte(len(e.Device)))
	b = append(b, e.Device...)
	b = binary.BigEndian.AppendUint64(b, e.Counter)
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	b = append(b, e.Key[:]...)
	b = append(b, e.Next[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Payload)))
	return append(b, e.Payload...), nil
}

// message is what is signed.
func message(purpose string, body []byte) []byte {
	m := make([]byte, 0, len(purpose)+len(body)+16)
	m = append(m, "vcckiosk/"...)
	m = append(m, purpose...)
	m = append(m, "/1\x00"...)
	return append(m, body...)
}

func fault(field, why string) error { return fmt.Errorf("%w: %s: %s", ErrFormat, field, why) }

func isPurpose(s string) bool {
	if len(s) < 1 || len(s) > MaxName || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

func isDevice(s string) bool {
	if len(s) < 1 || len(s) > MaxName {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// cutter takes fields off the front of an envelope. The first fault sticks.
type cutter struct {
	b     []byte
	fault error
}

func (c *cutter) take(field string, n int) []byte {
	if c.fault != nil || len(c.b) < n {
		if c.fault == nil {
			c.fault = fault(field, "cut short")
		}
		return make([]byte, n)
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *cutter) name(field string) string {
	n := int(c.take(field, 1)[0])
	if n > MaxName && c.fault == nil {
		c.fault = fault(field, "too long")
	}
	if c.fault != nil {
		return ""
	}
	return string(c.take(field, n))
}

// parse reads an envelope of exactly this length. Nothing of it has been
// verified.
func parse(b []byte) (e Envelope, body, signature []byte, err error) {
	if len(b) > MaxEnvelope {
		return Envelope{}, nil, nil, fault("envelope", "too long")
	}
	c := cutter{b: b}
	if !bytes.Equal(c.take("envelope", len(magic)), []byte(magic)) {
		return Envelope{}, nil, nil, fault("envelope", "does not begin with VKE1")
	}
	e.Suite = Suite(c.take("suite", 1)[0])
	e.Purpose = c.name("purpose")
	e.Device = c.name("device")
	e.Counter = binary.BigEndian.Uint64(c.take("counter", 8))
	at := binary.BigEndian.Uint64(c.take("expiry", 8))
	copy(e.Key[:], c.take("key id", 8))
	copy(e.Next[:], c.take("next key id", 8))
	n := binary.BigEndian.Uint32(c.take("payload", 4))
	if c.fault == nil && n > MaxPayload {
		c.fault = fault("payload", "longer than 65536 bytes")
	}
	if c.fault == nil {
		e.Payload = bytes.Clone(c.take("payload", int(n)))
	}
	signature = c.take("signature", ed25519.SignatureSize)
	switch {
	case c.fault != nil:
		return Envelope{}, nil, nil, c.fault
	case len(c.b) != 0:
		return Envelope{}, nil, nil, fault("envelope", "something follows the signature")
	case at > lastSecond:
		return Envelope{}, nil, nil, fault("expiry", "want a date before the year 10000")
	case e.Suite != Intl && e.Suite != GM:
		return Envelope{}, nil, nil, fmt.Errorf("%w: suite %d", ErrSuite, e.Suite)
	}
	e.Expires = time.Unix(int64(at), 0).UTC()
	// What Seal would not write is not read either.
	if body, err = e.body(); err != nil {
		return Envelope{}, nil, nil, err
	}
	return e, body, signature, nil
}

// Text is an envelope as text: base64url without padding.
func Text(envelope []byte) string { return base64.RawURLEncoding.EncodeToString(envelope) }

// FromText reads what Text wrote, and nothing else: no padding, no white
// space, no stray bits.
func FromText(s string) ([]byte, error) {
	if len(s) > MaxText {
		return nil, fault("text", "too long")
	}
	for i := range len(s) {
		// The decoder of the standard library passes over line ends.
		if s[i] == '\r' || s[i] == '\n' {
			return nil, fault("text", "not base64url without padding")
		}
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fault("text", "not base64url without padding")
	}
	return b, nil
}
