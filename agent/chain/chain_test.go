package chain

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"go.etcd.io/bbolt"
)

func openDB(t testing.TB) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "x.db"), 0o600, &bbolt.Options{NoSync: true, NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func update(t testing.TB, db *bbolt.DB, f func(tx *bbolt.Tx) error) {
	t.Helper()
	if err := db.Update(f); err != nil {
		t.Fatal(err)
	}
}

var log = New("x")

func fill(t testing.TB, db *bbolt.DB, n int) {
	t.Helper()
	for range n {
		update(t, db, func(tx *bbolt.Tx) error {
			_, err := log.Append(tx, fmt.Appendf(nil, `{"n":%d}`, log.last(tx)+1))
			return err
		})
	}
}

// last is the number of the newest line.
func (l Log) last(tx *bbolt.Tx) (n uint64) {
	l.Newest(tx, func(m uint64, _ []byte) bool { n = m; return false })
	return n
}

type scanned struct {
	lines, unchained []uint64
	damage           []Damage
}

func scan(t testing.TB, db *bbolt.DB) (s scanned) {
	t.Helper()
	err := db.View(func(tx *bbolt.Tx) (err error) {
		s.damage, err = log.Scan(tx, func(n uint64, _ []byte, chained bool) error {
			s.lines = append(s.lines, n)
			if !chained {
				s.unchained = append(s.unchained, n)
			}
			return nil
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func numbers(from, to uint64) (out []uint64) {
	for n := from; n <= to; n++ {
		out = append(out, n)
	}
	return out
}

// raw gives a test the bucket as a forger or a bad disk would have it.
func raw(t testing.TB, db *bbolt.DB, f func(b *bbolt.Bucket) error) {
	t.Helper()
	update(t, db, func(tx *bbolt.Tx) error { return f(tx.Bucket(log.name)) })
}

func TestEveryChangeOfALineIsToldAndHidesNoOther(t *testing.T) {
	t.Parallel()
	good := func(b *bbolt.Bucket, n uint64) []byte { return bytes.Clone(b.Get(keyOf(n))) }
	// forge gives a line another body and a checksum that fits it.
	forge := func(line, body []byte) []byte {
		head := sealed(body)
		return append(append(head[:crcLen+1], line[crcLen+1:prefix]...), body...)
	}
	for _, c := range []struct {
		name      string
		do        func(b *bbolt.Bucket) error
		lines     []uint64
		damage    []Damage
		unchained []uint64
	}{
		{"nothing", func(*bbolt.Bucket) error { return nil }, numbers(1, 9), nil, nil},
		{"a bit of a body flips", func(b *bbolt.Bucket) error {
			v := good(b, 4)
			v[prefix+2] ^= 4
			return b.Put(keyOf(4), v)
		}, []uint64{1, 2, 3, 5, 6, 7, 8, 9}, []Damage{{4, "checksum"}}, []uint64{5}},
		{"a bit of a chain value flips", func(b *bbolt.Bucket) error {
			v := good(b, 4)
			v[crcLen+3] ^= 1
			return b.Put(keyOf(4), v)
		}, numbers(1, 9), []Damage{{4, "chain"}, {5, "chain"}}, []uint64{4, 5}},
		{
			"a line is cut short", func(b *bbolt.Bucket) error { return b.Put(keyOf(4), []byte("x")) },
			[]uint64{1, 2, 3, 5, 6, 7, 8, 9},
			[]Damage{{4, "checksum"}},
			[]uint64{5},
		},
		{
			"a line is altered and summed again", func(b *bbolt.Bucket) error { return b.Put(keyOf(4), forge(good(b, 4), []byte(`{"n":44}`))) },
			numbers(1, 9),
			[]Damage{{4, "chain"}},
			[]uint64{4},
		},
		{
			"a line is removed", func(b *bbolt.Bucket) error { return b.Delete(keyOf(4)) },
			[]uint64{1, 2, 3, 5, 6, 7, 8, 9},
			[]Damage{{4, "1 lines missing"}},
			[]uint64{5},
		},
		{
			"the first line is removed", func(b *bbolt.Bucket) error { return b.Delete(keyOf(1)) },
			numbers(2, 9),
			[]Damage{{1, "1 lines missing"}},
			[]uint64{2},
		},
		{
			"the last lines are removed", func(b *bbolt.Bucket) error { return errors.Join(b.Delete(keyOf(8)), b.Delete(keyOf(9))) },
			numbers(1, 7),
			[]Damage{{8, "2 lines missing at the end"}},
			nil,
		},
		{"two lines change places", func(b *bbolt.Bucket) error {
			v4, v5 := good(b, 4), good(b, 5)
			return errors.Join(b.Put(keyOf(4), v5), b.Put(keyOf(5), v4))
		}, numbers(1, 9), []Damage{{4, "chain"}, {5, "chain"}, {6, "chain"}}, []uint64{4, 5, 6}},
		{
			"a line is put in", func(b *bbolt.Bucket) error { return b.Put(keyOf(99), forge(good(b, 9), []byte(`{"n":99}`))) },
			append(numbers(1, 9), 99),
			[]Damage{{10, "89 lines missing"}},
			[]uint64{99},
		},
		{
			"a foreign key is put in", func(b *bbolt.Bucket) error { return b.Put([]byte("zz"), []byte("x")) },
			numbers(1, 9),
			[]Damage{{0, "foreign key"}},
			nil,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := openDB(t)
			fill(t, db, 9)
			raw(t, db, c.do)
			s := scan(t, db)
			if !slices.Equal(s.lines, c.lines) || !slices.Equal(s.damage, c.damage) || !slices.Equal(s.unchained, c.unchained) {
				t.Errorf("lines %v, out of place %v, damage %v", s.lines, s.unchained, s.damage)
			}
			// Life goes on behind the damage, and the proof of it stays.
			fill(t, db, 3)
			again := scan(t, db)
			if len(again.lines) != len(s.lines)+3 {
				t.Errorf("after three more: lines %v", again.lines)
			}
			if (len(again.damage) == 0) != (len(s.damage) == 0) {
				t.Errorf("after three more: damage %v, before %v", again.damage, s.damage)
			}
		})
	}
}

// sealed is a line whose chain value is left empty.
func sealed(body []byte) []byte {
	return append(fmt.Appendf(nil, "%08x %032x ", crc(body), 0), body...)
}

func TestACounterThatRottedNeverOverwritesALine(t *testing.T) {
	t.Parallel()
	for _, seq := range []uint64{0, 3, 9, 1 << 40} {
		db := openDB(t)
		fill(t, db, 9)
		raw(t, db, func(b *bbolt.Bucket) error { return b.SetSequence(seq) })
		fill(t, db, 1)
		if s := scan(t, db); len(s.lines) != 10 {
			t.Errorf("counter %d: lines %v", seq, s.lines)
		}
	}
	db := openDB(t)
	fill(t, db, 2)
	raw(t, db, func(b *bbolt.Bucket) error { return b.SetSequence(1<<64 - 1) })
	err := db.Update(func(tx *bbolt.Tx) error { _, err := log.Append(tx, []byte("{}")); return err })
	if !errors.Is(err, ErrDamaged) {
		t.Errorf("the last number there is: %v", err)
	}
}

func TestTrimmedChainStillVerifies(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	fill(t, db, 30)
	upTo := func(last uint64, limit int) (done int) {
		update(t, db, func(tx *bbolt.Tx) (err error) {
			done, err = log.Trim(tx, limit, func(n uint64, _ []byte) bool { return n <= last })
			return err
		})
		return done
	}
	if n := upTo(20, 5); n != 5 {
		t.Errorf("trimmed %d of at most 5", n)
	}
	if n := upTo(20, 100); n != 15 {
		t.Errorf("trimmed %d up to line 20", n)
	}
	if s := scan(t, db); !slices.Equal(s.lines, numbers(21, 30)) || s.damage != nil || s.unchained != nil {
		t.Errorf("after trimming: %+v", s)
	}
	if n := upTo(99, 100); n != 10 {
		t.Errorf("trimmed %d of the rest", n)
	}
	raw(t, db, func(b *bbolt.Bucket) error { return b.SetSequence(0) }) // rotted
	fill(t, db, 2)
	if s := scan(t, db); !slices.Equal(s.lines, numbers(31, 32)) || s.damage != nil || s.unchained != nil {
		t.Errorf("numbers are used twice, or the anchor is lost: %+v", s)
	}
	// More is missing than the anchor says.
	raw(t, db, func(b *bbolt.Bucket) error { return b.Delete(keyOf(31)) })
	if s := scan(t, db); len(s.damage) != 1 {
		t.Errorf("a line removed behind the anchor: %+v", s)
	}
}

func TestTrimStopsAtDamage(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	fill(t, db, 9)
	raw(t, db, func(b *bbolt.Bucket) error { return b.Put(keyOf(4), []byte("rot")) })
	update(t, db, func(tx *bbolt.Tx) error {
		n, err := log.Trim(tx, 100, func(uint64, []byte) bool { return true })
		if n != 3 {
			t.Errorf("trimmed %d", n)
		}
		return err
	})
	if s := scan(t, db); !slices.Equal(s.damage, []Damage{{4, "checksum"}}) {
		t.Errorf("damage %v", s.damage)
	}
}

func TestAfterAndNewest(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	if err := db.View(func(tx *bbolt.Tx) error {
		log.Newest(tx, func(uint64, []byte) bool { t.Error("a line in nothing"); return true })
		return log.After(tx, 0, func(uint64, []byte) error { t.Error("a line in nothing"); return nil })
	}); err != nil {
		t.Fatal(err)
	}
	fill(t, db, 9)
	raw(t, db, func(b *bbolt.Bucket) error { return b.Put(keyOf(8), []byte("rot")) })
	if err := db.View(func(tx *bbolt.Tx) error {
		var after, newest []uint64
		log.Newest(tx, func(n uint64, _ []byte) bool { newest = append(newest, n); return len(newest) < 3 })
		err := log.After(tx, 5, func(n uint64, _ []byte) error { after = append(after, n); return nil })
		if !slices.Equal(after, []uint64{6, 7, 9}) || !slices.Equal(newest, []uint64{9, 7, 6}) {
			t.Errorf("after %v, newest %v", after, newest)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// Half-filled pages would double the file; see tails.
func TestPagesAreFull(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	body := bytes.Repeat([]byte{'x'}, 750)
	const n = 400
	for range n {
		update(t, db, func(tx *bbolt.Tx) error { _, err := log.Append(tx, body); return err })
	}
	err := db.View(func(tx *bbolt.Tx) error {
		s := tx.Bucket(log.name).Stats()
		if s.LeafAlloc*4 > s.LeafInuse*5 {
			t.Errorf("%d of %d bytes used", s.LeafInuse, s.LeafAlloc)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// FuzzScan gives the chain whatever a disk may give it.
func FuzzScan(f *testing.F) {
	f.Add([]byte("00000000 00000000000000000000000000000000 {}"), uint64(3), uint64(9))
	f.Add([]byte(""), uint64(0), uint64(0))
	f.Add(sealed([]byte(`{"n":4}`)), uint64(1<<63), uint64(1<<64-1))
	f.Fuzz(func(t *testing.T, line []byte, n, anchor uint64) {
		db := openDB(t)
		fill(t, db, 5)
		update(t, db, func(tx *bbolt.Tx) error {
			a, err := tx.CreateBucketIfNotExists(log.anchor)
			if err != nil {
				return err
			}
			if anchor != 0 {
				err = errors.Join(a.Put([]byte("n"), binary.BigEndian.AppendUint64(nil, anchor)), a.Put([]byte("chain"), line))
			}
			return errors.Join(err, tx.Bucket(log.name).Put(keyOf(n), line))
		})
		s := scan(t, db)
		if len(s.damage) == 0 {
			t.Errorf("a strange line %d %q is not noticed", n, line)
		}
		before := len(s.lines)
		err := db.Update(func(tx *bbolt.Tx) error { _, err := log.Append(tx, []byte("{}")); return err })
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
		if err == nil && len(scan(t, db).lines) != before+1 {
			t.Error("appending behind a strange line lost one")
		}
	})
}
