package simtest

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
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

// randomWorld plays one seed.
func randomWorld(t *testing.T, seed uint64, log io.Writer) (b Books) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 7))
		w := NewWorld(t, randomOptions(r), log)
		defer w.Close()
		cards := []*Card{w.AddPurse(1), w.AddPurse(2), w.AddImage(1, simcard.Strict)}
		for i, c := range cards {
			for n := range 1 + r.IntN(2) {
				w.Pay(c, fmt.Sprintf("O%d%d", i, n), int64(300+r.IntN(5000)))
			}
		}
		for _, k := range []*Kiosk{w.A, w.B} {
			if r.IntN(2) == 0 {
				k.p.cutAt, k.p.side = 1+r.IntN(80), side(r.IntN(2))
			}
			k.On()
		}
		for range 3 + r.IntN(8) {
			k := w.A
			if r.IntN(3) == 0 {
				k = w.B
			}
			c := cards[r.IntN(len(cards))]
			switch r.IntN(10) {
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
		b = w.Judge()
	})
	return b
}

// TestRandomWorlds plays seeded schedules: two kiosks, three cards, a meter,
// cuts, tears, swaps, outages. WORLDS=n plays more, SEED=n plays one and shows
// its log.
func TestRandomWorlds(t *testing.T) {
	if s := os.Getenv("SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		b := randomWorld(t, seed, &log)
		t.Logf("%v\n%s", b, log.String())
		if !b.clean() {
			t.Fail()
		}
		return
	}
	worlds := uint64(500)
	if s := os.Getenv("WORLDS"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		worlds = n
	}
	var next atomic.Uint64
	var mu sync.Mutex
	var sum Books
	t.Run("worlds", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("worker", func(t *testing.T) {
				t.Parallel()
				for {
					seed := next.Add(1)
					if seed > worlds {
						return
					}
					b := randomWorld(t, seed, nil)
					mu.Lock()
					sum.Lost, sum.Double, sum.Stuck = append(sum.Lost, b.Lost...), append(sum.Double, b.Double...), append(sum.Stuck, b.Stuck...)
					sum.Conflict, sum.Manual, sum.Away = append(sum.Conflict, b.Conflict...), append(sum.Manual, b.Manual...), append(sum.Away, b.Away...)
					mu.Unlock()
					if !b.clean() {
						t.Errorf("seed %d: %v", seed, b)
					}
				}
			})
		}
	})
	fmt.Printf("worlds=%d lost=%d double=%d stuck=%d conflict=%d manual=%d\n",
		worlds, len(sum.Lost), len(sum.Double), len(sum.Stuck), len(sum.Conflict), len(sum.Manual))
}
