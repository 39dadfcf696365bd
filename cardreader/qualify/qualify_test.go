package qualify_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/cardreader"
	"vcckiosk/cardreader/epurse"
	"vcckiosk/cardreader/qualify"
	"vcckiosk/cardreader/simcard"
	"vcckiosk/cardreader/transcript"
)

var psc = [3]byte{0x12, 0x34, 0x56}

// card is a virtual one of either kind.
type card interface {
	simcard.Card
	Arm(f simcard.Fault)
}

func newPurse() *simcard.Purse {
	return simcard.NewPurse(simcard.PurseConfig{Serial: [8]byte{0x86, 0, 0, 0, 0x12, 0x34, 0x56, 0x78}})
}

func newMemory() *simcard.SLE4442 {
	var content [256]byte
	for i := range content {
		content[i] = byte(i * 7)
	}
	return simcard.NewSLE4442(content, psc)
}

// hands do what they are asked after a while, as a person would.
type hands struct {
	slot *simcard.Slot
	card card
	asks []qualify.Act
	lazy qualify.Act // this one is never done
}

func (h *hands) ask(a qualify.Act) {
	h.asks = append(h.asks, a)
	if a == h.lazy {
		return
	}
	if a == qualify.Pull { // in the middle of a command, of a write if there is one
		h.card.Arm(simcard.Fault{INS: h.pulled(), At: 3, When: simcard.Byte, N: 5, Rest: simcard.Erased, Kind: simcard.Tear})
		return
	}
	go func() {
		time.Sleep(2 * time.Second)
		switch a {
		case qualify.PutIn:
			h.slot.Insert(h.card)
		case qualify.TakeOut:
			h.slot.Remove()
		case qualify.Unplug:
			h.slot.Gone()
		case qualify.PlugIn:
			h.slot.Back()
		case qualify.RestartService:
			h.slot.Down()
			h.slot.Up()
		}
	}()
}

// pulled is the command at which the card is torn: the write the second time.
func (h *hands) pulled() byte {
	n := 0
	for _, a := range h.asks {
		if a == qualify.Pull {
			n++
		}
	}
	if n > 1 {
		return 0xD0
	}
	return 0xB0
}

func run(t *testing.T, c card, change func(*qualify.Config, *hands)) (results []qualify.Result, h *hands) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h = &hands{slot: simcard.NewSlot("Bench Reader"), card: c}
		cfg := qualify.Config{Reader: h.slot, Purse: &epurse.Params{KeyIndex: 1}, Memory: true, Ask: h.ask, Code: psc}
		if change != nil {
			change(&cfg, h)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		results = qualify.Run(ctx, cfg)
		synctest.Wait()
	})
	return results, h
}

func find(t *testing.T, results []qualify.Result, step string) qualify.Result {
	t.Helper()
	for _, r := range results {
		if r.Step == step {
			return r
		}
	}
	t.Fatalf("no step %q", step)
	return qualify.Result{}
}

func count(results []qualify.Result, s qualify.State) (n int) {
	for _, r := range results {
		if r.State == s {
			n++
		}
	}
	return n
}

func TestAGoodReaderPassesEveryStepWithEveryCard(t *testing.T) {
	t.Parallel()
	purse, memory := newPurse(), newMemory()
	before := memory.Image()
	for _, x := range []struct {
		name string
		card card
		left int
	}{{"purse", purse, 1}, {"memory card", memory, 0}} {
		t.Run(x.name, func(t *testing.T) {
			var told int
			results, _ := run(t, x.card, func(c *qualify.Config, _ *hands) {
				c.Overwrite, c.Told = true, func(qualify.Result) { told++ }
			})
			for _, r := range results {
				t.Logf("%-60s %s %s", r.Step, r.State, r.Why)
				if r.State == qualify.Failed {
					t.Errorf("%s: %s", r.Step, r.Why)
				}
			}
			if n := count(results, qualify.Left); n != x.left || told != len(results) {
				t.Errorf("%d steps left out, want %d; %d of %d told", n, x.left, told, len(results))
			}
		})
	}
	if got := memory.Image(); got != before {
		t.Error("the memory card is not as it was")
	}
	if _, wrong, _ := memory.Codes(); wrong != 0 || memory.Counter() != 7 {
		t.Errorf("%d wrong codes", wrong)
	}
	if memory.Struck() != 2 {
		t.Errorf("torn %d times, want 2", memory.Struck())
	}
}

func TestNothingIsWrittenWithoutLeave(t *testing.T) {
	t.Parallel()
	for _, c := range []card{newPurse(), newMemory()} {
		var said bytes.Buffer
		results, _ := run(t, c, func(cfg *qualify.Config, _ *hands) {
			cfg.Transcript, cfg.FixedCable, cfg.NoService = &said, true, true
		})
		if n := count(results, qualify.Failed); n != 0 || count(results, qualify.Left) != 4 {
			t.Errorf("%+v", results)
		}
		for line := range strings.Lines(said.String()) {
			cmd, is := strings.CutPrefix(line, "> ")
			if is && (strings.HasPrefix(cmd, "8050") || strings.HasPrefix(cmd, "8052") || strings.HasPrefix(cmd, "FFD") || strings.HasPrefix(cmd, "FF20") || strings.HasPrefix(cmd, "0020")) {
				t.Errorf("sent %s", cmd)
			}
		}
		// What is kept can be read back.
		if p := transcript.Replay(bytes.NewReader(said.Bytes())); transcript.Rest(p) < 100 {
			t.Errorf("a transcript of %d commands", transcript.Rest(p))
		}
	}
}

func TestTheCodeIsInNoTranscript(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	run(t, newMemory(), func(c *qualify.Config, _ *hands) { c.Overwrite, c.Transcript = true, &said })
	if !strings.Contains(said.String(), "> FF20") || strings.Contains(said.String(), "123456") {
		t.Error("the code was not presented, or stands in the transcript")
	}
}

// bad is a reader that breaks one promise.
type bad struct {
	*simcard.Slot
	open func(context.Context) (cardreader.Session, error)
}

func (b bad) Open(ctx context.Context) (cardreader.Session, error) { return b.open(ctx) }

// liar is a session that answers whatever the card did.
type liar struct {
	cardreader.Session
	lie func(cmd, answer []byte, err error) ([]byte, error)
}

func (l liar) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	got, err := l.Session.Transmit(ctx, cmd)
	return l.lie(cmd, got, err)
}

// nowhere is a session with no card.
type nowhere struct{}

func (nowhere) ATR() []byte  { return nil }
func (nowhere) Close() error { return nil }

func (nowhere) Transmit(context.Context, []byte) ([]byte, error) {
	return nil, cardreader.ErrCardRemoved
}

// TestAReaderThatBreaksAPromiseIsFound: each of these has been seen in a driver
// or could be in one.
func TestAReaderThatBreaksAPromiseIsFound(t *testing.T) {
	t.Parallel()
	ok := []byte{0x90, 0x00}
	lying := func(lie func(cmd, answer []byte, err error) ([]byte, error)) func(*simcard.Slot) func(context.Context) (cardreader.Session, error) {
		return func(s *simcard.Slot) func(context.Context) (cardreader.Session, error) {
			return func(ctx context.Context) (cardreader.Session, error) {
				got, err := s.Open(ctx)
				if err != nil {
					return nil, err
				}
				return liar{got, lie}, nil
			}
		}
	}
	for _, x := range []struct {
		name, step string
		open       func(*simcard.Slot) func(context.Context) (cardreader.Session, error)
	}{
		{"gives an empty reader's session", "an empty reader says so", func(s *simcard.Slot) func(context.Context) (cardreader.Session, error) {
			return func(ctx context.Context) (cardreader.Session, error) {
				if got, err := s.Open(ctx); err == nil {
					return got, nil
				}
				return nowhere{}, nil
			}
		}},
		{"lets two sessions be open", "a session keeps others out and leaves the card as it is", func(s *simcard.Slot) func(context.Context) (cardreader.Session, error) {
			var last cardreader.Session
			return func(ctx context.Context) (cardreader.Session, error) {
				got, err := s.Open(ctx)
				if err == nil {
					last = got
				} else if s.Card() != nil && last != nil {
					return last, nil
				}
				return got, err
			}
		}},
		{"passes anything on as an APDU", "what is not an APDU is refused", lying(func(cmd, answer []byte, err error) ([]byte, error) {
			if len(cmd) < 4 {
				return ok, nil
			}
			return answer, err
		})},
		{"calls a removed card an error of its own", "a card taken between commands ends its session", lying(func(_, answer []byte, err error) ([]byte, error) {
			if err != nil {
				return nil, cardreader.ErrReaderGone
			}
			return answer, nil
		})},
		{"says done when a write was cut off", "pulled while being written", lying(func(cmd, answer []byte, err error) ([]byte, error) {
			if len(cmd) > 4 && cmd[1] == 0xD0 && len(answer) < 2 {
				time.Sleep(100 * time.Millisecond)
				return ok, nil
			}
			return answer, err
		})},
	} {
		t.Run(x.name, func(t *testing.T) {
			results, _ := run(t, newMemory(), func(c *qualify.Config, h *hands) {
				c.Overwrite, c.Reader, c.Patience = true, bad{h.slot, x.open(h.slot)}, time.Minute
			})
			if r := find(t, results, x.step); r.State != qualify.Failed {
				t.Errorf("%s: %s %s", r.Step, r.State, r.Why)
			}
			if n := count(results, qualify.Passed); n < 5 {
				t.Errorf("one fault keeps all but %d steps from passing: %+v", n, results)
			}
		})
	}
}

func TestAPersonWhoDoesNothingEndsTheStepOnly(t *testing.T) {
	t.Parallel()
	results, h := run(t, newMemory(), func(_ *qualify.Config, h *hands) { h.lazy = qualify.Unplug })
	if r := find(t, results, "unplugged and plugged in"); r.State != qualify.Failed || !strings.Contains(r.Why, "no reader gone within 1m30s") {
		t.Errorf("%+v", r)
	}
	if r := find(t, results, "the card service restarted"); r.State != qualify.Passed {
		t.Errorf("the step after it: %+v", r)
	}
	if len(h.asks) < 15 {
		t.Errorf("asked for %v", h.asks)
	}
	for a := qualify.PutIn; a <= qualify.RestartService; a++ {
		if zh, en := a.Words(); zh == "" || en == "" {
			t.Errorf("no words for act %d", a)
		}
	}
}

func TestTheLineForTheTable(t *testing.T) {
	t.Parallel()
	got := qualify.Line("ACR39", "pcscd 1.9.9", []qualify.Result{
		{"one", qualify.Passed, "fast"}, {"two", qualify.Failed, "no\nanswer"}, {"three", qualify.Left, "built in"}, {"four", qualify.Passed, ""},
	})
	const want = "| ACR39 | pcscd 1.9.9 | by hand: one; four | FAILED: two (no answer); three (built in) |"
	if got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}
