// Package cardreader holds the contracts between whoever serves a card and whoever drives a reader: Reader, Session, Event
// and the errors a caller branches on. It has no code that talks to hardware; drivers live in sub-packages and all of them
// pass the same suite (cardreader/cardtest).
//
// What a driver promises beyond the method comments:
//
//   - It never sends a command twice. Whether a command may be repeated is known only to the one who wrote it.
//   - It never resets or powers off a card because something went wrong, and never "reconnects and goes on": the card behind
//     the same handle may be another one by then. A remove and insert inside one polling period of the service gives no event
//     and no error, so the caller reads the identity again inside the same Session before each write.
//   - It tells what it saw, not what it concludes: an answer shorter than two bytes is passed on as it is.
package cardreader

import (
	"context"
	"errors"
	"fmt"
)

// Transmitter sends one command APDU and returns the whole answer, data followed by SW1 SW2.
//
// The answer belongs to the caller; cmd is not kept. An answer shorter than two bytes with a nil error is possible (a card
// torn during the command answers so): for a command that changes the card it means that the outcome is unknown. So does any
// error, ErrCardRemoved and a cancelled ctx included: the card may have acted before the answer was lost.
type Transmitter interface {
	Transmit(ctx context.Context, cmd []byte) ([]byte, error)
}

// Session is exclusive access to one card, with the reader's transaction held, from Open until Close.
// It is used by one goroutine at a time.
type Session interface {
	Transmitter
	// ATR is the answer to reset seen when the Session was opened. It says what kind of card this is, not which one.
	ATR() []byte
	// Close gives the reader back and leaves the card powered as it is; it never changes the card. It may be called twice.
	Close() error
}

// Reader is one reader with room for one card, for the life of the process: unplugging the reader or restarting the service
// under it gives events and errors, and the same Reader works again afterwards.
type Reader interface {
	// Name is the reader's name as the service lists it, fit for a log.
	Name() string
	// Next blocks until the next event or until ctx ends (then it returns ctx's error and nothing is lost: the next call
	// goes on). The first call reports the present state at once, as CardIn, CardOut, ReaderGone or ServiceDown.
	// An error other than ctx's is final: this Reader will not work again. One goroutine calls Next.
	Next(ctx context.Context) (Event, error)
	// Open takes the card now in the reader. It fails with ErrNoCard, ErrReaderGone, ErrServiceDown or ErrBusy, all of which
	// may be tried again, or with ErrStuck, which may not. Any other error is about this card: it does not answer to reset,
	// say, and the next may. It may be called while Next blocks in another goroutine.
	Open(ctx context.Context) (Session, error)
}

// EventKind is what happened at a Reader.
type EventKind int

// The kinds of event. After ReaderBack or ServiceUp an event CardIn or CardOut tells what is in the reader now.
const (
	CardIn      EventKind = iota + 1 // a card is in the reader; powered, or mute
	CardOut                          // the reader is there and empty
	ReaderGone                       // the reader was unplugged or does not answer
	ReaderBack                       // the reader is there again
	ServiceDown                      // the service under the driver (pcscd) is away
	ServiceUp                        // the service answers again
)

// String is the kind's name as logs spell it.
func (k EventKind) String() string {
	switch k {
	case CardIn:
		return "card in"
	case CardOut:
		return "card out"
	case ReaderGone:
		return "reader gone"
	case ReaderBack:
		return "reader back"
	case ServiceDown:
		return "service down"
	case ServiceUp:
		return "service up"
	}
	return fmt.Sprintf("event %d", int(k))
}

// Event is one fact about a Reader. Facts may be merged (a card that was out and in again between two calls of Next gives at
// least one CardIn), never invented.
type Event struct {
	Kind EventKind
	// ATR is the card's answer to reset when Kind is CardIn, nil when the card gave none (put in the wrong way, or dead);
	// else nil.
	ATR []byte
}

// What a caller branches on. None of them says anything about the effect of a command that was already sent.
var (
	// ErrNoCard: the reader is empty. Wait for CardIn.
	ErrNoCard = errors.New("no card in the reader")
	// ErrCardRemoved: the card of this Session has left, or was reset by someone else; the Session is dead. Close it and wait
	// for CardIn.
	ErrCardRemoved = errors.New("card removed")
	// ErrReaderGone: the reader is unplugged or mute. Wait for ReaderBack.
	ErrReaderGone = errors.New("reader gone")
	// ErrServiceDown: the service under the driver is away. Wait for ServiceUp.
	ErrServiceDown = errors.New("card service down")
	// ErrBusy: someone else holds the card. Try again later.
	ErrBusy = errors.New("card held by another program")
	// ErrStuck: the driver's watchdog gave up on a Transmit that never returned. The call cannot be cancelled: record the
	// unknown outcome, then end the process.
	ErrStuck = errors.New("card call stuck")
)

// What the card's applications say, above the reader.
var (
	// ErrOutcomeUnknown: a command that changes the card was sent and nobody knows whether it acted. Never repeat it; the card
	// itself has to be asked, by reading. The cause is wrapped beside it.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrForeign: the card answers, but it is not one of this system (application or file missing, not personalised).
	ErrForeign = errors.New("not a card of this system")
	// ErrBlocked: the card says that it, or its application, is locked. Never retry.
	ErrBlocked = errors.New("card is blocked")
)
