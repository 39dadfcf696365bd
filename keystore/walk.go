package keystore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
)

// bbolt trusts the pages of its file: a flipped bit may panic, some of it in
// goroutines of its own where nobody can recover, or loop. A keystore is a
// few pages, so the whole file is walked here before bbolt sees it, and only
// a tree in which every page is accounted for is let through. What the values
// hold is not looked at: they are sealed and checked by the records.
const (
	pageSize    = 4096
	pageHeader  = 16
	elementSize = 16
	bucketHead  = 16
	maxFile     = 4 << 20
	maxDepth    = 8

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10
	leafBucket   = 0x01

	boltMagic   = 0xED0CDAED
	boltVersion = 2
)

// native: bbolt writes the numbers of the machine it runs on.
var native = binary.NativeEndian

type boltMeta struct {
	root, freelist, highWater, txid uint64
}

// checkPages tells whether bbolt can open b, the whole content of keystore.db,
// without trusting it. The error says what is wrong and is wrapped by the
// caller in ErrDamaged. A meta page with a wrong checksum is none: a cut while
// it was written leaves one, and the other meta page is the state before.
func checkPages(b []byte) error {
	switch {
	case len(b) == 0:
		return errors.New("the file is empty")
	case len(b) > maxFile:
		return errors.New("the file is far too long")
	case len(b) < 4*pageSize:
		return errors.New("the file is cut short")
	}
	m0, ok0 := readMeta(b[:pageSize])
	m1, ok1 := readMeta(b[pageSize : 2*pageSize])
	if !ok0 && !ok1 {
		return errors.New("both meta pages are damaged")
	}
	m := m0
	if !ok0 || ok1 && m1.txid > m0.txid {
		m = m1
	}
	if m.highWater < 4 || m.highWater > uint64(len(b)/pageSize) {
		return errors.New("the file is cut short")
	}
	w := walk{file: b, highWater: m.highWater, seen: make(map[uint64]bool)}
	if err := w.bucket(m.root, 0); err != nil {
		return err
	}
	if err := w.freelist(m.freelist); err != nil {
		return err
	}
	for id := uint64(2); id < m.highWater; id++ {
		if !w.seen[id] {
			return fmt.Errorf("page %d belongs to nothing", id)
		}
	}
	return nil
}

func readMeta(page []byte) (boltMeta, bool) {
	b := page[pageHeader:]
	h := fnv.New64a()
	_, _ = h.Write(b[:56])
	ok := native.Uint32(b) == boltMagic && native.Uint32(b[4:]) == boltVersion &&
		native.Uint32(b[8:]) == pageSize && native.Uint64(b[56:]) == h.Sum64()
	return boltMeta{
		root: native.Uint64(b[16:]), freelist: native.Uint64(b[32:]),
		highWater: native.Uint64(b[40:]), txid: native.Uint64(b[48:]),
	}, ok
}

type walk struct {
	file      []byte
	highWater uint64
	seen      map[uint64]bool
}

// page claims page id with its overflow pages and returns their bytes.
func (w *walk) page(id uint64) ([]byte, error) {
	if id < 2 || id >= w.highWater {
		return nil, fmt.Errorf("page %d does not exist", id)
	}
	b := w.file[id*pageSize:]
	if native.Uint64(b) != id {
		return nil, fmt.Errorf("page %d has another number inside", id)
	}
	over := uint64(native.Uint32(b[12:]))
	if id+over >= w.highWater {
		return nil, fmt.Errorf("page %d is cut short", id)
	}
	for i := id; i <= id+over; i++ {
		if err := w.claim(i); err != nil {
			return nil, err
		}
	}
	return b[:(over+1)*pageSize], nil
}

func (w *walk) claim(id uint64) error {
	if id < 2 || id >= w.highWater {
		return fmt.Errorf("page %d does not exist", id)
	}
	if w.seen[id] {
		return fmt.Errorf("page %d is used twice", id)
	}
	w.seen[id] = true
	return nil
}

func (w *walk) bucket(root uint64, depth int) error {
	b, err := w.page(root)
	if err != nil {
		return err
	}
	return w.tree(b, depth, nil, nil)
}

// tree checks the page b and what hangs on it; its keys lie in [from, to).
func (w *walk) tree(b []byte, depth int, from, to []byte) error {
	if depth > maxDepth {
		return errors.New("the tree is too deep")
	}
	id, flags, count := native.Uint64(b), native.Uint16(b[8:]), int(native.Uint16(b[10:]))
	if flags != flagLeaf && flags != flagBranch {
		return fmt.Errorf("page %d is neither leaf nor branch", id)
	}
	if flags == flagBranch && count < 2 {
		return fmt.Errorf("page %d has too few branches", id)
	}
	data := pageHeader + count*elementSize // bbolt packs the contents in order, without gaps
	if data > len(b) {
		return fmt.Errorf("page %d counts more than it holds", id)
	}
	type item struct {
		key, value []byte
		flags      uint32
		child      uint64
	}
	items := make([]item, count)
	for i := range items {
		e := b[pageHeader+i*elementSize:]
		it := &items[i]
		var pos, ksize, vsize uint32
		if flags == flagLeaf {
			it.flags, pos, ksize, vsize = native.Uint32(e), native.Uint32(e[4:]), native.Uint32(e[8:]), native.Uint32(e[12:])
		} else {
			pos, ksize, it.child = native.Uint32(e), native.Uint32(e[4:]), native.Uint64(e[8:])
		}
		end := uint64(data) + uint64(ksize) + uint64(vsize)
		if uint64(pageHeader+i*elementSize)+uint64(pos) != uint64(data) || ksize == 0 || end > uint64(len(b)) || end > math.MaxInt32 {
			return fmt.Errorf("page %d: element %d lies outside", id, i)
		}
		it.key, it.value = b[data:data+int(ksize)], b[data+int(ksize):int(end)]
		data = int(end)
		before := from
		if i > 0 {
			before = items[i-1].key
			if bytes.Equal(before, it.key) {
				return fmt.Errorf("page %d: a key stands twice", id)
			}
		}
		if bytes.Compare(before, it.key) > 0 || to != nil && bytes.Compare(it.key, to) >= 0 {
			return fmt.Errorf("page %d: keys out of order", id)
		}
	}
	for i, it := range items {
		switch {
		case flags == flagBranch:
			end := to
			if i+1 < count {
				end = items[i+1].key
			}
			child, err := w.page(it.child)
			if err != nil {
				return err
			}
			if err := w.tree(child, depth+1, it.key, end); err != nil {
				return err
			}
		case it.flags == leafBucket:
			if err := w.inner(it.value, depth+1); err != nil {
				return err
			}
		case it.flags != 0:
			return fmt.Errorf("page %d: element %d is of unknown kind", id, i)
		}
	}
	return nil
}

// inner checks a bucket inside a bucket: by page, or in the value itself.
func (w *walk) inner(value []byte, depth int) error {
	if len(value) < bucketHead {
		return errors.New("a bucket is cut short")
	}
	if root := native.Uint64(value); root != 0 {
		return w.bucket(root, depth)
	}
	b := value[bucketHead:]
	if len(b) < pageHeader || native.Uint64(b) != 0 || native.Uint16(b[8:]) != flagLeaf || native.Uint32(b[12:]) != 0 {
		return errors.New("an inline bucket is damaged")
	}
	return w.tree(b, depth, nil, nil)
}

// freelist claims the pages that are free; the list itself is one too.
func (w *walk) freelist(id uint64) error {
	b, err := w.page(id)
	if err != nil {
		return fmt.Errorf("free list: %w", err)
	}
	count := int(native.Uint16(b[10:]))
	if native.Uint16(b[8:]) != flagFreelist || count == 0xffff || pageHeader+8*count > len(b) {
		return fmt.Errorf("free list: page %d is damaged", id)
	}
	last := uint64(0)
	for i := range count {
		free := native.Uint64(b[pageHeader+8*i:])
		if free <= last {
			return errors.New("free list: out of order")
		}
		last = free
		if err := w.claim(free); err != nil {
			return fmt.Errorf("free list: %w", err)
		}
	}
	return nil
}
