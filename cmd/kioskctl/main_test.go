package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kioskctl": main})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: os.Getenv("UPDATE_GOLDEN") != "",
		Setup: func(env *testscript.Env) error {
			dir, err := os.MkdirTemp("", "ctl") // a socket's path is at most 107 bytes
			if err != nil {
				return err
			}
			env.Defer(func() { _ = os.RemoveAll(dir) })
			socket := filepath.Join(dir, "s")
			d := &daemon{dir: env.WorkDir}
			stop, err := d.listen(t.Context(), socket)
			if err != nil {
				return err
			}
			env.Defer(stop)
			env.Setenv("KIOSKD_SOCKET", socket)
			env.Setenv("TZ", "UTC")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // or each command lasts a second
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// exits runs a program and wants its exit code: exits CODE PROGRAM ARG...
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		e, is := errors.AsType[*exec.ExitError](err)
		if !is {
			ts.Fatalf("%v", err)
		}
		got = e.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// daemon answers from the files of the script: GET /v1/queue from
// answers/GET_v1_queue.json; the first line may be a status other than 200.
// What is posted goes to posted.txt.
type daemon struct {
	dir string
	mu  sync.Mutex
}

func (d *daemon) listen(ctx context.Context, socket string) (stop func(), err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	s := &http.Server{Handler: d}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	return func() { _ = s.Close(); <-done }, nil
}

func (d *daemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Method == http.MethodPost {
		f, err := os.OpenFile(filepath.Join(d.dir, "posted.txt"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			http.Error(w, err.Error(), http.StatusTeapot)
			return
		}
		_, _ = io.WriteString(f, r.URL.Path+" ")
		_, _ = io.Copy(f, r.Body)
		_, _ = io.WriteString(f, "\n")
		_ = f.Close()
	}
	name := r.Method + strings.ReplaceAll(r.URL.Path, "/", "_")
	b, err := os.ReadFile(filepath.Join(d.dir, "answers", name+".json"))
	if err != nil {
		http.Error(w, "{}", http.StatusNotFound)
		return
	}
	var problem struct {
		Status int `json:"status"`
	}
	if json.Unmarshal(b, &problem) == nil && problem.Status >= 400 {
		w.WriteHeader(problem.Status)
	}
	_, _ = w.Write(b)
}

func TestInterruptWhileAKeyIsAwaitedEndsWith130(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe() // never written to
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errOut bytes.Buffer
	if code := run(ctx, []string{"provision", "set", "--stdin", "--socket", "none"}, r, &out, &errOut); code != exitInterrupted {
		t.Errorf("exit code %d, want %d: %s", code, exitInterrupted, &errOut)
	}
}

func TestABrokenPipeIsNoKey(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	if _, err := readKey(t.Context(), iotest.ErrReader(broken), io.Discard); !errors.Is(err, broken) {
		t.Errorf("err %v, want %v", err, broken)
	}
}

// TestTerminal opens both terminals before either is closed: the read that the
// first part leaves behind comes to itself at the hang-up and restores whatever
// terminal has its descriptor's number then.
func TestTerminal(t *testing.T) {
	t.Parallel()
	var pairs [2][2]*os.File
	for i := range pairs {
		ctrl, tty, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = tty.Close(), ctrl.Close() })
		pairs[i] = [2]*os.File{ctrl, tty}
	}
	t.Run("echoes nothing and is restored", func(t *testing.T) { interruptPrompt(t, pairs[0][1]) })
	t.Run("takes a line", func(t *testing.T) { typeKey(t, pairs[1][0], pairs[1][1]) })
}

// interruptPrompt is Ctrl-C at the prompt.
func interruptPrompt(t *testing.T, tty *os.File) {
	t.Helper()
	if !echoes(t, tty) {
		t.Fatal("a new terminal does not echo: this test would prove nothing")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := readKey(ctx, tty, io.Discard)
		ended <- err
	}()
	for echoes(t, tty) {
		select {
		case err := <-ended:
			t.Fatalf("ended with echo still on: %v", err)
		default:
			runtime.Gosched()
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("err %v, want %v", err, context.Canceled)
	}
	if !echoes(t, tty) {
		t.Error("the terminal was left without echo")
	}
}

func typeKey(t *testing.T, ctrl, tty *os.File) {
	t.Helper()
	type result struct {
		key []byte
		err error
	}
	ended := make(chan result, 1)
	go func() {
		key, err := readKey(t.Context(), tty, io.Discard)
		ended <- result{key, err}
	}()
	for echoes(t, tty) {
		runtime.Gosched()
	}
	if _, err := io.WriteString(ctrl, "0123ABCD\n"); err != nil {
		t.Fatal(err)
	}
	if r := <-ended; r.err != nil || string(r.key) != "0123ABCD" {
		t.Errorf("got %q, %v", r.key, r.err)
	}
}

func echoes(t *testing.T, tty *os.File) bool {
	t.Helper()
	st, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return st.Lflag&unix.ECHO != 0
}
