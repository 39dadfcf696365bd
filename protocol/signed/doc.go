// Package signed is the one scheme for everything called signed: remote
// commands, bundles, work orders, profiles. It is pure: no I/O, no clock, no
// state, no randomness.
//
// A signed thing is an Envelope: who it is for, what it is for, until when, its
// place in a row, and a payload that this package does not read. It is not
// encrypted.
//
// # The bytes
//
// Numbers are big endian. There is exactly one way to write an envelope: a byte
// too many, too few or out of its place is ErrFormat.
//
//	offset      length  field
//	0           4       "VKE1"
//	4           1       suite: 1 intl (Ed25519); 2 gm (SM2 with SM3), reserved
//	5           1       p, length of the purpose, 1..32
//	6           p       purpose: a-z first, then a-z 0-9 -
//	6+p         1       d, length of the device id, 1..32
//	7+p         d       device id: A-Z a-z 0-9 . _ -
//	7+p+d       8       counter, 1..2^63-1
//	15+p+d      8       expiry, seconds since 1970 UTC, 1..253402300799
//	23+p+d      8       key id: the key that signed
//	31+p+d      8       next key id: the key that follows, zero when none is planned
//	39+p+d      4       n, length of the payload, 0..65536
//	43+p+d      n       payload
//	43+p+d+n    64      signature
//
// The signature is Ed25519 (RFC 8032) over
//
//	"vcckiosk/" purpose "/1" NUL bytes[0 : 43+p+d+n]
//
// so that what is signed for one purpose verifies for no other, and for no
// other program. A key id is the first 8 bytes of SHA-256 over
//
//	"vcckiosk/key/1" NUL suite-byte public-key
//
// As text an envelope is base64url without padding (RFC 4648, 5); bits beyond
// the last byte must be zero. testdata/vectors.json has worked examples.
//
// # Keys and their change
//
// A device knows one or two public keys, the present one and the next, in this
// order (Ring). Whoever signs announces the next key in the envelopes of the
// present one; a device that does not have it yet can say so in time (Ring.Has).
// Once a device has taken an envelope of its next key it must refuse the one
// before: that is stored state and the caller's duty, see Ring.Position.
//
// # What the caller must do besides
//
//   - Keep the highest counter taken, per purpose, durably and before it acts,
//     and ask Envelope.After. This package has no memory: an old envelope
//     verifies as long as it has not expired.
//   - Bring a clock it believes in.
//   - Read the payload as strictly as if it were unsigned: a signature says who
//     wrote it, not that it is well made.
package signed
