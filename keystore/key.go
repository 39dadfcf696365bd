package keystore

import (
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
)

const (
	keyLength   = 32
	redacted    = "[redacted]"
	maxDerived  = 255 * 32
	secretShort = 16
	secretLong  = 64
)

var errNotEncoded = errors.New("encode key: a key is never encoded")

// Key is a base key: 32 letters and digits that only sign. Its bytes lie in
// locked memory outside the heap and are returned by no method; a Key that
// the Store has dropped meanwhile still signs, and its memory is zeroed once
// nobody refers to it. It prints, logs and encodes as "[redacted]".
type Key struct{ in *secret }

// Secret is the device secret: other keys are derived from it, it is never
// shown. See Key for its memory and its printing.
type Secret struct{ in *secret }

// secret holds its bytes behind a closure, where even printers that follow
// pointers by reflection do not reach.
type secret struct {
	with func(use func(b []byte))
	gen  uint64
	kcv  string
}

// newSecret takes over r.
func newSecret(r *region, gen uint64) *secret {
	s := &secret{gen: gen, kcv: KCV(r.b)}
	s.with = func(use func([]byte)) {
		use(r.b)
		runtime.KeepAlive(r)
	}
	return s
}

func (s *secret) equal(b []byte) (same bool) {
	s.with(func(k []byte) { same = subtle.ConstantTimeCompare(k, b) == 1 })
	return same
}

func (s *secret) derive(salt []byte, info string, n int) ([]byte, error) {
	if n < 1 || n > maxDerived {
		return nil, fmt.Errorf("derive key: length %d out of range 1..%d", n, maxDerived)
	}
	out := make([]byte, n)
	s.with(func(k []byte) { hkdfSHA256(out, k, salt, info) })
	return out, nil
}

// Sign returns UPPER(HEX(MD5(message + key))) (2.1), 32 characters. What is
// signed is the caller's responsibility: it must never be free text of others.
func (k *Key) Sign(message []byte) (sum string) {
	k.in.with(func(b []byte) { sum = sign(message, b) })
	return sum
}

// KCV returns the check value that may be shown and read over the telephone,
// 6 upper hex digits; see the function KCV.
func (k *Key) KCV() string { return k.in.kcv }

// Generation numbers the keys of one store, counting up with every Stage and
// never used twice. A token remembers the generation it was made with.
func (k *Key) Generation() uint64 { return k.in.gen }

// Derive returns n bytes of HKDF-SHA256 (RFC 5869) of the key, as hkdf.Key of
// the standard library does, for codes that must not use the key itself.
// salt may be nil; n is 1 to 8160.
func (k *Key) Derive(salt []byte, info string, n int) ([]byte, error) {
	return k.in.derive(salt, info, n)
}

// Equal tells in constant time whether two keys have the same bytes.
func (k *Key) Equal(other *Key) (same bool) {
	other.in.with(func(b []byte) { same = k.in.equal(b) })
	return same
}

// KCV returns the check value of the secret, as KCV of a key.
func (s *Secret) KCV() string { return s.in.kcv }

// Derive returns n bytes of HKDF-SHA256 (RFC 5869) of the secret, as hkdf.Key
// of the standard library does. salt may be nil; n is 1 to 8160.
func (s *Secret) Derive(salt []byte, info string, n int) ([]byte, error) {
	return s.in.derive(salt, info, n)
}

// KCV is the check value of a key of at most 64 bytes: the first 3 bytes of
// HMAC-SHA256(key, "kiosk-kcv/1") as 6 upper hex digits. It tells keys apart
// and catches typing errors; 24 bits say nothing useful about the key.
func KCV(key []byte) string {
	sum := hmacSHA256(key, []byte("kiosk-kcv/1"))
	return strings.ToUpper(hex.EncodeToString(sum[:3]))
}

// ValidKey tells whether key could be a base key: exactly 32 ASCII letters
// and digits (3.1). The error is ErrBadKey and never quotes the key.
func ValidKey(key []byte) error {
	if len(key) != keyLength {
		return fmt.Errorf("%w: %d characters, want %d", ErrBadKey, len(key), keyLength)
	}
	for i, c := range key {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return fmt.Errorf("%w: character %d is neither letter nor digit", ErrBadKey, i+1)
		}
	}
	return nil
}

// Format prints "[redacted]" for every verb.
func (Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue logs "[redacted]".
func (Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText encodes as "[redacted]"; JSON and XML use it.
func (Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON encodes as "[redacted]".
func (Key) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// GobEncode refuses.
func (Key) GobEncode() ([]byte, error) { return nil, errNotEncoded }

// Format prints "[redacted]" for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue logs "[redacted]".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText encodes as "[redacted]"; JSON and XML use it.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON encodes as "[redacted]".
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// GobEncode refuses.
func (Secret) GobEncode() ([]byte, error) { return nil, errNotEncoded }
