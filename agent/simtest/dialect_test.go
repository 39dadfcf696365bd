package simtest

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/cardreader/simcard"
	"vcckiosk/protocol/vcctest"
)

// inDialect is the platform of a story speaking the second dialect: other
// names, units and envelope, and an authorisation in two calls.
func inDialect(s story, _ cut) vcctest.Options {
	o := s.options
	o.Dialect = vcctest.Selfservice
	return o
}

func worstInDialect(s story, at cut) vcctest.Options {
	o := worst(s, at)
	o.Dialect = vcctest.Selfservice
	return o
}

// calculation is the call only this dialect has.
const calculation = "0102"

// dialectStories trouble what only the second dialect has: the calculation
// before the payment.
var dialectStories = []story{
	{"calculation's answer lost", good, func(w *World) []*Card {
		w.Platform.SetHook(nth(calculation, 1, vcctest.Action{DropAnswer: true}))
		return onePurse(w)
	}},
	{"both calculations' answers lost", good, func(w *World) []*Card {
		w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
			return vcctest.Action{DropAnswer: c.Code == calculation && c.N <= 2}
		})
		return oneImage(w, simcard.Strict)
	}},
	{"calculation arrives late", good, func(w *World) []*Card {
		w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
			if c.Code == calculation && c.N <= 2 {
				return vcctest.Action{Late: time.Minute}
			}
			return vcctest.Action{}
		})
		return onePurse(w)
	}},
	{"calculation refused", good, func(w *World) []*Card {
		w.Platform.SetHook(nth(calculation, 1, vcctest.Action{Code: "50000"}))
		return onePurse(w)
	}},
	{"calculated at another price", good, func(w *World) []*Card {
		w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
			if c.Code == calculation && c.N <= 2 {
				return vcctest.Action{Edit: func(b []byte) []byte {
					return bytes.Replace(b, []byte(`"amount":5000`), []byte(`"amount":5001`), 1)
				}}
			}
			return vcctest.Action{}
		})
		return onePurse(w)
	}},
	{"calculated, payment lost, then refused", good, func(w *World) []*Card {
		w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
			switch {
			case c.Code == "4006" && c.N == 1:
				return vcctest.Action{DropAnswer: true}
			case c.Code == calculation && c.N == 2:
				return vcctest.Action{Code: "46003"}
			}
			return vcctest.Action{}
		})
		return onePurse(w)
	}},
	{"payment arrives late", good, func(w *World) []*Card {
		w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
			if c.Code == "4006" && c.N <= 2 {
				return vcctest.Action{Late: time.Minute}
			}
			return vcctest.Action{}
		})
		c := oneImage(w, simcard.Strict)
		time.Sleep(3 * time.Minute)
		return c
	}},
	{"session ended between calculation and payment", good, func(w *World) []*Card {
		w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
			if c.Code == "4006" && c.N == 1 {
				w.Platform.Evict()
			}
			return vcctest.Action{}
		})
		return oneImage(w, simcard.Strict)
	}},
	{"another kiosk asks between calculation and payment", good, func(w *World) []*Card {
		c := w.AddPurse(1)
		w.Pay(c, "O1", 5000)
		w.A.On()
		w.B.On()
		w.A.Visit(c, Visit{AtList: func() { w.B.Visit(c, Visit{Leave: true}) }})
		return []*Card{c}
	}},
}

// inTheDialect are all stories of the second dialect.
func inTheDialect() []story { return slices.Concat(stories, dialectStories) }

// TestStoriesInTheSecondDialect plays the same table of stories.
func TestStoriesInTheSecondDialect(t *testing.T) {
	t.Parallel()
	for _, s := range inTheDialect() {
		t.Run(s.name, func(t *testing.T) {
			var log bytes.Buffer
			p := run(t, s, inDialect(s, cut{}), cut{}, &log)
			t.Logf("%d effects, %v", p.effects, p.books)
			if !p.books.clean() || !breaks(s.options) && len(p.books.Conflict) > 0 {
				t.Errorf("%v\n%s", p.books, log.String())
			}
			if p.missed {
				t.Errorf("did not come to its point: %s\n%s", mustReach(s.name), log.String())
			}
		})
	}
}

// TestPowerCutsInTheSecondDialect cuts the power at a sample of all effects of
// all stories, on the good platform and on the worst; FULL=1 at every one.
func TestPowerCutsInTheSecondDialect(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the first dialect's cuts are played")
	}
	step, worst, note := 36, 96, " (a sample; FULL=1: all)"
	if full() {
		step, worst, note = 1, 1, ""
	}
	s := cutAllOf(t, inTheDialect(), inDialect, step)
	fmt.Printf("second dialect: stories=%d cuts=%d %v%s%s\n", len(inTheDialect()), s.cuts, s, note, sample())
	s.check(t)
	if only := os.Getenv("STORY"); only == "" && s.loads < s.played/2 {
		t.Errorf("%d loads in %d worlds: the dialect does not sell", s.loads, s.played)
	}
	s = cutAllOf(t, inTheDialect(), worstInDialect, worst)
	fmt.Printf("second dialect, worst platform: cuts=%d %v%s%s\n", s.cuts, s, note, sample())
	s.check(t)
}

// TestRandomWorldsInTheSecondDialect plays the schedules of TestRandomWorlds, a
// tenth of their number.
func TestRandomWorldsInTheSecondDialect(t *testing.T) {
	if testing.Short() || os.Getenv("STORY") != "" {
		t.Skip("-short or STORY: TestRandomWorlds is played")
	}
	sum := playWorlds(t, worldsWanted(t)/10, vcctest.Selfservice)
	fmt.Printf("second dialect: worlds=%d %v loads=%d cuts=%d tears=%d refusals=%d%s\n",
		sum.played, sum, sum.loads, sum.cuts, sum.tears, sum.refusals, sample())
	sum.check(t)
	if sum.loads*10 < sum.played*35 {
		t.Errorf("%d loads in %d worlds: the schedules are empty", sum.loads, sum.played)
	}
}

// TestTheSecondDialectIsSpoken: not one money call of the document's.
func TestTheSecondDialectIsSpoken(t *testing.T) {
	t.Parallel()
	var kinds []string
	for _, s := range stories[:2] { // a purse and a memory card
		synctest.Test(t, func(t *testing.T) {
			w := NewWorld(t, inDialect(s, cut{}), nil)
			defer w.Close()
			s.play(w)
			for _, e := range w.A.p.seen {
				kinds = append(kinds, e.kind)
			}
			if b := w.Platform.Books(); b.Orders[0].State != vcctest.StateSettled {
				t.Errorf("%s: %+v", s.name, b.Orders[0])
			}
		})
	}
	all := strings.Join(kinds, "\n")
	for _, path := range []string{"authenticate", "queryCard", "calculate", "pay", "reportWrite"} {
		if !strings.Contains(all, "http /vcc-openapi/selfservice/"+path) {
			t.Errorf("not called: %s", path)
		}
	}
	if strings.Contains(all, "/iccard/") || strings.Contains(all, "oauth") {
		t.Errorf("the document's calls were made:\n%s", all)
	}
}
