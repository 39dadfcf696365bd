package pcsc

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/cardreader"
	"vcckiosk/cardreader/simcard"
)

// plainCard answers 9000 and counts.
type plainCard struct {
	*simcard.Faulty
	core *plainCore
}

type plainCore struct {
	atr []byte
	mu  sync.Mutex
	got [][]byte
}

func newCard() plainCard {
	core := &plainCore{atr: []byte{0x3B, 0x02, 0x14, 0x50}}
	return plainCard{simcard.NewFaulty(core), core}
}

func (c *plainCore) ATR() []byte { return c.atr }
func (c *plainCore) PowerOn()    {}
func (c *plainCore) PowerOff()   {}
func (c *plainCore) Exchange(cmd []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, cmd)
	return []byte{0x90, 0x00}
}

// ran is what the card has executed.
func (c plainCard) ran() [][]byte {
	c.core.mu.Lock()
	defer c.core.mu.Unlock()
	return slices.Clone(c.core.got)
}

var someCommand = []byte{0x80, 0x50, 0x00, 0x02}

// world is a reader over a scripted service, in a bubble. The poll is pcscd's.
type world struct {
	*testing.T
	f *fakePCSC
	r *Reader
}

const realPoll = 400 * time.Millisecond

func inBubble(t *testing.T, run func(*world)) {
	t.Helper()
	t.Parallel()
	bubble(t, run)
}

func bubble(t *testing.T, run func(*world)) {
	t.Helper()
	polled(t, realPoll, run)
}

func polled(t *testing.T, poll time.Duration, run func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, poll)
		w := &world{t, f, start(f, Config{})}
		t.Cleanup(func() { // after run, or where run gave up
			if err := w.r.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			synctest.Wait()
			if n := f.open(); n != 0 && !t.Failed() {
				t.Errorf("%d contexts left open", n)
			}
		})
		run(w)
	})
}

func (w *world) event(want cardreader.EventKind) cardreader.Event {
	w.Helper()
	ev, err := w.r.Next(w.Context())
	if err != nil || ev.Kind != want {
		w.Fatalf("event %v, %v; want %v", ev.Kind, err, want)
	}
	synctest.Wait() // the driver waits again
	return ev
}

// quiet wants no event for d.
func (w *world) quiet(d time.Duration) {
	w.Helper()
	time.Sleep(d)
	synctest.Wait()
	w.r.mu.Lock()
	ev, ok := w.r.event()
	w.r.mu.Unlock()
	if ok {
		w.Fatalf("event %v in a quiet time", ev.Kind)
	}
}

func (w *world) put(c simcard.Card) {
	w.Helper()
	w.event(cardreader.CardOut)
	w.f.insert(c)
	w.event(cardreader.CardIn)
}

func (w *world) open() cardreader.Session {
	w.Helper()
	s, err := w.r.Open(w.Context())
	if err != nil {
		w.Fatalf("open: %v", err)
	}
	return s
}

func (w *world) close(s cardreader.Session) {
	w.Helper()
	if err := s.Close(); err != nil {
		w.Errorf("close session: %v", err)
	}
}

func (w *world) works(s cardreader.Session) {
	w.Helper()
	got, err := s.Transmit(w.Context(), someCommand)
	if err != nil || len(got) != 2 {
		w.Fatalf("transmit: %X, %v", got, err)
	}
}

func (w *world) fails(s cardreader.Session, want error) {
	w.Helper()
	got, err := s.Transmit(w.Context(), someCommand)
	if !errors.Is(err, want) || got != nil {
		w.Fatalf("transmit: %X, %v; want %v", got, err, want)
	}
}

// took wants an act to last this long on the bubble's clock.
func (w *world) took(what string, want time.Duration, act func()) {
	w.Helper()
	began := time.Now()
	act()
	if d := time.Since(began); d != want {
		w.Errorf("%s took %v, want %v", what, d, want)
	}
}
