package simtest

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// tally adds up what became of many worlds.
type tally struct {
	mu                                          sync.Mutex
	played                                      int
	lost, double, stuck, conflict, manual, away int
	loads, cuts, tears, refusals, breaches      int
	requeued                                    int
	clauses                                     map[int]int
	bad                                         []string
}

// add takes in one judged world. Without a breach of the platform's there must
// be no conflict either.
func (s *tally) add(b Books, c Counted, breaches bool, name func() string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.played++
	s.lost, s.double, s.stuck = s.lost+len(b.Lost), s.double+len(b.Double), s.stuck+len(b.Stuck)
	s.conflict, s.manual, s.away = s.conflict+len(b.Conflict), s.manual+len(b.Manual), s.away+len(b.Away)
	s.loads, s.cuts, s.tears, s.refusals = s.loads+c.Loads, s.cuts+c.Cuts, s.tears+c.Tears, s.refusals+c.Refusals
	s.breaches, s.requeued = s.breaches+c.Breaches, s.requeued+c.Requeued
	if s.clauses == nil {
		s.clauses = map[int]int{}
	}
	for k, v := range b.Clauses {
		s.clauses[k] += v
	}
	if testing.Verbose() && len(b.Conflict) > 0 {
		fmt.Printf("%s: %v\n", name(), b)
	}
	if !b.clean() || !breaches && len(b.Conflict) > 0 {
		s.bad = append(s.bad, fmt.Sprintf("%s: %v", name(), b))
	}
}

// String is the line that tells it.
func (s *tally) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "lost=%d double=%d stuck=%d conflict=%d manual=%d away=%d", s.lost, s.double, s.stuck, s.conflict, s.manual, s.away)
	if s.requeued > 0 {
		fmt.Fprintf(&b, " requeued=%d", s.requeued)
	}
	if s.breaches > 0 {
		fmt.Fprintf(&b, " breaches=%d", s.breaches)
	}
	for _, k := range slices.Sorted(maps.Keys(s.clauses)) {
		fmt.Fprintf(&b, " clause%d=%d", k, s.clauses[k])
	}
	return b.String()
}

// check fails the test if any world was left wrong, and shows the first.
func (s *tally) check(t *testing.T) {
	t.Helper()
	const shown = 20
	for i, line := range s.bad {
		if i == shown {
			t.Logf("... and %d more", len(s.bad)-i)
			break
		}
		t.Log(line)
	}
	if len(s.bad) > 0 {
		t.Errorf("%d of %d worlds were left wrong", len(s.bad), s.played)
	}
}

// full reports whether somebody asked for the full numbers.
func full() bool { s := os.Getenv("FULL"); return s != "" && s != "0" }

// sample is added to a line that does not tell the full number.
func sample() string {
	if racing {
		return " (a sample, under the race detector)"
	}
	return ""
}
