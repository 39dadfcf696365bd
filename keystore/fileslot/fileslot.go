// Package fileslot is the keystore slot whose key lies in a file. It stops a
// leaked copy of the store, and with a hardware id a copy put into a sibling
// kiosk; it does not stop whoever has the whole disk, or root.
package fileslot

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/chacha20poly1305"

	"vcckiosk/keystore"
)

const keyLength = 32

// Options of New.
type Options struct {
	// KeyFile is the path of the 32-byte key file, mode 0400 or 0600.
	KeyFile string
	// HardwareID is the salt that ties the store to this machine, such as the
	// serial number of the board. Empty: the key file alone opens the store.
	HardwareID []byte
	// CreateIfMissing lets Wrap, that is the making of a new store, make the
	// key file too. Unwrap never makes one.
	CreateIfMissing bool
}

// Slot is a keystore.Slot.
type Slot struct{ o Options }

var _ keystore.Slot = (*Slot)(nil)

// New returns the slot; the key file is read only when the slot is used.
func New(o Options) *Slot { return &Slot{o: o} }

// Name is "file".
func (s *Slot) Name() string { return "file" }

// Wrap encrypts the root key under the key file's key: nonce 24, ciphertext,
// tag 16.
func (s *Slot) Wrap(rootKey, aad []byte) ([]byte, error) {
	_, err := os.Lstat(s.o.KeyFile)
	if errors.Is(err, fs.ErrNotExist) && s.o.CreateIfMissing {
		if err := s.create(); err != nil {
			return nil, fmt.Errorf("create key file: %w", err)
		}
	}
	kek, err := s.kek()
	if err != nil {
		return nil, err
	}
	defer clear(kek)
	a, err := chacha20poly1305.NewX(kek)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	nonce := make([]byte, a.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return a.Seal(nonce, nonce, rootKey, aad), nil
}

// Unwrap is the inverse of Wrap. keystore.ErrPermissions: others may use the
// key file. keystore.ErrLocked: it is missing, not 32 bytes long, another one,
// or this is another machine.
func (s *Slot) Unwrap(blob, aad []byte) ([]byte, error) {
	kek, err := s.kek()
	if err != nil {
		return nil, err
	}
	defer clear(kek)
	a, err := chacha20poly1305.NewX(kek)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	if len(blob) < a.NonceSize() {
		return nil, fmt.Errorf("%w: the wrapped key is cut short", keystore.ErrLocked)
	}
	root, err := a.Open(nil, blob[:a.NonceSize()], blob[a.NonceSize():], aad)
	if err != nil {
		return nil, fmt.Errorf("%w: key file %s does not open this store: it is another one, or this is another machine",
			keystore.ErrLocked, s.o.KeyFile)
	}
	return root, nil
}

// kek derives the wrapping key.
func (s *Slot) kek() ([]byte, error) {
	st, err := os.Lstat(s.o.KeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: key file %s is missing", keystore.ErrLocked, s.o.KeyFile)
	}
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: key file %s has mode %04o; run chmod 0600 on it, and change the key if others may have read it",
			keystore.ErrPermissions, s.o.KeyFile, st.Mode().Perm())
	}
	if !st.Mode().IsRegular() || st.Size() != keyLength {
		return nil, fmt.Errorf("%w: key file %s is not a file of %d bytes", keystore.ErrLocked, s.o.KeyFile, keyLength)
	}
	key, err := os.ReadFile(s.o.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	defer clear(key)
	kek, err := hkdf.Key(sha256.New, key, s.o.HardwareID, "vcckiosk/keystore/fileslot", chacha20poly1305.KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive wrapping key: %w", err)
	}
	return kek, nil
}

// create writes a fresh key file: whole or not there, and never over one that
// appeared meanwhile, for a link fails where a rename would replace. A cut
// leaves at most the temporary file, which the next attempt replaces.
func (s *Slot) create() error {
	key := make([]byte, keyLength)
	defer clear(key)
	_, _ = rand.Read(key)
	tmp := s.o.KeyFile + ".new"
	// Never written into: it may be another name of a key file in use, left by
	// a cut between the link and the removal.
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(key)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := errors.Join(os.Link(tmp, s.o.KeyFile), os.Remove(tmp)); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(s.o.KeyFile))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
