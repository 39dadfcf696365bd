// Package memcard speaks to SLE4442 memory cards.
package memcard

import (
	"context"
	"errors"

	"vcckiosk/cardreader"
	"vcckiosk/cardreader/apdu"
)

// Size is the card's memory in bytes.
const Size = 256

// Family is the command set of a reader family.
type Family struct{ Name string }

// ACS is the default family.
var ACS = Family{Name: "ACS"}

// Card is one card.
type Card struct {
	t cardreader.Transmitter
	f Family
}

// New makes a Card.
func New(t cardreader.Transmitter, f Family) *Card { return &Card{t: t, f: f} }

// Errors.
var (
	ErrOutcomeUnknown = cardreader.ErrOutcomeUnknown
	ErrTriesLow       = errors.New("card code has fewer than all tries left")
	ErrWrongCode      = errors.New("wrong card code")
	ErrLocked         = errors.New("card code locked")
)

// StatusError is a refusal by the reader.
type StatusError struct {
	Op string
	SW apdu.Status
}

func (e *StatusError) Error() string { return e.Op + ": " + e.SW.Error() }

// Unwrap leads to the status.
func (e *StatusError) Unwrap() error { return e.SW }

var errTODO = errors.New("not written yet")

// Select selects.
func (c *Card) Select(ctx context.Context) error { return errTODO }

// Read reads.
func (c *Card) Read(ctx context.Context) ([]byte, error) { return nil, errTODO }

// Counter reads the tries left.
func (c *Card) Counter(ctx context.Context) (tries int, err error) { return 0, errTODO }

// Present presents the code.
func (c *Card) Present(ctx context.Context, psc [3]byte) error { return errTODO }

// Write writes.
func (c *Card) Write(ctx context.Context, off int, data []byte) error { return errTODO }

// ChangeCode changes the code.
func (c *Card) ChangeCode(ctx context.Context, psc [3]byte) error { return errTODO }
