package keystore

import "errors"

// Errors of this package. All of them are tested with errors.Is; the text of a
// returned error says which file is meant and what a person can do. None ever
// holds a byte of a key.
var (
	// ErrLocked: the slot cannot open the root key (its key file is gone, is
	// another one, or the store came from another machine). The files are
	// intact. Never retry by itself; start in state "needs key", and after
	// SetAside the kiosk can be provisioned again.
	ErrLocked = errors.New("keystore is locked")
	// ErrDamaged: a file is empty, cut short, altered, or missing beside the
	// others. Never retry; treat as ErrLocked: SetAside and provision again.
	ErrDamaged = errors.New("keystore is damaged")
	// ErrNewer: the files were written by a newer program. Nothing was changed.
	ErrNewer = errors.New("keystore was written by a newer program")
	// ErrInUse: another process holds the store. Retry when it has ended.
	ErrInUse = errors.New("keystore is in use by another process")
	// ErrPermissions: a file can be read or written by others than its owner.
	ErrPermissions = errors.New("file permissions are too open")
	// ErrNoKey: no key of that kind is stored.
	ErrNoKey = errors.New("no key stored")
	// ErrBadKey: not 32 letters and digits, or a device secret of wrong length.
	ErrBadKey = errors.New("not a valid key")
	// ErrInDoubt: a commit failed and nobody knows whether it happened. Every
	// later change of this Store fails with it too; exit and open again.
	ErrInDoubt = errors.New("keystore commit in doubt")
	// ErrClosed: the Store was closed.
	ErrClosed = errors.New("keystore is closed")
	// ErrUnseal: a sealed value was altered, or belongs to another purpose,
	// other additional data, or another store.
	ErrUnseal = errors.New("sealed value does not open")
)
