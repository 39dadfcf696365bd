package queue

import (
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"go.etcd.io/bbolt"
)

// The bucket "meta" tells what else must be in the file. Its values are lines
// "crc32c-hex SP text".
var (
	bucketMeta = []byte("meta")
	keySchema  = []byte("schema")
	keyBuckets = []byte("buckets")
)

func sealLine(text []byte) []byte {
	return append(fmt.Appendf(nil, "%08x ", crc32.Checksum(text, crcTable)), text...)
}

func openLine(v []byte) (text []byte, ok bool) {
	if len(v) < 10 || v[8] != ' ' || string(fmt.Appendf(nil, "%08x", crc32.Checksum(v[9:], crcTable))) != string(v[:8]) {
		return nil, false
	}
	return v[9:], true
}

// listBuckets keeps the list of the file's buckets. bbolt has no checksums: a
// bit that flips in the name of a bucket makes everything in it disappear, and
// its owner would take the file for a new one.
func (w *Writer) listBuckets(tx *bbolt.Tx) error {
	var names []string
	c := tx.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		names = append(names, string(k))
	}
	list := strings.Join(names, " ")
	b := tx.Bucket(bucketMeta)
	if list == w.known || b == nil {
		return nil
	}
	if err := b.Put(keyBuckets, sealLine([]byte(list))); err != nil {
		return fmt.Errorf("list buckets: %w", err)
	}
	tx.OnCommit(func() { w.known = list })
	return nil
}

// checkMeta compares the file with its own list and schema.
func checkMeta(tx *bbolt.Tx, want uint32) error {
	b := tx.Bucket(bucketMeta)
	if b == nil {
		return fmt.Errorf("no schema: %w", ErrDamaged)
	}
	text, ok := openLine(b.Get(keySchema))
	if !ok {
		return fmt.Errorf("schema: %w", ErrDamaged)
	}
	got, err := strconv.ParseUint(string(text), 10, 32)
	if err != nil {
		return fmt.Errorf("schema: %w", ErrDamaged)
	}
	if uint32(got) > want {
		return fmt.Errorf("schema %d, this program knows %d: %w; install that program's version or newer", got, want, ErrNewer)
	}
	list := b.Get(keyBuckets)
	if list == nil {
		return nil
	}
	names, ok := openLine(list)
	if !ok {
		return fmt.Errorf("list of buckets: %w", ErrDamaged)
	}
	for name := range strings.FieldsSeq(string(names)) {
		if tx.Bucket([]byte(name)) == nil {
			return fmt.Errorf("bucket %q is gone: %w", name, ErrDamaged)
		}
	}
	return nil
}
