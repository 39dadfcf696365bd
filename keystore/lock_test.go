package keystore

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAChildBeingStartedKeepsNoLock plays the moment between fork and exec, in
// which a child still shares the open files of its parent.
func TestAChildBeingStartedKeepsNoLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := os.Open(dir)
	must(t, err)
	must(t, lock(d, 0))
	shared, err := unix.Dup(int(d.Fd()))
	must(t, err)
	defer unix.Close(shared)
	unlockClose(d)
	again, err := os.Open(dir)
	must(t, err)
	defer unlockClose(again)
	if err := lock(again, 50*time.Millisecond); err != nil {
		t.Errorf("locked after it was released: %v", err)
	}
}
