//go:build sim

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// programs builds what the demo needs once.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "simbin")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-tags", "sim", "-o", dir+"/", "vcckiosk/cmd/kioskd", "vcckiosk/cmd/kioskctl", "vcckiosk/cmd/vccsim").CombinedOutput()
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

// vccsim is a command with a TMPDIR of its own.
func vccsim(t *testing.T, args ...string) (cmd *exec.Cmd, tmp string) {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	tmp, err = os.MkdirTemp("", "vs") // a socket's path is at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	cmd = exec.CommandContext(t.Context(), filepath.Join(bin, "vccsim"), args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	return cmd, tmp
}

// processes are those whose command line names dir.
func processes(dir string) (pids []string) {
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, n := range names {
		if b, err := os.ReadFile(n); err == nil && bytes.Contains(b, []byte(dir)) {
			pids = append(pids, n)
		}
	}
	return pids
}

// nothingLeft waits until no process of the demo is there, and wants no files.
func nothingLeft(t *testing.T, tmp string, files bool) {
	t.Helper()
	for len(processes(tmp)) > 0 {
		select {
		case <-t.Context().Done():
			t.Fatal("processes are left")
		case <-time.After(10 * time.Millisecond):
		}
	}
	if left, _ := os.ReadDir(tmp); files && len(left) > 0 {
		t.Errorf("left in TMPDIR: %v", left)
	}
}

// step is one line of --json.
type step struct {
	Step     int
	What     string
	Saw      string
	Agree    *bool
	Orders   []json.RawMessage
	Platform string
	Kiosks   []struct{ Name, Reader, Socket, Log string }
}

func steps(t *testing.T, out []byte) (all []step) {
	t.Helper()
	for line := range bytes.Lines(out) {
		var s step
		if err := json.Unmarshal(line, &s); err != nil || s.What == "" || s.Step != len(all)+1 {
			t.Fatalf("line %d: %v: %s", len(all)+1, err, line)
		}
		all = append(all, s)
	}
	return all
}

func TestTwoDemosAtOnceBothAgree(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			cmd, tmp := vccsim(t, "demo", "--json")
			cmd.Dir = tmp
			cmd.Env = append(cmd.Env, "NO_COLOR=1", "TERM=dumb", "COLUMNS=20")
			out, err := cmd.Output()
			if err != nil {
				e, _ := errors.AsType[*exec.ExitError](err)
				t.Errorf("%v: %s%s", err, out, e.Stderr)
				return
			}
			all := steps(t, out)
			last := all[len(all)-1]
			if len(all) < 15 || last.Agree == nil || !*last.Agree || len(last.Orders) != 4 || last.Saw != "card, meter, platform and journal agree" {
				t.Errorf("%d steps, the last %+v", len(all), last)
			}
			nothingLeft(t, tmp, true)
		})
	}
	wg.Wait()
}

func TestTheLastLineSaysThatAllAgree(t *testing.T) {
	t.Parallel()
	cmd, tmp := vccsim(t, "demo")
	cmd.Stdin = nil
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	text := strings.TrimSuffix(string(out), "\n")
	if last := text[strings.LastIndex(text, "\n")+1:]; last != "card, meter, platform and journal agree" {
		t.Errorf("the last line is %q", last)
	}
	if strings.ContainsAny(text, "\x1b\r") {
		t.Error("colours or returns where nobody can see them")
	}
	nothingLeft(t, tmp, true)
}

// until reads lines until one has what is looked for.
func until(t *testing.T, r *bufio.Reader, what string) (all string) {
	t.Helper()
	for !strings.Contains(all, what) {
		line, err := r.ReadString('\n')
		all += line
		if err != nil {
			t.Fatalf("no %q in: %s", what, all)
		}
	}
	return all
}

func TestCtrlC(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, until string
		args        []string
		signal      syscall.Signal
		want        int
	}{
		{"while a kiosk starts", `"step":1`, []string{"demo", "--json"}, syscall.SIGINT, 130},
		{"in the middle", `"step":6`, []string{"demo", "--json"}, syscall.SIGINT, 130},
		{"terminated in the middle", `"step":9`, []string{"demo", "--json"}, syscall.SIGTERM, 130},
		{"left running", `left running`, []string{"demo", "--json", "--open"}, syscall.SIGINT, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cmd, tmp := vccsim(t, c.args...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			pipe, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			said := until(t, bufio.NewReader(pipe), c.until)
			if c.want == 0 {
				all := steps(t, []byte(said))
				last := all[len(all)-1]
				if len(last.Kiosks) != 2 || last.Platform == "" || len(processes(tmp)) != 2 {
					t.Errorf("left running: %+v, %d processes", last, len(processes(tmp)))
				}
			}
			// As a terminal does: to the whole group.
			if err := syscall.Kill(-cmd.Process.Pid, c.signal); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != c.want {
				t.Errorf("exit code %d, want %d: %s", code, c.want, &stderr)
			}
			nothingLeft(t, tmp, true)
		})
	}
}

func TestAKilledDemoTakesItsKiosksWithIt(t *testing.T) {
	t.Parallel()
	cmd, tmp := vccsim(t, "demo", "--json")
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, bufio.NewReader(pipe), `"step":4`)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	nothingLeft(t, tmp, false)
}

func TestANarrowTerminal(t *testing.T) {
	t.Parallel()
	cmd, tmp := vccsim(t, "demo")
	ctrl, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 20, Cols: 60})
	if err != nil {
		t.Fatal(err)
	}
	defer ctrl.Close()
	var out bytes.Buffer
	_, _ = out.ReadFrom(ctrl) // a terminal whose program has ended gives an error
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	if !strings.Contains(out.String(), "1  platform started\r\n    http://") {
		t.Errorf("not for a narrow terminal: %s", &out)
	}
	nothingLeft(t, tmp, true)
}

func TestAFolderThatCannotBeUsed(t *testing.T) {
	for _, bad := range []string{"/nonexistent/folder", "/proc/1", "/" + strings.Repeat("x", 90)} {
		t.Setenv("TMPDIR", bad)
		dir, err := folder()
		if err != nil || strings.HasPrefix(dir, bad) {
			t.Errorf("TMPDIR %s: %q, %v", bad, dir, err)
			continue
		}
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	}
}

func TestAPortInUse(t *testing.T) {
	t.Parallel()
	p, err := listen(t.Context(), "127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	cmd, _ := vccsim(t, "serve", "--addr", strings.TrimPrefix(p.url, "http://"))
	out, err := cmd.CombinedOutput()
	if e, ended := errors.AsType[*exec.ExitError](err); !ended || e.ExitCode() != 1 || !strings.Contains(string(out), "address already in use") {
		t.Errorf("%v: %s", err, out)
	}
	cmd, _ = vccsim(t, "serve", "--addr", "0.0.0.0:0")
	out, err = cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "loopback only") {
		t.Errorf("a strange address: %v: %s", err, out)
	}
}

// TestAReadersAddressTakenMeanwhile starts a kiosk again whose reader's port
// somebody else has.
func TestAReadersAddressTakenMeanwhile(t *testing.T) {
	t.Parallel()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	other, err := listen(t.Context(), "127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := folder()
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	k := &kiosk{
		program: filepath.Join(bin, "kioskd"), name: "A", terminal: "112233445566", platform: other.url + simPrefix, dir: dir,
		config: filepath.Join(dir, "c"), log: filepath.Join(dir, "log"),
	}
	k.dial()
	if err := k.configure(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(k.config)
	if err != nil {
		t.Fatal(err)
	}
	taken := strings.TrimPrefix(other.url, "http://")
	if err := os.WriteFile(k.config, bytes.ReplaceAll(text, []byte(k.reader), []byte(taken)), 0o600); err != nil {
		t.Fatal(err)
	}
	k.reader = taken
	if err := k.start(t.Context()); err != nil || k.reader == taken {
		t.Fatalf("reader %s: %v", k.reader, err)
	}
	if err := k.stop(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}
