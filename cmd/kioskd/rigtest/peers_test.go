//go:build rig

package rigtest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"vcckiosk/protocol/vcctest"
)

// program finds a binary the Makefile has built beside the others.
func program(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("RIG_BIN")
	if dir == "" {
		t.Fatal("RIG_BIN is not set: run this by make rig")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// peer finds a program of the system.
func peer(t testing.TB, paths ...string) string {
	t.Helper()
	for _, p := range paths {
		if found, err := exec.LookPath(p); err == nil {
			return found
		}
	}
	t.Fatalf("%s is missing: run make deps", paths[0])
	return ""
}

// lastPort is where the search for the next free port goes on.
var lastPort atomic.Int64

// freePort is a port nobody listens on now, nor on the one after it: a virtual
// reader takes both. It lies below those the kernel gives to whoever connects,
// so that a peer that starts a moment later still finds it free.
func freePort(t testing.TB) int {
	t.Helper()
	lastPort.CompareAndSwap(0, int64(10_000+os.Getpid()%500*20))
	for range 1000 {
		port := int(lastPort.Add(2))
		if isFree(port) && isFree(port+1) {
			return port
		}
	}
	t.Fatal("no two free ports")
	return 0
}

func isFree(port int) bool {
	l, err := net.Listen("tcp4", ":"+strconv.Itoa(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// process is one child; what it prints goes to a file.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error
}

func launch(logFile string, cmd *exec.Cmd) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// end sends sig and waits; a process that takes longer than ten seconds is
// killed and told of.
func (p *process) end(sig syscall.Signal) error {
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.exited:
		return nil
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
		return fmt.Errorf("%s did not end within 10 s of %v", filepath.Base(p.cmd.Path), sig)
	}
}

func (p *process) alive() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// pcscd is a private card service with one virtual reader. The address is
// where a virtual card dials in.
type pcscd struct {
	bin, dir, socket, card string
	listener               *os.File
	p                      *process
}

// newPcscd hands the service its listening socket the way systemd does, so that
// it needs neither root nor the system's socket, and clients queue while it
// starts.
func newPcscd(t testing.TB, dir string) *pcscd {
	t.Helper()
	lib := "/usr/lib/pcsc/drivers/serial/libifdvpcd.so"
	if _, err := os.Stat(lib); err != nil {
		t.Fatalf("%v: run make deps", err)
	}
	port := freePort(t)
	s := &pcscd{
		bin: peer(t, "/usr/sbin/pcscd"), dir: dir, socket: filepath.Join(dir, "pcscd.comm"), card: fmt.Sprintf("127.0.0.1:%d", port),
	}
	conf := filepath.Join(dir, "reader.conf.d")
	must(t, os.MkdirAll(conf, 0o700))
	must(t, os.WriteFile(filepath.Join(conf, "vpcd"), fmt.Appendf(nil,
		"FRIENDLYNAME \"Virtual PCD\"\nDEVICENAME /dev/null:0x%X\nLIBPATH %s\nCHANNELID 0x%X\n", port, lib, port), 0o600))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.socket, Net: "unix"})
	must(t, err)
	l.SetUnlinkOnClose(false)
	s.listener, err = l.File()
	must(t, err)
	must(t, l.Close())
	must(t, s.start())
	t.Cleanup(func() {
		_ = s.p.end(syscall.SIGTERM)
		_ = s.listener.Close()
	})
	return s
}

func (s *pcscd) start() error {
	cmd := exec.Command("sh", "-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" --foreground -c "$1"`, s.bin, filepath.Join(s.dir, "reader.conf.d"))
	cmd.ExtraFiles = []*os.File{s.listener}
	p, err := launch(filepath.Join(s.dir, "pcscd.log"), cmd)
	s.p = p
	return err
}

// restart kills the service and starts it again.
func (s *pcscd) restart() error {
	if s.p == nil {
		return nil // the simulated reader has no service under it
	}
	return errors.Join(s.p.end(syscall.SIGKILL), s.start())
}

// issue makes the certificates of one rig: an authority, the platform's, the
// kiosks'.
func issue(t testing.TB, dir string) {
	t.Helper()
	write := func(name, kind string, der []byte) {
		must(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	var ca *x509.Certificate
	var caKey *ecdsa.PrivateKey
	for i, name := range []string{"ca", "platform", "kiosk"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: "rig " + name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), BasicConstraintsValid: true,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		}
		if ca == nil {
			c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
			ca, caKey = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, ca, key.Public(), caKey)
		must(t, err)
		k, err := x509.MarshalPKCS8PrivateKey(key)
		must(t, err)
		write(name+".pem", "CERTIFICATE", der)
		write(name+".key", "PRIVATE KEY", k)
	}
}

// newNginx puts mutual TLS before an upstream and returns its address.
func newNginx(t testing.TB, dir, upstream string) string {
	t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	conf := filepath.Join(dir, "nginx.conf")
	must(t, os.WriteFile(conf, []byte(strings.NewReplacer("DIR", dir, "ADDR", addr, "UPSTREAM", upstream).Replace(`daemon off;
master_process off;
pid DIR/nginx.pid;
error_log DIR/nginx.error.log warn;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path DIR/t1; proxy_temp_path DIR/t2; fastcgi_temp_path DIR/t3; uwsgi_temp_path DIR/t4; scgi_temp_path DIR/t5;
  keepalive_timeout 600s;
  server {
    listen ADDR ssl;
    ssl_certificate DIR/platform.pem;
    ssl_certificate_key DIR/platform.key;
    ssl_client_certificate DIR/ca.pem;
    ssl_verify_client on;
    ssl_protocols TLSv1.2 TLSv1.3;
    location / { proxy_pass http://UPSTREAM; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
}
`)), 0o600))
	p, err := launch(filepath.Join(dir, "nginx.log"), exec.Command(peer(t, "/usr/sbin/nginx"), "-c", conf, "-p", dir))
	must(t, err)
	t.Cleanup(func() { _ = p.end(syscall.SIGTERM) })
	await(t, "nginx", func() error {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	})
	return addr
}

// platform is vccsim as a process, and the gas company's hand in it.
type platform struct {
	addr string
}

func newPlatform(t testing.TB, dir string) *platform {
	t.Helper()
	p := &platform{addr: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	proc, err := launch(filepath.Join(dir, "vccsim.log"), exec.Command(program(t, "vccsim"), "serve", "--empty", "--addr", p.addr))
	must(t, err)
	t.Cleanup(func() { _ = proc.end(syscall.SIGTERM) })
	await(t, "vccsim", func() error {
		_, err := p.judge()
		return err
	})
	return p
}

func (p *platform) post(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	resp, err := http.Post("http://"+p.addr+path, "application/json", bytes.NewReader(b))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s: %s", path, bytes.TrimSpace(text))
	}
	return nil
}

// judge reads the books with what the platform issued.
func (p *platform) judge() (vcctest.Snapshot, error) {
	resp, err := http.Get("http://" + p.addr + "/sim/judge")
	if err != nil {
		return vcctest.Snapshot{}, err
	}
	defer resp.Body.Close()
	var in struct {
		Books  vcctest.Snapshot `json:"books"`
		Issued map[string][]struct {
			MAC2   string `json:"mac2"`
			Target []byte `json:"target"`
		} `json:"issued"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&in); err != nil {
		return vcctest.Snapshot{}, err
	}
	for _, o := range in.Books.Orders {
		for i := range o.Issued {
			o.Issued[i].MAC2, o.Issued[i].Target = in.Issued[o.OrderNo][i].MAC2, in.Issued[o.OrderNo][i].Target
		}
	}
	return in.Books, nil
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// await asks until ready says nil, for half a minute.
func await(t testing.TB, what string, ready func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		err := ready()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
