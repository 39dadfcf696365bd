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
)

// expire makes an authorisation one that is over at once.
func expire(body []byte) []byte {
	return regexp.MustCompile(`"authExpire":\d+`).ReplaceAll(body, []byte(`"authExpire":1`))
}

// run plays a story with the power of kiosk A cut at one effect (0: never),
// and judges the world after a day without faults.
func run(t *testing.T, s story, cutAt int, at side, log *bytes.Buffer) (b Books, effects int, kind string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var w *World
		if log != nil {
			w = NewWorld(t, s.options, log)
		} else {
			w = NewWorld(t, s.options, nil)
		}
		defer w.Close()
		w.A.p.cutAt, w.A.p.side = cutAt, at
		shown := s.play(w)
		w.A.p.mu.Lock()
		effects = w.A.p.n
		if cutAt > 0 && cutAt <= len(w.A.p.kinds) {
			kind = w.A.p.kinds[cutAt-1]
		}
		w.A.p.mu.Unlock()
		w.Aftermath(shown...)
		b = w.Judge()
	})
	return b, effects, kind
}

// TestStories plays every story without a cut.
func TestStories(t *testing.T) {
	t.Parallel()
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			var log bytes.Buffer
			b, n, _ := run(t, s, 0, before, &log)
			t.Logf("%d effects, %v", n, b)
			if !b.clean() || (s.options.Lapses == good.Lapses && len(b.Conflict) > 0) {
				t.Errorf("%v\n%s", b, log.String())
			}
		})
	}
}

// TestPowerCuts cuts the power before and after every effect of every story.
func TestPowerCuts(t *testing.T) {
	type cut struct {
		s  story
		n  int
		at side
	}
	jobs := make(chan cut)
	var mu sync.Mutex
	cuts, lost, double, stuck, conflict, manual, away := 0, 0, 0, 0, 0, 0, 0
	clauses := map[int]int{}
	var bad []string
	only := os.Getenv("STORY")
	var lengths sync.WaitGroup
	t.Run("cuts", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("worker", func(t *testing.T) {
				t.Parallel()
				for j := range jobs {
					b, _, kind := run(t, j.s, j.n, j.at, nil)
					mu.Lock()
					cuts++
					lost, double, stuck = lost+len(b.Lost), double+len(b.Double), stuck+len(b.Stuck)
					conflict, manual, away = conflict+len(b.Conflict), manual+len(b.Manual), away+len(b.Away)
					for k, v := range b.Clauses {
						clauses[k] += v
					}
					if !b.clean() || (j.s.options.Lapses == good.Lapses && len(b.Conflict) > 0) {
						bad = append(bad, fmt.Sprintf("%s, cut %v effect %d (%s): %v", j.s.name, j.at, j.n, kind, b))
					}
					mu.Unlock()
				}
			})
		}
		lengths.Go(func() {
			defer close(jobs)
			for _, s := range stories {
				if only != "" && !strings.Contains(s.name, only) {
					continue
				}
				_, n, _ := run(t, s, 0, before, nil)
				for i := 1; i <= n; i++ {
					jobs <- cut{s, i, before}
					jobs <- cut{s, i, after}
				}
			}
		})
	})
	lengths.Wait()
	for i, line := range bad {
		if i == 20 {
			t.Logf("... and %d more", len(bad)-i)
			break
		}
		t.Log(line)
	}
	fmt.Printf("cuts=%d lost=%d double=%d stuck=%d conflict=%d manual=%d away=%d", cuts, lost, double, stuck, conflict, manual, away)
	for k, n := range clauses {
		fmt.Printf(" clause%d=%d", k, n)
	}
	fmt.Println()
	if len(bad) > 0 {
		t.Errorf("%d of %d cuts left the world wrong", len(bad), cuts)
	}
	if only == "" && cuts < 800 {
		t.Errorf("only %d cuts", cuts)
	}
}
