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

// Log is the chain in one bucket. The zero Log is not usable.
type Log struct{ name, anchor []byte }

// New names a chain by its bucket.
func New(bucket string) Log { return Log{[]byte(bucket), []byte(bucket + ".anchor")} }

func keyOf(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

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
	n, err := b.NextSequence()
	if err != nil {
		return 0, fmt.Errorf("append line: %w", err)
	}
	prev := l.anchored(tx)
	if _, last := b.Cursor().Last(); len(last) >= prefix {
		prev = last[crcLen+1 : crcLen+1+chainLen]
	}
	k := keyOf(n)
	line := make([]byte, 0, prefix+len(body))
	line = fmt.Appendf(line, "%08x ", crc32.Checksum(body, table))
	line = append(append(append(line, link(prev, k, body)...), ' '), body...)
	if err := b.Put(k, line); err != nil {
		return 0, fmt.Errorf("append line: %w", err)
	}
	return n, nil
}

func (l Log) anchored(tx *bbolt.Tx) []byte {
	if b := tx.Bucket(l.anchor); b != nil {
		return b.Get([]byte("chain"))
	}
	return nil
}

// Last is the number of the newest line, 0 when there is none.
func (l Log) Last(tx *bbolt.Tx) uint64 {
	b := tx.Bucket(l.name)
	if b == nil {
		return 0
	}
	k, _ := b.Cursor().Last()
	if len(k) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(k)
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
	if string(fmt.Appendf(nil, "%08x", crc32.Checksum(body, table))) != string(v[:crcLen]) {
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
	prev, sure := l.anchored(tx), true
	var last uint64
	if a := tx.Bucket(l.anchor); a != nil && len(a.Get([]byte("n"))) == 8 {
		last = binary.BigEndian.Uint64(a.Get([]byte("n")))
	}
	err := b.ForEach(func(k, v []byte) error {
		if len(k) != 8 {
			bad = append(bad, Damage{0, "foreign key"})
			return nil
		}
		n := binary.BigEndian.Uint64(k)
		if n != last+1 {
			bad = append(bad, Damage{last + 1, fmt.Sprintf("%d lines missing", n-last-1)})
			sure = false
		}
		last = n
		body, sum, ok := split(v)
		if !ok {
			bad = append(bad, Damage{n, "checksum"})
			prev, sure = nil, false
			if len(v) >= prefix {
				prev = bytes.Clone(v[crcLen+1 : crcLen+1+chainLen])
			}
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
		if !ok || !gone(binary.BigEndian.Uint64(k), body) {
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
