package keystore

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Slot wraps the root key, so that the files alone open nothing. Name is
// stored in the header and must not change for one kind of slot.
//
// Wrap is called once, when the store is made; Unwrap at every Open. An
// error of Unwrap becomes ErrLocked unless it already is ErrPermissions,
// ErrDamaged or ErrNewer. Open clears the slice that Unwrap returned.
type Slot interface {
	Name() string
	Wrap(rootKey, aad []byte) ([]byte, error)
	Unwrap(blob, aad []byte) ([]byte, error)
}

// How long a key that is not the active one is of use. The Store keeps the
// times, the caller decides when to look: see Info.Expired and Store.Expire.
const (
	PendingLife  = 24 * time.Hour
	PreviousLife = 72 * time.Hour
)

const rootLength = 32

// Options of Open. The zero value works.
type Options struct {
	// Timeout is how long Open waits for another process to let go of the
	// store before it answers ErrInUse. Zero: 1 s.
	Timeout time.Duration

	// afterStep is told of every durable step, in tests.
	afterStep func(what string)
}

// Store is an open keystore: three files of one directory. Its methods may be
// called from several goroutines. Each changing method is one durable step.
type Store struct {
	o  Options
	db *bbolt.DB

	mu       sync.Mutex
	vault    *vault
	manifest manifest
	keys     map[string]entry
	doubt    error
	closed   bool
}

// Open opens the keystore in dir and makes it when none of its files exists.
// ErrLocked, ErrDamaged: the kiosk starts in state "needs key"; SetAside makes
// room for a new store. ErrInUse, ErrPermissions, ErrNewer: a person must act,
// nothing was touched.
func Open(dir string, slot Slot, o Options) (*Store, error) {
	if o.Timeout == 0 {
		o.Timeout = time.Second
	}
	missing := func(name string) bool {
		_, err := os.Lstat(filepath.Join(dir, name))
		return errors.Is(err, fs.ErrNotExist)
	}
	if missing(hdr1) && missing(hdr2) {
		// Never made, or cut off while it was made; a database without any
		// header opens for nobody, and is kept aside.
		if !missing(dbName) {
			if err := SetAside(dir, time.Now()); err != nil {
				return nil, err
			}
		}
		if err := o.create(dir, slot); err != nil {
			return nil, fmt.Errorf("create keystore in %s: %w", dir, err)
		}
	}
	h, repair, err := readHeaders(dir)
	if err != nil {
		return nil, err
	}
	if h.Slot.Name != slot.Name() {
		return nil, fmt.Errorf("%w: it was made with slot %q, the configuration says %q", ErrLocked, h.Slot.Name, slot.Name())
	}
	path := filepath.Join(dir, dbName)
	if err := checkFile(path); err != nil {
		return nil, err
	}
	root, err := unwrap(slot, h)
	if err != nil {
		return nil, err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: o.Timeout})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		root.free()
		return nil, fmt.Errorf("%w: %s", ErrInUse, path)
	case err != nil:
		root.free()
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	s := &Store{o: o, db: db, vault: &vault{root: root, uuid: h.Store, epoch: h.Epoch}, keys: map[string]entry{}}
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", path, err), s.Close())
	}
	if len(repair) > 0 {
		if err := o.writeHeaders(dir, h, repair...); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

func unwrap(slot Slot, h header) (*region, error) {
	raw, err := slot.Unwrap(h.Slot.Blob, h.aad())
	defer clear(raw)
	switch {
	case errors.Is(err, ErrPermissions), errors.Is(err, ErrDamaged), errors.Is(err, ErrNewer):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: slot %q: %w", ErrLocked, h.Slot.Name, err)
	case len(raw) != rootLength:
		return nil, fmt.Errorf("%w: slot %q gave no root key", ErrLocked, h.Slot.Name)
	}
	r, err := newRegion(rootLength)
	if err != nil {
		return nil, err
	}
	copy(r.b, raw)
	return r, nil
}

// create makes an empty store. The database is in place before the headers: a
// cut in between leaves a database nobody needs, which the next Open sets
// aside, never a header without its database.
func (o Options) create(dir string, slot Slot) error {
	root, err := newRegion(rootLength)
	if err != nil {
		return err
	}
	defer root.free()
	_, _ = rand.Read(root.b) // never fails
	var id [16]byte
	_, _ = rand.Read(id[:])
	h := header{Format: headerFormat, Suite: suiteIntl, Store: hex.EncodeToString(id[:]), Serial: 1, Epoch: 1, Slot: headerSlot{Name: slot.Name()}}
	if h.Slot.Blob, err = slot.Wrap(root.b, h.aad()); err != nil {
		return fmt.Errorf("wrap root key: %w", err)
	}
	tmp := filepath.Join(dir, dbName+newName)
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bbolt.Open(tmp, 0o600, &bbolt.Options{Timeout: o.Timeout})
	if err != nil {
		return err
	}
	v := &vault{root: root, uuid: h.Store, epoch: h.Epoch}
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte(bucketName))
		if err != nil {
			return err
		}
		sealed, err := sealManifest(v, manifest{Serial: 1, Next: 1})
		if err != nil {
			return err
		}
		return b.Put([]byte(recManif), sealed)
	})
	if err = errors.Join(err, db.Sync(), db.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(dir, dbName)); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	o.step("in place " + dbName)
	return o.writeHeaders(dir, h, hdr1, hdr2)
}

// load reads manifest and keys; every record must be the one the manifest
// names.
func (s *Store) load() error {
	return s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucketName))
		if b == nil {
			return fmt.Errorf("%w: no bucket", ErrDamaged)
		}
		m, err := openManifest(s.vault, b.Get([]byte(recManif)))
		if err != nil {
			return fmt.Errorf("%w: manifest: %w", ErrDamaged, err)
		}
		s.manifest = m
		for name, version := range m.Records {
			e, err := openRecord(s.vault, name, b.Get([]byte(name)))
			if err != nil {
				return fmt.Errorf("%w: record %s: %w", ErrDamaged, name, err)
			}
			if e.version != version {
				return fmt.Errorf("%w: record %s is an older one", ErrDamaged, name)
			}
			s.keys[name] = e
		}
		return nil
	})
}

// SetAside renames the store's files in dir (suffix ".aside-<UTC time>"), so
// that the next Open makes an empty store.
func SetAside(dir string, at time.Time) error {
	suffix := ".aside-" + at.UTC().Format("20060102T150405")
	for _, name := range []string{hdr1, hdr2, dbName} {
		path := filepath.Join(dir, name)
		if err := os.Rename(path, path+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set keystore aside: %w", err)
		}
	}
	return syncDir(dir)
}

func (s *Store) key(name string) (*Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	e, ok := s.keys[name]
	if !ok {
		return nil, fmt.Errorf("%s key: %w", name, ErrNoKey)
	}
	return &Key{in: e.secret}, nil
}

// Active returns the key in use, or ErrNoKey.
func (s *Store) Active() (*Key, error) { return s.key(recActive) }

// Pending returns the key that waits for its proof, or ErrNoKey.
func (s *Store) Pending() (*Key, error) { return s.key(recPending) }

// Previous returns the key that was active before, or ErrNoKey.
func (s *Store) Previous() (*Key, error) { return s.key(recPrev) }

// DeviceSecret returns the device secret, or ErrNoKey.
func (s *Store) DeviceSecret() (*Secret, error) {
	k, err := s.key(recDevice)
	if err != nil {
		return nil, err
	}
	return &Secret{in: k.in}, nil
}

// Info tells what is stored about a key: "active", "pending", "previous" or
// "deviceSecret".
func (s *Store) Info(name string) (Info, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.keys[name]
	return e.info, ok
}

// change is one durable step: put and gone are written in one transaction with
// the manifest that names the result. Before its commit the store is as it
// was; after it memory follows.
func (s *Store) change(put map[string]entry, gone ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case s.doubt != nil:
		return s.doubt
	}
	m := manifest{Serial: s.manifest.Serial + 1, Next: s.manifest.Next, Records: map[string]uint64{}}
	for name, version := range s.manifest.Records {
		m.Records[name] = version
	}
	for _, name := range gone {
		delete(m.Records, name)
	}
	sealed := map[string][]byte{}
	for name, e := range put {
		m.Records[name] = m.Serial
		m.Next = max(m.Next, e.info.Generation+1)
		r, err := encodeRecord(e.info, e.secret)
		if err != nil {
			return err
		}
		sealed[name], err = s.vault.seal(place{bucket: bucketName, name: name}, m.Serial, r.b)
		r.free()
		if err != nil {
			return err
		}
	}
	var err error
	if sealed[recManif], err = sealManifest(s.vault, m); err != nil {
		return err
	}
	err = s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucketName))
		for _, name := range gone {
			if err := b.Delete([]byte(name)); err != nil {
				return err
			}
		}
		for name, v := range sealed {
			if err := b.Put([]byte(name), v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.doubt = fmt.Errorf("%w: %w", ErrInDoubt, err)
		return s.doubt
	}
	s.o.step("changed")
	s.manifest = m
	for _, name := range gone {
		delete(s.keys, name)
	}
	for name, e := range put {
		e.version = m.Serial
		s.keys[name] = e
	}
	return nil
}

func (s *Store) fresh(key []byte, source string, digest [32]byte) (entry, error) {
	if len(source) > maxSource {
		source = source[:maxSource]
	}
	r, err := newRegion(len(key))
	if err != nil {
		return entry{}, err
	}
	copy(r.b, key)
	s.mu.Lock()
	gen := s.manifest.Next
	s.mu.Unlock()
	e := entry{info: Info{Generation: gen, Source: source, Digest: digest, Since: time.Now()}, secret: newSecret(r, gen)}
	e.info.KCV = e.secret.kcv
	return e, nil
}

// Stage stores key, 32 letters and digits, as pending; an older pending key is
// replaced. The slice is cleared. source says who brought it. The same digest
// again, while that key is pending or active, changes nothing, so that a
// message may be taken up twice. ErrBadKey: nothing stored.
func (s *Store) Stage(key []byte, source string, digest [32]byte) error {
	defer clear(key)
	if err := ValidKey(key); err != nil {
		return err
	}
	for _, name := range []string{recPending, recActive} {
		if i, ok := s.Info(name); ok && i.Digest == digest {
			return nil
		}
	}
	e, err := s.fresh(key, source, digest)
	if err != nil {
		return fmt.Errorf("stage key: %w", err)
	}
	return s.change(map[string]entry{recPending: e})
}

// Promote makes the pending key active and the active one previous. ErrNoKey:
// nothing is pending.
func (s *Store) Promote() error {
	s.mu.Lock()
	p, ok := s.keys[recPending]
	old, had := s.keys[recActive]
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("promote key: %w", ErrNoKey)
	}
	p.info.Since = time.Now()
	put := map[string]entry{recActive: p}
	if had {
		old.info.Since = time.Now()
		put[recPrev] = old
	}
	return s.change(put, recPending)
}

// DropPending forgets the pending key; without one it does nothing. reason is
// for the caller's audit log and is not stored.
func (s *Store) DropPending(reason string) error {
	if _, ok := s.Info(recPending); !ok {
		return nil
	}
	_ = reason
	return s.change(nil, recPending)
}

// Expire drops what has outlived PendingLife or PreviousLife, and tells what
// it dropped.
func (s *Store) Expire(now time.Time) (pending, previous bool, err error) {
	var gone []string
	if i, ok := s.Info(recPending); ok && i.Expired(now, PendingLife) {
		pending, gone = true, append(gone, recPending)
	}
	if i, ok := s.Info(recPrev); ok && i.Expired(now, PreviousLife) {
		previous, gone = true, append(gone, recPrev)
	}
	if len(gone) == 0 {
		return false, false, nil
	}
	return pending, previous, s.change(nil, gone...)
}

// SetDeviceSecret stores the device secret (16 to 64 bytes). The slice is
// cleared.
func (s *Store) SetDeviceSecret(secret []byte) error {
	defer clear(secret)
	if len(secret) < secretShort || len(secret) > secretLong {
		return fmt.Errorf("%w: device secret of %d bytes, want %d to %d", ErrBadKey, len(secret), secretShort, secretLong)
	}
	e, err := s.fresh(secret, "provision", [32]byte{})
	if err != nil {
		return fmt.Errorf("store device secret: %w", err)
	}
	return s.change(map[string]entry{recDevice: e})
}

// Close releases the files. Keys already handed out go on signing.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.db.Close()
}

// checkFile looks at a database file before bbolt does, which panics on some
// damaged ones in a goroutine of its own.
func checkFile(path string) error {
	f, err := openOwn(path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is missing; set the keystore aside and provision the kiosk again", ErrDamaged, path)
	}
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := walk(f, st.Size()); err != nil {
		return fmt.Errorf("%w: %s: %w; set the keystore aside and provision the kiosk again", ErrDamaged, path, err)
	}
	return nil
}
