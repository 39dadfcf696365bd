package queue

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	defaultReserve = 16 << 20
	// commitRoom is more than any one commit adds.
	commitRoom = 1 << 20
)

// reserve keeps space allocated beyond what a file uses. bbolt grows a file by
// sparse truncation, so its length is no promise: pages that were not paid for
// fail in the middle of a commit. Everything below end is paid for.
type reserve struct {
	path string
	want int64
	end  int64
	off  bool // the file system cannot do it
}

// ensure makes sure that a commit on a file that uses size bytes cannot fail
// for want of space. While the disk is full it lives off the reserve, and
// fills it up again when there is room. ErrFull: the reserve is used up.
func (r *reserve) ensure(size int64) error {
	if r == nil || r.off || r.end >= size+r.want-min(r.want, commitRoom) {
		return nil
	}
	full := r.extend(size + r.want)
	if full == nil || r.off || r.end >= size+commitRoom {
		return nil
	}
	if err := r.extend(size + commitRoom); err != nil && !r.off {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return nil
}

// extend allocates up to end without changing the length of the file.
func (r *reserve) extend(end int64) error {
	if end <= r.end {
		return nil
	}
	// flock belongs to the open file: closing this one releases nothing.
	f, err := os.OpenFile(r.path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written through it
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, r.end, end-r.end)
	switch {
	case err == nil:
		r.end = end
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		return fmt.Errorf("allocate: %w", err)
	default:
		// Not every file system can. Then want of space shows in the commit.
		r.off = true
		return nil
	}
}
