//go:build rig

package rigtest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// smallDisk is a file system of its own that can be filled to the byte.
type smallDisk struct{ dir string }

// newSmallDisk mounts one at dir. It needs root; nil without, and the run says so.
func newSmallDisk(t testing.TB, dir string) *smallDisk {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o700))
	if err := syscall.Mount("rig", dir, "tmpfs", 0, "size=64m,mode=0700"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI=true and no disk to fill: %v", err)
		}
		t.Logf("disk full: NOT RUN, needs root: %v", err)
		return nil
	}
	t.Cleanup(func() {
		if t.Failed() { // what is on it is wanted, and memory cannot be kept
			_ = os.CopyFS(dir+".kept", os.DirFS(dir))
		}
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return &smallDisk{dir}
}

func (d *smallDisk) ballast() string { return filepath.Join(d.dir, "ballast") }

// fill leaves no byte free.
func (d *smallDisk) fill() error {
	f, err := os.OpenFile(d.ballast(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, zeros{})
	if !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("fill disk: %w", err)
	}
	return nil
}

// empty gives the room back.
func (d *smallDisk) empty() error {
	if err := os.Remove(d.ballast()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
