package daybook

import (
	"fmt"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

func openDB(t testing.TB, path string) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestTheNewestLineOfADayCounts(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	db := openDB(t, path)
	b, err := Open(db)
	if err != nil || b.Last() != "" || len(b.Days()) != 0 {
		t.Fatalf("an empty book: %v", err)
	}
	put := func(d Day) error { return db.Update(func(tx *bbolt.Tx) error { return b.Put(tx, d) }) }
	for _, d := range []Day{{Day: "20260102", Rows: 1}, {Day: "20260101", Rows: 2}, {Day: "20260102", Rows: 3, Answered: 5}} {
		if err := put(d); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(Day{}); err == nil {
		t.Error("a day without a date is taken")
	}
	// What was rolled back never was.
	_ = db.Update(func(tx *bbolt.Tx) error {
		if err := b.Put(tx, Day{Day: "20260109"}); err != nil {
			t.Error(err)
		}
		return fmt.Errorf("no")
	})
	check := func(b *Book) {
		t.Helper()
		d, ok := b.Get("20260102")
		if !ok || d.Rows != 3 || d.Answered != 5 || b.Last() != "20260102" {
			t.Errorf("%+v, last %s", d, b.Last())
		}
		if days := b.Days(); len(days) != 2 || days[0].Day != "20260102" || days[1].Day != "20260101" {
			t.Errorf("%+v", days)
		}
	}
	check(b)
	again, err := Open(db)
	if err != nil {
		t.Fatal(err)
	}
	check(again)
	// A damaged line hides no other.
	if err := db.Update(func(tx *bbolt.Tx) error {
		k := []byte{0, 0, 0, 0, 0, 0, 0, 3}
		v := append([]byte(nil), tx.Bucket([]byte("recon")).Get(k)...)
		v[len(v)-3] ^= 1
		return tx.Bucket([]byte("recon")).Put(k, v)
	}); err != nil {
		t.Fatal(err)
	}
	if again, err = Open(db); err != nil {
		t.Fatal(err)
	}
	if d, ok := again.Get("20260102"); !ok || d.Rows != 1 || d.Answered != 0 {
		t.Errorf("after damage: %+v", d)
	}
}

func TestOldLinesAreTrimmed(t *testing.T) {
	t.Parallel()
	db := openDB(t, filepath.Join(t.TempDir(), "x.db"))
	b, err := Open(db)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := db.Update(func(tx *bbolt.Tx) error {
			for i := range 50 {
				if err := b.Put(tx, Day{Day: fmt.Sprintf("202601%02d", i%28+1)}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	_ = db.View(func(tx *bbolt.Tx) error {
		return lines.After(tx, 0, func(uint64, []byte) error { n++; return nil })
	})
	if n > keep {
		t.Errorf("%d lines", n)
	}
}
