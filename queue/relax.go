package queue

import (
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// Relax gives back the memory through which db's file was read. A start reads
// all of it once, and what the kernel keeps mapped counts as the program's own;
// what is needed again comes back by itself. It must be called before other
// goroutines use db.
func Relax(db *bbolt.DB) error {
	return db.View(func(tx *bbolt.Tx) error {
		size := tx.Size() / int64(db.Info().PageSize) * int64(db.Info().PageSize)
		if size == 0 {
			return nil
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, db.Info().Data, uintptr(size), unix.MADV_DONTNEED); errno != 0 {
			return errno
		}
		return nil
	})
}
