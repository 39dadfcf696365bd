//go:build cgo && pcsc

package pcsc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"vcckiosk/cardreader/simcard"
)

const (
	pcscdPath  = "/usr/sbin/pcscd"
	vpcdPath   = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so"
	peerReader = "Kiosk Reader 00 00"

	envTest, envDir, envPort = "KIOSKD_TEST_PCSC", "KIOSKD_TEST_PCSC_DIR", "KIOSKD_TEST_PCSC_PORT"
)

// peer is a real pcscd of this test's own, with vpcd as its driver: a private socket, a private port, no root. It runs in a
// process of its own per test, because the library takes the socket's name from the environment once.
type peer struct {
	*testing.T
	dir  string
	port int
	log  *os.File
	ln   *net.UnixListener // as systemd holds it for pcscd.socket
	cmd  *exec.Cmd
	used bool // a card was in since the reader was last seen empty
	plug *simcard.Plug
	card simcard.Card
}

func (p *peer) sock() string { return filepath.Join(p.dir, "comm") }

// withPeer runs body in a process of its own, against a pcscd of its own. n is the test's number, for its port.
func withPeer(t *testing.T, n int, body func(*peer)) {
	if os.Getenv(envTest) == t.Name() {
		port, err := strconv.Atoi(os.Getenv(envPort))
		if err != nil {
			t.Fatal(err)
		}
		body(newPeer(t, os.Getenv(envDir), port))
		return
	}
	t.Parallel()
	for _, file := range []string{pcscdPath, vpcdPath} {
		if _, err := os.Stat(file); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("CI=true and no %s: apt-get install pcscd vsmartcard-vpcd", file)
			}
			t.Skipf("NOT RUN against a real pcscd, no %s: apt-get install pcscd vsmartcard-vpcd", file)
		}
	}
	dir, err := os.MkdirTemp("", "pcsc") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	port := freePorts(t, n)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=3m")
	cmd.Env = append(os.Environ(), envTest+"="+t.Name(), envDir+"="+dir, envPort+"="+strconv.Itoa(port),
		"PCSCLITE_CSOCK_NAME="+filepath.Join(dir, "comm"))
	out, err := cmd.CombinedOutput()
	out = bytes.TrimSuffix(bytes.TrimSpace(out), []byte("PASS"))
	if err != nil {
		t.Errorf("%v\n%s", err, out)
		return
	}
	t.Logf("in a process of its own:\n%s", out)
}

// freePorts finds two ports next to each other, below those the kernel gives out itself. n, different in every test of
// this package, keeps tests that run at the same time apart, the process id different runs.
func freePorts(t *testing.T, n int) int {
	for port := 21000 + os.Getpid()%400*20 + 2*n; port < 32000; port += 200 {
		if isFree(port) && isFree(port+1) {
			return port
		}
	}
	t.Fatal("no two free ports")
	return 0
}

func isFree(port int) bool {
	ln, err := net.Listen("tcp4", ":"+strconv.Itoa(port))
	if err != nil {
		return false
	}
	ln.Close()
	return true
}

func newPeer(t *testing.T, dir string, port int) *peer {
	p := &peer{T: t, dir: dir, port: port}
	conf := fmt.Sprintf("FRIENDLYNAME \"Kiosk Reader\"\nDEVICENAME /dev/null:%d\nLIBPATH %s\nCHANNELID %d\n", port, vpcdPath, port)
	if err := os.Mkdir(filepath.Join(dir, "conf"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "conf", "kiosk"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // pcscd may run as nobody
		t.Fatal(err)
	}
	var err error
	if p.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.remove()
		if p.cmd != nil {
			p.kill()
		}
		p.hangUp()
		if t.Failed() {
			b, _ := os.ReadFile(p.log.Name())
			t.Logf("pcscd says:\n%s", b)
		}
	})
	p.start()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	names, err := List(ctx)
	if err != nil || !slices.Contains(names, peerReader) {
		t.Fatalf("readers %q, %v; want %q", names, err, peerReader)
	}
	return p
}

// listen makes the socket that pcscd is given, as systemd would.
func (p *peer) listen() {
	p.Helper()
	if p.ln != nil {
		return
	}
	_ = os.Remove(p.sock())
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.sock(), Net: "unix"})
	if err != nil {
		p.Fatal(err)
	}
	p.ln = ln
}

// hangUp takes the socket away: nobody is there, nor will anybody come.
func (p *peer) hangUp() {
	if p.ln != nil {
		p.ln.Close()
		p.ln = nil
	}
}

// start starts pcscd on the socket; connections wait in it until it is ready.
func (p *peer) start() {
	p.Helper()
	p.listen()
	f, err := p.ln.File()
	if err != nil {
		p.Fatal(err)
	}
	defer f.Close()
	// --auto-exit: should this process die, pcscd ends by itself a minute later.
	p.cmd = exec.Command("/bin/sh", "-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec "+pcscdPath+" --foreground --auto-exit --info -c "+filepath.Join(p.dir, "conf"))
	p.cmd.ExtraFiles = []*os.File{f}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if os.Geteuid() == 0 { // as root it would take over the pid file of the machine's own pcscd
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	if err := p.cmd.Start(); err != nil {
		p.Fatal(err)
	}
}

func (p *peer) kill() {
	p.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.Fatal(err)
	}
	_ = p.cmd.Wait() // "signal: killed"
	p.cmd = nil
	if p.plug != nil {
		<-p.plug.Done()
	}
}

func (p *peer) signal(s syscall.Signal) {
	p.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.Fatal(err)
	}
}

func (p *peer) addr() string { return "127.0.0.1:" + strconv.Itoa(p.port) }

// insert puts a card in when pcscd has seen that the last one is out.
func (p *peer) insert(c simcard.Card) {
	p.Helper()
	p.remove()
	p.vacant()
	p.slide(c)
}

// slide puts a card in at once.
func (p *peer) slide(c simcard.Card) {
	p.Helper()
	plug, err := simcard.Dial(p.Context(), p.addr(), c)
	if err != nil {
		p.Fatal(err)
	}
	p.plug, p.card, p.used = plug, c, true
}

func (p *peer) remove() {
	if p.plug != nil {
		p.plug.Remove()
		p.plug = nil
	}
}

// vacant waits until pcscd has seen the reader empty: only then does its poll take the next connection, which says nothing
// and so is no card.
func (p *peer) vacant() {
	p.Helper()
	if !p.used {
		return
	}
	conn, err := net.Dial("tcp", p.addr())
	if err != nil {
		p.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		p.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 3)); err != nil {
		p.Fatalf("pcscd does not look for a card: %v", err)
	}
	p.used = false
}

// emptied waits until pcscd says that the reader is empty. No driver may be open: there must not be two waits.
func (p *peer) emptied() {
	p.Helper()
	lib, err := newLibrary()
	if err != nil {
		p.Fatal(err)
	}
	c, err := lib.establish()
	if err != nil {
		p.Fatal(err)
	}
	defer func() { _ = c.release() }()
	for known := uint32(0); ; {
		state, _, err := c.wait(peerReader, known, 10*time.Second)
		if err != nil {
			p.Fatalf("pcscd does not see the card go: %v", err)
		}
		if state&statePresent == 0 {
			p.used = false
			return
		}
		known = state &^ stateChanged
	}
}

// back starts pcscd again; the card that was in the reader gets its power back.
func (p *peer) back() {
	p.Helper()
	p.start()
	p.used = false
	if p.plug == nil {
		return
	}
	p.plug = nil
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		plug, err := simcard.Dial(p.Context(), p.addr(), p.card)
		if err == nil {
			p.plug, p.used = plug, true
			return
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			p.Fatal(err)
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			p.Fatalf("restarted pcscd has no reader: %v", err)
		}
	}
}
