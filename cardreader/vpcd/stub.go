//go:build !sim

package vpcd

import (
	"context"
	"errors"

	"vcckiosk/cardreader"
)

// Available says whether this program was built with the simulated reader.
const Available = false

// ErrNotBuilt is returned by Listen in a program built without the tag sim.
var ErrNotBuilt = errors.New("built without the simulated reader")

// Reader cannot exist in a program built without the tag sim.
type Reader struct{}

// Listen fails with ErrNotBuilt.
func Listen(string) (*Reader, error) { return nil, ErrNotBuilt }

// Name is the reader's name.
func (*Reader) Name() string { return "sim" }

// Addr is empty.
func (*Reader) Addr() string { return "" }

// Close does nothing.
func (*Reader) Close() error { return nil }

// Next fails with ErrNotBuilt.
func (*Reader) Next(context.Context) (cardreader.Event, error) {
	return cardreader.Event{}, ErrNotBuilt
}

// Open fails with ErrNotBuilt.
func (*Reader) Open(context.Context) (cardreader.Session, error) { return nil, ErrNotBuilt }
