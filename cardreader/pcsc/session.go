package pcsc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"vcckiosk/cardreader"
)

// errEnded is what a session that was closed says.
var errEnded = errors.New("session is closed")

// session is one card from Open to Close. hand owns ctx, card and begun.
type session struct {
	reader *Reader
	hand   *hand
	ctx    libContext
	card   libCard
	begun  bool

	atr []byte
	t0  bool

	turn chan struct{} // one Transmit at a time
	dead error         // under turn: what every later Transmit says

	mu    sync.Mutex      // no call is given to hand after its last one
	ended chan struct{}   // closed by Close
	left  <-chan struct{} // closed when the card is given back
}

// Open takes the card now in the reader, for this program alone, and its transaction. It lasts some milliseconds, up to a
// second while another program has the card or an earlier call has not returned, and 15 s when the card hangs. A card that
// is there and cannot be talked to is ErrMute. A ctx that ends in the middle leaves the reader to what was begun; the next
// Open waits for it.
func (r *Reader) Open(ctx context.Context) (cardreader.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err := r.claim()
	if err != nil {
		return nil, fmt.Errorf("open card: %w", err)
	}
	s, err := r.take(ctx)
	if err != nil {
		r.unclaim()
		return nil, fmt.Errorf("open card: %w", err)
	}
	return s, nil
}

// claim makes the caller the one who may open.
func (r *Reader) claim() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.now.isDown():
		return cardreader.ErrServiceDown
	case r.now.isGone(), r.stopped():
		return cardreader.ErrReaderGone
	case r.open:
		return cardreader.ErrBusy
	}
	r.open = true
	return nil
}

func (r *Reader) unclaim() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = false
}

// take waits for its turn at the card and connects.
func (r *Reader) take(ctx context.Context) (*session, error) {
	t := time.NewTimer(settle)
	defer t.Stop()
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-t.C: // an earlier call still has not returned
		return nil, cardreader.ErrStuck
	}
	s := &session{reader: r, hand: newHand(), turn: make(chan struct{}, 1), ended: make(chan struct{})}
	var err error
	done := s.hand.do(func() { err = s.connect(ctx) })
	t.Reset(watchdog)
	select {
	case <-done:
		if err != nil {
			s.leave()
			return nil, err
		}
		return s, nil
	case <-ctx.Done():
		s.leave()
		return nil, ctx.Err()
	case <-t.C:
		s.leave()
		return nil, cardreader.ErrStuck
	}
}

// connect runs on hand. What it has taken when it fails, giveBack gives back.
func (s *session) connect(ctx context.Context) error {
	var err error
	if s.ctx, err = s.reader.lib.establish(); err != nil {
		return explain("reach pcscd", err, whileOpening)
	}
	names, err := s.ctx.readers()
	if err != nil {
		return explain("list readers", err, whileOpening)
	}
	name := choose(names, s.reader.want)
	if name == "" {
		return fmt.Errorf("%w: %w", cardreader.ErrReaderGone, noReader(names, s.reader.want))
	}
	for deadline := time.Now().Add(settle); ; {
		if err = s.begin(name); !errors.Is(err, cardreader.ErrBusy) || !time.Now().Before(deadline) {
			return err
		}
		// Somebody else's look at a new card, or pcscd still clearing up after a program that died.
		s.disconnect()
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// begin connects, takes the transaction and reads in it which kind of card this is.
func (s *session) begin(name string) error {
	var err error
	if s.card, err = s.ctx.connect(name); err != nil {
		s.card = nil
		return explain("connect", err, whileOpening)
	}
	if err = s.card.begin(); err != nil {
		return explain("begin transaction", err, whileOpening)
	}
	s.begun = true
	if s.atr, s.t0, err = s.card.status(); err != nil {
		return explain("read card status", err, whileOpening)
	}
	return nil
}

// disconnect runs on hand. Its errors say that card, reader or service are away: then there is nothing to give back.
func (s *session) disconnect() {
	if s.begun {
		_ = s.card.end()
		s.begun = false
	}
	if s.card != nil {
		_ = s.card.disconnect()
		s.card = nil
	}
}

// leave has the card given back when the call under way, if any, has returned. It is false for any call but the first.
func (s *session) leave() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left != nil {
		return false
	}
	close(s.ended)
	s.left = s.hand.finish(func() {
		s.disconnect()
		if s.ctx != nil {
			_ = s.ctx.release() // frees what it held even where it fails
		}
		<-s.reader.turn
	})
	return true
}

// ATR is the card's answer to reset, as read inside the transaction.
func (s *session) ATR() []byte { return slices.Clone(s.atr) }

// Close gives the reader back; the card stays powered, until pcscd takes the power from a card nobody uses. It returns
// cardreader.ErrStuck when a call about this card has not returned; the reader is free when it does.
func (s *session) Close() error {
	if s.leave() {
		s.reader.unclaim()
	}
	stuck := false
	select {
	case s.turn <- struct{}{}:
		stuck = errors.Is(s.dead, cardreader.ErrStuck)
		<-s.turn
	default: // Transmit is just being given up
	}
	if !stuck {
		t := time.NewTimer(farewell)
		defer t.Stop()
		select {
		case <-s.left:
		case <-t.C:
		}
	}
	select {
	case <-s.left:
		return nil
	default:
		return fmt.Errorf("close session: %w", cardreader.ErrStuck)
	}
}

// Transmit sends one APDU and waits for its answer, for ctx or for the watchdog of 15 s. Any error and an answer of no
// bytes end the session: the next card may already be behind the same handle. See inSession for what the errors are; after
// cardreader.ErrStuck, which a ctx that ends in the middle gives too, the call is still under way.
func (s *session) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	answer, err := s.transmit(ctx, cmd)
	if err != nil {
		return nil, fmt.Errorf("transmit: %w", err)
	}
	return answer, nil
}

func (s *session) transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if len(cmd) < 4 || len(cmd) > math.MaxUint16 {
		return nil, fmt.Errorf("command of %d bytes is not an APDU", len(cmd))
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var answer []byte
	var err error
	done, over := s.start(cmd, func(sent []byte) { answer, err = s.card.transmit(sent) })
	if over != nil {
		return nil, over
	}
	dog := time.NewTimer(watchdog)
	defer dog.Stop()
	var given error
	select {
	case <-done:
	case <-s.ended:
		given = errEnded
	case <-dog.C:
		given = cardreader.ErrStuck
	case <-ctx.Done():
		given = fmt.Errorf("%w: %w", cardreader.ErrStuck, ctx.Err())
	}
	select {
	case <-done:
	default: // whenever the answer comes, it must not be taken for the answer to a later command
		s.dead = cardreader.ErrStuck
		return nil, given
	}
	switch {
	case err != nil:
		s.dead = explain("an earlier card call", err, inSession)
		return nil, explain("card call", err, inSession)
	case len(answer) == 0:
		s.dead = fmt.Errorf("an earlier answer was empty: %w", cardreader.ErrCardRemoved)
		return nil, nil
	}
	return slices.Clone(answer), nil // the library's buffer has 64 KB
}

// start gives the call to hand, unless the session is over.
func (s *session) start(cmd []byte, f func([]byte)) (<-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left != nil {
		return nil, errEnded
	}
	if s.dead != nil {
		return nil, s.dead
	}
	sent := tpdu(cmd, s.t0)
	return s.hand.do(func() { f(sent) }), nil
}

// tpdu is the command as it goes to the library, always a copy: a call that hangs must not see what its caller does next.
// With T=0 the expected length does not go with data (ISO 7816-3, case 4); the card announces its answer by 61xx.
func tpdu(cmd []byte, t0 bool) []byte {
	if n := len(cmd); t0 && n > 6 && cmd[4] > 0 && n == 6+int(cmd[4]) {
		cmd = cmd[:n-1]
	}
	return slices.Clone(cmd)
}
