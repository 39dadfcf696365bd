package simtest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

type replacement struct{ file, old, with string }

// mutants are agents that break a rule of the money path. Each must leave a
// world that the judge finds wrong.
var mutants = []struct {
	name, story string
	replace     []replacement
}{
	{"settled on queueing, not on the answer", "card never returns", []replacement{{
		"outbox.go", `	reply, err := a.send(ctx, topup.Message(it.Kind), r)`,
		`	reply, err := topup.Reply{State: map[topup.Outcome]topup.State{
		topup.OutcomeWritten: topup.SettledState, topup.OutcomeNotWritten: topup.GivenBack, topup.OutcomeUnknown: topup.Pending,
	}[r.Outcome]}, error(nil)`,
	}}},
	{"marker after the first changing command", "plain load", []replacement{
		{"topup.go", `	if err := a.save(ctx, r, false); err != nil {
		// Clean failure`, `	if err := error(nil); err != nil {
		// Clean failure`},
		{"topup.go", `		v = w.write(ctx, &r)`, `		v = w.write(ctx, &r)
		_ = a.save(ctx, r, false)`},
	}},
	{"report outside the outcome's transaction", "plain load", []replacement{
		{"session.go", `		return a.put(tx, r, topup.Report, 0)`, `		return nil`},
		{"session.go", `	if n.Manual && !r.Manual {`, `	if n.Rev > r.Rev {
		_ = a.writer.Do(ctx, func(tx *bbolt.Tx) error { return a.put(tx, n, topup.Report, 0) })
	}
	if n.Manual && !r.Manual {`},
	}},
	{"an error value is trusted", "torn after 80 52", []replacement{{
		"purse.go", `	v, err := w.ask(ctx, r, ev)
	if err != nil {
		w.a.log.Warn("card not observed", "card", logName(r.Card), "err", err)
	}
	return v
}

func refused`, `	return topup.Verdict{Judgement: topup.IsNotWritten, Basis: topup.ByAnswer}
}

func refused`,
	}}},
	{"an intent of an earlier power session is forgotten", "both authorise answers lost", []replacement{{
		"session.go", `		if r.Phase != topup.Intent {
			continue
		}`, `		if true {
			continue
		}`,
	}}},
}

// TestMutants holds the judge against wrong agents.
func TestMutants(t *testing.T) {
	if os.Getenv("STORY") != "" {
		t.Skip("STORY is set: one story is looked at")
	}
	if testing.Short() {
		t.Skip("-short: a compilation for each mutant")
	}
	if racing {
		t.Skip("under the race detector: mutants are compiled without it")
	}
	t.Parallel()
	dir := t.TempDir()
	caught, byWorlds := 0, 0
	for i, m := range mutants {
		if out, ok := runOverlay(t, dir, i, nil, m.story); !ok {
			t.Fatalf("the real agent fails %q:\n%s", m.story, out)
		}
		out, _ := runOverlay(t, dir, i, m.replace, m.story)
		if strings.Contains(out, "--- FAIL: TestPowerCuts ") {
			caught++
		} else {
			t.Errorf("not caught: %s\n%s", m.name, out)
		}
		if strings.Contains(out, "--- FAIL: TestRandomWorlds ") {
			byWorlds++
		}
		for line := range strings.Lines(out) {
			if strings.HasPrefix(line, "cuts=") || strings.HasPrefix(line, "worlds=") {
				t.Logf("%-50s %s", m.name, strings.TrimSpace(line))
			}
		}
	}
	fmt.Printf("mutants=%d caught=%d caughtByWorlds=%d\n", len(mutants), caught, byWorlds)
	if byWorlds < 2 {
		t.Errorf("random worlds caught %d mutants: they see nothing", byWorlds)
	}
}

// runOverlay plays one story with cuts at every effect on a changed agent, and
// some random worlds.
func runOverlay(t *testing.T, dir string, i int, changes []replacement, story string) (out string, passed bool) {
	t.Helper()
	replaced := map[string]string{}
	for n, c := range changes {
		path, err := filepath.Abs(filepath.Join("..", c.file))
		if err != nil {
			t.Fatal(err)
		}
		from := path
		if done, again := replaced[path]; again {
			from = done
		}
		src, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(src), c.old) != 1 {
			t.Fatalf("a mutant no longer applies to %s: %s", c.file, c.old)
		}
		to := filepath.Join(dir, fmt.Sprintf("%d-%d.go", i, n))
		if err := os.WriteFile(to, []byte(strings.Replace(string(src), c.old, c.with, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		replaced[path] = to
	}
	list := filepath.Join(dir, fmt.Sprintf("%d.json", i))
	b, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(list, b, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-overlay", list, "-vet=off", "-count=1", "-timeout=60s", "-run", "^(TestPowerCuts|TestRandomWorlds)$", "-v", ".")
	cmd.Env = append(os.Environ(), "STORY="+story, "WORLDS=100", "CGO_ENABLED=0")
	got, err := cmd.CombinedOutput()
	return string(got), err == nil
}
