package simtest

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/agent"
	"vcckiosk/cardreader/simcard"
	"vcckiosk/protocol/vcctest"
)

// randomOptions is mostly a platform that keeps its contract, sometimes one
// with a lapse a kiosk must survive without losing or doubling anything.
func randomOptions(r *rand.Rand) vcctest.Options {
	o := vcctest.Options{Good: true, Seed: r.Uint64(), PendNotWritten: r.IntN(3) == 0}
	switch r.IntN(10) {
	case 0:
		o.Lapses = vcctest.Lapses{LoseAnswers: true, LateAnswers: true}
	case 1:
		o.Lapses = vcctest.Lapses{EmptyAnswers: true, HTMLAnswers: true}
	case 2:
		o.Lapses = vcctest.Lapses{ListLoaded: true, ShortPage: true}
	case 3:
		o.Lapses = vcctest.Lapses{Evictions: true}
	case 4, 5: // in trouble now and then
		one := r.IntN(5)
		o.Hook = func(c vcctest.Call) vcctest.Action {
			if c.N%5 == one && c.Code >= "3010" && c.Code != "6004" {
				return vcctest.Action{Code: "50000"}
			}
			return vcctest.Action{}
		}
	case 6, 7:
		o.Good = false // everything at once
	}
	return o
}

func randomFault(r *rand.Rand, c *Card, others []*Card) simcard.Fault {
	f := simcard.Fault{At: 1 + r.IntN(18), When: simcard.When(r.IntN(2)), Kind: simcard.Tear}
	switch r.IntN(6) {
	case 0:
		f.Kind = simcard.EmptyAnswer
	case 1:
		if o := others[r.IntN(len(others))]; o != c {
			f.Kind, f.With = simcard.Swap, o.sim()
		}
	case 2, 3:
		if c.Kind == image {
			f = tornImage(r.IntN(16), simcard.Rest(r.IntN(3)))
		} else {
			f.INS, f.At = 0x52, 1
		}
	}
	return f
}

// randomWorld plays one seed, in a dialect of the platform's.
func randomWorld(t *testing.T, seed uint64, dialect string, log io.Writer) (p played, o vcctest.Options) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 7))
		o = randomOptions(r)
		o.Dialect = dialect
		w := NewWorld(t, o, log)
		defer w.Close()
		cards := []*Card{w.AddPurse(1), w.AddPurse(2), w.AddImage(1, simcard.Strict, 0)}
		for i, c := range cards {
			for n := range 1 + r.IntN(2) {
				w.Pay(c, fmt.Sprintf("O%d%d", i, n), int64(300+r.IntN(5000)))
			}
		}
		for _, k := range []*Kiosk{w.A, w.B} {
			for range r.IntN(4) {
				k.p.later = append(k.p.later, cut{1 + r.IntN(40), side(r.IntN(2))})
			}
			if len(k.p.later) > 0 {
				k.p.next, k.p.later = k.p.later[0], k.p.later[1:]
			}
			k.On()
		}
		for n := range 3 + r.IntN(10) {
			k := w.A
			if r.IntN(3) == 0 {
				k = w.B
			}
			c := cards[r.IntN(len(cards))]
			switch r.IntN(12) {
			case 0:
				k.offline.Store(!k.offline.Load())
			case 1:
				k.revive()
				k.Reboot()
			case 2:
				time.Sleep(time.Duration(r.IntN(900)) * time.Second)
			case 3:
				if c.Meter != nil {
					c.Meter.Insert(c.Image)
				}
			case 4:
				w.Pay(c, fmt.Sprintf("P%d", n), int64(300+r.IntN(5000)))
			default:
				k.revive()
				if r.IntN(2) == 0 {
					c.Arm(randomFault(r, c, cards))
				}
				v := Visit{}
				if r.IntN(8) == 0 {
					v.Cancel = []agent.Stage{agent.StageChoose, agent.StageConfirm, agent.StageWorking}[r.IntN(3)]
				}
				k.Visit(c, v)
			}
		}
		w.Aftermath(cards...)
		p.books, p.counted = w.Judge(), w.Counted()
	})
	return p, o
}

// worldsWanted is how many seeds are played: 500, 60 under the race detector,
// 20,000 with FULL=1, or what WORLDS says.
func worldsWanted(t *testing.T) uint64 {
	t.Helper()
	if s := os.Getenv("WORLDS"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	switch {
	case full():
		return 20_000
	case racing:
		return 60
	default:
		return 500
	}
}

// playWorlds plays seeds 1 to worlds on all processors.
func playWorlds(t *testing.T, worlds uint64, dialect string) *tally {
	t.Helper()
	var next atomic.Uint64
	var sum tally
	t.Run("worlds", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("worker", func(t *testing.T) {
				t.Parallel()
				for {
					seed := next.Add(1)
					if seed > worlds {
						return
					}
					p, o := randomWorld(t, seed, dialect, nil)
					sum.add(p.books, p.counted, breaks(o), func() string { return fmt.Sprintf("seed %d", seed) })
				}
			})
		}
	})
	return &sum
}

// TestRandomWorlds plays seeded schedules: two kiosks, three cards, a meter,
// cuts, tears, swaps, outages. FULL=1 or WORLDS=n plays more, SEED=n plays one
// and shows its log.
func TestRandomWorlds(t *testing.T) {
	if s := os.Getenv("SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		p, _ := randomWorld(t, seed, "", &log)
		t.Logf("%v %+v\n%s", p.books, p.counted, log.String())
		if !p.books.clean() {
			t.Fail()
		}
		return
	}
	sum := playWorlds(t, worldsWanted(t), "")
	fmt.Printf("worlds=%d %v loads=%d cuts=%d tears=%d refusals=%d%s\n",
		sum.played, sum, sum.loads, sum.cuts, sum.tears, sum.refusals, sample())
	sum.check(t)
	// A schedule in which nothing happens proves nothing.
	for _, x := range []struct {
		what      string
		got, each int // each: so many in ten worlds at least
	}{{"loads", sum.loads, 35}, {"cuts", sum.cuts, 5}, {"tears", sum.tears, 5}, {"refusals", sum.refusals, 5}} {
		if x.got*10 < sum.played*x.each {
			t.Errorf("%d %s in %d worlds: the schedules are empty", x.got, x.what, sum.played)
		}
	}
}
