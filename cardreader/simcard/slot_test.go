package simcard

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/cardreader"
)

// inSlot is a slot with a purse in it and the session on it.
func inSlot(t *testing.T) (*Slot, *Purse, cardreader.Session) {
	t.Helper()
	s, p := NewSlot("slot"), powered(t, vectorA(t))
	s.Insert(p)
	ss, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ss.Transmit(t.Context(), unhex(t, selectEP)); err != nil {
		t.Fatal(err)
	}
	return s, p, ss
}

func wantEvent(t *testing.T, s *Slot, want cardreader.EventKind) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if ev, err := s.Next(ctx); err != nil || ev.Kind != want {
		t.Fatalf("event %v, %v; want %v", ev.Kind, err, want)
	}
}

func wantQuiet(t *testing.T, s *Slot) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if ev, err := s.Next(ctx); err == nil {
		t.Fatalf("event %v without a cause", ev.Kind)
	}
}

func TestSlotRunsOnTheBubblesClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, p, ss := inSlot(t)
		begin := time.Now()
		p.Arm(Fault{Kind: Slow, Delay: 14 * time.Second})
		if got, err := ss.Transmit(t.Context(), unhex(t, "805C000204")); err != nil || len(got) != 6 {
			t.Fatalf("slow: %X, %v", got, err)
		}
		if d := time.Since(begin); d != 14*time.Second {
			t.Errorf("slow answer after %v", d)
		}
		begin = time.Now()
		p.Arm(Fault{Kind: Mute})
		if _, err := ss.Transmit(t.Context(), unhex(t, "805C000204")); !errors.Is(err, cardreader.ErrStuck) {
			t.Fatalf("mute: %v", err)
		}
		if d := time.Since(begin); d != 15*time.Second {
			t.Errorf("the watchdog bit after %v", d)
		}
		wantEvent(t, s, cardreader.CardIn)
		wantQuiet(t, s)
	})
}

func TestRemovalWhileAnAnswerIsAwaited(t *testing.T) {
	t.Parallel()
	for _, f := range []Fault{{Kind: Mute}, {Kind: Slow, Delay: time.Minute}} {
		synctest.Test(t, func(t *testing.T) {
			s, p, ss := inSlot(t)
			p.Arm(f)
			time.AfterFunc(time.Second, s.Remove)
			if got, err := ss.Transmit(t.Context(), unhex(t, "805C000204")); err != nil || got != nil {
				t.Fatalf("%X, %v; want nothing and no error", got, err)
			}
			if _, err := ss.Transmit(t.Context(), unhex(t, "805C000204")); !errors.Is(err, cardreader.ErrCardRemoved) {
				t.Fatalf("after it: %v", err)
			}
		})
	}
}

func TestSlotEventsAreNotLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, p, ss := inSlot(t)
		wantEvent(t, s, cardreader.CardIn)
		s.Remove()
		s.Insert(p)
		wantEvent(t, s, cardreader.CardOut)
		wantEvent(t, s, cardreader.CardIn)
		s.Gone()
		s.Gone()
		s.Back()
		wantEvent(t, s, cardreader.ReaderGone)
		wantEvent(t, s, cardreader.ReaderBack)
		wantEvent(t, s, cardreader.CardIn)
		s.Down()
		wantEvent(t, s, cardreader.ServiceDown)
		if _, err := s.Open(t.Context()); !errors.Is(err, cardreader.ErrServiceDown) {
			t.Errorf("open without the service: %v", err)
		}
		s.Gone() // nobody can see it
		wantQuiet(t, s)
		s.Up()
		wantEvent(t, s, cardreader.ServiceUp)
		wantEvent(t, s, cardreader.ReaderGone)
		s.Back()
		s.Remove()
		wantEvent(t, s, cardreader.ReaderBack)
		wantEvent(t, s, cardreader.CardOut)
		wantQuiet(t, s)
		if _, err := ss.Transmit(t.Context(), unhex(t, "805C000204")); !errors.Is(err, cardreader.ErrServiceDown) {
			t.Errorf("session of before: %v", err)
		}
	})
}

func TestRestartForgetsTheProgramNotTheCard(t *testing.T) {
	t.Parallel()
	s, p, ss := inSlot(t)
	wantEvent(t, s, cardreader.CardIn)
	s.Restart()
	if _, err := ss.Transmit(t.Context(), unhex(t, "805C000204")); err == nil {
		t.Error("the dead program's session answers")
	}
	wantEvent(t, s, cardreader.CardIn)
	again, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Transmit(t.Context(), unhex(t, "805C000204")); err != nil || !bytes.Equal(got, []byte{0x69, 0x85}) {
		t.Errorf("application still selected: %X, %v", got, err)
	}
	if err := ss.Close(); err != nil { // must not take the new session with it
		t.Error(err)
	}
	if _, err := s.Open(t.Context()); !errors.Is(err, cardreader.ErrBusy) {
		t.Errorf("open: %v, want ErrBusy", err)
	}
	_ = p
}

func TestInterceptStopsBeforeOrAfterTheEffect(t *testing.T) {
	t.Parallel()
	cut := errors.New("power cut")
	for _, at := range []bool{true, false} {
		s, p, ss := inSlot(t)
		if _, err := ss.Transmit(t.Context(), unhex(t, initEP)); err != nil {
			t.Fatal(err)
		}
		var calls []bool
		s.Intercept = func(before bool, cmd []byte) error {
			calls = append(calls, before)
			if !bytes.Equal(cmd, unhex(t, creditA)) {
				t.Errorf("intercepted %X", cmd)
			}
			if before == at {
				return cut
			}
			return nil
		}
		if got, err := ss.Transmit(t.Context(), unhex(t, creditA)); !errors.Is(err, cut) || got != nil {
			t.Errorf("cut: %X, %v", got, err)
		}
		if loaded := p.Balance() == 5000; loaded == at {
			t.Errorf("cut before=%v and loaded=%v", at, loaded)
		}
		if at && len(calls) != 1 || !at && len(calls) != 2 {
			t.Errorf("calls %v", calls)
		}
	}
}

func TestFaultsOnBothSidesOfTheEffect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		fault  Fault
		want   string
		loaded bool
	}{
		{"status instead of the effect", Fault{Kind: Status, SW: 0x6581}, "6581", false},
		{"status although it happened", Fault{Kind: Status, When: After, SW: 0x6F00}, "6F00", true},
		{"stale instead of the effect", Fault{Kind: Stale}, "00000000 0000 0000 6C554479 A72BE5CF 9000", false},
		{"stale although it happened", Fault{Kind: Stale, When: After}, "00000000 0000 0000 6C554479 A72BE5CF 9000", true},
		{"empty instead of the effect", Fault{Kind: EmptyAnswer}, "", false},
		{"empty although it happened", Fault{Kind: EmptyAnswer, When: After}, "", true},
		{"torn before", Fault{}, "", false},
		{"torn after", Fault{When: After}, "", true},
	} {
		s, p, ss := inSlot(t)
		p.Arm(Fault{At: 2, INS: 0x5C, Kind: Tear}) // matches something else, stays armed
		c.fault.At = 2                             // 80 50, then 80 52
		p.Arm(c.fault)
		if _, err := ss.Transmit(t.Context(), unhex(t, initEP)); err != nil {
			t.Fatal(err)
		}
		got, err := ss.Transmit(t.Context(), unhex(t, creditA))
		if err != nil || !bytes.Equal(got, unhex(t, c.want)) {
			t.Errorf("%s: %X, %v; want %s", c.name, got, err, c.want)
		}
		if loaded := p.Balance() == 5000; loaded != c.loaded {
			t.Errorf("%s: loaded=%v", c.name, loaded)
		}
		if p.Struck() != 1 {
			t.Errorf("%s: %d faults struck", c.name, p.Struck())
		}
		if torn := c.fault.Kind == Tear; torn != (s.Card() == nil) {
			t.Errorf("%s: card in slot %v", c.name, s.Card())
		}
		p.Disarm()
	}
}

func TestSwapGivesTheCommandToTheOtherCard(t *testing.T) {
	t.Parallel()
	for _, when := range []When{Before, After} {
		s, p, ss := inSlot(t)
		cfg := vectorA(t)
		cfg.Balance = 77
		other := NewPurse(cfg)
		wrapped := NewFaulty(other)
		p.Arm(Fault{When: when, Kind: Swap, With: wrapped})
		got, err := ss.Transmit(t.Context(), unhex(t, "00A40000023F01"))
		if err != nil || len(got) < 2 || got[len(got)-2] != 0x90 {
			t.Fatalf("swap: %X, %v", got, err)
		}
		if s.Card() != Card(wrapped) {
			t.Fatal("the other card is not in the slot")
		}
		// Swapped before: the other card has selected. After: it has not.
		want := map[When]string{Before: "0000004D9000", After: "6985"}[when]
		got, err = ss.Transmit(t.Context(), unhex(t, "805C000204"))
		if err != nil || !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("balance after the swap: %X, %v; want %s", got, err, want)
		}
	}
}
