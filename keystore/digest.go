package keystore

import (
	"crypto/md5" //nolint:gosec // the platform's sign is MD5, clause 2.1
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"strings"
)

// sign is UPPER(HEX(MD5(message + key))) (2.1). The padding is written here
// and the state taken out by its marshalled form, because Sum works on a
// copy of the hash whose buffer, with key bytes in it, would stay behind on
// the stack. The hash's own buffer is overwritten before it is let go.
func sign(message, key []byte) string {
	h := md5.New() //nolint:gosec // see the import
	_, _ = h.Write(message)
	_, _ = h.Write(key)

	total := uint64(len(message)) + uint64(len(key))
	var pad [72]byte
	pad[0] = 0x80
	n := 56 - int(total%64)
	if n <= 0 {
		n += 64
	}
	binary.LittleEndian.PutUint64(pad[n:], total<<3)
	_, _ = h.Write(pad[:n+8])

	var sum [md5.Size]byte
	if m, ok := h.(encoding.BinaryAppender); ok {
		// Layout: 4 bytes magic, then the four state words, big-endian; after
		// the padding above they are the digest, little-endian. TestSign
		// holds this against md5.Sum for all message lengths of three blocks.
		state, err := m.AppendBinary(make([]byte, 0, 128))
		if err == nil && len(state) >= 20 {
			for i := range 4 {
				binary.LittleEndian.PutUint32(sum[4*i:], binary.BigEndian.Uint32(state[4+4*i:]))
			}
		}
	}
	wipe(h)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// wipe overwrites the 64-byte buffer inside a hash: one byte first, because a
// whole block at once would be hashed without passing through the buffer.
func wipe(h hash.Hash) {
	var zero [64]byte
	h.Reset()
	_, _ = h.Write(zero[:1])
	_, _ = h.Write(zero[1:])
	h.Reset()
}

// hmacSHA256 is HMAC (RFC 2104) for keys of at most 64 bytes. crypto/hmac
// would leave two masked copies of the key on the heap; here the only copy
// is the block, which is cleared.
func hmacSHA256(key []byte, parts ...[]byte) (sum [sha256.Size]byte) {
	if len(key) > sha256.BlockSize {
		panic("keystore: hmac key longer than a block") // no caller has one
	}
	var block [sha256.BlockSize]byte
	defer clear(block[:])
	copy(block[:], key)
	for i := range block {
		block[i] ^= 0x36
	}
	h := sha256.New()
	_, _ = h.Write(block[:])
	for _, p := range parts {
		_, _ = h.Write(p)
	}
	var inner [sha256.Size]byte
	h.Sum(inner[:0])
	for i := range block {
		block[i] ^= 0x36 ^ 0x5c
	}
	h.Reset()
	_, _ = h.Write(block[:])
	_, _ = h.Write(inner[:])
	h.Sum(sum[:0])
	return sum
}

// hkdfSHA256 is HKDF (RFC 5869) with an empty salt, filling out.
func hkdfSHA256(out, secret []byte, info string) {
	var salt [sha256.Size]byte
	prk := hmacSHA256(salt[:], secret)
	defer clear(prk[:])
	var last []byte
	for i := byte(1); len(out) > 0; i++ {
		t := hmacSHA256(prk[:], last, []byte(info), []byte{i})
		n := copy(out, t[:])
		out = out[n:]
		last = t[:]
	}
}
