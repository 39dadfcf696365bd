package sftp_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	wire "github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"vcckiosk/protocol/reconcile/sftp"
)

// server is a file server on loopback; its files lie in dir.
type server struct {
	t       testing.TB
	dir     string
	address string
	user    string
	key     string                     // the client's, a file
	hosts   map[string]ssh.Signer      // by type
	accept  func(conn net.Conn, n int) // serves one connection
	mu      sync.Mutex
	served  int
	up      int64 // bytes from clients
	// cut, when set, says after how many bytes connection n is cut, both ways
	// together; negative: never.
	cut func(n int) int64
	// stall, when set, is asked before bytes are passed on.
	stall func(n int) bool
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// keys makes a client's key and host keys of three types, of which an SSH
// library prefers another than OpenSSH does.
func (s *server) keys(owner int) {
	t := s.t
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	s.hosts = map[string]ssh.Signer{}
	for name, key := range map[string]any{"ed25519": ed, "ecdsa": ec, "rsa": rs} {
		signer, err := ssh.NewSignerFromKey(key)
		must(t, err)
		s.hosts[name] = signer
		block, err := ssh.MarshalPrivateKey(key, "")
		must(t, err)
		s.file("host_"+name, string(pem.EncodeToMemory(block)), 0o600, owner)
	}
	_, mine, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	block, err := ssh.MarshalPrivateKey(mine, "")
	must(t, err)
	s.key = s.file("client", string(pem.EncodeToMemory(block)), 0o600, -1)
	signer, err := ssh.NewSignerFromKey(mine)
	must(t, err)
	s.file("authorized_keys", string(ssh.MarshalAuthorizedKey(signer.PublicKey())), 0o644, owner)
}

// file writes a file beside the server's own.
func (s *server) file(name, text string, mode os.FileMode, owner int) string {
	s.t.Helper()
	path := filepath.Join(filepath.Dir(s.dir), name)
	must(s.t, os.WriteFile(path, []byte(text), mode))
	must(s.t, os.Chmod(path, mode))
	if owner >= 0 {
		must(s.t, os.Chown(path, owner, owner))
	}
	return path
}

// known writes a known_hosts with keys of some types.
func (s *server) known(types ...string) string {
	s.t.Helper()
	var b strings.Builder
	for _, t := range types {
		b.WriteString(knownhosts.Line([]string{knownhosts.Normalize(s.address)}, s.hosts[t].PublicKey()) + "\n")
	}
	f, err := os.CreateTemp(filepath.Dir(s.dir), "known")
	must(s.t, err)
	_, err = io.WriteString(f, b.String())
	must(s.t, err)
	must(s.t, f.Close())
	return f.Name()
}

func (s *server) client(types ...string) *sftp.Client {
	s.t.Helper()
	c, err := sftp.New(sftp.Config{Address: s.address, User: s.user, KeyFile: s.key, KnownHosts: s.known(types...)})
	must(s.t, err)
	return c
}

// listen serves on a port the kernel chooses, each connection behind a line
// that can be cut.
func (s *server) listen() {
	t := s.t
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s.address = l.Addr().String()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			n, cut, stall := s.served, s.cut, s.stall
			s.served++
			s.mu.Unlock()
			left := int64(-1)
			if cut != nil {
				left = cut(n)
			}
			wg.Go(func() { s.line(conn, n, left, stall) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
}

// line passes bytes between a client and the server until one of them ends or
// as many have gone through as may.
func (s *server) line(client net.Conn, n int, left int64, stall func(int) bool) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // sshd wants a socket of its own
	if err != nil {
		return
	}
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return
	}
	near, err := l.Accept()
	_ = l.Close()
	if err != nil {
		return
	}
	var mu sync.Mutex
	var once sync.Once
	end := func() { once.Do(func() { _ = client.Close(); _ = far.Close() }) }
	pass := func(to, from net.Conn, up bool) {
		defer end()
		buf := make([]byte, 4096)
		for {
			k, err := from.Read(buf)
			if err == nil && stall != nil && stall(n) {
				continue // nothing comes through, the line stays up
			}
			if up {
				s.mu.Lock()
				s.up += int64(k)
				s.mu.Unlock()
			}
			mu.Lock()
			over := left >= 0 && int64(k) >= left
			if over {
				k = int(left)
			}
			if left >= 0 {
				left -= int64(k)
			}
			if k > 0 {
				_, _ = to.Write(buf[:k])
			}
			mu.Unlock()
			if err != nil || over {
				return
			}
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.accept(near, n) })
	wg.Go(func() { pass(far, client, true) })
	wg.Go(func() { pass(client, far, false) })
	wg.Wait()
}

// workplace is a folder a server under another account can reach.
func workplace(t testing.TB, owner int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sftp")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	files := filepath.Join(dir, "files")
	must(t, os.Mkdir(files, 0o755))
	if owner >= 0 {
		must(t, os.Chown(files, owner, owner))
	}
	return files
}

// goServer is a server in this process.
func goServer(t testing.TB, edit func(*ssh.ServerConfig)) *server {
	t.Helper()
	s := &server{t: t, dir: workplace(t, -1), user: "kiosk"}
	s.keys(-1)
	pub, err := os.ReadFile(filepath.Join(filepath.Dir(s.dir), "authorized_keys"))
	must(t, err)
	want, _, _, _, err := ssh.ParseAuthorizedKey(pub)
	must(t, err)
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if c.User() == s.user && string(key.Marshal()) == string(want.Marshal()) {
			return nil, nil
		}
		return nil, fmt.Errorf("not %s", c.User())
	}}
	for _, k := range []string{"rsa", "ecdsa", "ed25519"} {
		cfg.AddHostKey(s.hosts[k])
	}
	if edit != nil {
		edit(cfg)
	}
	s.accept = func(conn net.Conn, _ int) {
		defer conn.Close()
		sc, chans, reqs, err := ssh.NewServerConn(conn, cfg)
		if err != nil {
			return
		}
		defer sc.Close()
		go ssh.DiscardRequests(reqs)
		ch, ok := <-chans
		if !ok {
			return
		}
		c, in, err := ch.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range in {
				_ = r.Reply(r.Type == "subsystem", nil)
			}
		}()
		srv, err := wire.NewServer(c)
		if err != nil {
			return
		}
		_ = srv.Serve()
		_ = srv.Close()
	}
	s.listen()
	return s
}

const sshdPath = "/usr/sbin/sshd"

// realServer is OpenSSH's sshd without privileges, one process for each
// connection. It serves the account it runs under and nobody else.
// Options are internal-sftp's.
func realServer(t testing.TB, options ...string) *server {
	t.Helper()
	if _, err := os.Stat(sshdPath); err != nil {
		if os.Getenv("CI") == "true" && os.Getenv("SFTP_PEER") != "" {
			t.Fatalf("sshd is not there, and CI=true: apt-get install openssh-server: %v", err)
		}
		t.Skip("NOT RUN, needs sshd: apt-get install openssh-server")
	}
	owner, name := os.Getuid(), os.Getenv("USER")
	var as *syscall.SysProcAttr
	if owner == 0 {
		owner, name = 1, "daemon" // not nobody: systemd tells sshd that it is locked
		as = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(owner), Gid: uint32(owner), NoSetGroups: false}}
	} else if out, err := exec.CommandContext(t.Context(), "id", "-un").Output(); err == nil {
		name = strings.TrimSpace(string(out))
	}
	s := &server{t: t, dir: workplace(t, owner), user: name}
	s.keys(owner)
	at := filepath.Dir(s.dir)
	conf := s.file("sshd_config", strings.NewReplacer("DIR", at, "OPTIONS", strings.Join(options, " ")).Replace(`HostKey DIR/host_rsa
HostKey DIR/host_ecdsa
HostKey DIR/host_ed25519
AuthorizedKeysFile DIR/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PidFile none
LogLevel ERROR
Subsystem sftp internal-sftp OPTIONS
`), 0o644, owner)
	s.accept = func(conn net.Conn, _ int) {
		defer conn.Close()
		f, err := conn.(*net.TCPConn).File()
		if err != nil {
			return
		}
		defer f.Close()
		_ = conn.Close() // the process has it now
		cmd := exec.Command(sshdPath, "-i", "-e", "-f", conf)
		cmd.SysProcAttr = as
		cmd.Stdin, cmd.Stdout = f, f
		cmd.WaitDelay = 10 * time.Second
		if testing.Verbose() && os.Getenv("SSHD_LOG") != "" {
			cmd.Stderr = os.Stderr
		}
		_ = cmd.Run() // its exit code tells of cut lines
	}
	s.listen()
	return s
}

// times reads the number of NAME=1000 in the environment.
func times(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}
