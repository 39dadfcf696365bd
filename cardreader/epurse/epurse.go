// Package epurse speaks to a PBOC electronic purse or deposit.
package epurse

import (
	"context"
	"errors"

	"vcckiosk/cardreader"
	"vcckiosk/cardreader/apdu"
)

// Params describes the purse.
type Params struct {
	AID             []byte
	InfoSFI, LogSFI byte
	Type            byte
	KeyIndex        byte
	PIN             []byte
	Terminal        [6]byte
	LogCapacity     int
	NoLe            bool
}

// Purse is one purse.
type Purse struct {
	t cardreader.Transmitter
	p Params
}

// New makes a Purse.
func New(t cardreader.Transmitter, p Params) *Purse { return &Purse{t: t, p: p} }

// ErrOutcomeUnknown is cardreader.ErrOutcomeUnknown.
var ErrOutcomeUnknown = cardreader.ErrOutcomeUnknown

// ErrEmptySlot is an empty place in the log.
var ErrEmptySlot = errors.New("empty log record")

// ErrNoInit is a Credit without Init: nothing was sent.
var ErrNoInit = errors.New("no load initialised")

// RefusedError is a definite refusal of 80 52.
type RefusedError struct{ SW apdu.Status }

func (e *RefusedError) Error() string { return "card refused the load: " + e.SW.Error() }

// Unwrap leads to the status.
func (e *RefusedError) Unwrap() error { return e.SW }

// PINError is a refused PIN.
type PINError struct{ TriesLeft int }

func (e *PINError) Error() string { return "card refused the PIN" }

// Identity is the public information.
type Identity struct {
	Serial           [8]byte
	AppNo            [10]byte
	Issuer           [8]byte
	AppType, Version byte
	Start, Expiry    [4]byte
}

// CardNo is the card number.
func (i Identity) CardNo() string { return "" }

// Log is the transaction log.
type Log struct {
	Records  []LogRecord
	Room     bool
	Complete bool
}

// LogRecord is one record.
type LogRecord struct {
	Seq       uint16
	Overdraft [3]byte
	Amount    uint32
	Type      byte
	Terminal  [6]byte
	Date      [4]byte
	Time      [3]byte
}

// Proof is the answer of 80 5A.
type Proof struct{ MAC, TAC [4]byte }

// Init is the answer of 80 50.
type Init struct {
	Balance           uint32
	Seq               uint16
	KeyVersion, AlgID byte
	Random, MAC1      [4]byte
}

// Credit is the answer of 80 52.
type Credit struct {
	TAC    [4]byte
	HasTAC bool
}

var errTODO = errors.New("not written yet")

// ParseLogRecord parses 23 bytes.
func ParseLogRecord(b []byte) (LogRecord, error) { return LogRecord{}, errTODO }

// ParseIdentity parses the public information.
func ParseIdentity(b []byte) (Identity, error) { return Identity{}, errTODO }

// Identify selects and reads.
func (p *Purse) Identify(ctx context.Context) (Identity, error) { return Identity{}, errTODO }

// Balance reads.
func (p *Purse) Balance(ctx context.Context) (uint32, error) { return 0, errTODO }

// Log reads.
func (p *Purse) Log(ctx context.Context) (Log, error) { return Log{}, errTODO }

// Prove reads.
func (p *Purse) Prove(ctx context.Context, seq uint16) (Proof, bool, error) {
	return Proof{}, false, errTODO
}

// Init initialises.
func (p *Purse) Init(ctx context.Context, amount uint32) (Init, error) { return Init{}, errTODO }

// Credit loads.
func (p *Purse) Credit(ctx context.Context, date [4]byte, tm [3]byte, mac2 [4]byte) (Credit, error) {
	return Credit{}, ErrOutcomeUnknown
}
