package queue

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
	boltVersion  = 2
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

// metaPage is what a meta page says.
type metaPage struct {
	pageSize                   uint32
	root, freelist, high, txid uint64
}

const (
	metaSize   = 64
	metaSum    = 56                 // offset of the checksum in it
	noFreelist = 0xffffffffffffffff // bbolt rebuilds the list when it opens
)

func metaSummed(b []byte) bool {
	h := fnv.New64a()
	_, _ = h.Write(b[:metaSum])
	return le.Uint64(b[metaSum:]) == h.Sum64()
}

// readMeta reads the meta page at offset at. ok false: there is none.
//
// An invalid meta page has two causes. A write that the power cut through
// belongs to a commit that never returned, and the other page is the truth.
// A page that was whole and has rotted belongs to a commit that somebody has
// relied on, and the other page is the past. A single wrong bit is told from
// torn content by putting it right.
func readMeta(r io.ReaderAt, at int64) (m metaPage, ok bool, err error) {
	page := make([]byte, pageHeader+metaSize)
	if _, err := r.ReadAt(page, at); err != nil {
		return m, false, nil //nolint:nilerr // no meta page there
	}
	b := page[pageHeader:]
	if !metaSummed(b) {
		for bit := range metaSize * 8 {
			b[bit/8] ^= 1 << (bit % 8)
			if metaSummed(b) {
				return m, false, errors.New("meta page has rotted")
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
		return m, false, nil
	}
	switch version := le.Uint32(b[4:]); {
	case le.Uint32(b) != boltMagic:
		return m, false, nil
	case version > boltVersion:
		return m, false, fmt.Errorf("file format %d: %w", version, ErrNewer)
	case version != boltVersion:
		return m, false, nil
	}
	return metaPage{
		pageSize: le.Uint32(b[8:]), root: le.Uint64(b[16:]), freelist: le.Uint64(b[32:]),
		high: le.Uint64(b[40:]), txid: le.Uint64(b[48:]),
	}, true, nil
}

// walk proves that the newest valid meta page leads to a whole tree, such as
// bbolt takes without a panic.
func walk(r io.ReaderAt, size int64) error {
	if size == 0 {
		return errors.New("file is empty")
	}
	var m metaPage
	found := false
	// The second meta page lies at one page size, which the first tells; if the
	// first is lost, the possible sizes are tried.
	for at := int64(0); at <= 1<<16; at = max(1024, at*2) {
		if found && at != int64(m.pageSize) {
			continue
		}
		got, ok, err := readMeta(r, at)
		if err != nil {
			return err
		}
		if ok && (at == 0 || at == int64(got.pageSize)) && (!found || got.txid > m.txid) {
			found, m = true, got
		}
	}
	switch {
	case !found:
		return errors.New("no valid meta page")
	case m.pageSize < 1024 || m.pageSize > 1<<16 || m.pageSize&(m.pageSize-1) != 0:
		return fmt.Errorf("page size %d", m.pageSize)
	case m.high < 4 || m.high > uint64(size)/uint64(m.pageSize):
		return fmt.Errorf("cut off: %d pages in use, the file has %d", m.high, uint64(size)/uint64(m.pageSize))
	case m.freelist != noFreelist:
		return errors.New("not written by this program") // which never stores the list
	}
	w := &walker{r: r, pageSize: uint64(m.pageSize), pages: m.high, seen: map[uint64]bool{}}
	return w.page(m.root, nil, nil, 0)
}

// page checks the page with this id and what hangs below it. lo and hi bound
// its keys (hi exclusive, nil: none).
func (w *walker) page(id uint64, lo, hi []byte, depth int) error {
	switch {
	case id < 2 || id >= w.pages:
		return fmt.Errorf("page %d out of range", id)
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
	// Only the first page of a bucket may have nothing in it.
	if pageHeader+count*elemSize > len(b) || (count == 0 && lo != nil) {
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
		if !ok || len(key) == 0 {
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
			if inline {
				return fmt.Errorf("element %d: bucket inside an inline bucket", i)
			}
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
