package simcard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"vcckiosk/cardreader"
)

// Slot is an in-process cardreader.Reader with one place for a card. It starts
// no goroutine and uses channels and timers only: made inside a synctest bubble
// it lives on the bubble's clock.
//
// A session is bound to one insertion: Remove, Gone and Down end it, Swap does
// not and nobody notices. A torn APDU answers (nil, nil), later ones
// cardreader.ErrCardRemoved. Closing a session leaves the card powered.
type Slot struct {
	// Intercept, when not nil, is called before (before = true) and after the
	// effect of every APDU, without a lock held. An error before: the card does
	// not see the APDU. An error after: the card has executed it. In both cases
	// Transmit returns the error. Set it before the slot is used.
	Intercept func(before bool, cmd []byte) error
	// Watchdog ends a Transmit whose answer never comes with
	// cardreader.ErrStuck; 0 means 15 s. Set it before the slot is used.
	Watchdog time.Duration

	name string

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every change
	card    Card          // nil: empty
	ins     int           // number of the present insertion, 0 when empty
	count   int           // insertions so far
	gone    int           // odd: unplugged
	down    int           // odd: service stopped
	seen    sight
	sess    *slotSession
}

// sight is the state that Next has reported so far.
type sight struct {
	known      bool
	ins        int // -1: to be reported again
	gone, down int
}

// NewSlot makes an empty reader.
func NewSlot(name string) *Slot {
	return &Slot{name: name, changed: make(chan struct{})}
}

// Name is the reader's name as given to NewSlot.
func (s *Slot) Name() string { return s.name }

// change tells every waiter to look again; the caller holds mu.
func (s *Slot) change() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Insert powers c and puts it into the slot, taking out what was there.
func (s *Slot) Insert(c Card) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takeOut()
	s.count++
	s.card, s.ins = c, s.count
	c.PowerOn()
	s.change()
}

// Remove takes the card out; without one it does nothing.
func (s *Slot) Remove() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takeOut()
	s.change()
}

func (s *Slot) takeOut() {
	if s.card != nil {
		s.card.PowerOff()
		s.card, s.ins = nil, 0
	}
}

// Swap exchanges the card within the reader's poll interval: no event, and an
// open session goes on with the other card. In an empty slot it is an Insert.
func (s *Slot) Swap(c Card) {
	s.mu.Lock()
	if s.card == nil {
		s.mu.Unlock()
		s.Insert(c)
		return
	}
	defer s.mu.Unlock()
	s.card.PowerOff()
	s.card = c
	c.PowerOn()
}

// Card returns the card in the slot, nil when it is empty.
func (s *Slot) Card() Card {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.card
}

// Gone unplugs the reader; the card loses its power and stays in the slot.
func (s *Slot) Gone() { s.flip(&s.gone, 1) }

// Back plugs the reader in again; sessions of before stay dead.
func (s *Slot) Back() { s.flip(&s.gone, 0) }

// Down stops the card service; sessions of before never recover.
func (s *Slot) Down() { s.flip(&s.down, 1) }

// Up starts the card service again.
func (s *Slot) Up() { s.flip(&s.down, 0) }

func (s *Slot) flip(state *int, to int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *state&1 == to {
		return
	}
	*state++
	if s.card != nil {
		if to == 1 {
			s.card.PowerOff()
		} else {
			s.card.PowerOn()
		}
	}
	s.change()
}

// Restart is the death of the program that used the slot: its session is
// dropped, the card loses its power for a moment, and the next Next reports the
// present state again.
func (s *Slot) Restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sess != nil {
		s.sess.end(errSessionClosed)
		s.sess = nil
	}
	s.seen = sight{}
	if s.card != nil {
		s.card.PowerOff()
		s.card.PowerOn()
	}
	s.change()
}

// Next returns the next event; the first call (and the first after Restart)
// reports the present state. A removal and insertion that both happened between
// two calls are reported as two events, and likewise a reader that went and
// came back.
func (s *Slot) Next(ctx context.Context) (cardreader.Event, error) {
	for {
		if err := ctx.Err(); err != nil {
			return cardreader.Event{}, err
		}
		s.mu.Lock()
		ev, ok := s.event()
		wait := s.changed
		s.mu.Unlock()
		if ok {
			return ev, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return cardreader.Event{}, ctx.Err()
		}
	}
}

// event steps seen by one event towards the present; the caller holds mu.
func (s *Slot) event() (cardreader.Event, bool) {
	kind := func(k cardreader.EventKind) (cardreader.Event, bool) {
		return cardreader.Event{Kind: k}, true
	}
	if !s.seen.known {
		// Where nothing was reported yet, an ended outage is nobody's news.
		s.seen = sight{known: true, ins: -1, gone: s.gone &^ 1, down: s.down &^ 1}
	}
	switch {
	case s.seen.down != s.down && s.seen.down&1 == 0:
		s.seen.down, s.seen.ins = s.down-(s.down+1)&1, -1
		return kind(cardreader.ServiceDown)
	case s.seen.down != s.down:
		s.seen.down = s.down
		s.seen.gone = s.gone &^ 1
		return kind(cardreader.ServiceUp)
	case s.down&1 == 1:
		return cardreader.Event{}, false
	case s.seen.gone != s.gone && s.seen.gone&1 == 0:
		s.seen.gone, s.seen.ins = s.gone-(s.gone+1)&1, -1
		return kind(cardreader.ReaderGone)
	case s.seen.gone != s.gone:
		s.seen.gone = s.gone
		return kind(cardreader.ReaderBack)
	case s.gone&1 == 1:
		return cardreader.Event{}, false
	case s.seen.ins == s.ins:
		return cardreader.Event{}, false
	case s.ins == 0, s.seen.ins > 0:
		s.seen.ins = 0
		return kind(cardreader.CardOut)
	}
	s.seen.ins = s.ins
	return cardreader.Event{Kind: cardreader.CardIn, ATR: s.card.ATR()}, true
}

// blocked returns why the slot cannot be used at all; the caller holds mu.
func (s *Slot) blocked() error {
	if s.down&1 == 1 {
		return cardreader.ErrServiceDown
	}
	if s.gone&1 == 1 {
		return cardreader.ErrReaderGone
	}
	return nil
}

// Open starts the exclusive session with the card now in the slot.
func (s *Slot) Open(ctx context.Context) (cardreader.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.blocked(); err != nil {
		return nil, err
	}
	if s.sess != nil {
		return nil, cardreader.ErrBusy
	}
	if s.card == nil {
		return nil, cardreader.ErrNoCard
	}
	s.sess = &slotSession{
		slot: s, atr: s.card.ATR(), ins: s.ins, gone: s.gone, down: s.down,
		turn: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	return s.sess, nil
}

var errSessionClosed = errors.New("session is closed")

type slotSession struct {
	slot            *Slot
	atr             []byte
	ins, gone, down int
	turn            chan struct{} // one Transmit at a time
	ended           chan struct{} // closed by Close and Restart
	dead            error         // under slot.mu: every later Transmit returns it
}

// ATR returns the answer to reset of the card that was in the slot at Open.
func (ss *slotSession) ATR() []byte { return slices.Clone(ss.atr) }

// end makes the session useless; the caller holds slot.mu.
func (ss *slotSession) end(why error) {
	ss.dead = why
	select {
	case <-ss.ended:
	default:
		close(ss.ended)
	}
}

// Close ends the session; a second Close does nothing.
func (ss *slotSession) Close() error {
	s := ss.slot
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sess == ss {
		s.sess = nil
	}
	ss.end(errSessionClosed)
	return nil
}

// lost returns why the session is over, nil while it lives; holds slot.mu.
func (ss *slotSession) lost() error {
	s := ss.slot
	switch {
	case ss.dead != nil:
		return ss.dead
	case s.down != ss.down:
		ss.dead = cardreader.ErrServiceDown
	case s.gone != ss.gone:
		ss.dead = cardreader.ErrReaderGone
	case s.ins != ss.ins:
		ss.dead = cardreader.ErrCardRemoved
	}
	return ss.dead
}

// Transmit sends one APDU. The error cases are those of a PC/SC reader: torn
// during the APDU is (nil, nil), every later call tells why.
func (ss *slotSession) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if len(cmd) < 4 {
		return nil, fmt.Errorf("transmit: command of %d bytes is not an APDU", len(cmd))
	}
	select {
	case ss.turn <- struct{}{}:
		defer func() { <-ss.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("transmit: %w", ctx.Err())
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("transmit: %w", err)
	}
	s := ss.slot
	s.mu.Lock()
	err := ss.lost()
	s.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("transmit: %w", err)
	}
	if s.Intercept != nil {
		if err := s.Intercept(true, slices.Clone(cmd)); err != nil {
			return nil, err
		}
	}
	r, err := ss.exchange(cmd)
	if err != nil {
		return nil, fmt.Errorf("transmit: %w", err)
	}
	if s.Intercept != nil {
		if err := s.Intercept(false, slices.Clone(cmd)); err != nil {
			return nil, err
		}
	}
	return ss.await(ctx, r)
}

// exchange lets the card execute cmd and does to the slot what the reply says.
func (ss *slotSession) exchange(cmd []byte) (Reply, error) {
	s := ss.slot
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ss.lost(); err != nil {
		return Reply{}, err
	}
	r, now := reply(s.card, slices.Clone(cmd))
	s.card = now
	if r.Torn {
		s.takeOut()
		s.change()
	}
	return r, nil
}

// await waits for the answer as long as the reader would.
func (ss *slotSession) await(ctx context.Context, r Reply) ([]byte, error) {
	s := ss.slot
	if r.Torn {
		return nil, nil
	}
	if !r.Mute && r.Delay <= 0 {
		return slices.Clone(r.Data), nil
	}
	var arrives <-chan time.Time
	if !r.Mute {
		arrives = time.After(r.Delay)
	}
	dog := s.Watchdog
	if dog <= 0 {
		dog = 15 * time.Second
	}
	stuck := time.After(dog)
	for {
		s.mu.Lock()
		err := ss.lost()
		wait := s.changed
		s.mu.Unlock()
		switch {
		case errors.Is(err, cardreader.ErrCardRemoved):
			return nil, nil // torn while the answer was awaited
		case err != nil:
			return nil, fmt.Errorf("transmit: %w", err)
		}
		select {
		case <-wait:
		case <-ss.ended:
		case <-arrives:
			return slices.Clone(r.Data), nil
		case <-stuck:
			return nil, ss.stick(nil)
		case <-ctx.Done():
			return nil, ss.stick(ctx.Err())
		}
	}
}

// stick gives the session up: an answer may still come, and it must never be
// taken for the answer to a later command.
func (ss *slotSession) stick(why error) error {
	s := ss.slot
	s.mu.Lock()
	defer s.mu.Unlock()
	ss.end(cardreader.ErrStuck)
	if why != nil {
		return fmt.Errorf("transmit: %w: %w", cardreader.ErrStuck, why)
	}
	return fmt.Errorf("transmit: %w", cardreader.ErrStuck)
}
