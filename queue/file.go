package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// Errors of OpenFile. Each comes with the path and what to do.
var (
	// ErrInUse: another process has the file open.
	ErrInUse = errors.New("file is in use by another process")
	// ErrDamaged: the file is not a whole database. It was not touched.
	ErrDamaged = errors.New("file is damaged")
	// ErrNewer: a newer program wrote it; this one would misread it.
	ErrNewer = errors.New("file was written by a newer program")
	// ErrPermissions: others could read the file.
	ErrPermissions = errors.New("file may be read by others")
)

// FileOptions of OpenFile; zero values are the defaults.
type FileOptions struct {
	Schema  uint32        // what this program writes; default 1
	Reserve int64         // bytes kept beyond the end of the file; default 16 MB, negative: none
	Timeout time.Duration // how long another process is waited for; default 1 s
	// NoSync is for tests in which no power is cut.
	NoSync bool
}

var (
	bucketMeta = []byte("meta")
	keySchema  = []byte("schema")
)

// OpenFile opens agent.db, creating it when it is not there. A new file is
// made under a temporary name and renamed once it is whole, so a cut leaves
// none or a good one. An existing file is read once from end to end and its
// pages are walked before bbolt sees it: bbolt panics in a goroutine of its
// own on a damaged one. The walk proves the tree's structure; content is
// proven by the checksums of those who wrote it.
func OpenFile(ctx context.Context, path string, o FileOptions) (*bbolt.DB, error) {
	if o.Schema == 0 {
		o.Schema = 1
	}
	if o.Reserve == 0 {
		o.Reserve = 16 << 20
	}
	if o.Timeout == 0 {
		o.Timeout = time.Second
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	_, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := create(path, o); err != nil {
			return nil, fmt.Errorf("create %s: %w", path, err)
		}
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", path, err)
	default:
		if err := CheckFile(path); err != nil {
			return nil, err
		}
	}
	db, err := bbolt.Open(path, 0o600, boltOptions(o))
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("%s: %w", path, ErrInUse)
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := checkSchema(db, o.Schema); err != nil {
		return nil, fmt.Errorf("%s: %w", path, errors.Join(err, db.Close()))
	}
	if o.Reserve > 0 {
		reserve(path, o.Reserve)
	}
	return db, nil
}

func boltOptions(o FileOptions) *bbolt.Options {
	return &bbolt.Options{Timeout: o.Timeout, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, NoSync: o.NoSync, NoGrowSync: o.NoSync}
}

func create(path string, o FileOptions) error {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db, err := bbolt.Open(tmp, 0o600, boltOptions(o))
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket(bucketMeta)
		if err != nil {
			return err
		}
		return b.Put(keySchema, binary.BigEndian.AppendUint32(nil, o.Schema))
	})
	if err = errors.Join(err, db.Sync(), db.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func checkSchema(db *bbolt.DB, want uint32) error {
	return db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketMeta)
		if b == nil || len(b.Get(keySchema)) != 4 {
			return fmt.Errorf("no schema: %w", ErrDamaged)
		}
		if got := binary.BigEndian.Uint32(b.Get(keySchema)); got > want {
			return fmt.Errorf("schema %d, this program knows %d: %w; install that program's version or newer", got, want, ErrNewer)
		}
		return nil
	})
}

// reserve keeps room beyond the end of the file, so that a full disk cannot
// keep an open record from its outcome. Best effort: some file systems cannot.
func reserve(path string, n int64) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close() //nolint:errcheck // nothing was written through it
	st, err := f.Stat()
	if err != nil {
		return
	}
	_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, st.Size(), n)
}

// CheckFile reads a database file from end to end without opening it as one.
// It may be run in a process of its own.
func CheckFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	defer f.Close() //nolint:errcheck // only read
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("check %s: not a regular file: %w", path, ErrDamaged)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("check %s: mode %04o: %w; chmod 600 and find out who has read it", path, st.Mode().Perm(), ErrPermissions)
	}
	// A writer at work would look like damage.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("%s: %w", path, ErrInUse)
		}
		return fmt.Errorf("lock %s: %w", path, err)
	}
	// Reading it once in order is many times faster than the page faults bbolt
	// would cause in random order.
	if _, err := io.Copy(io.Discard, f); err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	if err := walk(f, st.Size()); err != nil {
		return fmt.Errorf("check %s: %w: %w; it is left as it is", path, ErrDamaged, err)
	}
	return nil
}
