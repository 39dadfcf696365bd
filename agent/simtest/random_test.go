package simtest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/agent"
	"vcckiosk/cardreader/simcard"
	"vcckiosk/protocol/vcctest"
)

// survivable are lapses a kiosk must live with, one to a world.
var survivable = []vcctest.Lapses{
	{ListLoaded: true}, {NoFences: true}, {LoseAnswers: true}, {LateAnswers: true},
	{EmptyAnswers: true}, {HTMLAnswers: true}, {Evictions: true}, {ShortPage: true},
}

// randomWorld plays the schedule of a seed and judges what it left.
func randomWorld(t *testing.T, seed uint64, log *bytes.Buffer) (b Books, isGood bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 1))
		o := vcctest.Options{Good: true, Seed: seed}
		isGood = r.IntN(4) > 0
		if !isGood {
			o.Lapses = survivable[r.IntN(len(survivable))]
		}
		var w *World
		if log != nil {
			w = NewWorld(t, o, log)
		} else {
			w = NewWorld(t, o, nil)
		}
		defer w.Close()
		var cards []*Card
		for i := range 2 + r.IntN(3) {
			if r.IntN(2) == 0 {
				cards = append(cards, w.AddPurse(byte(i+1)))
			} else {
				cards = append(cards, w.AddImage(byte(i+1), simcard.Strict))
			}
		}
		order := 0
		pay := func() {
			order++
			w.Pay(cards[r.IntN(len(cards))], fmt.Sprintf("O%d", order), int64(100+r.IntN(9000)))
		}
		for range len(cards) {
			pay()
		}
		var mu sync.Mutex
		hr := rand.New(rand.NewPCG(seed, 2)) // calls come from both kiosks
		w.Platform.SetHook(func(vcctest.Call) vcctest.Action {
			mu.Lock()
			defer mu.Unlock()
			switch hr.IntN(24) {
			case 0:
				return vcctest.Action{DropRequest: true}
			case 1:
				return vcctest.Action{DropAnswer: true}
			case 2:
				return vcctest.Action{Late: time.Duration(1+hr.IntN(300)) * time.Second}
			}
			return vcctest.Action{}
		})
		kiosks := []*Kiosk{w.A, w.B}
		for _, k := range kiosks {
			k.On()
		}
		for range 4 + r.IntN(8) {
			k, c := kiosks[r.IntN(2)], cards[r.IntN(len(cards))]
			switch r.IntN(10) {
			case 0:
				pay()
			case 1:
				k.Reboot()
			case 2:
				time.Sleep(time.Duration(r.IntN(3600)) * time.Second)
			case 3:
				k.offline.Store(r.IntN(2) == 0)
			case 4:
				if c.Meter != nil {
					c.Meter.Insert(c.Image)
				}
			case 5:
				k.p.mu.Lock()
				k.p.cutAt, k.p.side = k.p.n+1+r.IntN(30), side(r.IntN(2))
				k.p.mu.Unlock()
			default:
				randomFault(r, c, cards)
				v := Visit{Leave: r.IntN(8) == 0}
				if r.IntN(5) == 0 {
					v.Cancel = []agent.Stage{agent.StageChoose, agent.StageConfirm, agent.StageWorking}[r.IntN(3)]
				}
				k.Visit(c, v)
			}
		}
		var back []*Card
		for _, c := range cards {
			if r.IntN(6) > 0 {
				back = append(back, c)
			}
		}
		w.Aftermath(back...)
		b = w.Judge()
	})
	return b, isGood
}

func randomFault(r *rand.Rand, c *Card, cards []*Card) {
	when := []simcard.When{simcard.Before, simcard.After}[r.IntN(2)]
	f := simcard.Fault{When: when, Kind: simcard.Tear}
	if c.Purse != nil {
		f.INS = []byte{0xA4, 0x50, 0x52}[r.IntN(3)]
	} else {
		f.INS = 0xD0
		if r.IntN(2) == 0 {
			f = tornImage(r.IntN(17), []simcard.Rest{simcard.Erased, simcard.Partial}[r.IntN(2)])
		}
	}
	switch r.IntN(6) {
	case 0, 1, 2:
	case 3:
		if other := cards[r.IntN(len(cards))]; other != c {
			f.When, f.Kind, f.With = when, simcard.Swap, other.sim()
		}
	case 4:
		f.When, f.Kind = when, simcard.EmptyAnswer
	default:
		return
	}
	c.Arm(f)
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestRandomWorlds plays seeded schedules. WORLDS sets how many; SEED plays one
// and shows its log.
func TestRandomWorlds(t *testing.T) {
	var log *bytes.Buffer
	first, n := uint64(1), number(t, "WORLDS", 500)
	if seed := number(t, "SEED", 0); seed != 0 {
		first, n, log = seed, 1, &bytes.Buffer{}
	}
	jobs := make(chan uint64, n)
	for i := range n {
		jobs <- first + i
	}
	close(jobs)
	var mu sync.Mutex
	worlds, lost, double, stuck, conflict, manual, away := 0, 0, 0, 0, 0, 0, 0
	t.Run("worlds", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("worker", func(t *testing.T) {
				t.Parallel()
				for seed := range jobs {
					b, isGood := randomWorld(t, seed, log)
					mu.Lock()
					worlds++
					lost, double, stuck = lost+len(b.Lost), double+len(b.Double), stuck+len(b.Stuck)
					conflict, manual, away = conflict+len(b.Conflict), manual+len(b.Manual), away+len(b.Away)
					if !b.clean() || isGood && len(b.Conflict) > 0 {
						t.Errorf("SEED=%d good=%v: %v", seed, isGood, b)
					}
					mu.Unlock()
				}
			})
		}
	})
	if log != nil {
		t.Log(log.String())
	}
	fmt.Printf("worlds=%d lost=%d double=%d stuck=%d conflict=%d manual=%d away=%d\n", worlds, lost, double, stuck, conflict, manual, away)
}
