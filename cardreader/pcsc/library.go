package pcsc

import (
	"errors"
	"time"
)

// library is what this driver needs of PC/SC. scard.go has the real one; errors are codes.
type library interface {
	establish() (libContext, error)
}

// libContext is a connection to the service. One goroutine uses it at a time; only cancel may come from another.
type libContext interface {
	// readers lists the readers; none is codeNoReaders.
	readers() ([]string, error)
	// wait blocks until reader is no longer in the state known, at most for limit, which ends it with codeTimeout. A known
	// state of 0 gives the present one at once.
	wait(reader string, known uint32, limit time.Duration) (state uint32, atr []byte, err error)
	// connect takes the card for this program alone.
	connect(reader string) (libCard, error)
	// revive has the service take the power from whatever is in the reader and give it again, and so look again.
	revive(reader string) error
	// cancel ends a wait that is under way at this moment; otherwise it has no effect.
	cancel() error
	release() error
}

// libCard is one connected card.
type libCard interface {
	begin() error
	// status gives the answer to reset and whether the card speaks T=0.
	status() (atr []byte, t0 bool, err error)
	transmit(cmd []byte) ([]byte, error)
	// end and disconnect leave the card powered and as it is.
	end() error
	disconnect() error
}

// pnp is the name that stands for the list of readers in a wait.
const pnp = `\\?PnP?\Notification`

// Bits of a reader's state; the upper half counts insertions and removals.
const (
	stateChanged     = 0x0002
	stateUnknown     = 0x0004
	stateUnavailable = 0x0008
	statePresent     = 0x0020
	stateMute        = 0x0200
)

// ErrNotBuilt is returned by New and List in a program built without PC/SC.
var ErrNotBuilt = errors.New("built without PC/SC")
