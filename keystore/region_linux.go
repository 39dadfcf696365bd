package keystore

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// region is memory outside the Go heap for secret bytes: the garbage
// collector never copies it, it is left out of core dumps, and it is locked
// against swapping as far as the limit of locked memory allows. It is zeroed
// and given back when nothing refers to it any more, or by free.
type region struct {
	b       []byte // the usable part
	mapping []byte
	cleanup runtime.Cleanup
}

func newRegion(size int) (*region, error) {
	page := unix.Getpagesize()
	n := (size + page - 1) / page * page
	m, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map secret memory: %w", err)
	}
	// Best effort, both: a low RLIMIT_MEMLOCK must not keep a kiosk from
	// working (the service unit forbids swap besides), and DONTDUMP is
	// refused by no kernel we support.
	_ = unix.Mlock(m)
	_ = unix.Madvise(m, unix.MADV_DONTDUMP)
	r := &region{b: m[:size:size], mapping: m}
	r.cleanup = runtime.AddCleanup(r, release, m)
	return r, nil
}

// free zeroes and unmaps the region; the caller guarantees that nobody else
// holds it. A shared region is left to the collector instead.
func (r *region) free() {
	r.cleanup.Stop()
	release(r.mapping)
	r.b, r.mapping = nil, nil
}

func release(m []byte) {
	clear(m)
	_ = unix.Munmap(m)
}

// reserve gives f size bytes of disk, so that writing them never fails for
// want of space; on a file system that cannot, only the length.
func reserve(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		err = f.Truncate(size)
	}
	if err != nil {
		return fmt.Errorf("reserve %d bytes: %w", size, err)
	}
	return nil
}
