package queue_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"vcckiosk/queue"
)

// resident is how much of the mapping of a file is in memory, in bytes.
func resident(t *testing.T, path string) (n int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip("no /proc: ", err)
	}
	inside := false
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		switch {
		case len(f) > 4 && strings.Contains(f[0], "-"): // a mapping begins; memory without a file has no sixth field
			inside = len(f) > 5 && f[5] == path
		case inside && len(f) > 1 && f[0] == "Rss:":
			kb, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			n += kb << 10
		}
	}
	return n
}

func TestAReadFileDoesNotStayInMemory(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "agent.db")
	db, err := queue.OpenFile(t.Context(), path, queue.FileOptions{NoSync: true, Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("filling"))
		if err != nil {
			return err
		}
		for i := range 1000 {
			if err := b.Put([]byte(strconv.Itoa(i)), make([]byte, 3000)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	read := func() (sum int) {
		if err := db.View(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("filling")).ForEach(func(_, v []byte) error { sum += len(v) + int(v[0]); return nil })
		}); err != nil {
			t.Fatal(err)
		}
		return sum
	}
	all := read()
	before := resident(t, path)
	if err := queue.Relax(db); err != nil {
		t.Fatal(err)
	}
	after := resident(t, path)
	if before < 3<<20 || after > before/2 {
		t.Errorf("resident %d bytes before, %d after", before, after)
	}
	if read() != all {
		t.Error("the content has changed")
	}
}
