package keystore

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// full makes a store with every kind of key in it, in a fresh directory.
func full(t *testing.T) (dir, holds string) {
	t.Helper()
	dir = t.TempDir()
	s := mustOpen(t, dir)
	must(t, s.Stage(keyText(1), "a", digestOf(1)), s.Promote(), s.Stage(keyText(2), "b", digestOf(2)), s.Promote(),
		s.SetDeviceSecret(bytes.Repeat([]byte{9}, 32)), s.Stage(keyText(3), "c", digestOf(3)))
	holds = shape(s)
	must(t, s.Close())
	return dir, holds
}

func readFiles(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	names, err := os.ReadDir(dir)
	must(t, err)
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(dir, n.Name()))
		must(t, err)
		files[n.Name()] = b
	}
	return files
}

func writeFiles(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	must(t, os.RemoveAll(dir), os.Mkdir(dir, 0o700))
	for name, b := range files {
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
}

func edit(b []byte, at int, mask byte) []byte {
	b = bytes.Clone(b)
	b[at] ^= mask
	return b
}

func TestDamageIsAClearError(t *testing.T) {
	t.Parallel()
	dir, holds := full(t)
	whole := readFiles(t, dir)
	body := whole[hdr1][:bytes.LastIndex(whole[hdr1], []byte("crc32c"))]
	newer := appendCRC(bytes.Replace(body, []byte(`"format": 1`), []byte(`"format": 2, "more": true`), 1))
	gm := appendCRC(bytes.Replace(body, []byte(`"intl"`), []byte(`"gm"`), 1))
	tests := []struct {
		name  string
		files map[string][]byte // nil: the file is missing
		slot  Slot
		want  error // nil: it opens and holds the same
		words string
	}{
		{"nothing damaged", nil, slot, nil, ""},
		{"database empty", map[string][]byte{dbName: {}}, slot, ErrDamaged, "empty"},
		{"database of one byte", map[string][]byte{dbName: {1}}, slot, ErrDamaged, "cut short"},
		{"database cut inside a used page", map[string][]byte{dbName: whole[dbName][:4*pageSize]}, slot, ErrDamaged, "cut short"},
		{"database without its reserve", map[string][]byte{dbName: bytes.TrimRight(whole[dbName], "\x00")}, slot, ErrDamaged, "cut short"},
		{"database of zeros", map[string][]byte{dbName: make([]byte, fileReserve)}, slot, ErrDamaged, "meta pages"},
		{"database of ones", map[string][]byte{dbName: bytes.Repeat([]byte{0xff}, fileReserve)}, slot, ErrDamaged, "meta pages"},
		{"database too long", map[string][]byte{dbName: append(bytes.Clone(whole[dbName]), make([]byte, maxFile)...)}, slot, ErrDamaged, "too long"},
		{"database missing", map[string][]byte{dbName: nil}, slot, ErrDamaged, "missing beside its headers"},
		{"first header empty", map[string][]byte{hdr1: {}}, slot, nil, ""},
		{"first header missing", map[string][]byte{hdr1: nil}, slot, nil, ""},
		{"second header cut short", map[string][]byte{hdr2: whole[hdr2][:40]}, slot, nil, ""},
		{"second header flipped", map[string][]byte{hdr2: edit(whole[hdr2], 30, 4)}, slot, nil, ""},
		{"both headers damaged", map[string][]byte{hdr1: edit(whole[hdr1], 30, 4), hdr2: {}}, slot, ErrDamaged, "both copies"},
		{"both headers missing", map[string][]byte{hdr1: nil, hdr2: nil}, slot, ErrDamaged, "provision the kiosk again"},
		{"headers of zeros", map[string][]byte{hdr1: make([]byte, 400), hdr2: make([]byte, 400)}, slot, ErrDamaged, "both copies"},
		{"newer header", map[string][]byte{hdr1: newer, hdr2: newer}, slot, ErrNewer, "format 2"},
		{"one newer header", map[string][]byte{hdr2: newer}, slot, ErrNewer, "format 2"},
		{"other crypto suite", map[string][]byte{hdr1: gm, hdr2: gm}, slot, ErrNewer, `"gm"`},
		{"slot of another kind", nil, testSlot{"other"}, ErrLocked, `configured is "other"`},
		{"slot with another key", nil, namedSlot{testSlot{"wrong"}, "test"}, ErrLocked, "another slot"},
		{"slot whose key file is open to others", nil, failingSlot{ErrPermissions}, ErrPermissions, ""},
		{"slot that gives half a key", nil, failingSlot{nil}, ErrLocked, "16 bytes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "store")
			files := make(map[string][]byte)
			for name, b := range whole {
				if c, ok := test.files[name]; ok {
					b = c
				}
				if b != nil {
					files[name] = b
				}
			}
			writeFiles(t, dir, files)
			s, err := Open(dir, test.slot, Options{})
			if !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), test.words) {
				t.Fatalf("open: %v, want %v with %q", err, test.want, test.words)
			}
			after := readFiles(t, dir)
			if err != nil {
				for name, b := range files {
					if !bytes.Equal(after[name], b) {
						t.Errorf("%s was changed", name)
					}
				}
				return
			}
			wantShape(t, s, holds)
			must(t, s.Close())
			if !bytes.Equal(after[hdr1], after[hdr2]) || !bytes.Equal(after[hdr1], whole[hdr1]) {
				t.Error("the header copies are not the same again")
			}
		})
	}
}

type namedSlot struct {
	testSlot
	as string
}

func (s namedSlot) Name() string { return s.as }

type failingSlot struct{ err error }

func (failingSlot) Name() string                              { return "test" }
func (failingSlot) Wrap(rootKey, aad []byte) ([]byte, error)  { return rootKey, nil }
func (s failingSlot) Unwrap(blob, aad []byte) ([]byte, error) { return make([]byte, 16), s.err }

// TestEveryFlippedBitOfTheHeader flips each bit of both copies at once.
func TestEveryFlippedBitOfTheHeader(t *testing.T) {
	t.Parallel()
	dir, _ := full(t)
	b := readFiles(t, dir)[hdr1]
	for at := range b {
		for bit := range 8 {
			if _, err := decodeHeader(edit(b, at, 1<<bit)); !errors.Is(err, ErrDamaged) {
				t.Fatalf("byte %d bit %d: %v", at, bit, err)
			}
		}
	}
	for n := range b {
		if _, err := decodeHeader(b[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

// TestFlippedBitsOfTheDatabase flips bits all over the pages in use. Each such
// file is an error of a known kind, or opens with what was there (the bit lay
// in no live place), or with what was there before the last change (the bit
// lay in the newest meta page: a cut commit looks the same). What opens can be
// changed and opened again.
func TestFlippedBitsOfTheDatabase(t *testing.T) {
	t.Parallel()
	dir, holds := full(t)
	whole := readFiles(t, dir)
	m0, _ := readMeta(whole[dbName][:pageSize])
	m1, _ := readMeta(whole[dbName][pageSize:])
	used := int(max(m0.highWater, m1.highWater)) * pageSize
	before := strings.Replace(holds, "pending="+KCV(keyText(3))+" ", "", 1)
	rnd := rand.New(rand.NewPCG(1, 2))
	dir = filepath.Join(t.TempDir(), "store")
	var refused, same, older int
	try := func(at int, mask byte) {
		whole[dbName][at] ^= mask
		defer func() { whole[dbName][at] ^= mask }()
		if err := checkPages(whole[dbName]); err != nil {
			refused++
			return
		}
		writeFiles(t, dir, whole)
		s, err := Open(dir, slot, Options{})
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
				t.Fatalf("byte %d mask %02x: %v", at, mask, err)
			}
			refused++
			return
		}
		switch shape(s) {
		case holds:
			same++
		case before:
			older++
		default:
			t.Fatalf("byte %d mask %02x: opened with %q", at, mask, shape(s))
		}
		s.db.NoSync = true
		must(t, s.Stage(keyText(4), "d", digestOf(4)), s.Promote(), s.DropPending(""), s.Close())
		s, err = Open(dir, slot, Options{})
		must(t, err)
		if i, _ := s.Info(recActive); i.KCV != KCV(keyText(4)) {
			t.Fatalf("byte %d mask %02x: lost the new key", at, mask)
		}
		must(t, s.Close())
	}
	for page := range used / pageSize { // every bit of the page headers and what follows them
		for i := range 48 {
			try(page*pageSize+i, 1<<rnd.IntN(8))
		}
	}
	for range 150 {
		try(rnd.IntN(used), 1<<rnd.IntN(8))
	}
	t.Logf("refused=%d same=%d older=%d", refused, same, older)
	if refused == 0 || same == 0 || older == 0 {
		t.Error("the flips did not reach all places")
	}
}

// TestRecordsStayInTheirPlace moves sealed records with a database tool, as
// someone with the files but not the keys could.
func TestRecordsStayInTheirPlace(t *testing.T) {
	t.Parallel()
	other, _ := full(t)
	foreign := records(t, other)
	tests := []struct {
		name string
		move func(b *bbolt.Bucket, old map[string][]byte) error
	}{
		{"pending put as active", func(b *bbolt.Bucket, _ map[string][]byte) error {
			return b.Put([]byte(recActive), bytes.Clone(b.Get([]byte(recPending))))
		}},
		{"record removed", func(b *bbolt.Bucket, _ map[string][]byte) error { return b.Delete([]byte(recActive)) }},
		{"record renamed", func(b *bbolt.Bucket, _ map[string][]byte) error {
			v := bytes.Clone(b.Get([]byte(recActive)))
			return errors.Join(b.Delete([]byte(recActive)), b.Put([]byte("activf"), v))
		}},
		{"record added", func(b *bbolt.Bucket, _ map[string][]byte) error {
			return b.Put([]byte("extra"), bytes.Clone(b.Get([]byte(recActive))))
		}},
		{"manifest removed", func(b *bbolt.Bucket, _ map[string][]byte) error { return b.Delete([]byte(recManif)) }},
		{"record emptied", func(b *bbolt.Bucket, _ map[string][]byte) error { return b.Put([]byte(recActive), nil) }},
		{"old version put as new", func(b *bbolt.Bucket, old map[string][]byte) error {
			return b.Put([]byte(recActive), old[recActive])
		}},
		{"old manifest put as new", func(b *bbolt.Bucket, old map[string][]byte) error {
			return b.Put([]byte(recManif), old[recManif])
		}},
		{"record of another store", func(b *bbolt.Bucket, _ map[string][]byte) error {
			return b.Put([]byte(recActive), foreign[recActive])
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir, _ := full(t)
			old := records(t, dir)
			s := mustOpen(t, dir)
			must(t, s.Promote(), s.Close())
			withDB(t, dir, func(tx *bbolt.Tx) error { return test.move(tx.Bucket([]byte(bucketName)), old) })
			if _, err := Open(dir, slot, Options{}); !errors.Is(err, ErrDamaged) {
				t.Errorf("open: %v, want ErrDamaged", err)
			}
		})
	}
	t.Run("newer record", func(t *testing.T) {
		t.Parallel()
		dir, _ := full(t)
		withDB(t, dir, func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte(bucketName))
			return b.Put([]byte(recManif), edit(b.Get([]byte(recManif)), 2, '1'^'2'))
		})
		if _, err := Open(dir, slot, Options{}); !errors.Is(err, ErrNewer) {
			t.Errorf("open: %v, want ErrNewer", err)
		}
	})
}

func withDB(t *testing.T, dir string, do func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, dbName), 0o600, &bbolt.Options{Timeout: time.Second})
	must(t, err)
	must(t, db.Update(do), db.Close())
}

func records(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := make(map[string][]byte)
	withDB(t, dir, func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketName)).ForEach(func(k, v []byte) error {
			out[string(k)] = bytes.Clone(v)
			return nil
		})
	})
	return out
}
