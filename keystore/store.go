package keystore

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// How long a key that is not the active one is of use. The Store keeps the
// times, the caller decides when to look: see Expire.
const (
	PendingLife  = 24 * time.Hour
	PreviousLife = 72 * time.Hour
)

// Store is an open keystore. Its methods may be called from several
// goroutines. Stage, Promote, DropPending, Expire and SetDeviceSecret are each
// one transaction of the database and return after its fsync: a cut before
// leaves the state before, a cut after the state after, and there is none
// between. When one returns ErrInDoubt nobody knows which of the two is on
// disk; the Store keeps showing the state before, and the process must end
// and open the store again.
type Store struct {
	db    *bbolt.DB
	vault *vault
	o     Options

	mu     sync.Mutex
	state  state
	failed error // the commit error after which nothing is changed any more
	closed bool
}

// state is what the database holds, in RAM.
type state struct {
	serial, next uint64
	keys         map[string]entry
}

// read loads and checks everything the database holds.
func (s *Store) read() error {
	sealed := make(map[string][]byte)
	err := s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucketName))
		if b == nil {
			return fmt.Errorf("%w: %s: its bucket is missing", ErrDamaged, dbName)
		}
		return b.ForEach(func(k, v []byte) error {
			sealed[string(k)] = append([]byte(nil), v...)
			return nil
		})
	})
	if err != nil {
		return err
	}
	if _, ok := sealed[recManif]; !ok {
		return fmt.Errorf("%w: %s: manifest is missing", ErrDamaged, dbName)
	}
	m, err := openManifest(s.vault, sealed[recManif])
	if err != nil {
		return recordError(recManif, err)
	}
	delete(sealed, recManif)
	s.state = state{serial: m.Serial, next: m.Next, keys: make(map[string]entry)}
	for name, b := range sealed {
		e, err := openRecord(s.vault, name, b)
		if err != nil {
			return recordError(name, err)
		}
		if v, ok := m.Records[name]; !ok || v != e.version {
			return fmt.Errorf("%w: %s: record %q is not the one the manifest names", ErrDamaged, dbName, name)
		}
		s.state.keys[name] = e
	}
	for name := range m.Records {
		if _, ok := s.state.keys[name]; !ok {
			return fmt.Errorf("%w: %s: record %q is missing", ErrDamaged, dbName, name)
		}
	}
	return nil
}

func recordError(name string, err error) error {
	return fmt.Errorf("%w: %s: record %q: %w", damagedUnlessNewer(err), dbName, name, err)
}

// change writes the keys of next that differ from the present state, removes
// those it lacks, and the manifest, all in one transaction; then RAM follows.
func (s *Store) change(what string, next state) error {
	next.serial = s.state.serial + 1
	m := manifest{Serial: next.serial, Next: next.next, Records: make(map[string]uint64)}
	put := make(map[string][]byte)
	for name, e := range next.keys {
		if old, ok := s.state.keys[name]; !ok || old != e {
			e.version = next.serial
			b, err := sealRecord(s.vault, name, e)
			if err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			put[name] = b
			next.keys[name] = e
		}
		m.Records[name] = e.version
	}
	sealed, err := sealManifest(s.vault, m)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	put[recManif] = sealed
	// The commit point. Just before: the file's newest meta page still leads
	// to the old records, all of them. Just after: to the new ones, all of
	// them. The pages of the old state are not written over by this commit.
	err = s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucketName))
		for name := range s.state.keys {
			if _, ok := next.keys[name]; !ok {
				if err := b.Delete([]byte(name)); err != nil {
					return err
				}
			}
		}
		for name, v := range put {
			if err := b.Put([]byte(name), v); err != nil {
				return err
			}
		}
		s.o.step(what + ": before commit")
		return nil
	})
	if err != nil {
		s.failed = fmt.Errorf("%s: %w: %w", what, ErrInDoubt, err)
		return s.failed
	}
	s.state = next
	s.o.step(what + ": committed")
	return nil
}

// begin returns a copy of the state to work on; the lock is held.
func (s *Store) begin() (state, error) {
	if s.closed {
		return state{}, ErrClosed
	}
	if s.failed != nil {
		return state{}, s.failed
	}
	next := s.state
	next.keys = maps.Clone(s.state.keys)
	return next, nil
}

// Stage stores key as pending and replaces an older pending one; the active
// key stays as it is. key is 32 letters and digits (ErrBadKey otherwise) and
// is cleared, whatever the result. source says who brought it ("sms",
// "technician"; its first 64 bytes are kept); digest is of the message that
// carried it.
//
// Repeating is safe: when the pending or the active key came with the same
// digest nothing happens and the error is nil, so after a restart Stage may be
// called again for a message of which nobody knows whether it was staged; then
// Pending tells whether there is anything left to prove. A digest of zeros
// names no message and never matches.
func (s *Store) Stage(key []byte, source string, digest [32]byte) error {
	defer clear(key)
	if err := ValidKey(key); err != nil {
		return fmt.Errorf("stage key: %w", err)
	}
	source = source[:min(len(source), maxSource)]
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.begin()
	if err != nil {
		return fmt.Errorf("stage key: %w", err)
	}
	for _, name := range []string{recPending, recActive} {
		e, ok := s.state.keys[name]
		if !ok || digest == [32]byte{} || e.info.Digest != digest {
			continue
		}
		if !e.secret.equal(key) {
			return fmt.Errorf("stage key: another key came with the digest of the %s one", name)
		}
		return nil
	}
	r, err := newRegion(keyLength)
	if err != nil {
		return fmt.Errorf("stage key: %w", err)
	}
	copy(r.b, key)
	e := entry{secret: newSecret(r, next.next)}
	e.info = Info{Generation: next.next, KCV: e.secret.kcv, Source: source, Digest: digest, Since: now()}
	next.keys[recPending] = e
	next.next++
	return s.change("stage key", next)
}

// Promote makes the pending key active and the active one previous, whose
// predecessor is forgotten. ErrNoKey: there is no pending key, which after a
// restart means that it was done.
func (s *Store) Promote() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.begin()
	if err != nil {
		return fmt.Errorf("promote key: %w", err)
	}
	pending, ok := next.keys[recPending]
	if !ok {
		return fmt.Errorf("promote key: %w", ErrNoKey)
	}
	if active, ok := next.keys[recActive]; ok {
		active.info.Since = now()
		next.keys[recPrev] = active
	}
	pending.info.Since = now()
	next.keys[recActive] = pending
	delete(next.keys, recPending)
	return s.change("promote key", next)
}

// DropPending forgets the pending key; without one it does nothing. reason
// appears in the error of a failed commit only: the caller writes the audit.
func (s *Store) DropPending(reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.begin()
	if err != nil {
		return fmt.Errorf("drop pending key: %w", err)
	}
	if _, ok := next.keys[recPending]; !ok {
		return nil
	}
	delete(next.keys, recPending)
	return s.change("drop pending key ("+reason+")", next)
}

// Expire forgets, in one step, a pending key staged PendingLife or longer
// before now and a previous key replaced PreviousLife or longer before, and
// tells which. Nothing expires by itself: call it from time to time, and only
// while the clock is known to be right, for the times are wall time. The
// active key never expires.
func (s *Store) Expire(now time.Time) (pending, previous bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.begin()
	if err != nil {
		return false, false, fmt.Errorf("expire keys: %w", err)
	}
	if e, ok := next.keys[recPending]; ok && e.info.Expired(now, PendingLife) {
		delete(next.keys, recPending)
		pending = true
	}
	if e, ok := next.keys[recPrev]; ok && e.info.Expired(now, PreviousLife) {
		delete(next.keys, recPrev)
		previous = true
	}
	if !pending && !previous {
		return false, false, nil
	}
	if err := s.change("expire keys", next); err != nil {
		return false, false, err
	}
	return pending, previous, nil
}

// Active returns the key in use, or ErrNoKey.
func (s *Store) Active() (*Key, error) { return s.key(recActive) }

// Pending returns the key that waits for its proof, or ErrNoKey. It is
// returned however old it is; see Expire.
func (s *Store) Pending() (*Key, error) { return s.key(recPending) }

// Previous returns the key that was active before, or ErrNoKey. It is returned
// however old it is; see Expire.
func (s *Store) Previous() (*Key, error) { return s.key(recPrev) }

func (s *Store) key(name string) (*Key, error) {
	e, err := s.entry(name)
	if err != nil {
		return nil, err
	}
	return &Key{e.secret}, nil
}

func (s *Store) entry(name string) (entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return entry{}, ErrClosed
	}
	e, ok := s.state.keys[name]
	if !ok {
		return entry{}, fmt.Errorf("%w: %s", ErrNoKey, name)
	}
	return e, nil
}

// Info tells what is stored about a key: "active", "pending", "previous" or
// "deviceSecret"; false when there is none.
func (s *Store) Info(name string) (Info, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.state.keys[name]
	return e.info, ok
}

// DeviceSecret returns the device secret, or ErrNoKey.
func (s *Store) DeviceSecret() (*Secret, error) {
	e, err := s.entry(recDevice)
	if err != nil {
		return nil, err
	}
	return &Secret{e.secret}, nil
}

// SetDeviceSecret stores the device secret, 16 to 64 random bytes (ErrBadKey
// otherwise), in place of an older one. secret is cleared whatever the result.
func (s *Store) SetDeviceSecret(secret []byte) error {
	defer clear(secret)
	if len(secret) < secretShort || len(secret) > secretLong {
		return fmt.Errorf("set device secret: %w: %d bytes, want %d to %d", ErrBadKey, len(secret), secretShort, secretLong)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.begin()
	if err != nil {
		return fmt.Errorf("set device secret: %w", err)
	}
	r, err := newRegion(len(secret))
	if err != nil {
		return fmt.Errorf("set device secret: %w", err)
	}
	copy(r.b, secret)
	e := entry{secret: newSecret(r, next.next)}
	e.info = Info{Generation: next.next, KCV: e.secret.kcv, Source: "provision", Since: now()}
	next.keys[recDevice] = e
	next.next++
	return s.change("set device secret", next)
}

// Close releases the files. Keys handed out go on signing; their memory is
// zeroed when nobody refers to them. Every other call answers ErrClosed.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.state = state{}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close keystore: %w", err)
	}
	return nil
}

// now is the wall time as a record keeps it: whole milliseconds, without the
// monotonic part, which would not outlive the process.
func now() time.Time { return time.UnixMilli(time.Now().UnixMilli()) }
