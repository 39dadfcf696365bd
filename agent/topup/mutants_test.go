package topup

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// mutants are plausible wrong readings of the rules. Each replaces text of the
// present source; one that no longer applies fails the test.
var mutants = []struct{ name, file, old, with string }{
	{"sequence +1 means written", "decide.go", `	basis := ByLog
	if e.TAC`, `	if e.Seq == p.Seq+1 {
		return Verdict{Judgement: IsWritten, Basis: ByLog}
	}
	basis := ByLog
	if e.TAC`},
	{"a refusal is believed without 80 50", "decide.go", `	newer, reaches := newerThan`, `	if e.Answer == Refused {
		return Verdict{Judgement: IsNotWritten, Basis: ByAnswer}
	}
	newer, reaches := newerThan`},
	{"80 50 before the log is looked at", "decide.go", `	newer, reaches := newerThan(e, p)`, `	if !e.SeqRead {
		return Verdict{Judgement: NeedsSequence}
	}
	newer, reaches := newerThan(e, p)`},
	{"a proof's TAC is taken for our own load", "decide.go", `	basis := ByLog
	if e.TAC != "" {`, `	basis := ByLog
	if e.TAC != "" {
		return Verdict{Judgement: IsWritten, Basis: ByProof}
	}
	if e.TAC != "" {`},
	{"own record without terminal", "decide.go", `l.Terminal == p.Terminal &&`, `true &&`},
	{"own record without date", "decide.go", `l.Date == p.HostDate &&`, `true &&`},
	{"own record without time", "decide.go", `l.Time == p.HostTime &&`, `true &&`},
	{"own record without amount", "decide.go", `l.Amount == p.Amount &&`, `true &&`},
	{"records older than the attempt count", "decide.go", `return e.Log[:i], true`, `return e.Log[:max(i, len(e.Log))], true`},
	{"a log that does not reach back says not written", "decide.go", `	case !reaches:`, `	case !reaches:
		return Verdict{Judgement: IsNotWritten, Basis: ByLog}
	case !reaches && false:`},
	{"a full log that was empty reaches back", "decide.go", `p.LogSeen && e.State == LogRoom`, `p.LogSeen`},
	{"any mixture is rolled forward", "plan.go", `	if !tornByte(p.Before[at], p.Target[at], content[at]) {
		return 0, false
	}
	want[at] = content[at]
	return done, bytes.Equal(content, want)`, `	_ = at
	return done, true`},
	{"an Unknown is rolled forward without asking", "decide.go", `if r.Phase == Writing && e.Here {`, `if e.Here {`},
	{"the count is not written last", "plan.go", `	for _, part := range []func(off int) bool{
		func(off int) bool { return !l.Gas.has(off) && !commit.has(off) },
		func(off int) bool { return l.Gas.has(off) && !commit.has(off) },
		commit.has,
	} {`, `	for _, part := range []func(off int) bool{
		commit.has,
		func(off int) bool { return !commit.has(off) },
	} {`},
	{"a card that holds gas is written", "plan.go", `!ok || gas != 0`, `!ok || gas < 0`},
	{"identity bytes may change", "plan.go", `!bytes.Equal(id.of(before), id.of(target))`, `false`},
	{"closed by an acknowledged unknown", "settle.go", `		case Pending:
			return Next{Record: r, Send: []Send{{Query, QueryDaily}}}`, `		case Pending:
			return closed(r)`},
	{"give-back on a memory card's word", "record.go", `return r.Card.CPU() && (r.Basis == ByAnswer || r.Basis == ByLog)`, `return true`},
	{"a conflict is closed", "settle.go", `	return park(r, "platform contradicts the card", AlarmConflict)`, `	return closed(r)`},
	{"an order is free before it is acknowledged", "record.go", `r.Phase != Closed || r.Outcome != OutcomeNotWritten`, `r.Outcome != OutcomeNotWritten`},
	{"an unknown order is closed at once", "settle.go", `	if r.Asked {
		return closed(r)
	}`, `	if true {
		return closed(r)
	}`},
	{"a written card is silent after a give-back", "settle.go", `	case OutcomeWritten:
		r.Phase, r.FailReason = Written, ""`, `	case OutcomeWritten:
		if r.AckState == GivenBack {
			r.Phase = Closed
			return r, true
		}
		r.Phase, r.FailReason = Written, ""`},
}

// TestMutants holds the tests of this package against wrong rules: each mutant
// must make them fail.
func TestMutants(t *testing.T) {
	if os.Getenv("MUTANT") != "" {
		t.Skip("this is a mutant's own run")
	}
	if testing.Short() {
		t.Skip("-short: a compilation for each mutant")
	}
	dir := t.TempDir()
	if out, ok := runOverlay(t, dir, -1); !ok {
		t.Fatalf("the real rules fail their own tests:\n%s", out)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	caught := 0
	slots := make(chan struct{}, 2)
	for i, m := range mutants {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			out, ok := runOverlay(t, dir, i)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case ok:
				t.Errorf("not caught: %s", m.name)
			case !strings.Contains(out, "--- FAIL"):
				t.Errorf("%s did not run: %s", m.name, out)
			default:
				caught++
				t.Logf("%-50s %s", m.name, firstFailure(out))
			}
		})
	}
	wg.Wait()
	fmt.Printf("mutants=%d caught=%d\n", len(mutants), caught)
}

func firstFailure(out string) string {
	for line := range strings.Lines(out) {
		if name, is := strings.CutPrefix(strings.TrimSpace(line), "--- FAIL: "); is {
			return "caught by " + strings.Fields(name)[0]
		}
	}
	return ""
}

// runOverlay runs this package's tests with mutant i in place, -1 for none.
func runOverlay(t *testing.T, dir string, i int) (out string, passed bool) {
	t.Helper()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	if i >= 0 {
		m := mutants[i]
		src, err := os.ReadFile(m.file)
		if err != nil {
			t.Error(err)
			return "", false
		}
		if strings.Count(string(src), m.old) != 1 {
			t.Errorf("mutant %q no longer applies to %s", m.name, m.file)
			return "", false
		}
		abs, err := filepath.Abs(m.file)
		if err != nil {
			t.Error(err)
			return "", false
		}
		changed := filepath.Join(dir, fmt.Sprintf("%d.go", i))
		if err := os.WriteFile(changed, []byte(strings.Replace(string(src), m.old, m.with, 1)), 0o600); err != nil {
			t.Error(err)
			return "", false
		}
		overlay.Replace[abs] = changed
	}
	list := filepath.Join(dir, fmt.Sprintf("%d.json", i))
	b, err := json.Marshal(overlay)
	if err == nil {
		err = os.WriteFile(list, b, 0o600)
	}
	if err != nil {
		t.Error(err)
		return "", false
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-overlay", list, "-vet=off", "-count=1", ".")
	cmd.Env = append(os.Environ(), "MUTANT=1", "CGO_ENABLED=0")
	got, err := cmd.CombinedOutput()
	return string(got), err == nil
}
