//go:build sim

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vcckiosk/cmd/vccsim/conform"
	"vcckiosk/protocol/vcctest"
)

// conformWith runs the command against a platform on a port and returns what it
// printed.
func conformWith(t *testing.T, o vcctest.Options, args ...string) (out, progress string, err error) {
	t.Helper()
	o.BaseKey = simKey
	pl, err := listen(t.Context(), "127.0.0.1:0", vcctest.New(o))
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key.txt")
	if err := os.WriteFile(key, []byte(simKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := command()
	var a, b bytes.Buffer
	c.SetOut(&a)
	c.SetErr(&b)
	c.SetArgs(append([]string{"conform", "server", pl.url + simPrefix, "--key-file", key, "--app-id", "APPX", "--rate", "50"}, args...))
	err = c.ExecuteContext(t.Context())
	return a.String(), b.String(), err
}

func TestConformServer(t *testing.T) {
	t.Parallel()
	out, progress, err := conformWith(t, vcctest.Options{Good: true, Sign: vcctest.SignReading{Encoded: true}}, "--sim", "memory", "--only", "money.1.repeat")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{`[sign] value = "encoded"`, "money.1.repeat  OK", "1 ok, 0 differ, 0 unsafe"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if !strings.Contains(progress, "getToken") || strings.Contains(out+progress, simKey) {
		t.Errorf("progress:\n%s", progress)
	}
	out, _, err = conformWith(t, vcctest.Options{Good: true, Lapses: vcctest.Lapses{NoIdempotency: true}, Odds: 1},
		"--sim", "purse", "--only", "money.1.repeat", "--json")
	var r conform.Report
	if !errors.Is(err, errDiffers) || json.Unmarshal([]byte(out), &r) != nil || r.Counts[conform.Unsafe] != 1 || len(r.Readings) < 15 {
		t.Errorf("a platform that is not idempotent: %v\n%s", err, out)
	}
}

// TestConformOwnCases: a file of the user's own, and one that replaces a case.
func TestConformOwnCases(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "own.toml")
	text := "[[case]]\nid = \"own.clock\"\ntitle = \"the clock is told\"\n[[case.step]]\ncall = \"6005\"\nexpect = [\"ok\"]\n" +
		"[[case]]\nid = \"sign.wrong\"\ntitle = \"replaced\"\n[[case.step]]\ncall = \"6005\"\nexpect = [\"10001\"]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _, err := conformWith(t, vcctest.Options{Good: true}, "--cases", file, "--only", "own,sign.wrong")
	if !errors.Is(err, errDiffers) || !strings.Contains(out, "own.clock         OK") ||
		!strings.Contains(out, "sign.wrong        DIFFERS    replaced: step 1 (6005): answered ok, want 10001") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestConformRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open, key := filepath.Join(dir, "open.txt"), filepath.Join(dir, "key.txt")
	for path, mode := range map[string]os.FileMode{open: 0o644, key: 0o600} {
		if err := os.WriteFile(path, []byte(simKey), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range []struct {
		name, want string
		args       []string
	}{
		{"an address elsewhere", "test platform", []string{"https://api.example/vcc-openapi", "--key-file", key, "--app-id", "A"}},
		{"a simulator elsewhere", "loopback only", []string{"https://api.example/x", "--key-file", key, "--app-id", "A", "--sim", "memory", "--yes-this-is-a-test-platform"}},
		{"no key", "key-file", []string{"http://127.0.0.1:1/x", "--app-id", "A"}},
		{"a key for everybody", "chmod 0600", []string{"http://127.0.0.1:1/x", "--key-file", open, "--app-id", "A"}},
		{"no identity", "appId", []string{"http://127.0.0.1:1/x", "--key-file", key}},
		{"two identities", "one of them", []string{"http://127.0.0.1:1/x", "--key-file", key, "--app-id", "A", "--channel-id", "C"}},
		{"too fast", "--rate", []string{"http://127.0.0.1:1/x", "--key-file", key, "--app-id", "A", "--rate", "1000"}},
		{"no such cases", "read cases", []string{"http://127.0.0.1:1/x", "--key-file", key, "--app-id", "A", "--cases", filepath.Join(dir, "none")}},
		{"nobody there", "no usable answer", []string{"http://127.0.0.1:1/x", "--key-file", key, "--app-id", "A", "--rate", "50"}},
	} {
		c := command()
		var out bytes.Buffer
		c.SetOut(&out)
		c.SetErr(&out)
		c.SetArgs(append([]string{"conform", "server"}, x.args...))
		err := c.ExecuteContext(t.Context())
		if err == nil || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error()+out.String(), simKey) {
			t.Errorf("%s: %v, want %q", x.name, err, x.want)
		}
	}
}
