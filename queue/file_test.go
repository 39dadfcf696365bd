package queue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

var plain = FileOptions{NoSync: true, Reserve: -1, Timeout: time.Millisecond}

// populated is a file with everything in it that a kiosk's has: a deep tree,
// inline buckets, long values, an outbox, free pages.
func populated(t testing.TB) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "agent.db")
	db, err := OpenFile(t.Context(), path, plain)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	o := newOffice(t, db)
	line := func(n, size int) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("journal"))
			if err != nil {
				return err
			}
			return b.Put(key(uint64(n)), sealLine(bytes.Repeat([]byte{byte('a' + n%26)}, size)))
		}
	}
	for i := range 24 {
		o.do(line(i, 900))
		if i < 8 {
			o.put(report(fmt.Sprint(i), "x", 1))
		}
	}
	o.do(line(100, 9000)) // more than a page
	o.do(func(tx *bbolt.Tx) error { return o.Remove(tx, 2) })
	return path
}

// readAll reads everything there is, as the owners of the buckets would, and
// counts what does not verify.
func readAll(db *bbolt.DB) (lines, bad int, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(_, v []byte) error {
				lines++
				if _, ok := openLine(v); !ok {
					bad++
				}
				return nil
			})
		})
	})
	return lines, bad, err
}

func TestNewFileIsWholeOrNotThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.db")
	// What an interrupted start has left.
	if err := os.WriteFile(path+".new", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // made, then found
		db, err := OpenFile(t.Context(), path, FileOptions{Reserve: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != 0o600 {
			t.Errorf("mode %v", st.Mode())
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		if err := CheckFile(path); err != nil {
			t.Error(err)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	good := populated(t)
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	write := func(b []byte) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			t.Helper()
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	edit := func(f func(b *bbolt.Bucket) error) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			t.Helper()
			write(content)(t, path)
			db, err := bbolt.Open(path, 0o600, boltOptions(plain))
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if err := db.Update(func(tx *bbolt.Tx) error { return f(tx.Bucket(bucketMeta)) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	with := func(at int, v []byte) []byte {
		b := slices.Clone(content)
		copy(b[at:], v)
		return b
	}
	newest := 16
	if le.Uint64(content[4096+16+48:]) > le.Uint64(content[16+48:]) {
		newest += 4096
	}
	meta := func(f func(m []byte)) []byte {
		b := slices.Clone(content)
		m := b[newest : newest+metaSize]
		f(m)
		h := fnv.New64a()
		h.Write(m[:metaSum])
		le.PutUint64(m[metaSum:], h.Sum64())
		return b
	}
	for _, c := range []struct {
		name string
		make func(t *testing.T, path string)
		want error
	}{
		{"empty", write(nil), ErrDamaged},
		{"one byte", write([]byte{0}), ErrDamaged},
		{"zeroes", write(make([]byte, 1<<16)), ErrDamaged},
		{"text", write(bytes.Repeat([]byte("hello world\n"), 1000)), ErrDamaged},
		{"cut to one page", write(content[:4096]), ErrDamaged},
		{"cut in the middle", write(content[:len(content)/2]), ErrDamaged},
		{"both meta pages gone", write(with(0, make([]byte, 8192))), ErrDamaged},
		{"a bit of the newest meta page", write(with(newest+17, []byte{content[newest+17] ^ 1})), ErrDamaged},
		{"root out of range", write(meta(func(m []byte) { le.PutUint64(m[16:], 1<<40) })), ErrDamaged},
		{"root is a meta page", write(meta(func(m []byte) { le.PutUint64(m[16:], 0) })), ErrDamaged},
		{"a stored freelist", write(meta(func(m []byte) { le.PutUint64(m[32:], 2) })), ErrDamaged},
		{"page size of another machine", write(meta(func(m []byte) { le.PutUint32(m[8:], 3000) })), ErrDamaged},
		{"format of a newer bbolt", write(meta(func(m []byte) { le.PutUint32(m[4:], 3) })), ErrNewer},
		{"newer schema", edit(func(b *bbolt.Bucket) error { return b.Put(keySchema, sealLine([]byte("2"))) }), ErrNewer},
		{"schema is no number", edit(func(b *bbolt.Bucket) error { return b.Put(keySchema, sealLine([]byte("x"))) }), ErrDamaged},
		{"schema does not verify", edit(func(b *bbolt.Bucket) error { return b.Put(keySchema, []byte("00000000 1")) }), ErrDamaged},
		{"no schema", edit(func(b *bbolt.Bucket) error { return b.Delete(keySchema) }), ErrDamaged},
		{"no meta bucket", edit(func(b *bbolt.Bucket) error { return b.Tx().DeleteBucket(bucketMeta) }), ErrDamaged},
		{"a bucket is gone", edit(func(b *bbolt.Bucket) error { return b.Tx().DeleteBucket(bucketOutbox) }), ErrDamaged},
		{"list of buckets does not verify", edit(func(b *bbolt.Bucket) error { return b.Put(keyBuckets, []byte("00000000 meta")) }), ErrDamaged},
		{"readable by the group", func(t *testing.T, path string) { write(content)(t, path); os.Chmod(path, 0o640) }, ErrPermissions},
		{"readable by the world", func(t *testing.T, path string) { write(content)(t, path); os.Chmod(path, 0o604) }, ErrPermissions},
		{"a pipe", func(t *testing.T, path string) {
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
		}, ErrDamaged},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "agent.db")
			c.make(t, path)
			before, _ := os.Lstat(path)
			_, err := OpenFile(t.Context(), path, plain)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v", err)
			}
			if after, err := os.Lstat(path); err != nil || after.Size() != before.Size() || after.ModTime() != before.ModTime() {
				t.Error("the file was touched")
			}
			// The lock is given back: whoever mends the file can open it.
			if c.want == ErrDamaged && before.Mode().IsRegular() { //nolint:errorlint // the table's own value
				write(content)(t, path)
				db, err := OpenFile(t.Context(), path, plain)
				if err != nil {
					t.Fatal(err)
				}
				db.Close()
			}
		})
	}
}

func TestTornMetaPageIsNoDamage(t *testing.T) {
	t.Parallel()
	path := populated(t)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The power went while the newest meta page was written: its commit never
	// returned, the one before is the truth.
	for at := range 2 {
		b := slices.Clone(content)
		copy(b[at*4096:], bytes.Repeat([]byte{0xa5}, 4096))
		path := filepath.Join(t.TempDir(), "agent.db")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := OpenFile(t.Context(), path, plain)
		if err != nil {
			t.Fatalf("meta page %d torn: %v", at, err)
		}
		if _, bad, err := readAll(db); bad != 0 || err != nil {
			t.Errorf("meta page %d torn: %d lines do not verify, %v", at, bad, err)
		}
		db.Close()
	}
}

func TestSecondProcessIsTold(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "agent.db")
	db, err := OpenFile(t.Context(), path, plain)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFile(t.Context(), path, plain); !errors.Is(err, ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	if err := CheckFile(path); !errors.Is(err, ErrInUse) {
		t.Errorf("checked while in use: %v", err)
	}
	// The writer opens the file again to allocate; that must not let the lock go.
	w := NewWriter(db, WriterOptions{Reserve: 1 << 20})
	if err := w.Do(t.Context(), note("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFile(t.Context(), path, plain); !errors.Is(err, ErrInUse) {
		t.Errorf("opened twice after a commit: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db, err = OpenFile(t.Context(), path, plain)
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
}

// Whatever bit flips: no panic, no hang, nothing wrong is believed.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	path := populated(t)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	db, err := OpenFile(t.Context(), path, plain)
	if err != nil {
		t.Fatal(err)
	}
	all, _, err := readAll(db)
	if err != nil {
		t.Fatal(err)
	}
	used := int(4096)
	if err := db.View(func(tx *bbolt.Tx) error { used = int(tx.Size()); return nil }); err != nil {
		t.Fatal(err)
	}
	db.Close()
	rnd := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	var fine, damaged, told int
	tries := 2000
	if testing.Short() {
		tries = 700
	}
	for i := range tries {
		at, bit := rnd.IntN(used), rnd.IntN(8)
		if i < 700 { // where the structure is: page headers and the first elements
			at = at/4096*4096 + rnd.IntN(96)
		}
		content[at] ^= 1 << bit
		path := filepath.Join(dir, "x.db")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		content[at] ^= 1 << bit
		db, err := OpenFile(t.Context(), path, plain)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
				t.Errorf("byte %d bit %d: %v", at, bit, err)
			}
			damaged++
			continue
		}
		lines, bad, err := readAll(db)
		switch {
		case err != nil:
			t.Errorf("byte %d bit %d: read: %v", at, bit, err)
		case bad > 0:
			told++
		case lines != all:
			t.Errorf("byte %d bit %d: %d lines, there were %d, and nobody is told", at, bit, lines, all)
		default:
			fine++
		}
		// It must bear writing, too.
		o, err := NewOutbox(newWriter(t, db), Options{})
		if err == nil {
			err = o.w.Do(t.Context(), func(tx *bbolt.Tx) error {
				_, err := o.Put(tx, report("new", "x", 1))
				return errors.Join(err, note("new")(tx))
			})
		}
		if err != nil {
			t.Errorf("byte %d bit %d: write: %v", at, bit, err)
		}
		db.Close()
	}
	t.Logf("%d refused, %d told by checksums, %d in free space or of no consequence", damaged, told, fine)
	if damaged < 100 || told < 100 {
		t.Error("too few flips hit anything")
	}
}

// FuzzWalk gives the walk, and then bbolt, a file with a piece overwritten.
func FuzzWalk(f *testing.F) {
	good, err := os.ReadFile(populated(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), []byte{})
	f.Add(uint32(4096*3+8), []byte{flagLeaf, 0, 0xff, 0xff})
	f.Add(uint32(4096*4), binary.LittleEndian.AppendUint64(nil, 5))
	f.Add(uint32(16), []byte{0xed})
	f.Fuzz(func(t *testing.T, at uint32, b []byte) {
		if int(at) >= len(good) {
			return
		}
		content := slices.Clone(good)
		copy(content[at:], b)
		if err := walk(bytes.NewReader(content), int64(len(content))); err != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "x.db")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := OpenFile(t.Context(), path, plain)
		if err != nil {
			return
		}
		defer db.Close()
		if _, _, err := readAll(db); err != nil {
			t.Error(err)
		}
		if err := newWriter(t, db).Do(t.Context(), note("a")); err != nil {
			t.Error(err)
		}
	})
}

// A file that ends where it should not must end the walk, too.
func TestWalkOfAFileThatCannotBeRead(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(populated(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := walk(brokenReader{bytes.NewReader(content)}, int64(len(content))); err == nil {
		t.Error("a file with bad sectors is whole")
	}
}

type brokenReader struct{ r io.ReaderAt }

func (b brokenReader) ReadAt(p []byte, at int64) (int, error) {
	if at >= 8192 {
		return 0, unix.EIO
	}
	return b.r.ReadAt(p, at)
}
