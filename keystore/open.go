package keystore

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// Slot wraps the root key, so that the files alone open nothing. Name is
// stored in the header and must not change for one kind of slot.
//
// Wrap is called once, when the store is made, and tried at once by Unwrap;
// Unwrap is called at every Open. An error of Unwrap becomes ErrLocked unless
// it already is ErrPermissions or ErrNewer. Open clears the slice that Unwrap
// returned. Neither may keep the slices it was given.
type Slot interface {
	Name() string
	Wrap(rootKey, aad []byte) ([]byte, error)
	Unwrap(blob, aad []byte) ([]byte, error)
}

// Options of Open. The zero value works.
type Options struct {
	// Timeout is how long Open waits for another process to let go of the
	// store before it answers ErrInUse. Zero: 1 s.
	Timeout time.Duration

	// afterStep is told of every durable step, in tests.
	afterStep func(what string)
}

const (
	rootLength   = 32
	lockInterval = 20 * time.Millisecond
	// fileReserve is the length keystore.db is made with. Its few pages are
	// written over and over inside it, so that a full disk stops no key change.
	fileReserve = 64 << 10
)

// Open opens the keystore in dir, which must exist, and makes an empty one
// when none of its files is there. One damaged copy of the header is written
// again from the other.
//
// errors.Is: ErrInUse (retry when the other process has ended), ErrLocked,
// ErrDamaged, ErrNewer, ErrPermissions (never retry by itself; the agent
// starts in state "needs key"). The file is looked through before the database
// is opened, so that a damaged one is an error and no panic. Anything else is
// an error of the file system.
//
// A cut while the store is made leaves a part that the next Open throws away:
// the database is put in its place last, and without it no key was accepted.
func Open(dir string, slot Slot, o Options) (*Store, error) {
	s, err := o.open(dir, slot)
	if err != nil {
		return nil, fmt.Errorf("open keystore %s: %w", dir, err)
	}
	return s, nil
}

func (o Options) open(dir string, slot Slot) (*Store, error) {
	if slot == nil {
		return nil, errors.New("no slot given")
	}
	if o.Timeout <= 0 {
		o.Timeout = time.Second
	}
	// The directory is locked while files come and go, the database after
	// that for as long as the store is open.
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer unlockClose(d)
	if err := lock(d, o.Timeout); err != nil {
		return nil, err
	}
	if err := o.ensure(dir, slot); err != nil {
		return nil, err
	}
	f, err := openOwn(filepath.Join(dir, dbName), os.O_RDWR)
	if err != nil {
		return nil, err
	}
	s, err := o.load(dir, slot, f)
	if err != nil {
		unlockClose(f)
		return nil, err
	}
	return s, nil
}

// load opens the store whose database file is f; f is bbolt's afterwards.
func (o Options) load(dir string, slot Slot, f *os.File) (*Store, error) {
	if err := lock(f, o.Timeout); err != nil {
		return nil, err
	}
	h, repair, err := readHeaders(dir)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", dbName, err)
	}
	if err := checkPages(b); err != nil {
		return nil, fmt.Errorf("%w: %s: %w; set the keystore aside and provision the kiosk again", ErrDamaged, dbName, err)
	}
	v, err := unlock(h, slot)
	if err != nil {
		return nil, err
	}
	db, err := bbolt.Open(f.Name(), 0o600, &bbolt.Options{
		PageSize: pageSize,
		Timeout:  o.Timeout,
		// The same open file, so that what was locked and looked through is
		// what is used. Its lock is ours already.
		OpenFile: func(string, int, os.FileMode) (*os.File, error) { return f, nil },
	})
	if err != nil {
		return nil, boltError(err)
	}
	s := &Store{db: db, vault: v, o: o}
	if err := s.read(); err != nil {
		_ = db.Close()
		return nil, err
	}
	if err := o.writeHeaders(dir, h, repair...); err != nil {
		_ = db.Close()
		return nil, err
	}
	return s, nil
}

func boltError(err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return ErrInUse
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return fmt.Errorf("%w: %s: %w", ErrDamaged, dbName, err)
	}
	return fmt.Errorf("open %s: %w", dbName, err)
}

// unlock asks the slot for the root key.
func unlock(h header, slot Slot) (*vault, error) {
	if h.Slot.Name != slot.Name() {
		return nil, fmt.Errorf("%w: it was made with slot %q, configured is %q", ErrLocked, h.Slot.Name, slot.Name())
	}
	root, err := slot.Unwrap(h.Slot.Blob, h.aad())
	defer clear(root)
	if errors.Is(err, ErrPermissions) || errors.Is(err, ErrNewer) || errors.Is(err, ErrLocked) {
		return nil, fmt.Errorf("slot %q: %w", slot.Name(), err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: slot %q: %w", ErrLocked, slot.Name(), err)
	}
	if len(root) != rootLength {
		return nil, fmt.Errorf("%w: slot %q gave a root key of %d bytes", ErrLocked, slot.Name(), len(root))
	}
	r, err := newRegion(rootLength)
	if err != nil {
		return nil, err
	}
	copy(r.b, root)
	return &vault{root: r, uuid: h.Store, epoch: h.Epoch}, nil
}

// ensure makes the store when it is not there, or was not finished.
func (o Options) ensure(dir string, slot Slot) error {
	there := make(map[string]bool)
	for _, name := range []string{dbName, dbName + newName, hdr1, hdr2} {
		_, err := os.Lstat(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		there[name] = err == nil
	}
	headers := there[hdr1] || there[hdr2]
	switch {
	case there[dbName]:
		return nil
	case headers && !there[dbName+newName]:
		return fmt.Errorf("%w: %s is missing beside its headers; put it back, or set the keystore aside and provision the kiosk again",
			ErrDamaged, dbName)
	}
	// An unfinished store: the headers go first and the database under its
	// temporary name last, so that a cut here looks like one before.
	for _, name := range []string{hdr1, hdr2, dbName + newName} {
		if !there[name] {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return err
		}
		if err := syncDir(dir); err != nil {
			return err
		}
		o.step("removed " + name)
	}
	if err := o.create(dir, slot); err != nil {
		return fmt.Errorf("make store: %w", err)
	}
	return nil
}

// create makes an empty store. Until the last rename nothing counts: a cut
// leaves keystore.db.new, by which ensure knows to begin again. After the
// rename the store is complete, both headers are in place.
func (o Options) create(dir string, slot Slot) error {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	h := header{Format: headerFormat, Suite: suiteIntl, Store: hex.EncodeToString(id), Serial: 1, Epoch: 1}
	h.Slot.Name = slot.Name()

	root, err := newRegion(rootLength)
	if err != nil {
		return err
	}
	defer root.free()
	_, _ = rand.Read(root.b)
	if h.Slot.Blob, err = slot.Wrap(root.b, h.aad()); err != nil {
		return fmt.Errorf("slot %q: %w", slot.Name(), err)
	}
	// Self-test: what cannot be opened now will not be after the next start.
	v, err := unlock(h, slot)
	if err != nil {
		return fmt.Errorf("try slot: %w", err)
	}
	defer v.root.free()
	if string(v.root.b) != string(root.b) {
		return fmt.Errorf("%w: slot %q gave back another root key", ErrLocked, slot.Name())
	}
	if err := createDB(filepath.Join(dir, dbName+newName), v); err != nil {
		return fmt.Errorf("make %s: %w", dbName, err)
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	o.step("written " + dbName)
	if err := o.writeHeaders(dir, h, hdr1, hdr2); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(dir, dbName+newName), filepath.Join(dir, dbName)); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	o.step("in place " + dbName)
	return nil
}

func createDB(path string, v *vault) error {
	sealed, err := sealManifest(v, manifest{Serial: 1, Next: 1})
	if err != nil {
		return err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: pageSize, Timeout: time.Second})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte(bucketName))
		if err != nil {
			return err
		}
		return b.Put([]byte(recManif), sealed)
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := reserve(f, fileReserve); err != nil {
		_ = f.Close()
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// unlockClose ends the lock of f and closes it. Closing alone would leave the lock
// to any child this process is about to start, which shares the open file until
// it has become its program.
func unlockClose(f *os.File) {
	_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
	_ = f.Close()
}

// lock takes the exclusive lock of f, until unlockClose.
func lock(f *os.File, timeout time.Duration) error {
	end := time.Now().Add(timeout)
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		case time.Now().After(end):
			return fmt.Errorf("%w (%s)", ErrInUse, f.Name())
		}
		time.Sleep(lockInterval) //nolint:forbidigo // Open has no context; Timeout bounds it
	}
}

// SetAside renames the store's files in dir to names ending in ".aside-" and
// the time, so that the next Open makes an empty store. It is for a person who
// has decided that the kiosk is provisioned again: the keys inside are given
// up, but nothing is deleted. The store must be closed; ErrInUse otherwise. A
// cut inside leaves some files set aside: calling it again does the rest.
func SetAside(dir string, at time.Time) error {
	suffix := ".aside-" + at.UTC().Format("20060102T150405Z")
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("set keystore aside: %w", err)
	}
	defer unlockClose(d)
	if err := lock(d, time.Second); err != nil {
		return fmt.Errorf("set keystore aside: %w", err)
	}
	if f, err := os.Open(filepath.Join(dir, dbName)); err == nil {
		defer unlockClose(f)
		if err := lock(f, time.Second); err != nil {
			return fmt.Errorf("set keystore aside: %w", err)
		}
	}
	for _, name := range []string{dbName, hdr1, hdr2, dbName + newName, hdr1 + newName, hdr2 + newName} {
		path := filepath.Join(dir, name)
		if err := os.Rename(path, path+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set keystore aside: %w", err)
		}
	}
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("set keystore aside: %w", err)
	}
	return nil
}
