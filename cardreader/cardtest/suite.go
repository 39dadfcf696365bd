package cardtest

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"vcckiosk/cardreader"
	"vcckiosk/cardreader/simcard"
)

// Rig is one reader with somebody's hands at it. A function that is nil names
// something this driver's reader cannot suffer; its cases are left out, and the
// suite says so.
type Rig struct {
	Reader cardreader.Reader
	// Insert puts the card in; when it returns the event may still be on its way. Where the reader polls, Insert first waits
	// until the poll has seen that the last card is out, as a person's hand would.
	Insert func(simcard.Card)
	// Remove takes the card out; without a card it does nothing.
	Remove func()
	// Swap exchanges the card too fast for the reader to notice.
	Swap func(simcard.Card)
	// Unplug and Replug are the reader's cable.
	Unplug, Replug func()
	// Kill ends the service under the driver at once, Restart starts it again. A card stays in the reader meanwhile, without
	// power.
	Kill, Restart func()
}

// patience bounds every wait for something that must come. It is no measure:
// a case that passes passes long before.
const patience = 10 * time.Second

// Run runs the suite. mk makes a fresh, empty rig and registers its clean-up.
func Run(t *testing.T, mk func(t *testing.T) Rig) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(*testing.T, *bench)
		need func(Rig) bool
	}{
		{"first Next reports an empty reader", firstEmpty, nil},
		{"first Next reports a card that is already in", firstCard, nil},
		{"insert and remove give one event each", inAndOut, nil},
		{"a card out and in again unseen gives a CardIn", outAndIn, nil},
		{"Next gives up with its context and loses nothing", nextContext, nil},
		{"Open without a card says so", openEmpty, nil},
		{"Open with an ended context fails", openContext, nil},
		{"a second Open is refused while a session is open", openTwice, nil},
		{"Close is idempotent and leaves the card as it is", closeTwice, nil},
		{"answers of every size pass", sizes, nil},
		{"what is not an APDU is refused without being sent", notAPDU, nil},
		{"a card torn during a command gives nothing and no error", tornDuring, nil},
		{"a card torn after its effect has had its effect", tornAfter, nil},
		{"a card removed between commands is ErrCardRemoved for ever", removedBetween, nil},
		{"a mute card ends with the context as ErrStuck", mute, nil},
		{"a session that is stuck stays stuck", stuckStays, nil},
		{"the late answer of a slow card is its own command's", slow, nil},
		{"an answer without a status word is passed on", short, nil},
		{"a status word is an answer, not an error", statusWord, nil},
		{"Transmit with an ended context sends nothing", transmitContext, nil},
		{"re-insertion needs a new session", reinsert, nil},
		{"events come while a session is open", eventsInSession, nil},
		{"a fast swap is invisible", swap, func(r Rig) bool { return r.Swap != nil }},
		{"unplug and replug", unplug, func(r Rig) bool { return r.Unplug != nil }},
		{"unplug during a command", unplugDuring, func(r Rig) bool { return r.Unplug != nil }},
		{"the service dies and comes back", serviceDies, func(r Rig) bool { return r.Kill != nil }},
		{"the service dies during a command", serviceDiesDuring, func(r Rig) bool { return r.Kill != nil }},
		{"the service dies with an empty reader", serviceDiesIdle, func(r Rig) bool { return r.Kill != nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := mk(t)
			if c.need != nil && !c.need(r) {
				t.Logf("not for %s: its reader has no such event", r.Reader.Name())
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			c.run(t, &bench{Rig: r, ctx: ctx})
		})
	}
}

// bench is a rig with the helpers of the cases.
type bench struct {
	Rig
	ctx context.Context
}

// event waits for the next event and wants it to be of this kind.
func (b *bench) event(t *testing.T, want cardreader.EventKind) cardreader.Event {
	t.Helper()
	ev, err := b.Reader.Next(b.ctx)
	if err != nil {
		t.Fatalf("waiting for event %v: %v", want, err)
	}
	if ev.Kind != want {
		t.Fatalf("event %v, want %v", ev.Kind, want)
	}
	return ev
}

// put inserts c and waits until the reader has seen it. Events before CardIn
// are of earlier acts.
func (b *bench) put(t *testing.T, c simcard.Card) {
	t.Helper()
	b.Insert(c)
	for range 4 {
		ev, err := b.Reader.Next(b.ctx)
		if err != nil {
			t.Fatalf("waiting for the card: %v", err)
		}
		if ev.Kind == cardreader.CardIn {
			return
		}
	}
	t.Fatal("card inserted and no event CardIn")
}

func (b *bench) open(t *testing.T) cardreader.Session {
	t.Helper()
	s, err := b.Reader.Open(b.ctx)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// say transmits and wants exactly this answer.
func (b *bench) say(t *testing.T, s cardreader.Session, cmd, want []byte) {
	t.Helper()
	got, err := s.Transmit(b.ctx, cmd)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("transmit %X: %X, %v; want %X", cmd, got, err, want)
	}
}

// isRemoved wants ErrCardRemoved, twice.
func (b *bench) isRemoved(t *testing.T, s cardreader.Session) {
	t.Helper()
	for range 2 {
		if got, err := s.Transmit(b.ctx, echo(4)); !errors.Is(err, cardreader.ErrCardRemoved) {
			t.Fatalf("transmit without the card: %X, %v; want ErrCardRemoved", got, err)
		}
	}
}

func firstEmpty(t *testing.T, b *bench) { b.event(t, cardreader.CardOut) }

func firstCard(t *testing.T, b *bench) {
	c := newEcho()
	b.Insert(c)
	// A driver that learns of a card by itself may first have seen none.
	ev, err := b.Reader.Next(b.ctx)
	if err == nil && ev.Kind == cardreader.CardOut {
		ev, err = b.Reader.Next(b.ctx)
	}
	if err != nil || ev.Kind != cardreader.CardIn || !bytes.Equal(ev.ATR, c.ATR()) {
		t.Fatalf("event %+v, %v; want CardIn with ATR %X", ev, err, c.ATR())
	}
}

func inAndOut(t *testing.T, b *bench) {
	b.event(t, cardreader.CardOut)
	for range 3 {
		c := newEcho()
		b.Insert(c)
		if ev := b.event(t, cardreader.CardIn); !bytes.Equal(ev.ATR, c.ATR()) {
			t.Fatalf("ATR %X, want %X", ev.ATR, c.ATR())
		}
		b.Remove()
		if ev := b.event(t, cardreader.CardOut); ev.ATR != nil {
			t.Fatalf("CardOut carries ATR %X", ev.ATR)
		}
	}
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Millisecond)
	defer cancel()
	if ev, err := b.Reader.Next(ctx); err == nil {
		t.Fatalf("event %v without a cause", ev.Kind)
	}
}

func outAndIn(t *testing.T, b *bench) {
	b.put(t, newEcho())
	b.Remove()
	b.put(t, newEcho()) // CardOut may be merged, CardIn may not
}

func nextContext(t *testing.T, b *bench) {
	b.event(t, cardreader.CardOut)
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	if ev, err := b.Reader.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("next with an ended context: %v, %v", ev.Kind, err)
	}
	b.Insert(newEcho())
	b.event(t, cardreader.CardIn)
}

func openEmpty(t *testing.T, b *bench) {
	b.event(t, cardreader.CardOut)
	if _, err := b.Reader.Open(b.ctx); !errors.Is(err, cardreader.ErrNoCard) {
		t.Fatalf("open without a card: %v, want ErrNoCard", err)
	}
}

func openContext(t *testing.T, b *bench) {
	b.put(t, newEcho())
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	if _, err := b.Reader.Open(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("open with an ended context: %v", err)
	}
	b.open(t)
}

func openTwice(t *testing.T, b *bench) {
	b.put(t, newEcho())
	s := b.open(t)
	if _, err := b.Reader.Open(b.ctx); !errors.Is(err, cardreader.ErrBusy) {
		t.Fatalf("second open: %v, want ErrBusy", err)
	}
	b.say(t, s, echo(4), echoed(echo(4)))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b.say(t, b.open(t), echo(4), echoed(echo(4)))
}

func closeTwice(t *testing.T, b *bench) {
	c := newEcho()
	b.put(t, c)
	s := b.open(t)
	b.say(t, s, remember(7), []byte{0x90, 0x00})
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	if got, err := s.Transmit(b.ctx, echo(4)); err == nil {
		t.Fatalf("transmit after close: %X", got)
	}
	if n := c.Executed(); n != 1 {
		t.Fatalf("card executed %d commands, want 1", n)
	}
	// The card's volatile state says whether it was powered off or reset.
	b.say(t, b.open(t), recall(), []byte{7, 0x90, 0x00})
}

func sizes(t *testing.T, b *bench) {
	b.put(t, newEcho())
	s := b.open(t)
	if !bytes.Equal(s.ATR(), newEcho().ATR()) {
		t.Fatalf("ATR %X", s.ATR())
	}
	for _, n := range []int{4, 5, 6, 20, 255, 256, 257, 261} {
		b.say(t, s, echo(n), echoed(echo(n)))
	}
	for _, n := range []int{0, 1, 253, 254, 255, 256} {
		got, err := s.Transmit(b.ctx, give(n))
		if err != nil || len(got) != n+2 {
			t.Fatalf("answer of %d bytes: got %d, %v", n+2, len(got), err)
		}
	}
}

func notAPDU(t *testing.T, b *bench) {
	c := newEcho()
	b.put(t, c)
	s := b.open(t)
	for _, cmd := range [][]byte{nil, {}, {0x00}, {0x04}, {0x80, 0x50}, {0x80, 0x50, 0x00}} {
		if got, err := s.Transmit(b.ctx, cmd); err == nil {
			t.Errorf("transmit %X: %X and no error", cmd, got)
		}
	}
	b.say(t, s, echo(4), echoed(echo(4)))
	if n := c.Executed(); n != 1 {
		t.Fatalf("card executed %d commands, want 1", n)
	}
}
