//go:build !linux

package keystore

import "os"

// region on systems the kiosk does not run on: plain memory, zeroed by free.
// It exists so that the simulators can be built there.
type region struct{ b []byte }

func newRegion(size int) (*region, error) { return &region{b: make([]byte, size)}, nil }

func (r *region) free() {
	clear(r.b)
	r.b = nil
}

func reserve(f *os.File, size int64) error { return f.Truncate(size) }
