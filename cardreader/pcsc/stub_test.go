//go:build !cgo || !pcsc

package pcsc

import (
	"errors"
	"testing"
)

func TestWithoutPCSCThereIsNoReader(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); !errors.Is(err, ErrNotBuilt) || Available {
		t.Errorf("new: %v, available %v", err, Available)
	}
	if _, err := List(t.Context()); !errors.Is(err, ErrNotBuilt) {
		t.Errorf("list: %v", err)
	}
}
