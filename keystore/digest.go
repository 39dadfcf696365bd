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

// sign is UPPER(HEX(MD5(message + key))) (2.1).
func sign(message, key []byte) string {
	h := md5.New() //nolint:gosec // see the import
	_, _ = h.Write(message)
	_, _ = h.Write(key)
	var sum [md5.Size]byte
	finish(h, len(message)+len(key), binary.LittleEndian, sum[:])
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// finish puts the sum of h, an MD5 (little-endian) or SHA-256 (big-endian)
// that was fed total bytes, into sum and leaves none of those bytes behind.
// Sum would: it works on a copy of the hash, whose buffer stays on the stack.
// So the padding is written here, after which the state is the digest, and
// the state is taken out by its marshalled form: 4 bytes magic, then the
// words, big-endian. TestDigests holds this against the standard library.
func finish(h hash.Hash, total int, order binary.ByteOrder, sum []byte) {
	var pad [72]byte
	pad[0] = 0x80
	n := 56 - total%64
	if n <= 0 {
		n += 64
	}
	order.PutUint64(pad[n:], uint64(total)<<3)
	_, _ = h.Write(pad[:n+8])
	state, err := h.(encoding.BinaryAppender).AppendBinary(make([]byte, 0, 128))
	if err != nil {
		panic("keystore: hash without a state: " + err.Error()) // both kinds have one
	}
	for i := 0; i < len(sum); i += 4 {
		order.PutUint32(sum[i:], binary.BigEndian.Uint32(state[4+i:]))
	}
	wipe(h)
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

// hmacSHA256 is HMAC (RFC 2104). crypto/hmac would leave two masked copies
// of the key on the heap; here the only copy is the block, which is cleared.
func hmacSHA256(key []byte, parts ...[]byte) (sum [sha256.Size]byte) {
	if len(key) > sha256.BlockSize {
		short := sha256.Sum256(key)
		key = short[:]
	}
	var block [sha256.BlockSize]byte
	defer clear(block[:])
	copy(block[:], key)
	for i := range block {
		block[i] ^= 0x36
	}
	h := sha256.New()
	_, _ = h.Write(block[:])
	total := len(block)
	for _, p := range parts {
		_, _ = h.Write(p)
		total += len(p)
	}
	var inner [sha256.Size]byte
	finish(h, total, binary.BigEndian, inner[:])
	for i := range block {
		block[i] ^= 0x36 ^ 0x5c
	}
	_, _ = h.Write(block[:])
	_, _ = h.Write(inner[:])
	finish(h, len(block)+len(inner), binary.BigEndian, sum[:])
	return sum
}

// hkdfSHA256 is HKDF (RFC 5869), filling out.
func hkdfSHA256(out, secret, salt []byte, info string) {
	prk := hmacSHA256(salt, secret)
	defer clear(prk[:])
	var last []byte
	for i := byte(1); len(out) > 0; i++ {
		t := hmacSHA256(prk[:], last, []byte(info), []byte{i})
		n := copy(out, t[:])
		out = out[n:]
		last = t[:]
	}
}
