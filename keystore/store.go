package keystore

import (
	"time"
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

// Options of Open. The zero value works.
type Options struct {
	// Timeout is how long Open waits for another process to let go of the
	// store before it answers ErrInUse. Zero: 1 s.
	Timeout time.Duration
}

// Store is an open keystore: three files of one directory. Its methods may be
// called from several goroutines. Each changing method is one durable step.
type Store struct{}

// Open opens the keystore in dir and makes it when none of its files exists.
func Open(dir string, slot Slot, o Options) (*Store, error) { return nil, ErrDamaged }

// SetAside renames the store's files in dir (suffix ".aside-<UTC time>"), so
// that the next Open makes an empty store.
func SetAside(dir string, at time.Time) error { return nil }

// Active returns the key in use, or ErrNoKey.
func (s *Store) Active() (*Key, error) { return nil, ErrNoKey }

// Pending returns the key that waits for its proof, or ErrNoKey.
func (s *Store) Pending() (*Key, error) { return nil, ErrNoKey }

// Previous returns the key that was active before, or ErrNoKey.
func (s *Store) Previous() (*Key, error) { return nil, ErrNoKey }

// Stage stores key as pending.
func (s *Store) Stage(key []byte, source string, digest [32]byte) error { return ErrNoKey }

// Promote makes the pending key active.
func (s *Store) Promote() error { return ErrNoKey }

// DropPending forgets the pending key.
func (s *Store) DropPending(reason string) error { return nil }

// Expire drops what has outlived PendingLife or PreviousLife.
func (s *Store) Expire(now time.Time) (pending, previous bool, err error) { return false, false, nil }

// DeviceSecret returns the device secret, or ErrNoKey.
func (s *Store) DeviceSecret() (*Secret, error) { return nil, ErrNoKey }

// SetDeviceSecret stores the device secret (16 to 64 bytes).
func (s *Store) SetDeviceSecret(secret []byte) error { return nil }

// Seal encrypts plain for the named purpose.
func (s *Store) Seal(purpose string, aad, plain []byte) ([]byte, error) { return nil, ErrClosed }

// Open decrypts what Seal made.
func (s *Store) Open(purpose string, aad, sealed []byte) ([]byte, error) { return nil, ErrClosed }

// Close releases the files.
func (s *Store) Close() error { return nil }
