package queue

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const envFullDisk = "KIOSKD_TEST_FULL_DISK"

// TestDiskFilledToTheByte needs a small disk of its own, which a user namespace
// gives to anybody where the system allows it.
func TestDiskFilledToTheByte(t *testing.T) {
	if os.Getenv(envFullDisk) != "" {
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=3m"); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(dir, 0)
		for _, reserve := range []int64{1 << 20, -1} {
			fillUp(t, filepath.Join(dir, fmt.Sprint(reserve)), reserve)
		}
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestDiskFilledToTheByte$", "-test.v")
	cmd.Env = append(os.Environ(), envFullDisk+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EINVAL):
		t.Skipf("NOT RUN: no user namespaces here (%v); sysctl kernel.unprivileged_userns_clone=1 allows them", err)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	default:
		t.Logf("%s", out)
	}
}

// fillUp fills the disk behind the database's back, commits until it is told
// that there is no room, and makes room again: nothing is lost and nothing is in
// doubt.
func fillUp(t *testing.T, path string, reserve int64) {
	t.Helper()
	db, err := OpenFile(t.Context(), path, FileOptions{Reserve: reserve})
	if err != nil {
		t.Fatal(err)
	}
	w := NewWriter(db, WriterOptions{Reserve: reserve})
	if err := w.Do(t.Context(), note("a")); err != nil {
		t.Fatal(err)
	}
	filler, err := os.Create(path + ".filler")
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 20; size > 0; size /= 2 {
		for {
			if _, err := filler.Write(make([]byte, size)); err != nil {
				break
			}
		}
	}
	n := 1
	for ; n < 5000; n++ {
		if err = w.Do(t.Context(), note(strings.Repeat("x", 2000))); err != nil {
			break
		}
	}
	t.Logf("reserve %d: %d commits on a full disk, then: %v", reserve, n-1, err)
	if !errors.Is(err, ErrFull) {
		t.Error("the end was not clean")
	}
	if reserve > 0 && n < 100 {
		t.Errorf("the reserve was good for %d commits", n-1)
	}
	if err := errors.Join(filler.Close(), os.Remove(path+".filler")); err != nil {
		t.Fatal(err)
	}
	if err := w.Do(t.Context(), note("b")); err != nil {
		t.Errorf("with room again: %v", err)
	}
	for range 2 { // before and after a new start
		if got := len(notes(t, db)); got != n+1 {
			t.Errorf("%d notes, %d were promised", got, n+1)
		}
		db.Close()
		if db, err = OpenFile(t.Context(), path, FileOptions{Reserve: -1}); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
