//go:build !sim

package vpcd

import (
	"errors"
	"testing"

	"vcckiosk/cardreader"
)

func TestWithoutTheTagThereIsNoReader(t *testing.T) {
	t.Parallel()
	if _, err := Listen("127.0.0.1:0"); !errors.Is(err, ErrNotBuilt) || Available {
		t.Errorf("listen: %v, available %v", err, Available)
	}
	var r cardreader.Reader = &Reader{}
	if _, err := r.Next(t.Context()); !errors.Is(err, ErrNotBuilt) {
		t.Errorf("next: %v", err)
	}
	if _, err := r.Open(t.Context()); !errors.Is(err, ErrNotBuilt) {
		t.Errorf("open: %v", err)
	}
}
