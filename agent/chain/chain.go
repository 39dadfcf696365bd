// Package chain keeps readable, append-only lines in a bbolt bucket so that a
// lost, altered or removed one is provable without any key.
//
// A line is "crc32c-hex SP chain-hex SP json". The CRC covers the JSON; the
// chain is the first 16 bytes of SHA-256 over the previous chain, the line's
// 8-byte key and the JSON. Keys count up from 1 and are never used again. When
// the oldest lines are trimmed, the chain of the last one trimmed is kept in
// the bucket "<name>.anchor", so that the rest still verifies.
package chain

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"go.etcd.io/bbolt"
)

var table = crc32.MakeTable(crc32.Castagnoli)

const (
	crcLen   = 8
	chainLen = 32
	prefix   = crcLen + 1 + chainLen + 1
)

// ErrDamaged: a line does not verify.
var ErrDamaged = errors.New("line is damaged")

// tails are empty entries behind the last line. bbolt v1.5.0 splits a full page
// so that three entries go to the next one whatever FillPercent says; with
// these as two of the three, pages stay full, the file is half the size, and
// fewer appends split a page.
var tails = [][]byte{{0xff}, {0xff, 0xff}}

func isTail(k, v []byte) bool {
	return len(v) == 0 && (bytes.Equal(k, tails[0]) || bytes.Equal(k, tails[1]))
}

// lastLine leaves c at the newest line; k is nil when there is none.
func lastLine(c *bbolt.Cursor) (k, v []byte) {
	for k, v = c.Last(); k != nil && isTail(k, v); k, v = c.Prev() {
	}
	return k, v
}

// Log is the chain in one bucket. The zero Log is not usable.
type Log struct{ name, anchor []byte }

// New names a chain by its bucket.
func New(bucket string) Log { return Log{[]byte(bucket), []byte(bucket + ".anchor")} }

func keyOf(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func crc(body []byte) uint32 { return crc32.Checksum(body, table) }

func link(prev, key, body []byte) []byte {
	h := sha256.New()
	h.Write(prev)
	h.Write(key)
	h.Write(body)
	return hex.AppendEncode(nil, h.Sum(nil)[:chainLen/2])
}

// Append adds a line and returns its number. body must not be empty.
func (l Log) Append(tx *bbolt.Tx, body []byte) (uint64, error) {
	b, err := tx.CreateBucketIfNotExists(l.name)
	if err != nil {
		return 0, fmt.Errorf("append line: %w", err)
	}
	b.FillPercent = 1 // keys only grow
	// The bucket's own counter says how many lines there have been, which is how
	// a lost end is noticed. It has no checksum, so it never makes a line
	// overwrite another.
	prev := l.anchored(tx)
	n := max(b.Sequence(), l.trimmed(tx))
	if lk, last := lastLine(b.Cursor()); lk != nil {
		if len(lk) == 8 {
			n = max(n, binary.BigEndian.Uint64(lk))
		}
		prev = sumOf(last)
	}
	if n == math.MaxUint64 {
		return 0, fmt.Errorf("append line: numbers used up: %w", ErrDamaged)
	}
	n++
	if err := b.SetSequence(n); err != nil {
		return 0, fmt.Errorf("append line: %w", err)
	}
	k := keyOf(n)
	line := make([]byte, 0, prefix+len(body))
	line = fmt.Appendf(line, "%08x ", crc(body))
	line = append(append(append(line, link(prev, k, body)...), ' '), body...)
	if err := b.Put(k, line); err != nil {
		return 0, fmt.Errorf("append line: %w", err)
	}
	for _, t := range tails {
		if err := b.Put(t, nil); err != nil {
			return 0, fmt.Errorf("append line: %w", err)
		}
	}
	return n, nil
}

// sumOf is the chain value a line carries, verified or not; nil if it is too
// short to carry one.
func sumOf(line []byte) []byte {
	if len(line) < prefix {
		return nil
	}
	return line[crcLen+1 : crcLen+1+chainLen]
}

func (l Log) anchored(tx *bbolt.Tx) []byte {
	if b := tx.Bucket(l.anchor); b != nil {
		return b.Get([]byte("chain"))
	}
	return nil
}

// trimmed is the number of the last line that was trimmed.
func (l Log) trimmed(tx *bbolt.Tx) uint64 {
	if b := tx.Bucket(l.anchor); b != nil {
		if n := b.Get([]byte("n")); len(n) == 8 {
			return binary.BigEndian.Uint64(n)
		}
	}
	return 0
}

// After gives f the bodies of the lines behind line n, oldest first, damaged
// ones left out. The slices die with the transaction.
func (l Log) After(tx *bbolt.Tx, n uint64, f func(n uint64, body []byte) error) error {
	b := tx.Bucket(l.name)
	if b == nil || n == math.MaxUint64 {
		return nil
	}
	c := b.Cursor()
	for k, v := c.Seek(keyOf(n + 1)); k != nil; k, v = c.Next() {
		body, _, ok := split(v)
		if !ok || len(k) != 8 {
			continue
		}
		if err := f(binary.BigEndian.Uint64(k), body); err != nil {
			return err
		}
	}
	return nil
}

// Newest gives f the bodies of the last lines, newest first, damaged ones left
// out, until f says that it has enough. The slices die with the transaction.
func (l Log) Newest(tx *bbolt.Tx, f func(n uint64, body []byte) (more bool)) {
	b := tx.Bucket(l.name)
	if b == nil {
		return
	}
	c := b.Cursor()
	for k, v := lastLine(c); k != nil; k, v = c.Prev() {
		body, _, ok := split(v)
		if ok && len(k) == 8 && !f(binary.BigEndian.Uint64(k), body) {
			return
		}
	}
}

// Get returns the body of line n, nil when there is none. The slice dies with
// the transaction.
func (l Log) Get(tx *bbolt.Tx, n uint64) ([]byte, error) {
	b := tx.Bucket(l.name)
	if b == nil {
		return nil, nil
	}
	v := b.Get(keyOf(n))
	if v == nil {
		return nil, nil
	}
	body, _, ok := split(v)
	if !ok {
		return nil, fmt.Errorf("line %d: %w", n, ErrDamaged)
	}
	return body, nil
}

func split(v []byte) (body, sum []byte, ok bool) {
	if len(v) <= prefix || v[crcLen] != ' ' || v[prefix-1] != ' ' {
		return nil, nil, false
	}
	body = v[prefix:]
	var sum4 [crcLen / 2]byte
	binary.BigEndian.PutUint32(sum4[:], crc(body))
	var text [crcLen]byte
	if hex.Encode(text[:], sum4[:]); string(text[:]) != string(v[:crcLen]) {
		return nil, nil, false
	}
	return body, v[crcLen+1 : crcLen+1+chainLen], true
}

// Damage is one place where the chain does not hold.
type Damage struct {
	N    uint64 `json:"n"`
	What string `json:"what"`
}

// Scan walks all lines in order. f gets each body that has its checksum;
// chained tells whether it also stands in its place: nothing before it was
// altered, removed or put in. Damage is told and passed over.
func (l Log) Scan(tx *bbolt.Tx, f func(n uint64, body []byte, chained bool) error) ([]Damage, error) {
	b := tx.Bucket(l.name)
	if b == nil {
		return nil, nil
	}
	var bad []Damage
	prev, sure, last := l.anchored(tx), true, l.trimmed(tx)
	err := b.ForEach(func(k, v []byte) error {
		if isTail(k, v) {
			return nil
		}
		if len(k) != 8 {
			bad = append(bad, Damage{0, "foreign key"})
			return nil
		}
		n := binary.BigEndian.Uint64(k)
		switch {
		case n <= last: // the anchor's number is wrong
			bad = append(bad, Damage{n, "line was trimmed"})
			sure = false
		case n != last+1:
			bad = append(bad, Damage{last + 1, fmt.Sprintf("%d lines missing", n-last-1)})
			sure = false
		}
		last = n
		body, sum, ok := split(v)
		if !ok {
			bad = append(bad, Damage{n, "checksum"})
			prev, sure = bytes.Clone(sumOf(v)), false
			return nil
		}
		chained := sure && bytes.Equal(link(prev, k, body), sum)
		if sure && !chained {
			bad = append(bad, Damage{n, "chain"})
		}
		prev, sure = bytes.Clone(sum), true
		return f(n, body, chained)
	})
	if err == nil && last < b.Sequence() {
		bad = append(bad, Damage{last + 1, fmt.Sprintf("%d lines missing at the end", b.Sequence()-last)})
	}
	return bad, err
}

// Trim removes the oldest lines while gone says so, at most limit, and keeps the
// anchor of the rest.
func (l Log) Trim(tx *bbolt.Tx, limit int, gone func(n uint64, body []byte) bool) (int, error) {
	b := tx.Bucket(l.name)
	if b == nil {
		return 0, nil
	}
	c := b.Cursor()
	done := 0
	var sum, key []byte
	for k, v := c.First(); k != nil && done < limit; k, v = c.First() {
		body, s, ok := split(v)
		// A damaged line is evidence: it stays, and what is behind it.
		if !ok || len(k) != 8 || !gone(binary.BigEndian.Uint64(k), body) {
			break
		}
		sum, key = bytes.Clone(s), bytes.Clone(k)
		if err := b.Delete(k); err != nil {
			return done, fmt.Errorf("trim line: %w", err)
		}
		done++
	}
	if done == 0 {
		return 0, nil
	}
	a, err := tx.CreateBucketIfNotExists(l.anchor)
	if err != nil {
		return done, fmt.Errorf("keep anchor: %w", err)
	}
	if err := a.Put([]byte("n"), key); err != nil {
		return done, fmt.Errorf("keep anchor: %w", err)
	}
	if err := a.Put([]byte("chain"), sum); err != nil {
		return done, fmt.Errorf("keep anchor: %w", err)
	}
	return done, nil
}
