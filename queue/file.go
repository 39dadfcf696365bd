package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
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

// OpenFile opens agent.db, creating it when it is not there. A new file is
// made under a temporary name and renamed once it is whole, so a cut leaves
// none or a good one; a file without content is damaged, not new. An existing
// file is read once from end to end and its pages are walked before bbolt sees
// it: bbolt panics in a goroutine of its own on a damaged one. The walk proves
// the tree's structure; content is proven by the checksums of those who wrote
// it. The lock is taken before the walk and held until the DB is closed.
func OpenFile(ctx context.Context, path string, o FileOptions) (*bbolt.DB, error) {
	if o.Schema == 0 {
		o.Schema = 1
	}
	if o.Reserve == 0 {
		o.Reserve = defaultReserve
	}
	if o.Timeout == 0 {
		o.Timeout = time.Second
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		if err := create(path, o); err != nil {
			return nil, fmt.Errorf("create %s: %w", path, err)
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0) // a FIFO must not hang us
	if err != nil {
		if errors.Is(err, os.ErrPermission) {
			return nil, fmt.Errorf("open %s: %w: %w", path, ErrPermissions, err)
		}
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := lock(ctx, f, unix.LOCK_EX, o.Timeout); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, errors.Join(err, f.Close()))
	}
	if err := checkOpen(f); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, errors.Join(err, f.Close()))
	}
	bo := boltOptions(o)
	bo.OpenFile = func(string, int, os.FileMode) (*os.File, error) { return f, nil }
	db, err := bbolt.Open(path, 0o600, bo) // closes f, whatever happens
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	err = db.View(func(tx *bbolt.Tx) error { return checkMeta(tx, o.Schema) })
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, errors.Join(err, db.Close()))
	}
	if o.Reserve > 0 {
		// Best effort here; the Writer sees to it before each commit.
		r := reserve{path: path, want: o.Reserve}
		if st, err := os.Stat(path); err == nil {
			_ = r.ensure(st.Size())
		}
	}
	return db, nil
}

// lock takes a lock on f, waiting at most timeout for another process.
func lock(ctx context.Context, f *os.File, how int, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("lock: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w; end it first", ErrInUse)
		}
	}
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
		return b.Put(keySchema, sealLine(strconv.AppendUint(nil, uint64(o.Schema), 10)))
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

// CheckFile reads a database file from end to end without opening it as one.
// It may be run in a process of its own. Errors as OpenFile.
func CheckFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	// Closing alone would leave the lock to a child that is being started.
	defer func() {
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
		_ = f.Close()
	}()
	// A writer at work would look like damage.
	if err := lock(context.Background(), f, unix.LOCK_SH, 0); err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	if err := checkOpen(f); err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	return nil
}

// checkOpen needs the lock.
func checkOpen(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("not a regular file: %w", ErrDamaged)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("mode %04o: %w; chmod 600 and find out who has read it", st.Mode().Perm(), ErrPermissions)
	}
	// Reading it once in order is many times faster than the page faults bbolt
	// would cause in random order.
	if _, err := io.Copy(io.Discard, io.NewSectionReader(f, 0, st.Size())); err != nil {
		return err
	}
	err = walk(f, st.Size())
	if err != nil && !errors.Is(err, ErrNewer) {
		err = fmt.Errorf("%w: %w; it is left as it is", ErrDamaged, err)
	}
	return err
}
