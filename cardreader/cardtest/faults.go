package cardtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"vcckiosk/cardreader"
	"vcckiosk/cardreader/simcard"
)

func tornDuring(t *testing.T, b *bench) {
	c := newEcho()
	b.put(t, c)
	s := b.open(t)
	c.Arm(simcard.Fault{At: 2, When: simcard.Before, Kind: simcard.Tear})
	b.say(t, s, echo(4), echoed(echo(4)))
	b.say(t, s, remember(1), nil)
	b.isRemoved(t, s)
	b.event(t, cardreader.CardOut)
	if n := c.Executed(); n != 1 {
		t.Fatalf("card executed %d commands, want 1", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Reader.Open(b.ctx); !errors.Is(err, cardreader.ErrNoCard) {
		t.Fatalf("open after the tear: %v, want ErrNoCard", err)
	}
}

func tornAfter(t *testing.T, b *bench) {
	c := newEcho()
	b.put(t, c)
	s := b.open(t)
	c.Arm(simcard.Fault{INS: insKeep, When: simcard.After, Kind: simcard.Tear})
	b.say(t, s, keep(5), nil)
	b.isRemoved(t, s)
	_ = s.Close()
	b.put(t, c)
	b.say(t, b.open(t), kept(), []byte{5, 0x90, 0x00})
	if n := c.Executed(); n != 2 {
		t.Fatalf("card executed %d commands, want 2: a driver never sends twice", n)
	}
}

func removedBetween(t *testing.T, b *bench) {
	c := newEcho()
	b.put(t, c)
	s := b.open(t)
	b.say(t, s, echo(4), echoed(echo(4)))
	b.Remove()
	b.event(t, cardreader.CardOut)
	b.isRemoved(t, s)
	b.put(t, c)
	b.isRemoved(t, s)
	if n := c.Executed(); n != 1 {
		t.Fatalf("card executed %d commands, want 1", n)
	}
}

func mute(t *testing.T, b *bench) {
	c := newEcho()
	b.put(t, c)
	s := b.open(t)
	c.Arm(simcard.Fault{Kind: simcard.Mute})
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Millisecond)
	defer cancel()
	got, err := s.Transmit(ctx, echo(4))
	if !errors.Is(err, cardreader.ErrStuck) || !errors.Is(err, context.DeadlineExceeded) || len(got) != 0 {
		t.Fatalf("mute card: %X, %v; want ErrStuck and DeadlineExceeded", got, err)
	}
	_ = s.Close()
	b.Remove()
	b.event(t, cardreader.CardOut)
	b.put(t, c)
	b.say(t, b.open(t), echo(4), echoed(echo(4)))
}

func stuckStays(t *testing.T, b *bench) {
	c := newEcho()
	b.put(t, c)
	s := b.open(t)
	c.Arm(simcard.Fault{Kind: simcard.Mute})
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Millisecond)
	defer cancel()
	_, _ = s.Transmit(ctx, echo(4))
	if got, err := s.Transmit(b.ctx, echo(4)); !errors.Is(err, cardreader.ErrStuck) {
		t.Fatalf("transmit after a stuck one: %X, %v; want ErrStuck", got, err)
	}
}

func slow(t *testing.T, b *bench) {
	c := newEcho()
	b.put(t, c)
	s := b.open(t)
	c.Arm(simcard.Fault{Kind: simcard.Slow, Delay: 15 * time.Millisecond})
	b.say(t, s, echo(9), echoed(echo(9)))
	b.say(t, s, echo(4), echoed(echo(4)))

	// Given up and answered later: the answer must not meet another command.
	c.Arm(simcard.Fault{Kind: simcard.Slow, Delay: 60 * time.Millisecond})
	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Millisecond)
	defer cancel()
	if got, err := s.Transmit(ctx, echo(9)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("slow card: %X, %v; want DeadlineExceeded", got, err)
	}
	if got, err := s.Transmit(b.ctx, echo(5)); err == nil {
		t.Fatalf("session given up answers %X", got)
	}
	_ = s.Close()
	s, err := b.Reader.Open(b.ctx)
	switch {
	case errors.Is(err, cardreader.ErrBusy), errors.Is(err, cardreader.ErrStuck):
		// The driver waits for what the card owes; a person takes the card out.
		b.Remove()
		b.event(t, cardreader.CardOut)
		b.put(t, c)
		s = b.open(t)
	case err != nil:
		t.Fatalf("open after a given-up command: %v", err)
	default:
		t.Cleanup(func() { _ = s.Close() })
	}
	b.say(t, s, echo(6), echoed(echo(6)))
}

func short(t *testing.T, b *bench) {
	c := newEcho()
	b.put(t, c)
	s := b.open(t)
	c.Arm(simcard.Fault{Kind: simcard.EmptyAnswer, When: simcard.After})
	got, err := s.Transmit(b.ctx, echo(4))
	if err != nil || len(got) > 1 {
		t.Fatalf("empty answer: %X, %v; want less than two bytes and no error", got, err)
	}
	b.say(t, s, echo(4), echoed(echo(4)))
}

func statusWord(t *testing.T, b *bench) {
	c := newEcho()
	b.put(t, c)
	s := b.open(t)
	c.Arm(simcard.Fault{Kind: simcard.Status, SW: 0x6985})
	b.say(t, s, echo(4), []byte{0x69, 0x85})
}

func transmitContext(t *testing.T, b *bench) {
	c := newEcho()
	b.put(t, c)
	s := b.open(t)
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	if got, err := s.Transmit(ctx, echo(4)); !errors.Is(err, context.Canceled) {
		t.Fatalf("transmit with an ended context: %X, %v", got, err)
	}
	b.say(t, s, echo(5), echoed(echo(5)))
	if n := c.Executed(); n != 1 {
		t.Fatalf("card executed %d commands, want 1", n)
	}
}

func reinsert(t *testing.T, b *bench) {
	c := newEcho()
	b.put(t, c)
	s := b.open(t)
	b.say(t, s, remember(7), []byte{0x90, 0x00})
	b.Remove()
	b.event(t, cardreader.CardOut)
	b.put(t, c)
	b.isRemoved(t, s)
	_ = s.Close()
	b.say(t, b.open(t), recall(), []byte{0, 0x90, 0x00}) // it was without power
}

func eventsInSession(t *testing.T, b *bench) {
	b.put(t, newEcho())
	s := b.open(t)
	done := make(chan error, 1)
	go func() {
		ev, err := b.Reader.Next(b.ctx)
		if err == nil && ev.Kind != cardreader.CardOut {
			err = errors.New("event " + ev.Kind.String() + ", want card out")
		}
		done <- err
	}()
	b.say(t, s, echo(4), echoed(echo(4)))
	b.Remove()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	b.isRemoved(t, s)
}

func swap(t *testing.T, b *bench) {
	one, two := newEcho(), newEcho()
	b.put(t, one)
	s := b.open(t)
	b.say(t, s, keep(1), []byte{0x90, 0x00})
	b.Swap(two)
	b.say(t, s, keep(2), []byte{0x90, 0x00})
	if one.Executed() != 1 || two.Executed() != 1 {
		t.Fatalf("executed %d and %d, want 1 and 1", one.Executed(), two.Executed())
	}
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Millisecond)
	defer cancel()
	if ev, err := b.Reader.Next(ctx); err == nil {
		t.Fatalf("event %v after a swap nobody can see", ev.Kind)
	}
}

func unplug(t *testing.T, b *bench) {
	c := newEcho()
	b.put(t, c)
	s := b.open(t)
	b.Unplug()
	b.event(t, cardreader.ReaderGone)
	if got, err := s.Transmit(b.ctx, echo(4)); !errors.Is(err, cardreader.ErrReaderGone) {
		t.Fatalf("transmit without a reader: %X, %v; want ErrReaderGone", got, err)
	}
	if _, err := b.Reader.Open(b.ctx); !errors.Is(err, cardreader.ErrReaderGone) {
		t.Fatalf("open without a reader: %v, want ErrReaderGone", err)
	}
	b.Replug()
	b.event(t, cardreader.ReaderBack)
	if ev := b.event(t, cardreader.CardIn); !bytes.Equal(ev.ATR, c.ATR()) {
		t.Fatalf("ATR %X after replug", ev.ATR)
	}
	if got, err := s.Transmit(b.ctx, echo(4)); !errors.Is(err, cardreader.ErrReaderGone) {
		t.Fatalf("old session after replug: %X, %v; want ErrReaderGone", got, err)
	}
	_ = s.Close()
	b.say(t, b.open(t), echo(4), echoed(echo(4)))
}

// during starts a command that is not answered, calls cut once the card has it, and returns what became of it.
func during(t *testing.T, b *bench, c *echoCard, s cardreader.Session, cut func()) error {
	t.Helper()
	struck := c.Struck()
	c.Arm(simcard.Fault{When: simcard.After, Kind: simcard.Mute})
	result := make(chan error, 1)
	go func() {
		got, err := s.Transmit(b.ctx, keep(9))
		if err == nil {
			err = fmt.Errorf("answer %X and no error", got)
		}
		result <- err
	}()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for c.Struck() == struck {
		select {
		case <-tick.C:
		case <-b.ctx.Done():
			t.Fatal("the command never reached the card")
		}
	}
	cut()
	return <-result
}

func unplugDuring(t *testing.T, b *bench) {
	c := newEcho()
	b.put(t, c)
	s := b.open(t)
	if err := during(t, b, c, s, b.Unplug); !errors.Is(err, cardreader.ErrReaderGone) {
		t.Fatalf("command under way: %v, want ErrReaderGone", err)
	}
	if _, err := s.Transmit(b.ctx, echo(4)); !errors.Is(err, cardreader.ErrReaderGone) {
		t.Fatalf("next command: %v, want ErrReaderGone", err)
	}
	_ = s.Close()
	b.event(t, cardreader.ReaderGone)
	b.Replug()
	b.event(t, cardreader.ReaderBack)
	b.event(t, cardreader.CardIn)
	b.say(t, b.open(t), kept(), []byte{9, 0x90, 0x00})
}

// back waits for the service to be seen up, and then for what is in the reader: a service that has just started may not
// have found reader or card yet.
func (b *bench) back(t *testing.T, want cardreader.EventKind) {
	t.Helper()
	b.event(t, cardreader.ServiceUp)
	for range 4 {
		ev, err := b.Reader.Next(b.ctx)
		if err != nil {
			t.Fatalf("waiting for %v: %v", want, err)
		}
		if ev.Kind == want {
			return
		}
	}
	t.Fatalf("service up and no event %v", want)
}

func serviceDies(t *testing.T, b *bench) {
	c := newEcho()
	b.put(t, c)
	s := b.open(t)
	b.say(t, s, keep(3), []byte{0x90, 0x00})
	b.Kill()
	b.event(t, cardreader.ServiceDown)
	for range 2 {
		if got, err := s.Transmit(b.ctx, echo(4)); !errors.Is(err, cardreader.ErrServiceDown) {
			t.Fatalf("transmit without the service: %X, %v; want ErrServiceDown", got, err)
		}
	}
	if _, err := b.Reader.Open(b.ctx); !errors.Is(err, cardreader.ErrServiceDown) {
		t.Fatalf("open without the service: %v, want ErrServiceDown", err)
	}
	b.Restart()
	b.back(t, cardreader.CardIn)
	if got, err := s.Transmit(b.ctx, echo(4)); !errors.Is(err, cardreader.ErrServiceDown) {
		t.Fatalf("old session with the new service: %X, %v; want ErrServiceDown", got, err)
	}
	_ = s.Close()
	b.say(t, b.open(t), kept(), []byte{3, 0x90, 0x00})
}

func serviceDiesDuring(t *testing.T, b *bench) {
	c := newEcho()
	b.put(t, c)
	s := b.open(t)
	if err := during(t, b, c, s, b.Kill); !errors.Is(err, cardreader.ErrServiceDown) {
		t.Fatalf("command under way: %v, want ErrServiceDown", err)
	}
	_ = s.Close()
	b.event(t, cardreader.ServiceDown)
	b.Restart()
	b.back(t, cardreader.CardIn)
	b.say(t, b.open(t), kept(), []byte{9, 0x90, 0x00})
	if n := c.Executed(); n != 2 {
		t.Fatalf("card executed %d commands, want 2: a driver never sends twice", n)
	}
}

func serviceDiesIdle(t *testing.T, b *bench) {
	b.event(t, cardreader.CardOut)
	for range 2 {
		b.Kill()
		b.event(t, cardreader.ServiceDown)
		b.Restart()
		b.back(t, cardreader.CardOut)
	}
	c := newEcho()
	b.put(t, c)
	b.say(t, b.open(t), echo(4), echoed(echo(4)))
}
