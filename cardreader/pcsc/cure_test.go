package pcsc

import (
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/cardreader"
)

func (c *fakeContext) revive(name string) error {
	f := c.f
	defer f.exit(c)
	if err := f.enter(c, "revive"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case c.dead() != nil:
		return c.dead()
	case !f.listed(name):
		return codeUnknownReader
	case f.holder != nil:
		return codeSharing
	}
	if f.accept(); f.link == nil {
		return codeUnresponsive
	}
	if !f.dw {
		f.early++
	}
	f.power()
	f.change()
	return nil
}

// lose is pcscd after a reset that failed on a vanished card: empty for as long as its polling thread sees a card.
func (f *fakePCSC) lose() {
	f.with(func() { f.shown, f.atr, f.dw = 0, nil, true })
}

func TestAReaderStuckEmptyIsCured(t *testing.T) {
	inBubble(t, func(w *world) {
		w.put(newCard())
		w.f.lose()
		w.event(cardreader.CardOut)
		w.took("the cure", 2*time.Second+afterCure, func() { w.event(cardreader.CardIn) })
		s := w.open()
		w.works(s)
		w.close(s)
	})
}

func TestTheCureNeverRunsBesideASession(t *testing.T) {
	inBubble(t, func(w *world) {
		w.put(newCard())
		s := w.open()
		w.f.lose()
		w.event(cardreader.CardOut)
		w.quiet(time.Hour)
		if n := w.f.count("revive"); n != 0 {
			w.Errorf("power asked for %d times beside a session", n)
		}
		w.close(s)
		began := time.Now()
		w.event(cardreader.CardIn)
		if d := time.Since(began); d > waitLimit {
			w.Errorf("cured %v after the session, want the next wait's end", d)
		}
	})
}

// A card that a cure finds before the poll does is found by the poll too, which powers it anew under whoever has it.
func TestACardPutInAtTheMomentOfTheCure(t *testing.T) {
	t.Parallel()
	early := 0
	for at := 1300 * time.Millisecond; at < 3500*time.Millisecond; at += 70 * time.Millisecond {
		polled(t, realPoll-30*time.Millisecond, func(w *world) { // not in step with the driver's waits
			w.event(cardreader.CardOut)
			time.Sleep(at)
			w.f.insert(newCard())
			ev, err := w.r.Next(w.Context())
			if err != nil || ev.Kind != cardreader.CardIn {
				w.Fatalf("in after %v: event %v, %v", at, ev.Kind, err)
			}
			s := w.open()
			for range 100 {
				w.works(s)
				time.Sleep(10 * time.Millisecond)
			}
			w.close(s)
			w.quiet(time.Second)
			synctest.Wait()
			w.f.mu.Lock()
			early += w.f.early
			w.f.mu.Unlock()
		})
	}
	if early == 0 {
		t.Error("no card was put in at the moment of a cure")
	}
}
