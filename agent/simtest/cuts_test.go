package simtest

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/protocol/vcctest"
)

// expire makes an authorisation one that is over at once.
func expire(body []byte) []byte {
	return regexp.MustCompile(`"authExpire":\d+`).ReplaceAll(body, []byte(`"authExpire":1`))
}

// played is a story that is over.
type played struct {
	books   Books
	counted Counted
	effects int    // of kiosk A before the faults ended
	kind    string // of the effect that was cut
	missed  bool   // the story did not come to its point
}

// run plays a story with the power of kiosk A cut at one effect, and judges the
// world after a day without faults.
func run(t *testing.T, s story, o vcctest.Options, at cut, log *bytes.Buffer) (p played) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var w *World
		if log != nil {
			w = NewWorld(t, o, log)
		} else {
			w = NewWorld(t, o, nil)
		}
		defer w.Close()
		w.A.p.next = at
		shown := s.play(w)
		if !o.Good {
			comeBack(w, shown)
		}
		w.A.p.mu.Lock()
		p.effects = w.A.p.n
		if at.n > 0 && at.n <= len(w.A.p.seen) {
			p.kind = w.A.p.seen[at.n-1].kind
		}
		w.A.p.mu.Unlock()
		point := mustReach(s.name)
		p.missed = point != "" && !w.Reached(point)
		w.Aftermath(shown...)
		p.books, p.counted = w.Judge(), w.Counted()
	})
	return p
}

// comeBack: where calls fail all the time, customers try again, here and at the
// other kiosk, before the platform has come to its senses.
func comeBack(w *World, cards []*Card) {
	w.A.revive()
	if w.B.done == nil {
		w.B.On()
	}
	for _, c := range cards {
		for _, k := range []*Kiosk{w.A, w.B, w.A} {
			k.Visit(c, Visit{})
			time.Sleep(4 * time.Minute)
			k.revive()
		}
	}
}

// breaks reports whether such a platform breaks a clause of its contract.
func breaks(o vcctest.Options) bool {
	l := o.Lapses
	return !o.Good || l.NoIdempotency || l.ReissueAtExpiry || l.ForgetAuth || l.FreeOnStale || l.ForgetFences || l.NoFences || l.DoubleCount
}

// worst is the platform of a story with every plausible lapse at once, and
// different luck for each cut.
func worst(s story, at cut) vcctest.Options {
	o := s.options
	o.Good, o.Lapses, o.Odds = false, vcctest.Lapses{}, 0
	for _, c := range s.name {
		o.Seed = o.Seed*31 + uint64(c)
	}
	o.Seed = o.Seed<<16 + uint64(at.n)<<1 + uint64(at.at)
	return o
}

func asWritten(s story, _ cut) vcctest.Options { return s.options }

// TestStories plays every story without a cut.
func TestStories(t *testing.T) {
	t.Parallel()
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			var log bytes.Buffer
			p := run(t, s, s.options, cut{}, &log)
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

// TestPowerCuts cuts the power before and after every effect of every story.
func TestPowerCuts(t *testing.T) {
	s := cutAll(t, asWritten, 1)
	fmt.Printf("cuts=%d %v%s\n", s.cuts, s, sample())
	s.check(t)
	if os.Getenv("STORY") == "" && s.cuts < 800 && !racing {
		t.Errorf("only %d cuts", s.cuts)
	}
}

// cutAll plays every story on the platform that options gives it, cut at every
// step-th effect, on all processors. Under the race detector it is every eighth
// of those.
func cutAll(t *testing.T, options func(story, cut) vcctest.Options, step int) *tally {
	t.Helper()
	return cutAllOf(t, stories, options, step)
}

// cutAllOf does it with a list of stories.
func cutAllOf(t *testing.T, stories []story, options func(story, cut) vcctest.Options, step int) *tally {
	t.Helper()
	if racing {
		step *= 8
	}
	type job struct {
		s  story
		at cut
	}
	jobs := make(chan job)
	gone := make(chan struct{}) // the workers, each of which ends at a failure that is none of the judge's
	var sum tally
	var lengths sync.WaitGroup
	t.Run("cuts", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("worker", func(t *testing.T) {
				t.Parallel()
				for j := range jobs {
					o := options(j.s, j.at)
					p := run(t, j.s, o, j.at, nil)
					sum.add(p.books, p.counted, breaks(o), func() string {
						return fmt.Sprintf("%s, cut %v effect %d (%s)", j.s.name, j.at.at, j.at.n, p.kind)
					})
				}
			})
		}
		lengths.Go(func() {
			defer close(jobs)
			turn := 0
			for _, s := range stories {
				if only := os.Getenv("STORY"); only != "" && !strings.Contains(s.name, only) {
					continue
				}
				n := run(t, s, options(s, cut{}), cut{}, nil).effects
				for i := range 2 * n {
					if turn++; turn%step != 0 {
						continue
					}
					select {
					case jobs <- job{s, cut{1 + i/2, side(i % 2)}}:
					case <-gone:
						return
					}
				}
			}
		})
	})
	close(gone)
	lengths.Wait()
	return &sum
}

// TestPowerCutsOnTheWorstPlatform does the same on a platform that has every
// plausible fault at once. What goes wrong there must be one order each, of
// which the platform itself broke a clause of its contract; the line tells
// which.
func TestPowerCutsOnTheWorstPlatform(t *testing.T) {
	step, note := 8, " (every eighth one; FULL=1: all)"
	if full() {
		step, note = 1, ""
	}
	s := cutAll(t, worst, step)
	fmt.Printf("worst platform: cuts=%d %v%s%s\n", s.cuts, s, note, sample())
	s.check(t)
}
