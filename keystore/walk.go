package keystore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// The layout of a bbolt file, version 2, as its pages stand on disk (native
// byte order, little endian on every machine we build for).
const (
	pageHeader   = 16
	elemSize     = 16
	boltMagic    = 0xED0CDAED
	flagBranch   = 0x01
	flagLeaf     = 0x02
	bucketLeaf   = 0x01
	bucketHeader = 16
	maxDepth     = 32
)

var le = binary.LittleEndian

type walker struct {
	r        io.ReaderAt
	pageSize uint64
	pages    uint64 // high water mark
	seen     map[uint64]bool
}

// walk proves that the newest valid meta page leads to a whole tree.
func walk(r io.ReaderAt, size int64) error {
	if size == 0 {
		return errors.New("file is empty")
	}
	var root, high, newest uint64
	var pageSize uint32
	found := false
	// The second meta page lies at one page size, which the first tells; if the
	// first is lost, common sizes are tried.
	for _, at := range []int64{0, 4096, 8192, 16384, 32768, 65536} {
		m := make([]byte, 80)
		if _, err := r.ReadAt(m, at); err != nil {
			continue
		}
		b := m[pageHeader:]
		h := fnv.New64a()
		_, _ = h.Write(b[:56])
		if le.Uint32(b) != boltMagic || le.Uint32(b[4:]) != 2 || le.Uint64(b[56:]) != h.Sum64() {
			continue
		}
		if txid := le.Uint64(b[48:]); !found || txid > newest {
			found, newest = true, txid
			pageSize, root, high = le.Uint32(b[8:]), le.Uint64(b[16:]), le.Uint64(b[40:])
		}
	}
	if !found {
		return errors.New("no valid meta page")
	}
	if pageSize < 512 || pageSize > 1<<16 || pageSize&(pageSize-1) != 0 {
		return fmt.Errorf("page size %d", pageSize)
	}
	if high < 3 || high > uint64(size)/uint64(pageSize) {
		return fmt.Errorf("cut off: %d pages in use, the file has %d", high, uint64(size)/uint64(pageSize))
	}
	w := &walker{r: r, pageSize: uint64(pageSize), pages: high, seen: map[uint64]bool{}}
	return w.page(root, nil, nil, 0)
}

// page checks the page with this id and what hangs below it. lo and hi bound
// its keys (hi exclusive, nil: none).
func (w *walker) page(id uint64, lo, hi []byte, depth int) error {
	switch {
	case id < 2 || id >= w.pages:
		return fmt.Errorf("page %d out of range", id)
	case w.seen[id]:
		return fmt.Errorf("page %d used twice", id)
	case depth > maxDepth:
		return fmt.Errorf("page %d too deep", id)
	}
	head := make([]byte, pageHeader)
	if _, err := w.r.ReadAt(head, int64(id*w.pageSize)); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	over := uint64(le.Uint32(head[12:]))
	if le.Uint64(head) != id || over >= w.pages-id {
		return fmt.Errorf("page %d: header", id)
	}
	for i := id; i <= id+over; i++ {
		if w.seen[i] {
			return fmt.Errorf("page %d used twice", i)
		}
		w.seen[i] = true
	}
	b := make([]byte, (over+1)*w.pageSize)
	if _, err := w.r.ReadAt(b, int64(id*w.pageSize)); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	if err := w.elements(b, lo, hi, depth, false); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (w *walker) elements(b, lo, hi []byte, depth int, inline bool) error {
	flags, count := le.Uint16(b[8:]), int(le.Uint16(b[10:]))
	leaf := flags == flagLeaf
	if !leaf && (flags != flagBranch || inline || count == 0) {
		return fmt.Errorf("flags %#x", flags)
	}
	if pageHeader+count*elemSize > len(b) {
		return fmt.Errorf("%d elements", count)
	}
	type child struct {
		id  uint64
		key []byte
	}
	var below []child
	last := lo
	for i := range count {
		at := pageHeader + i*elemSize
		e := b[at : at+elemSize]
		var key, val []byte
		var ok bool
		if leaf {
			pos, kn, vn := uint64(le.Uint32(e[4:])), uint64(le.Uint32(e[8:])), uint64(le.Uint32(e[12:]))
			if key, ok = cut(b, uint64(at)+pos, kn); ok {
				val, ok = cut(b, uint64(at)+pos+kn, vn)
			}
		} else {
			key, ok = cut(b, uint64(at)+uint64(le.Uint32(e)), uint64(le.Uint32(e[4:])))
			below = append(below, child{le.Uint64(e[8:]), key})
		}
		if !ok {
			return fmt.Errorf("element %d out of range", i)
		}
		cmp := bytes.Compare(key, last)
		if (i > 0 && cmp <= 0) || (i == 0 && lo != nil && cmp < 0) || (hi != nil && bytes.Compare(key, hi) >= 0) {
			return fmt.Errorf("element %d out of order", i)
		}
		last = key
		if !leaf {
			continue
		}
		switch le.Uint32(e) {
		case 0:
		case bucketLeaf:
			if err := w.bucket(val, depth); err != nil {
				return fmt.Errorf("bucket %d: %w", i, err)
			}
		default:
			return fmt.Errorf("element %d: flags", i)
		}
	}
	for i, c := range below {
		end := hi
		if i+1 < len(below) {
			end = below[i+1].key
		}
		if err := w.page(c.id, c.key, end, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) bucket(val []byte, depth int) error {
	if len(val) < bucketHeader {
		return errors.New("too short")
	}
	if root := le.Uint64(val); root != 0 {
		return w.page(root, nil, nil, depth+1)
	}
	if len(val) < bucketHeader+pageHeader {
		return errors.New("inline page too short")
	}
	return w.elements(val[bucketHeader:], nil, nil, depth+1, true)
}

func cut(b []byte, from, n uint64) ([]byte, bool) {
	if from > uint64(len(b)) || n > uint64(len(b))-from {
		return nil, false
	}
	return b[from : from+n], true
}
