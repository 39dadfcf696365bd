//go:build cgo && pcsc

package pcsc

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebfe/scard"

	"vcckiosk/cardreader"
	"vcckiosk/cardreader/cardtest"
	"vcckiosk/cardreader/simcard"
)

func TestDriverPassesTheSuiteOverARealPCSCD(t *testing.T) {
	withPeer(t, 0, func(p *peer) {
		cardtest.Run(p.T, func(t *testing.T) cardtest.Rig {
			r, err := New(Config{Name: "Kiosk Reader"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				p.remove()
				if err := r.Close(); err != nil {
					t.Error(err)
				}
				p.emptied()
			})
			return cardtest.Rig{
				Reader: r, Insert: p.insert, Remove: p.remove, Swap: func(c simcard.Card) { p.plug.Swap(c) },
				Kill: func() { p.kill(); p.hangUp() }, Restart: p.back,
			}
		})
	})
}

// reader is a driver for the peer with a limit on every wait that must end.
func (p *peer) reader() (*Reader, context.Context) {
	p.Helper()
	r, err := New(Config{Name: peerReader})
	if err != nil {
		p.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(p.Context(), 2*time.Minute)
	p.Cleanup(func() {
		cancel()
		if err := r.Close(); err != nil {
			p.Error(err)
		}
	})
	return r, ctx
}

func (p *peer) event(ctx context.Context, r *Reader, want cardreader.EventKind) cardreader.Event {
	p.Helper()
	ev, err := r.Next(ctx)
	if err != nil || ev.Kind != want {
		p.Fatalf("event %v, %v; want %v", ev.Kind, err, want)
	}
	return ev
}

// until waits for an event of this kind; others before it are of a service that has not found everything yet.
func (p *peer) until(ctx context.Context, r *Reader, want cardreader.EventKind) {
	p.Helper()
	for {
		ev, err := r.Next(ctx)
		if err != nil {
			p.Fatalf("waiting for %v: %v", want, err)
		}
		if ev.Kind == want {
			return
		}
	}
}

func (p *peer) works(ctx context.Context, r *Reader) {
	p.Helper()
	s, err := r.Open(ctx)
	if err != nil {
		p.Fatal(err)
	}
	if got, err := s.Transmit(ctx, someCommand); err != nil || !bytes.Equal(got, []byte{0x90, 0x00}) {
		p.Fatalf("transmit: %X, %v", got, err)
	}
	if err := s.Close(); err != nil {
		p.Fatal(err)
	}
}

// descriptors counts this process's open files.
func (p *peer) descriptors() int {
	p.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		p.Fatal(err)
	}
	return len(list)
}

func TestUsableAgainAfterAKillOfPCSCD(t *testing.T) {
	withPeer(t, 1, func(p *peer) {
		r, ctx := p.reader()
		p.event(ctx, r, cardreader.CardOut)
		p.insert(newCard())
		p.event(ctx, r, cardreader.CardIn)
		for _, round := range []struct {
			what string
			keep bool // the socket, as systemd does
		}{{"socket gone meanwhile", false}, {"socket kept, as by pcscd.socket", true}} {
			var took []time.Duration
			files := 0
			for n := range 5 {
				s, err := r.Open(ctx)
				if err != nil {
					p.Fatal(err)
				}
				p.kill()
				if !round.keep {
					p.hangUp()
				}
				p.event(ctx, r, cardreader.ServiceDown)
				if got, err := s.Transmit(ctx, someCommand); !errors.Is(err, cardreader.ErrServiceDown) {
					p.Fatalf("transmit without pcscd: %X, %v", got, err)
				}
				_ = s.Close()
				began := time.Now()
				p.back()
				p.event(ctx, r, cardreader.ServiceUp)
				p.until(ctx, r, cardreader.CardIn)
				p.works(ctx, r)
				took = append(took, time.Since(began))
				if n == 1 {
					files = p.descriptors()
				}
			}
			if now := p.descriptors(); now > files {
				p.Errorf("open files grew from %d to %d over three deaths", files, now)
			}
			p.Logf("pcscd killed and started, %s: usable again after %v to %v", round.what, slices.Min(took).Round(time.Millisecond), slices.Max(took).Round(time.Millisecond))
		}
	})
}

// provoke leads pcscd into believing that the reader is empty while it polls a card: a reset that fails because the card has
// just left, and a card put in before the next poll.
func (p *peer) provoke() {
	p.Helper()
	ctx, err := scard.EstablishContext()
	if err != nil {
		p.Fatal(err)
	}
	defer func() { _ = ctx.Release() }()
	card, err := ctx.Connect(peerReader, scard.ShareExclusive, scard.ProtocolAny)
	if err != nil {
		p.Fatal(err)
	}
	if err := card.BeginTransaction(); err != nil {
		p.Fatal(err)
	}
	again := p.card
	p.remove()
	_ = card.EndTransaction(scard.ResetCard)
	_ = card.Disconnect(scard.ResetCard)
	p.slide(again)
}

func TestPCSCDThatLostACardIsCured(t *testing.T) {
	withPeer(t, 2, func(p *peer) {
		r, ctx := p.reader()
		p.event(ctx, r, cardreader.CardOut)
		p.insert(newCard())
		p.event(ctx, r, cardreader.CardIn)
		cured := false
		for range 5 { // it takes a card that is quicker than the poll
			p.provoke()
			began := time.Now()
			first, err := r.Next(ctx)
			if err != nil {
				p.Fatal(err)
			}
			if first.Kind != cardreader.CardOut {
				p.Fatalf("event %v", first.Kind)
			}
			p.event(ctx, r, cardreader.CardIn)
			if d := time.Since(began); d > 1500*time.Millisecond { // a poll would have found it in 0.8 s
				p.Logf("pcscd said empty; card found again after %v", d.Round(time.Millisecond))
				cured = true
				break
			}
		}
		if !cured {
			p.Error("pcscd never lost the card: the cure was not tried")
		}
		p.works(ctx, r)
	})
}

// The cure asks an empty reader for power 2 and 12 s after it became empty. Nothing may come of it, and a card put in
// afterwards is seen.
func TestTheCureDoesNotDisturbAnEmptyRealReader(t *testing.T) {
	withPeer(t, 3, func(p *peer) {
		r, ctx := p.reader()
		p.event(ctx, r, cardreader.CardOut)
		quiet := func(d time.Duration) {
			ctx, cancel := context.WithTimeout(ctx, d)
			defer cancel()
			if ev, err := r.Next(ctx); err == nil {
				p.Fatalf("event %v from an empty reader", ev.Kind)
			}
		}
		quiet(fresh + waitLimit)
		before, began := switches(p.T), time.Now()
		quiet(2 * waitLimit)
		p.Logf("idle: %.1f voluntary context switches a second in the whole process", float64(switches(p.T)-before)/time.Since(began).Seconds())
		p.insert(newCard())
		p.event(ctx, r, cardreader.CardIn)
		p.works(ctx, r)
	})
}

// What afterCure rests on: a card that the cure finds before the poll is found again by the poll, and not later than that.
func TestARealCardPutInAtTheMomentOfTheCure(t *testing.T) {
	withPeer(t, 9, func(p *peer) {
		lib, err := newLibrary()
		if err != nil {
			p.Fatal(err)
		}
		c, err := lib.establish()
		if err != nil {
			p.Fatal(err)
		}
		defer func() { _ = c.release() }()
		look := func() uint32 {
			state, _, err := c.wait(peerReader, 0, time.Second)
			if err != nil {
				p.Fatal(err)
			}
			return state >> 16
		}
		again := 0
		for range 5 {
			before := look()
			p.insert(newCard())
			for c.revive(peerReader) != nil { // until the virtual reader has taken the connection
				time.Sleep(time.Millisecond)
			}
			found := look()
			time.Sleep(afterCure)
			now := look()
			if found == before && now != before {
				again++
			}
			card, err := c.connect(peerReader)
			if err != nil {
				p.Fatal(err)
			}
			if err := card.begin(); err != nil {
				p.Fatal(err)
			}
			for began := time.Now(); time.Since(began) < afterCure; time.Sleep(5 * time.Millisecond) {
				if got, err := card.transmit(someCommand); err != nil || len(got) != 2 {
					p.Fatalf("%v after the connect: %X, %v", time.Since(began), got, err)
				}
			}
			if after := look(); after != now {
				p.Errorf("counted %d cards, and later %d", now, after)
			}
			_, _ = card.end(), card.disconnect()
			p.remove()
			p.emptied()
		}
		if again == 0 {
			p.Error("the poll never found a card again: afterCure is for nothing")
		}
	})
}

// switches counts how often the process went to sleep, over all its threads.
func switches(t *testing.T) (sum int) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // a thread that has ended
		}
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
				n := 0
				for _, c := range strings.TrimSpace(rest) {
					n = 10*n + int(c-'0')
				}
				sum += n
			}
		}
	}
	return sum
}

func TestAPCSCDThatStandsStill(t *testing.T) {
	withPeer(t, 4, func(p *peer) {
		r, ctx := p.reader()
		p.event(ctx, r, cardreader.CardOut)
		p.insert(newCard())
		p.event(ctx, r, cardreader.CardIn)
		p.signal(syscall.SIGSTOP)
		p.event(ctx, r, cardreader.ServiceDown)
		if _, err := r.Open(ctx); !errors.Is(err, cardreader.ErrServiceDown) {
			p.Errorf("open: %v, want ErrServiceDown", err)
		}
		p.signal(syscall.SIGCONT)
		p.event(ctx, r, cardreader.ServiceUp)
		p.until(ctx, r, cardreader.CardIn)
		p.works(ctx, r)
	})
}

func TestARealCardWithoutAProperATR(t *testing.T) {
	withPeer(t, 5, func(p *peer) {
		r, ctx := p.reader()
		p.event(ctx, r, cardreader.CardOut)
		card := newCard()
		card.core.atr = []byte{0xFF}
		p.insert(card)
		p.event(ctx, r, cardreader.CardIn)
		if _, err := r.Open(ctx); !errors.Is(err, ErrMute) {
			p.Errorf("open: %v, want ErrMute", err)
		}
		p.remove()
		p.event(ctx, r, cardreader.CardOut)
		p.insert(newCard())
		p.event(ctx, r, cardreader.CardIn)
		p.works(ctx, r)
	})
}

func TestFiguresOfARealPCSCD(t *testing.T) {
	withPeer(t, 6, func(p *peer) {
		r, ctx := p.reader()
		p.event(ctx, r, cardreader.CardOut)
		var in, out, open []time.Duration
		for range 5 {
			began := time.Now()
			p.slide(newCard())
			p.event(ctx, r, cardreader.CardIn)
			in = append(in, time.Since(began))
			began = time.Now()
			p.works(ctx, r)
			open = append(open, time.Since(began))
			began = time.Now()
			p.remove()
			p.event(ctx, r, cardreader.CardOut)
			out = append(out, time.Since(began))
		}
		p.slide(newCard())
		p.event(ctx, r, cardreader.CardIn)
		s, err := r.Open(ctx)
		if err != nil {
			p.Fatal(err)
		}
		apdu := make([]time.Duration, 2000)
		for i := range apdu {
			began := time.Now()
			if _, err := s.Transmit(ctx, someCommand); err != nil {
				p.Fatal(err)
			}
			apdu[i] = time.Since(began)
		}
		if err := s.Close(); err != nil {
			p.Error(err)
		}
		slices.Sort(apdu)
		p.Logf("card in seen after %v to %v, out after %v to %v; open, one command and close in %v to %v; command p50 %v, p99 %v",
			slices.Min(in), slices.Max(in), slices.Min(out), slices.Max(out), slices.Min(open), slices.Max(open), apdu[len(apdu)/2], apdu[len(apdu)*99/100])
	})
}
