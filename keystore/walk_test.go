package keystore

import (
	"bytes"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// TestCheckPages alters what bbolt trusts, one field at a time.
func TestCheckPages(t *testing.T) {
	t.Parallel()
	dir, _ := full(t)
	withDB(t, dir, func(tx *bbolt.Tx) error { // too long for a bucket that stands in its value
		return tx.Bucket([]byte(bucketName)).Put([]byte("long"), make([]byte, 2000))
	})
	whole := readFiles(t, dir)[dbName]
	must(t, checkPages(whole))
	m0, _ := readMeta(whole[:pageSize])
	m, _ := readMeta(whole[pageSize:])
	if m0.txid > m.txid {
		m = m0
	}
	root, free := int(m.root)*pageSize, int(m.freelist)*pageSize
	bucket := root + pageHeader // the only element of the root page: its value leads to the page of the records
	value := root + pageHeader + elementSize + len(bucketName)
	leaf := int(native.Uint64(whole[value:])) * pageSize
	if leaf == 0 {
		t.Fatal("the bucket stands in its value")
	}
	u16 := func(b []byte, at int, v uint16) { native.PutUint16(b[at:], v) }
	u32 := func(b []byte, at int, v uint32) { native.PutUint32(b[at:], v) }
	u64 := func(b []byte, at int, v uint64) { native.PutUint64(b[at:], v) }
	tests := []struct {
		name  string
		alter func(b []byte)
		words string
	}{
		{"root page has another number", func(b []byte) { u64(b, root, m.root+1) }, "another number"},
		{"root page is no leaf", func(b []byte) { u16(b, root+8, flagFreelist) }, "neither leaf nor branch"},
		{"root page is a branch with one child", func(b []byte) { u16(b, root+8, flagBranch) }, "too few branches"},
		{"root page has too many elements", func(b []byte) { u16(b, root+10, 0xffff) }, "more than it holds"},
		{"root page runs over the end", func(b []byte) { u32(b, root+12, 1<<31) }, "cut short"},
		{"element of unknown kind", func(b []byte) { u32(b, bucket, 2) }, "unknown kind"},
		{"element begins elsewhere", func(b []byte) { u32(b, bucket+4, 17) }, "outside"},
		{"element has no key", func(b []byte) { u32(b, bucket+8, 0) }, "outside"},
		{"element is longer than the page", func(b []byte) { u32(b, bucket+12, 1<<31) }, "outside"},
		{"bucket leads to a meta page", func(b []byte) { u64(b, value, 1) }, "does not exist"},
		{"bucket leads past the end", func(b []byte) { u64(b, value, m.highWater) }, "does not exist"},
		{"bucket leads to its own page", func(b []byte) { u64(b, value, m.root) }, "used twice"},
		{"bucket in place that is none", func(b []byte) { u64(b, value, 0) }, "inline bucket"},
		{"keys out of order", func(b []byte) {
			at := leaf + pageHeader + elementSize*int(native.Uint16(b[leaf+10:]))
			b[at] = 'z'
		}, "out of order"},
		{"free list is a leaf", func(b []byte) { u16(b, free+8, flagLeaf) }, "free list"},
		{"free list has too many pages", func(b []byte) { u16(b, free+10, 0xfffe) }, "free list"},
		{"free list counts in another way", func(b []byte) { u16(b, free+10, 0xffff) }, "free list"},
		{"free list names a page in use", func(b []byte) { u16(b, free+10, 1); u64(b, free+pageHeader, m.root) }, "used twice"},
		{"free list names a meta page", func(b []byte) { u16(b, free+10, 1); u64(b, free+pageHeader, 1) }, "does not exist"},
		{"free list forgets a page", func(b []byte) { u16(b, free+10, native.Uint16(b[free+10:])-1) }, "belongs to nothing"},
	}
	for _, test := range tests {
		b := bytes.Clone(whole)
		test.alter(b)
		if err := checkPages(b); err == nil || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: %v, want %q", test.name, err, test.words)
		}
	}
}

func TestTheNewerHeaderCopyCounts(t *testing.T) {
	t.Parallel()
	for _, newer := range []string{hdr1, hdr2} {
		dir, holds := full(t)
		h, _, err := readHeaders(dir)
		must(t, err)
		h.Serial++
		must(t, Options{}.writeHeaders(dir, h, newer))
		h.Serial--
		h.Slot.Blob = []byte("an older slot that opens nothing")
		must(t, Options{}.writeHeaders(dir, h, map[string]string{hdr1: hdr2, hdr2: hdr1}[newer]))
		wantShape(t, mustOpen(t, dir), holds)
		files := readFiles(t, dir)
		if !bytes.Equal(files[hdr1], files[hdr2]) {
			t.Error("the older copy was not written again")
		}
	}
}
