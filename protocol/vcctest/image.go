package vcctest

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
)

const imageSize = 256

// get reads a number from an image. Fields are checked by Layout.valid.
func (f Field) get(image []byte) int64 {
	var n int64
	for _, b := range image[f.Offset : f.Offset+f.Len] {
		n = n<<8 | int64(b)
	}
	return n
}

func (f Field) put(image []byte, n int64) {
	for i := f.Len - 1; i >= 0; i-- {
		image[f.Offset+i] = byte(n)
		n >>= 8
	}
}

func (f Field) inside() bool {
	return f.Offset >= 0 && f.Len >= 0 && f.Offset <= imageSize && f.Len <= imageSize-f.Offset
}

// valid: every field lies on the card, numbers are at most 4 bytes, and no two
// fields share a byte.
func (l Layout) valid() error {
	var owner [imageSize]string
	for _, f := range []struct {
		name   string
		f      Field
		number bool
	}{{"count", l.Count, true}, {"gas", l.Gas, true}, {"aux", l.Aux, false}} {
		if !f.f.inside() || f.number && (f.f.Len < 1 || f.f.Len > 4) {
			return fmt.Errorf("layout: field %s does not fit", f.name)
		}
		for i := range f.f.Len {
			if at := f.f.Offset + i; owner[at] != "" {
				return fmt.Errorf("layout: fields %s and %s overlap", owner[at], f.name)
			}
			owner[f.f.Offset+i] = f.name
		}
	}
	return nil
}

// crc is CRC-32 (IEEE) over the whole content, upper hex.
func crc(image []byte) string { return fmt.Sprintf("%08X", crc32.ChecksumIEEE(image)) }

// image decodes a whole card content.
func image(text string) ([]byte, bool) {
	b, err := hex.DecodeString(text)
	return b, err == nil && len(b) == imageSize
}

// purchase builds the content that gives the card an order's gas: prices and
// checks, gas, and the count last. twist makes another content for the same
// order (a platform that is not idempotent).
func (l Layout) purchase(before []byte, orderNo string, volume int64, twist uint32) (target []byte, writes []imageWrite, count int) {
	target = append([]byte{}, before...)
	count = int(l.Count.get(before)) + 1
	sum := sha256.Sum256(binary.BigEndian.AppendUint32(fmt.Appendf(nil, "%s|%d|", orderNo, count), twist))
	for i := range l.Aux.Len {
		target[l.Aux.Offset+i] = sum[i%len(sum)]
	}
	l.Gas.put(target, volume)
	l.Count.put(target, int64(count))
	for _, f := range []Field{l.Aux, l.Gas, l.Count} {
		if f.Len > 0 {
			writes = append(writes, imageWrite{Zone: "main", Offset: f.Offset, Data: upperHex(target[f.Offset : f.Offset+f.Len])})
		}
	}
	return target, writes, count
}
