//go:build sim

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vcckiosk/agent/localapi"
	"vcckiosk/queue"
)

// programs builds kioskd and kioskctl once.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kioskbin")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-tags", "sim", "-o", dir+"/", "vcckiosk/cmd/kioskd", "vcckiosk/cmd/kioskctl").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := programs(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// kiosk is a folder with a configuration and what kioskd has made of it.
type kiosk struct {
	t                  *testing.T
	bin, dir           string
	config, state, run string
	stderr             bytes.Buffer
	cmd                *exec.Cmd
	exited             chan struct{}
}

func newKiosk(t *testing.T) *kiosk {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "kd") // a socket's path is at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	k := &kiosk{t: t, bin: bin, dir: dir, config: filepath.Join(dir, "k.toml"), state: filepath.Join(dir, "state"), run: filepath.Join(dir, "run")}
	k.configure(processConfig)
	return k
}

const processConfig = `[device]
id = "QC0001"
org_code = "SU0105"
terminal_no = "112233445566"
[api]
base_url = "http://127.0.0.1:1/vcc-openapi"
[auth]
app_id = "6A5B0E0F1C"
[reader]
driver = "sim"
name = "127.0.0.1:0"
[card.purse]
[heartbeat]
interval = "-1s"
`

func (k *kiosk) configure(text string) {
	k.t.Helper()
	k.write(k.config, fmt.Appendf(nil, "%s[state]\ndir = %q\n[local]\ndir = %q\n", text, k.state, k.run), 0o600)
}

func (k *kiosk) write(path string, b []byte, mode fs.FileMode) {
	k.t.Helper()
	if err := os.WriteFile(path, b, mode); err != nil {
		k.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kiosk) read(name string) []byte {
	k.t.Helper()
	b, err := os.ReadFile(filepath.Join(k.state, name))
	if err != nil {
		k.t.Fatal(err)
	}
	return b
}

// start starts kioskd and returns its status, or none when it has ended.
func (k *kiosk) start() (st localapi.Status, up bool) {
	k.t.Helper()
	k.stderr.Reset()
	k.cmd = exec.CommandContext(context.Background(), filepath.Join(k.bin, "kioskd"), "-config", k.config)
	k.cmd.Stderr = &k.stderr
	if err := k.cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	cmd, exited := k.cmd, make(chan struct{})
	k.exited = exited
	go func() { defer close(exited); _ = cmd.Wait() }()
	k.t.Cleanup(func() { _ = cmd.Process.Kill(); <-exited })
	client := localapi.Dial(filepath.Join(k.run, "technician.sock"))
	for {
		if client.Get(k.t.Context(), "/v1/status", &st) == nil && st.Reader.State != "unknown" {
			return st, true
		}
		select {
		case <-exited:
			return st, false
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// stop ends kioskd as a supervisor does; the exit code is 0.
func (k *kiosk) stop() {
	k.t.Helper()
	_ = k.cmd.Process.Signal(syscall.SIGTERM)
	<-k.exited
	if code := k.cmd.ProcessState.ExitCode(); code != exitOK {
		k.t.Errorf("exit code %d after SIGTERM: %s", code, &k.stderr)
	}
}

// made is a kiosk that has run once.
func made(t *testing.T) *kiosk {
	t.Helper()
	k := newKiosk(t)
	if st, up := k.start(); !up || st.State != "needsKey" {
		t.Fatalf("a new kiosk: %+v: %s", st, &k.stderr)
	}
	k.stop()
	return k
}

// ctl runs kioskctl.
func (k *kiosk) ctl(args ...string) (code int, said string) {
	k.t.Helper()
	cmd := exec.CommandContext(k.t.Context(), filepath.Join(k.bin, "kioskctl"), append([]string{"--socket", filepath.Join(k.run, "technician.sock")}, args...)...)
	out, err := cmd.CombinedOutput()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		k.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// files are names, modes and digests of everything in the state folder whose
// name begins with one of some.
func (k *kiosk) files(some ...string) string {
	k.t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(k.state, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := d.Name()
		wanted := len(some) == 0
		for _, s := range some {
			wanted = wanted || strings.HasPrefix(name, s)
		}
		if !wanted {
			return nil
		}
		content, err := os.ReadFile(path)
		st, serr := d.Info()
		if err = errors.Join(err, serr); err == nil {
			fmt.Fprintf(&b, "%s %v %d %x\n", name, st.Mode(), len(content), sha256.Sum256(content))
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.t.Fatal(err)
	}
	return b.String()
}

func wants(t *testing.T, what, said string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(said, w) {
			t.Errorf("%s lacks %q:\n%s", what, w, said)
		}
	}
}

func TestABadConfigurationEndsWith2AndTouchesNothing(t *testing.T) {
	t.Parallel()
	secret := "4D6F6E6579"
	for _, c := range []struct {
		name, old, with string
		want            []string
	}{
		{"unknown key", `app_id =`, `app_idd =`, []string{":8:1: unknown key \"auth.app_idd\"", `8| app_idd = "6A5B0E0F1C"`}},
		{"unknown table", `[card.purse]`, "[card.purse]\n[printer]\nname = 1", []string{"unknown key", "printer"}},
		{"wrong type", `"QC0001"`, `17`, []string{":2:", "id = 17"}},
		{"list for text", `"6A5B0E0F1C"`, `["a"]`, []string{":8:", `app_id = ["a"]`}},
		{"no TOML", `[api]`, `[api`, []string{":5:"}},
		{"twice", `[card.purse]`, "[card.purse]\n[card.purse]", []string{"card"}},
		{"out of range", `[card.purse]`, "[card.purse]\n[seq]\ncode_width = 9", []string{"seq.code_width 9: want 4 or 5"}},
		{"key index out of range", `[card.purse]`, "[card.purse]\nkey_index = 256", []string{"key_index is 0 to 255"}},
		{"number too large", `[card.purse]`, "[card.purse]\nkey_index = 99999999999999999999", []string{":"}},
		{"timeout out of range", `[auth]`, "timeout_live = \"1ms\"\n[auth]", []string{"api.timeout_live: 1ms is not from 1s to 10m"}},
		{"unknown dialect", `[auth]`, "dialect = \"klingon\"\n[auth]", []string{"dialect \"klingon\": want none or selfservice"}},
		{"no TLS to a strange machine", `http://127.0.0.1:1/`, `http://platform.example/`, []string{"https"}},
		{"authority that is not there", `[auth]`, "ca_file = \"/nonexistent/ca.pem\"\n[auth]", []string{"/nonexistent/ca.pem"}},
		{"key others may read", `[auth]`, "cert_file = \"DIR/open\"\nkey_file = \"DIR/open\"\n[auth]", []string{"DIR/open has mode 0644", "chmod 0600"}},
		{"PIN others may read", `[card.purse]`, "[card.purse]\npin = \"fixed\"\npin_file = \"DIR/open\"", []string{"DIR/open has mode 0644", "chmod 600"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := newKiosk(t)
			k.write(filepath.Join(k.dir, "open"), []byte(secret), 0o644)
			k.configure(strings.Replace(processConfig, c.old, strings.ReplaceAll(c.with, "DIR", k.dir), 1))
			if _, up := k.start(); up {
				t.Fatalf("it serves")
			}
			said := k.stderr.String()
			if code := k.cmd.ProcessState.ExitCode(); code != exitConfig {
				t.Errorf("exit code %d: %s", code, said)
			}
			code, checked := k.ctl("config", "check", k.config)
			if code != 1 {
				t.Errorf("config check ends with %d: %s", code, checked)
			}
			for i, w := range c.want {
				c.want[i] = strings.ReplaceAll(w, "DIR", k.dir)
			}
			wants(t, "kioskd", said, c.want...)
			wants(t, "config check", checked, c.want...)
			if strings.Contains(said+checked, secret) {
				t.Error("the secret is quoted")
			}
			if f := k.files(); f != "" {
				t.Errorf("files were made:\n%s", f)
			}
		})
	}
}

func TestAKioskWhoseDatabaseDoesNotOpenStaysUpAndTouchesNothing(t *testing.T) {
	t.Parallel()
	flip := func(at func(n int) int) func(b []byte) []byte {
		return func(b []byte) []byte { b[at(len(b))] ^= 0x10; return b }
	}
	keep := []string{"is damaged", "do not delete", "give the copy to support"}
	for _, c := range []struct {
		name  string
		spoil func(b []byte) []byte
		want  []string
	}{
		{"no content", func([]byte) []byte { return nil }, keep},
		{"cut in half", func(b []byte) []byte { return b[:len(b)/2] }, keep},
		{"cut in the first page", func(b []byte) []byte { return b[:100] }, keep},
		{"no database at all", func(b []byte) []byte { return bytes.Repeat([]byte("x"), len(b)) }, keep},
		{"bit of the first meta page", flip(func(int) int { return 16 + 40 }), keep},
		{"bit of the second meta page", flip(func(n int) int { return os.Getpagesize() + 16 + 40 }), keep},
		{"newer", nil, []string{"newer program", "install that program's version or newer"}},
		{"others may read it", func(b []byte) []byte { return b }, []string{"mode 0644", "chmod 600"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := made(t)
			path := filepath.Join(k.state, "agent.db")
			switch {
			case c.spoil == nil:
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				db, err := queue.OpenFile(t.Context(), path, queue.FileOptions{Schema: 2, NoSync: true, Reserve: -1})
				if err != nil || db.Close() != nil {
					t.Fatal(err)
				}
			case c.want[0] == "mode 0644":
				k.write(path, k.read("agent.db"), 0o644)
			default:
				k.write(path, c.spoil(k.read("agent.db")), 0o600)
			}
			before := k.files()
			st, up := k.start()
			if !up {
				t.Fatalf("it ended with %d: %s", k.cmd.ProcessState.ExitCode(), &k.stderr)
			}
			if st.State != "storage" || st.Note == nil || len(st.Alarms) == 0 {
				t.Errorf("status %+v", st)
			}
			wants(t, "status", st.Fault, append(c.want, path)...)
			if code, said := k.ctl("status"); code != 3 || !strings.Contains(said, "fault ") {
				t.Errorf("kioskctl status ends with %d: %s", code, said)
			}
			if code, said := k.ctl("topup", "--yes"); code != 3 {
				t.Errorf("kioskctl topup ends with %d: %s", code, said)
			}
			if code, said := k.ctl("queue", "ls"); code != 1 || !strings.Contains(said, "out of service") {
				t.Errorf("kioskctl queue ls ends with %d: %s", code, said)
			}
			k.stop()
			wants(t, "kioskd", k.stderr.String(), c.want...)
			if code, said := k.ctl("config", "check", k.config); code != 0 || !strings.Contains(said, "configuration is good") {
				t.Errorf("config check ends with %d: %s", code, said)
			} else if c.spoil != nil { // the schema is inside: only opening it tells
				wants(t, "config check", said, c.want...)
			}
			if after := k.files(); after != before {
				t.Errorf("files before\n%s, after\n%s", before, after)
			}
		})
	}
}

func TestAKeystoreThatDoesNotOpenLeavesAKioskThatCanBeProvisioned(t *testing.T) {
	t.Parallel()
	aside := "kioskd -set-keystore-aside"
	for _, c := range []struct {
		name, file string
		spoil      func(b []byte) []byte // nil: the file goes
		mode       fs.FileMode
		want       string
	}{
		{"database without content", "keystore.db", func([]byte) []byte { return []byte{} }, 0o600, aside},
		{"database cut short", "keystore.db", func(b []byte) []byte { return b[:5000] }, 0o600, aside},
		{"database gone", "keystore.db", nil, 0, aside},
		{"bit in the database", "keystore.db", func(b []byte) []byte { b[16+40] ^= 1; b[4096+16+40] ^= 1; return b }, 0o600, aside},
		{"database others may read", "keystore.db", func(b []byte) []byte { return b }, 0o644, "chmod"},
		{"both headers without content", "keystore.hdr", func([]byte) []byte { return []byte{} }, 0o600, aside},
		{"bit in both headers", "keystore.hdr", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, 0o600, aside},
		{"key file others may read", "slot.key", func(b []byte) []byte { return b }, 0o644, "chmod"},
		{"key file gone", "slot.key", nil, 0, aside},
		{"key file of another kiosk", "slot.key", func(b []byte) []byte { b[0] ^= 1; return b }, 0o600, aside},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := made(t)
			names, err := filepath.Glob(filepath.Join(k.state, c.file+"*"))
			if err != nil || len(names) == 0 {
				t.Fatalf("no %s: %v", c.file, err)
			}
			for _, path := range names {
				if c.spoil == nil {
					err = os.Remove(path)
				} else {
					k.write(path, c.spoil(k.read(filepath.Base(path))), c.mode)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			before := k.files("keystore", "slot")
			st, up := k.start()
			if !up {
				t.Fatalf("it ended with %d: %s", k.cmd.ProcessState.ExitCode(), &k.stderr)
			}
			if st.State != "needsKey" || len(st.Alarms) == 0 {
				t.Errorf("status %+v", st)
			}
			wants(t, "status", st.Key, "locked: ", c.want)
			if code, said := k.ctl("status"); code != 10 || !strings.Contains(said, c.want) {
				t.Errorf("kioskctl status ends with %d: %s", code, said)
			}
			k.stop()
			if code, said := k.ctl("config", "check", k.config); code != 0 {
				t.Errorf("config check ends with %d: %s", code, said)
			} else if c.file == "slot.key" && c.mode == 0o644 {
				wants(t, "config check", said, "others may use it", "chmod 0600")
			}
			if after := k.files("keystore", "slot"); after != before {
				t.Errorf("files before\n%s, after\n%s", before, after)
			}
			if c.want != aside {
				return
			}
			var stderr bytes.Buffer
			if code := run(t.Context(), []string{"-config", k.config, "-set-keystore-aside"}, &stderr); code != exitOK {
				t.Fatalf("set aside ends with %d: %s", code, &stderr)
			}
			if st, up := k.start(); !up || st.Key != "none" {
				t.Errorf("after it was set aside: %q: %s", st.Key, &k.stderr)
			}
			k.stop()
			if kept, _ := filepath.Glob(filepath.Join(k.state, "keystore*.aside-*")); len(kept) == 0 {
				t.Error("nothing was kept of the old one")
			}
		})
	}
}

func TestOneHeaderIsEnough(t *testing.T) {
	t.Parallel()
	k := made(t)
	k.write(filepath.Join(k.state, "keystore.hdr1"), nil, 0o600)
	if st, up := k.start(); !up || st.Key != "none" {
		t.Errorf("key %q: %s", st.Key, &k.stderr)
	}
	k.stop()
}

func TestASecondKioskdEndsWith4(t *testing.T) {
	t.Parallel()
	k := made(t)
	if _, up := k.start(); !up {
		t.Fatal(k.stderr.String())
	}
	second := func(what string, want ...string) {
		t.Helper()
		var stderr bytes.Buffer
		if code := run(t.Context(), []string{"-config", k.config}, &stderr); code != exitInUse {
			t.Errorf("%s: exit code %d: %s", what, code, &stderr)
		}
		wants(t, what, stderr.String(), want...)
	}
	second("the same files", filepath.Join(k.state, "agent.db"), "in use by another process", "end it first")
	if code, said := k.ctl("config", "check", k.config); code != 0 || !strings.Contains(said, "in use, by a running kioskd") {
		t.Errorf("config check beside a running kioskd ends with %d: %s", code, said)
	}
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"-config", k.config, "-set-keystore-aside"}, &stderr); code != exitInUse {
		t.Errorf("set aside under a running kioskd: %d: %s", code, &stderr)
	}
	k.state += "2" // other files, the same sockets
	k.configure(processConfig)
	second("the same sockets", "operator.sock", "another kioskd serves there")
	if code, said := k.ctl("status"); code != 10 {
		t.Errorf("the first one no longer answers: %d %s", code, said)
	}
	k.stop()
}

func TestASocketThatCannotBeMadeIsABadConfiguration(t *testing.T) {
	t.Parallel()
	k := newKiosk(t)
	k.write(k.run, []byte("a file"), 0o600)
	if _, up := k.start(); up || k.cmd.ProcessState.ExitCode() != exitConfig {
		t.Errorf("up %v: %s", up, &k.stderr)
	}
	wants(t, "kioskd", k.stderr.String(), "local.dir", k.run)
}
