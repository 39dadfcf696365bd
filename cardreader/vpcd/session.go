//go:build sim

package vpcd

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

// session is the exclusive use of one link.
type session struct {
	reader *Reader
	link   *link
	turn   chan struct{} // one Transmit at a time
	ended  chan struct{} // closed by Close
	once   sync.Once
	stuck  bool // under turn
}

var errClosed = errors.New("session is closed")

// ATR is the card's answer to reset.
func (s *session) ATR() []byte { return slices.Clone(s.link.atr) }

// Close gives the reader back; the card stays powered. A command under way is
// given up.
func (s *session) Close() error {
	s.once.Do(func() { close(s.ended) })
	r := s.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sess == s {
		r.sess = nil
	}
	return nil
}

// over tells why the session has ended, nil while it lives.
func (s *session) over() error {
	select {
	case <-s.ended:
		return errClosed
	default:
	}
	if s.stuck {
		return cardreader.ErrStuck
	}
	select {
	case <-s.link.gone:
		return s.reader.lost()
	default:
	}
	return nil
}

// lost is the error of a session whose card has left.
func (r *Reader) lost() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return cardreader.ErrReaderGone
	}
	return cardreader.ErrCardRemoved
}

// Transmit sends one APDU and waits for its answer, for the card to leave, for
// ctx or for the watchdog. The last two leave the card owing an answer: the
// session is dead and the reader cannot be opened until the card has answered
// or left.
func (s *session) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if len(cmd) < 4 || len(cmd) > math.MaxUint16 {
		return nil, fmt.Errorf("transmit: command of %d bytes is not an APDU", len(cmd))
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("transmit: %w", ctx.Err())
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("transmit: %w", err)
	}
	if err := s.over(); err != nil {
		return nil, fmt.Errorf("transmit: %w", err)
	}
	l := s.link
	answer := make(chan []byte, 1)
	l.mu.Lock()
	l.waiting = answer
	l.mu.Unlock()
	dog := time.NewTimer(watchdog)
	defer dog.Stop()
	err := l.conn.SetWriteDeadline(time.Now().Add(watchdog))
	if err == nil {
		err = writeFrame(l.conn, cmd)
	}
	if err != nil { // perhaps half a command: the card is as good as torn
		l.conn.Close()
	}
	select {
	case a := <-answer:
		return a, nil
	case <-l.gone:
	case <-s.ended:
		return nil, fmt.Errorf("transmit: %w", s.abandon(answer, errClosed))
	case <-dog.C:
		return nil, fmt.Errorf("transmit: %w", s.abandon(answer, cardreader.ErrStuck))
	case <-ctx.Done():
		return nil, fmt.Errorf("transmit: %w: %w", s.abandon(answer, cardreader.ErrStuck), ctx.Err())
	}
	select {
	case a := <-answer: // the card answered and left
		return a, nil
	default:
	}
	if err := s.reader.lost(); errors.Is(err, cardreader.ErrReaderGone) {
		return nil, fmt.Errorf("transmit: %w", err)
	}
	return nil, nil // torn during the command
}

// abandon leaves a command without its answer: whenever that comes, it must not
// be taken for the answer to a later command.
func (s *session) abandon(answer chan []byte, why error) error {
	l := s.link
	l.mu.Lock()
	defer l.mu.Unlock()
	s.stuck = true
	if l.waiting == answer {
		l.waiting = nil
		l.stuck = true
	}
	return why
}
