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
// One with a model is judged by the model alone, in the worlds of that kind of
// card; the others by the rules' own tests, and by the model if those are blind.
var mutants = []struct{ name, file, old, with, model string }{
	{"sequence +1 means written", "decide.go", `	basis := ByLog
	if e.TAC`, `	if e.Seq == p.Seq+1 {
		return Verdict{Judgement: IsWritten, Basis: ByLog}
	}
	basis := ByLog
	if e.TAC`, "purse"},
	{"a refusal is believed without 80 50", "decide.go", `	newer, reaches := newerThan`, `	if e.Answer == Refused {
		return Verdict{Judgement: IsNotWritten, Basis: ByAnswer}
	}
	newer, reaches := newerThan`, ""},
	{"80 50 before the log is looked at", "decide.go", `	newer, reaches := newerThan(e, p)`, `	if !e.SeqRead {
		return Verdict{Judgement: NeedsSequence}
	}
	newer, reaches := newerThan(e, p)`, ""},
	{"a proof's TAC is taken for our own load", "decide.go", `	basis := ByLog
	if e.TAC != "" {`, `	basis := ByLog
	if e.TAC != "" {
		return Verdict{Judgement: IsWritten, Basis: ByProof}
	}
	if e.TAC != "" {`, ""},
	{"own record without terminal", "decide.go", `l.Terminal == p.Terminal &&`, `true &&`, ""},
	{"own record without date", "decide.go", `l.Date == p.HostDate &&`, `true &&`, ""},
	{"own record without time", "decide.go", `l.Time == p.HostTime &&`, `true &&`, ""},
	{"own record without amount", "decide.go", `l.Amount == p.Amount &&`, `true &&`, ""},
	{"records older than the attempt count", "decide.go", `return e.Log[:i], true`, `return e.Log[:max(i, len(e.Log))], true`, ""},
	{"a log that does not reach back says not written", "decide.go", `	case !reaches:`, `	case !reaches:
		return Verdict{Judgement: IsNotWritten, Basis: ByLog}
	case !reaches && false:`, ""},
	{"a full log that was empty reaches back", "decide.go", `p.LogSeen && e.State == LogRoom`, `p.LogSeen`, ""},
	{"any mixture is rolled forward", "plan.go", `	if !tornByte(p.Before[at], p.Target[at], content[at]) {
		return 0, false
	}
	want[at] = content[at]
	return done, bytes.Equal(content, want)`, `	_ = at
	return done, true`, "card"},
	{"an Unknown is rolled forward without asking", "decide.go", `if r.Phase == Writing && e.Here {`, `if e.Here {`, ""},
	{"the count is not written last", "plan.go", `	for _, part := range []func(off int) bool{
		func(off int) bool { return !l.Gas.has(off) && !commit.has(off) },
		func(off int) bool { return l.Gas.has(off) && !commit.has(off) },
		commit.has,
	} {`, `	for _, part := range []func(off int) bool{
		commit.has,
		func(off int) bool { return !commit.has(off) },
	} {`, ""},
	{"a card that holds gas is written", "plan.go", `!ok || gas != 0`, `!ok || gas < 0`, ""},
	{"identity bytes may change", "plan.go", `!bytes.Equal(id.of(before), id.of(target))`, `false`, ""},
	{"closed by an acknowledged unknown", "settle.go", `		case Pending:
			return Next{Record: r, Send: []Send{{Query, QueryDaily}}}`, `		case Pending:
			return closed(r)`, "purse"},
	{"give-back on a memory card's word", "record.go", `return r.Card.CPU() && (r.Basis == ByAnswer || r.Basis == ByLog)`, `return true`, "copied card"},
	{"a conflict is closed", "settle.go", `	return park(r, "platform contradicts the card", AlarmConflict)`, `	return closed(r)`, ""},
	{"an order is free before it is acknowledged", "record.go", `r.Phase != Closed || r.Outcome != OutcomeNotWritten`, `r.Outcome != OutcomeNotWritten`, ""},
	{"an unknown order is closed at once", "settle.go", `	if r.Asked {
		return closed(r)
	}`, `	if true {
		return closed(r)
	}`, ""},
	{"a written card is silent after a give-back", "settle.go", `	case OutcomeWritten:
		r.Phase, r.FailReason = Written, ""`, `	case OutcomeWritten:
		if r.AckState == GivenBack {
			r.Phase = Closed
			return r, true
		}
		r.Phase, r.FailReason = Written, ""`, ""},
	{"a later load clears one never logged", "decide.go", `	at := p.Seq
	switch loads[0].Seq {`, `	if slices.ContainsFunc(loads, func(l LogRecord) bool { return l.Seq == p.Seq || l.Seq == p.Seq+1 }) {
		return true
	}
	at := p.Seq
	switch loads[0].Seq {`, "purse"},
	{"a load goes out with the proof of another", "settle.go", `if v.Basis == ByLog {`, `if false {`, "purse"},
	{"a torn record goes on in a later session without asking", "decide.go", `if r.Phase == Writing && e.Here {`, `if r.Phase == Writing {`, ""},
	{"a day file without a decision closes an unknown", "day.go", `		case w.State != GivenBack:
			return Next{Record: r}, false`, `		case w.State == Pending:`, "purse"},
	{"a give-back in the day file closes while the card may come", "day.go", `case !w.Gone || r.Manual:`, `case r.Manual:`, ""},
	{"the day file speaks before the report is answered", "day.go", `r.Rev == 0 || r.AckRev != r.Rev`, `false`, ""},
	{"what a day file gives back counts as booked", "day.go", `		return s == SettledState
`, `		return s != Pending
`, ""},
	{"the report of an unknown is the last word", "record.go", `return r.Phase == Writing || r.Phase == Unknown`, `return r.Phase == Writing`, ""},
}

// kioskMutants are kiosks that use the rules wrongly. The model plays them.
var kioskMutants = []struct {
	name  string
	kiosk kiosk
}{
	{"balance decides", balanceKiosk},
	{"80 50 at card-in", hastyKiosk},
	{"any answer to 80 52 is a success", nilErrorKiosk},
}

// TestMutants holds the tests of this package against wrong rules: each mutant
// must make them fail, by a failed test and not by a failed compilation.
func TestMutants(t *testing.T) {
	if os.Getenv("MUTANT") != "" {
		t.Skip("this is a mutant's own run")
	}
	if testing.Short() {
		t.Skip("-short: a compilation for each mutant")
	}
	dir := t.TempDir()
	real, err := build(t, dir, -1)
	if err != nil {
		t.Fatal(err)
	}
	if out, ok := ask(t, real, "rules", ""); !ok {
		t.Fatalf("the real rules fail their own tests:\n%s", out)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	caught := 0
	slots := make(chan struct{}, 2)
	judge := func(name string, by func() string) {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			found := by()
			mu.Lock()
			defer mu.Unlock()
			if found == "" {
				t.Errorf("not caught: %s", name)
				return
			}
			caught++
			t.Logf("%-55s %s", name, found)
		})
	}
	for _, k := range kioskMutants {
		judge(k.name, func() string {
			return byModel(explorePurse(size{tries: 2, moves: 2, visits: 1}, k.kiosk).violation)
		})
	}
	for i, m := range mutants {
		judge(m.name, func() string { return catch(t, dir, i) })
	}
	wg.Wait()
	fmt.Printf("mutants=%d caught=%d\n", len(mutants)+len(kioskMutants), caught)
}

// catch tells by what mutant i is caught, "" if it is not.
func catch(t *testing.T, dir string, i int) string {
	bin, err := build(t, dir, i)
	if err != nil {
		t.Error(err)
		return ""
	}
	model := mutants[i].model
	if model == "" {
		out, ok := ask(t, bin, "rules", "")
		if at := strings.Index(out, "--- FAIL: "); !ok && at >= 0 {
			return strings.Fields(out[at:])[2]
		}
		if !ok {
			t.Errorf("%s did not run: %s", mutants[i].name, out)
			return ""
		}
	}
	out, _ := ask(t, bin, "model", model)
	return byModel(out)
}

// byModel is the violation in what a model said, "" if there is none.
func byModel(out string) string {
	at := strings.Index(out, "violation: ")
	if at < 0 {
		return ""
	}
	line, _, _ := strings.Cut(out[at:], "\n")
	kind, what, _ := strings.Cut(strings.TrimPrefix(line, "violation: "), ": ")
	if parts := strings.SplitN(what, ": ", 3); len(parts) > 1 && strings.HasPrefix(what, "without faults") {
		what = parts[0] + ": " + parts[1]
	} else {
		what = parts[0]
	}
	return "model, " + kind + ": " + what
}

// build compiles this package's tests with mutant i in place, -1 for none.
func build(t *testing.T, dir string, i int) (bin string, err error) {
	t.Helper()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	if i >= 0 {
		m := mutants[i]
		src, err := os.ReadFile(m.file)
		if err != nil {
			return "", err
		}
		if strings.Count(string(src), m.old) != 1 {
			return "", fmt.Errorf("mutant %q no longer applies to %s", m.name, m.file)
		}
		abs, err := filepath.Abs(m.file)
		if err != nil {
			return "", err
		}
		overlay.Replace[abs] = filepath.Join(dir, fmt.Sprintf("%d.go", i))
		if err := os.WriteFile(overlay.Replace[abs], []byte(strings.Replace(string(src), m.old, m.with, 1)), 0o600); err != nil {
			return "", err
		}
	}
	list := filepath.Join(dir, fmt.Sprintf("%d.json", i))
	b, err := json.Marshal(overlay)
	if err == nil {
		err = os.WriteFile(list, b, 0o600)
	}
	if err != nil {
		return "", err
	}
	bin = filepath.Join(dir, fmt.Sprintf("%d.test", i))
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", bin, "-overlay", list, "-vet=off", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("mutant %d does not build: %w\n%s", i, err, out)
	}
	return bin, nil
}

// ask runs one half of the tests: the rules' own, or the model in the worlds of
// a kind of card ("" for all).
func ask(t *testing.T, bin, half, kind string) (out string, passed bool) {
	t.Helper()
	args := []string{"-test.v=false"}
	if half == "model" {
		args = append(args, "-test.run=^TestModel$")
	}
	cmd := exec.CommandContext(t.Context(), bin, args...)
	cmd.Env = append(os.Environ(), "MUTANT="+half, "MODEL="+kind)
	got, err := cmd.CombinedOutput()
	return string(got), err == nil
}
