package pcsc

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/cardreader"
)

// events collects what Next tells until d has passed.
func (w *world) events(d time.Duration) (kinds []cardreader.EventKind) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), d)
	defer cancel()
	for {
		ev, err := w.r.Next(ctx)
		if err != nil {
			return kinds
		}
		kinds = append(kinds, ev.Kind)
	}
}

func (w *world) wants(got []cardreader.EventKind, want ...cardreader.EventKind) {
	w.Helper()
	if !slices.Equal(got, want) {
		w.Errorf("events %v, want %v", got, want)
	}
}

func TestTheServiceDiesDuringAWaitAndIsUsedAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		w.put(newCard())
		for range 3 {
			w.f.kill(1) // "access denied" once, while it dies
			w.event(cardreader.ServiceDown)
			if _, err := w.r.Open(w.Context()); !errors.Is(err, cardreader.ErrServiceDown) {
				w.Errorf("open: %v, want ErrServiceDown", err)
			}
			w.quiet(time.Minute)
			if !errors.Is(w.r.Problem(), codeNoService) {
				w.Errorf("problem %v", w.r.Problem())
			}
			w.f.start()
			began := time.Now()
			w.event(cardreader.ServiceUp)
			w.event(cardreader.CardIn)
			if d := time.Since(began); d > time.Second {
				w.Errorf("usable %v after the service", d)
			}
			s := w.open()
			w.works(s)
			w.close(s)
			if n := w.f.open(); n != 1 {
				w.Errorf("%d contexts open, want the watch's", n)
			}
		}
	})
}

func TestTheServiceDiesUnderASession(t *testing.T) {
	inBubble(t, func(w *world) {
		w.put(newCard())
		s := w.open()
		w.f.kill(0)
		w.f.start() // before anybody looks
		w.fails(s, cardreader.ErrServiceDown)
		w.close(s)
		w.event(cardreader.ServiceDown)
		w.event(cardreader.ServiceUp)
		w.event(cardreader.CardIn)
		s = w.open()
		w.works(s)
		w.close(s)
	})
}

func TestTheReaderComesBackWithTheService(t *testing.T) {
	inBubble(t, func(w *world) {
		w.put(newCard())
		w.f.unplug()
		w.event(cardreader.ReaderGone)
		w.f.kill(0)
		w.event(cardreader.ServiceDown)
		w.f.replug(theReader)
		w.f.start()
		w.wants(w.events(3*time.Second), cardreader.ServiceUp, cardreader.ReaderBack, cardreader.CardIn)
		w.f.kill(0)
		w.event(cardreader.ServiceDown)
		w.f.unplug()
		w.f.start()
		w.wants(w.events(3*time.Second), cardreader.ServiceUp, cardreader.ReaderGone)
	})
}

func TestTheServiceIsNotThereAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, realPoll)
		f.kill(0)
		w := &world{t, f, start(f, Config{})}
		w.event(cardreader.ServiceDown)
		time.Sleep(time.Hour)
		if n := f.count("establish"); n > 3700 {
			t.Errorf("asked %d times in an hour", n)
		}
		f.insert(newCard())
		f.start()
		w.event(cardreader.ServiceUp)
		w.event(cardreader.CardIn)
		if err := w.r.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestAHangingServiceIsAServiceThatIsAway(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"readers", "wait", "establish"} {
		bubble(t, func(w *world) {
			w.put(newCard())
			letGo := w.holding(call)
			switch call {
			case "establish": // where systemd keeps the socket and the service does not start
				w.f.kill(0)
				w.event(cardreader.ServiceDown)
				w.f.start()
				time.Sleep(4 * overdue)
			case "readers":
				w.f.replug("Other Reader 00 00") // has the list read again
				w.wants(w.events(4*overdue), cardreader.ReaderGone, cardreader.ServiceDown)
			case "wait":
				w.wants(w.events(4*overdue), cardreader.ServiceDown)
			}
			if !errors.Is(w.r.Problem(), errSilent) {
				w.Errorf("%s hangs: problem %v", call, w.r.Problem())
			}
			if _, err := w.r.Open(w.Context()); !errors.Is(err, cardreader.ErrServiceDown) {
				w.Errorf("%s hangs: open %v, want ErrServiceDown", call, err)
			}
			letGo()
			got := w.events(3 * waitLimit)
			if len(got) < 2 || got[0] != cardreader.ServiceUp || got[len(got)-1] != cardreader.CardIn {
				w.Errorf("%s hung: events %v", call, got)
			}
		})
	}
}

func TestUnplugAndReplug(t *testing.T) {
	t.Parallel()
	for _, name := range []string{theReader, "Fake Reader 01 00"} {
		bubble(t, func(w *world) {
			w.put(newCard())
			s := w.open()
			w.f.unplug()
			w.event(cardreader.ReaderGone)
			w.fails(s, cardreader.ErrReaderGone)
			w.fails(s, cardreader.ErrReaderGone)
			if _, err := w.r.Open(w.Context()); !errors.Is(err, cardreader.ErrReaderGone) {
				w.Errorf("open: %v, want ErrReaderGone", err)
			}
			before := w.f.count("readers")
			w.quiet(time.Minute)
			if n := w.f.count("readers") - before; n > 70 {
				w.Errorf("list read %d times in a minute", n)
			}
			w.f.replug(name)
			w.event(cardreader.ReaderBack)
			w.event(cardreader.CardOut) // until the poll has found the card
			w.event(cardreader.CardIn)
			if w.r.Name() != name {
				w.Errorf("name %q, want %q", w.r.Name(), name)
			}
			w.fails(s, cardreader.ErrReaderGone)
			w.close(s)
			s = w.open()
			w.works(s)
			w.close(s)
		})
	}
}

func TestUnpluggedAndBackBetweenTwoLooks(t *testing.T) {
	inBubble(t, func(w *world) {
		w.put(newCard())
		for range 2 {
			w.f.unplug()
			synctest.Wait()
			w.f.replug(theReader)
			time.Sleep(5 * time.Second)
		}
		w.event(cardreader.ReaderGone)
		w.event(cardreader.ReaderBack)
		w.event(cardreader.CardIn)
		w.quiet(time.Second)
	})
}

// The library compares the counter of insertions only if it is not zero. It is zero as long as the card sits in the reader
// with which pcscd was started.
func TestACardOutAndInBetweenTwoWaitsIsSeen(t *testing.T) {
	t.Parallel()
	for _, zero := range []bool{true, false} {
		bubble(t, func(w *world) {
			w.put(newCard())
			if zero {
				w.f.kill(0)
				w.event(cardreader.ServiceDown)
				w.f.start()
				w.event(cardreader.ServiceUp)
				w.event(cardreader.CardIn)
			}
			in := false
			w.f.mu.Lock()
			w.f.hook = func(call string) error { // between the end of one wait and the next
				if call == "wait" && !in {
					in = true
					w.f.remove()
					w.f.look()
					w.f.insert(newCard())
					w.f.look()
				}
				return nil
			}
			w.f.mu.Unlock()
			w.wants(w.events(3*waitLimit), cardreader.CardOut, cardreader.CardIn)
		})
	}
}

func TestAnEmptyReaderIsLeftInPeace(t *testing.T) {
	inBubble(t, func(w *world) {
		w.event(cardreader.CardOut)
		waits := w.f.count("wait")
		w.quiet(time.Hour)
		if n := w.f.count("revive"); n < 3 || n > 10 {
			w.Errorf("power asked for %d times in an hour, want 3 to 10", n)
		}
		if n := w.f.count("wait") - waits; n > 420 {
			w.Errorf("%d waits in an hour, want one in 10 s", n)
		}
		w.f.insert(newCard())
		w.event(cardreader.CardIn)
	})
}

func TestACardForgottenInTheReaderIsLeftInPeace(t *testing.T) {
	t.Parallel()
	for _, zero := range []bool{true, false} { // pcscd started with the card in: each wait is followed by a look
		bubble(t, func(w *world) {
			w.put(newCard())
			if zero {
				w.f.kill(0)
				w.event(cardreader.ServiceDown)
				w.f.start()
				w.event(cardreader.ServiceUp)
				w.event(cardreader.CardIn)
			}
			waits := w.f.count("wait")
			w.quiet(time.Hour)
			if n := w.f.count("wait") - waits; n > 800 {
				w.Errorf("%d waits in an hour, want two in 10 s at most", n)
			}
		})
	}
}

func TestACureThatHangs(t *testing.T) {
	inBubble(t, func(w *world) {
		w.event(cardreader.CardOut)
		letGo := w.holding("revive")
		w.event(cardreader.ServiceDown)
		if _, err := w.r.Open(w.Context()); !errors.Is(err, cardreader.ErrServiceDown) {
			w.Errorf("open: %v, want ErrServiceDown", err)
		}
		w.f.insert(newCard())
		letGo()
		w.wants(w.events(5*time.Second), cardreader.ServiceUp, cardreader.CardIn)
		s := w.open()
		w.works(s)
		w.close(s)
	})
}

func TestCloseIsPrompt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		lost  int // cancels that come at a bad moment
		limit time.Duration
	}{{0, 0}, {3, 200 * time.Millisecond}} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, realPoll)
			r := start(f, Config{})
			if _, err := r.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
			w := &world{t, f, r}
			if c.lost > 0 {
				w.failing("cancel", codeInvalidHandle, c.lost)
			}
			synctest.Wait()
			began := time.Now()
			for range 2 {
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}
			if d := time.Since(began); d > c.limit {
				t.Errorf("close took %v, want at most %v", d, c.limit)
			}
			if n := f.open(); n != 0 {
				t.Errorf("%d contexts left open", n)
			}
			if _, err := r.Next(t.Context()); !errors.Is(err, os.ErrClosed) {
				t.Errorf("next: %v", err)
			}
			if _, err := r.Open(t.Context()); !errors.Is(err, cardreader.ErrReaderGone) {
				t.Errorf("open: %v", err)
			}
		})
	}
}

func TestCloseLeavesAServiceThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, realPoll)
		w := &world{t, f, start(f, Config{})}
		w.event(cardreader.CardOut)
		letGo := w.holding("wait")
		time.Sleep(waitLimit)
		synctest.Wait()
		w.took("close", farewell, func() {
			if err := w.r.Close(); !errors.Is(err, cardreader.ErrStuck) {
				t.Errorf("close: %v, want ErrStuck", err)
			}
		})
		letGo()
		time.Sleep(waitLimit)
		synctest.Wait()
		if err := w.r.Close(); err != nil || f.open() != 0 {
			t.Errorf("close: %v, %d contexts open", err, f.open())
		}
	})
}

func TestTheRightReaderIsChosen(t *testing.T) {
	t.Parallel()
	two := []string{"ACS ACR39U ICC Reader 00 00", "ACS ACR39U ICC Reader 01 00"}
	for _, c := range []struct {
		name, want string
		list       []string
		got        string
	}{
		{"the first", "", two, two[0]},
		{"none", "", nil, ""},
		{"by its name", two[1], two, two[1]},
		{"by its beginning", "ACS ACR39U", two, two[0]},
		{"exactly, before one that begins so", "Reader", []string{"Reader 2", "Reader"}, "Reader"},
		{"under another number", two[1], two[:1], two[0]},
		{"not in another slot", "ACS ACR39U ICC Reader 01 01", two[:1], ""},
		{"not one of two", "ACS ACR39U ICC Reader 02 00", two, ""},
		{"another model", "HDZB", two, ""},
		{"a name that is too short for numbers", " 00 00", two, ""},
	} {
		if got := choose(c.list, c.want); got != c.got {
			t.Errorf("%s: %q, want %q", c.name, got, c.got)
		}
	}
}

func TestAReaderThatIsNotTheWantedOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, realPoll)
		w := &world{t, f, start(f, Config{Name: "Kiosk"})}
		w.event(cardreader.ReaderGone)
		if p := w.r.Problem(); p == nil || !strings.Contains(p.Error(), theReader) || !strings.Contains(p.Error(), "Kiosk") {
			t.Errorf("problem %v names neither what is wanted nor what is there", p)
		}
		if w.r.Name() != "Kiosk" {
			t.Errorf("name %q", w.r.Name())
		}
		if err := w.r.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestTheLogSaysEachReasonOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, realPoll)
		var b bytes.Buffer
		w := &world{t, f, start(f, Config{Log: slog.New(slog.NewTextHandler(&b, nil))})}
		w.event(cardreader.CardOut)
		f.kill(3) // denied three times, then not there
		w.event(cardreader.ServiceDown)
		time.Sleep(time.Hour)
		f.start()
		w.event(cardreader.ServiceUp)
		w.event(cardreader.CardOut)
		if err := w.r.Close(); err != nil {
			t.Error(err)
		}
		for _, text := range []string{"80100013", "8010006A", "8010001D", "card reader back"} {
			if n := strings.Count(b.String(), text); n != 1 {
				t.Errorf("%s is logged %d times, want once:\n%s", text, n, b.String())
			}
		}
	})
}

func TestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, realPoll)
		if names, err := list(t.Context(), f); err != nil || !slices.Equal(names, []string{theReader}) {
			t.Errorf("%q, %v", names, err)
		}
		f.unplug()
		if names, err := list(t.Context(), f); err != nil || len(names) != 0 {
			t.Errorf("no reader: %q, %v", names, err)
		}
		f.kill(0)
		if _, err := list(t.Context(), f); !errors.Is(err, cardreader.ErrServiceDown) {
			t.Errorf("no service: %v", err)
		}
		f.start()
		w := &world{t, f, nil}
		letGo := w.holding("establish")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := list(ctx, f); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("hanging: %v", err)
		}
		letGo()
		synctest.Wait()
		if n := f.open(); n != 0 {
			t.Errorf("%d contexts left open", n)
		}
	})
}
