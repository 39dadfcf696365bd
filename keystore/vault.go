package keystore

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// A sealed value is
//
//	"KS1" | alg 1 | generation 4 | version 8 | epoch 8 | nonce 24 | ciphertext and tag
//
// with all numbers big-endian. Everything before the nonce is authenticated
// too, together with what the value is: store, bucket and name, each with its
// length before it, so that no two different places read the same.
const (
	magic       = "KS1"
	algXChaCha  = 1 // XChaCha20-Poly1305; 2 is reserved for AES-256-GCM
	dataGen     = 1 // generation of the data keys; raised when they are replaced
	fixedPart   = 3 + 1 + 4 + 8 + 8
	nonceLength = chacha20poly1305.NonceSizeX
	overhead    = fixedPart + nonceLength + chacha20poly1305.Overhead
)

// vault seals and opens by keys derived from the root key.
type vault struct {
	root  *region
	uuid  string
	epoch uint64
}

// place is what a sealed value is bound to.
type place struct {
	bucket, name string
	aad          []byte // of the caller, for values outside the store
}

// envelope is the readable part of a sealed value.
type envelope struct {
	generation     uint32
	version, epoch uint64
	fixed          []byte
	nonce, sealed  []byte
}

// parseEnvelope takes a sealed value apart; it is reached by outside bytes.
func parseEnvelope(b []byte) (envelope, error) {
	if len(b) >= 3 && string(b[:2]) == magic[:2] && b[2] > magic[2] && b[2] <= '9' {
		return envelope{}, fmt.Errorf("%w: record format %q", ErrNewer, b[:3])
	}
	if len(b) < overhead || string(b[:3]) != magic {
		return envelope{}, fmt.Errorf("%w: not a sealed record", ErrUnseal)
	}
	if b[3] != algXChaCha {
		return envelope{}, fmt.Errorf("%w: unknown algorithm %d", ErrUnseal, b[3])
	}
	return envelope{
		generation: binary.BigEndian.Uint32(b[4:]),
		version:    binary.BigEndian.Uint64(b[8:]),
		epoch:      binary.BigEndian.Uint64(b[16:]),
		fixed:      b[:fixedPart],
		nonce:      b[fixedPart : fixedPart+nonceLength],
		sealed:     b[fixedPart+nonceLength:],
	}, nil
}

func (v *vault) seal(p place, version uint64, plain []byte) ([]byte, error) {
	out := make([]byte, 0, overhead+len(plain))
	out = append(out, magic...)
	out = append(out, algXChaCha)
	out = binary.BigEndian.AppendUint32(out, dataGen)
	out = binary.BigEndian.AppendUint64(out, version)
	out = binary.BigEndian.AppendUint64(out, v.epoch)
	nonce := make([]byte, nonceLength)
	_, _ = rand.Read(nonce) // never fails
	out = append(out, nonce...)
	return v.crypt(p, dataGen, func(a aead, bound []byte) ([]byte, error) {
		return a.Seal(out, nonce, plain, bound), nil
	}, out[:fixedPart])
}

// open appends the plain text to dst, which for keys is locked memory with
// room enough, and returns it with the version the value was sealed under.
func (v *vault) open(dst []byte, p place, sealed []byte) ([]byte, uint64, error) {
	e, err := parseEnvelope(sealed)
	if err != nil {
		return nil, 0, err
	}
	if e.generation != dataGen || e.epoch != v.epoch {
		return nil, 0, fmt.Errorf("%w: generation %d, epoch %d", ErrUnseal, e.generation, e.epoch)
	}
	plain, err := v.crypt(p, e.generation, func(a aead, bound []byte) ([]byte, error) {
		plain, err := a.Open(dst, e.nonce, e.sealed, bound)
		if err != nil {
			return nil, ErrUnseal
		}
		return plain, nil
	}, e.fixed)
	return plain, e.version, err
}

type aead interface {
	Seal(dst, nonce, plaintext, additionalData []byte) []byte
	Open(dst, nonce, ciphertext, additionalData []byte) ([]byte, error)
}

func (v *vault) crypt(p place, gen uint32, do func(aead, []byte) ([]byte, error), fixed []byte) ([]byte, error) {
	key := make([]byte, chacha20poly1305.KeySize)
	defer clear(key)
	// One key per purpose: a value of one can never pass as one of another,
	// whatever its additional data say.
	hkdfSHA256(key, v.root.b, []byte(v.uuid), fmt.Sprintf("vcckiosk/keystore/%d/%s", gen, p.purpose()))
	a, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	bound := appendBound(nil, []byte(v.uuid), []byte(p.bucket), []byte(p.name), fixed, p.aad)
	return do(a, bound)
}

func (p place) purpose() string {
	if p.bucket == sealedBucket {
		return "seal/" + p.name
	}
	return "record"
}

// appendBound joins fields with their lengths before them, so that moving a
// byte from one field to the next changes the result.
func appendBound(b []byte, fields ...[]byte) []byte {
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

// sealedBucket is no bucket: it stands in the place of values that are kept
// elsewhere (Store.Seal).
const sealedBucket = "sealed"

// Seal encrypts and authenticates plain with a key of its own for purpose
// ("psc", "image", "sms": 1 to 32 lower-case letters, digits, hyphens). aad is
// bound but not stored: Open needs the same, so put in what the value belongs
// to, such as the number of the record it is kept in. The result is 64 bytes
// longer than plain and opens only with this store.
func (s *Store) Seal(purpose string, aad, plain []byte) ([]byte, error) {
	v, err := s.vaultFor(purpose)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	out, err := v.seal(place{sealedBucket, purpose, aad}, 0, plain)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return out, nil
}

// Open decrypts what Seal made for the same purpose and aad. ErrUnseal: it
// was altered or belongs elsewhere; never retry. ErrNewer: sealed by a newer
// program. The plain text is ordinary memory of the caller's.
func (s *Store) Open(purpose string, aad, sealed []byte) ([]byte, error) {
	v, err := s.vaultFor(purpose)
	if err != nil {
		return nil, fmt.Errorf("open sealed value: %w", err)
	}
	plain, _, err := v.open(nil, place{sealedBucket, purpose, aad}, sealed)
	if err != nil {
		return nil, fmt.Errorf("open sealed value: %w", err)
	}
	return plain, nil
}

func (s *Store) vaultFor(purpose string) (*vault, error) {
	if len(purpose) < 1 || len(purpose) > 32 {
		return nil, fmt.Errorf("purpose of %d characters, want 1..32", len(purpose))
	}
	for _, c := range []byte(purpose) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return nil, fmt.Errorf("purpose %q has other than a-z, 0-9 and hyphen", purpose)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	return s.vault, nil
}
