package pcsc

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/cardreader"
	"vcckiosk/cardreader/simcard"
)

// holding is a hook that keeps every call of this name from returning until let go.
func (w *world) holding(call string) (letGo func()) {
	gate := make(chan struct{})
	w.f.mu.Lock()
	w.f.hook = func(this string) error {
		if this == call {
			<-gate
		}
		return nil
	}
	w.f.mu.Unlock()
	return func() {
		w.f.mu.Lock()
		w.f.hook = nil
		w.f.mu.Unlock()
		close(gate)
	}
}

func TestAHangingTransmitEndsByTheWatchdog(t *testing.T) {
	inBubble(t, func(w *world) {
		card := newCard()
		w.put(card)
		s := w.open()
		letGo := w.holding("transmit")
		w.took("a hanging transmit", watchdog, func() { w.fails(s, cardreader.ErrStuck) })
		w.took("the next", 0, func() { w.fails(s, cardreader.ErrStuck) })
		w.took("close", 0, func() {
			if err := s.Close(); !errors.Is(err, cardreader.ErrStuck) {
				w.Errorf("close with a call under way: %v, want ErrStuck", err)
			}
		})
		w.took("open", settle, func() {
			if _, err := w.r.Open(w.Context()); !errors.Is(err, cardreader.ErrStuck) {
				w.Errorf("open with a call under way: %v, want ErrStuck", err)
			}
		})
		letGo() // the command reaches the card after all
		w.fails(s, errEnded)
		s = w.open()
		w.works(s)
		w.close(s)
		if n := len(card.ran()); n != 2 {
			w.Errorf("card got %d commands, want 2", n)
		}
	})
}

func TestAMuteCardIsFreedByTakingItOut(t *testing.T) {
	inBubble(t, func(w *world) {
		card := newCard()
		w.put(card)
		s := w.open()
		card.Arm(simcard.Fault{Kind: simcard.Mute, When: simcard.After})
		w.fails(s, cardreader.ErrStuck)
		_ = s.Close()
		w.f.remove()
		w.event(cardreader.CardOut)
		w.f.insert(card)
		w.event(cardreader.CardIn)
		s = w.open()
		w.works(s)
		w.close(s)
	})
}

func TestTheAnswerCountsThatCameWithTheLastOfTheTime(t *testing.T) {
	inBubble(t, func(w *world) {
		card := newCard()
		w.put(card)
		s := w.open()
		card.Arm(simcard.Fault{Kind: simcard.Slow, Delay: watchdog - time.Nanosecond})
		w.took("a slow card", watchdog-time.Nanosecond, func() { w.works(s) })
		w.close(s)
	})
}

func TestCloseGivesUpACommandUnderWay(t *testing.T) {
	inBubble(t, func(w *world) {
		w.put(newCard())
		s := w.open()
		letGo := w.holding("transmit")
		result := make(chan error, 1)
		go func() {
			_, err := s.Transmit(w.Context(), someCommand)
			result <- err
		}()
		synctest.Wait()
		if err := s.Close(); !errors.Is(err, cardreader.ErrStuck) {
			w.Errorf("close: %v, want ErrStuck", err)
		}
		if err := <-result; !errors.Is(err, errEnded) {
			w.Errorf("command under way: %v, want %v", err, errEnded)
		}
		letGo()
		synctest.Wait()
		if err := s.Close(); err != nil {
			w.Errorf("second close: %v", err)
		}
		s = w.open()
		w.works(s)
		w.close(s)
	})
}

func TestAHangWhileOpeningEndsByTheWatchdog(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"establish", "readers", "connect", "begin", "status"} {
		bubble(t, func(w *world) {
			card := newCard()
			w.put(card)
			letGo := w.holding(call)
			w.took("open", watchdog, func() {
				if _, err := w.r.Open(w.Context()); !errors.Is(err, cardreader.ErrStuck) {
					w.Errorf("%s hangs: open %v, want ErrStuck", call, err)
				}
			})
			ctx, cancel := context.WithTimeout(w.Context(), settle/2)
			defer cancel()
			w.took("open", settle/2, func() {
				if _, err := w.r.Open(ctx); !errors.Is(err, context.DeadlineExceeded) {
					w.Errorf("%s hangs: open %v, want DeadlineExceeded", call, err)
				}
			})
			letGo()
			s := w.open()
			w.works(s)
			w.close(s)
		})
	}
}

func TestAnOpenGivenUpLeavesTheCardToTheNext(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"establish", "readers", "connect", "begin", "status"} {
		bubble(t, func(w *world) {
			w.put(newCard())
			letGo := w.holding(call)
			ctx, cancel := context.WithTimeout(w.Context(), time.Second)
			defer cancel()
			if _, err := w.r.Open(ctx); !errors.Is(err, context.DeadlineExceeded) {
				w.Errorf("%s is slow: open %v, want DeadlineExceeded", call, err)
			}
			time.AfterFunc(settle/2, letGo)
			s := w.open()
			w.works(s)
			w.close(s)
		})
	}
}

func TestOpenWaitsForAnotherProgramASecond(t *testing.T) {
	inBubble(t, func(w *world) {
		w.put(newCard())
		lift := w.failing("connect", codeSharing, 0)
		w.took("open", settle, func() {
			if _, err := w.r.Open(w.Context()); !errors.Is(err, cardreader.ErrBusy) {
				w.Errorf("open: %v, want ErrBusy", err)
			}
		})
		lift()
		lift = w.failing("begin", codeReset, 3) // somebody resets the card and goes
		s := w.open()
		lift()
		w.works(s)
		w.close(s)
	})
}

// A card torn out during a command, and another one put in before the poll: the handle would go on with the other card.
func TestAnotherCardNeverGetsTheCommandsOfTheFirst(t *testing.T) {
	inBubble(t, func(w *world) {
		one, two := newCard(), newCard()
		w.put(one)
		s := w.open()
		one.Arm(simcard.Fault{Kind: simcard.Tear, When: simcard.After})
		if got, err := s.Transmit(w.Context(), someCommand); err != nil || got != nil {
			w.Fatalf("torn: %X, %v; want nothing and no error", got, err)
		}
		w.f.insert(two)
		w.quiet(realPoll) // the poll has taken the other card for the first
		for range 3 {
			w.fails(s, cardreader.ErrCardRemoved)
		}
		w.close(s)
		if len(two.ran()) != 0 {
			w.Errorf("the other card got %X", two.ran())
		}

		s = w.open() // the caller reads who it is
		w.works(s)
		w.f.remove()
		w.f.insert(one)
		for range 3 {
			w.fails(s, cardreader.ErrCardRemoved) // 80100016 first; then the library would answer
			w.f.look()
		}
		w.close(s)
		if n := len(one.ran()); n != 1 {
			w.Errorf("the card put in got %d commands, want the 1 of before", n)
		}
	})
}

func TestRemovedBetweenCommands(t *testing.T) {
	inBubble(t, func(w *world) {
		card := newCard()
		w.put(card)
		s := w.open()
		w.works(s)
		w.f.remove()
		w.fails(s, cardreader.ErrCardRemoved) // before the poll has seen it
		w.event(cardreader.CardOut)
		w.fails(s, cardreader.ErrCardRemoved)
		w.close(s)
		if _, err := w.r.Open(w.Context()); !errors.Is(err, cardreader.ErrNoCard) {
			w.Errorf("open: %v, want ErrNoCard", err)
		}
	})
}

func TestAMuteReader(t *testing.T) {
	inBubble(t, func(w *world) {
		w.put(newCard())
		s := w.open()
		w.f.setDeaf(true)
		w.fails(s, cardreader.ErrCardRemoved) // 80100016: nobody can tell yet
		w.close(s)
		w.event(cardreader.ReaderGone)
		if _, err := w.r.Open(w.Context()); !errors.Is(err, cardreader.ErrReaderGone) {
			w.Errorf("open: %v, want ErrReaderGone", err)
		}
		if !errors.Is(w.r.Problem(), codeReaderUnavailable) {
			w.Errorf("problem %v", w.r.Problem())
		}
		before := w.f.count("wait")
		w.quiet(10 * time.Second) // it is still listed, and a wait on it still sleeps
		if n := w.f.count("wait") - before; n > 12 {
			w.Errorf("%d waits in 10 s", n)
		}
		w.f.setDeaf(false)
		w.event(cardreader.ReaderBack)
		w.event(cardreader.CardIn)
	})
}

func TestACardWithoutAnATRIsShownAndCannotBeOpened(t *testing.T) {
	inBubble(t, func(w *world) {
		card := newCard()
		card.core.atr = []byte{0xFF}
		w.event(cardreader.CardOut)
		w.f.insert(card)
		if ev := w.event(cardreader.CardIn); ev.ATR != nil {
			w.Errorf("ATR %X of a mute card", ev.ATR)
		}
		if _, err := w.r.Open(w.Context()); !errors.Is(err, ErrMute) || errors.Is(err, cardreader.ErrNoCard) {
			w.Errorf("open: %v, want ErrMute", err)
		}
		w.f.remove()
		w.event(cardreader.CardOut)
	})
}

func TestTheLastByteOfACaseFourCommandIsNotSentWithT0(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, cmd, t0 string }{
		{"header alone", "00840000", "00840000"},
		{"Le alone", "0084000008", "0084000008"},
		{"data alone", "0020000003123456", "0020000003123456"},
		{"data and Le", "805000020B01000013881122334455" + "6610", "805000020B010000138811223344" + "5566"},
		{"one byte of data and Le", "00D600000155" + "00", "00D600000155"},
		{"not what Lc says", "00D600000355" + "00", "00D600000355" + "00"},
		{"longer than Lc says", "00D600000155" + "0000", "00D600000155" + "0000"},
	} {
		cmd, err := hex.DecodeString(c.cmd)
		if err != nil {
			t.Fatal(err)
		}
		for t0, want := range map[bool]string{true: c.t0, false: c.cmd} {
			got := tpdu(cmd, t0)
			if s := strings.ToUpper(hex.EncodeToString(got)); s != want {
				t.Errorf("%s, T=0 %v: %s, want %s", c.name, t0, s, want)
			}
			got[0] ^= 0xFF
			if got[0] == cmd[0] {
				t.Errorf("%s: the caller's memory goes to the library", c.name)
			}
		}
	}
}

func TestTheProtocolIsTheOneOfThisCard(t *testing.T) {
	inBubble(t, func(w *world) {
		card := newCard()
		w.put(card)
		cmd := []byte{0x80, 0x52, 0, 0, 1, 7, 4}
		for _, t0 := range []bool{false, true} {
			w.f.with(func() { w.f.t0 = t0 })
			s := w.open()
			if _, err := s.Transmit(w.Context(), cmd); err != nil {
				w.Fatal(err)
			}
			w.close(s)
		}
		if len(card.ran()[0]) != 7 || len(card.ran()[1]) != 6 {
			w.Errorf("card got %X", card.ran())
		}
	})
}
