package localapi_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/agent"
	"vcckiosk/agent/localapi"
)

// pipes is a listener without a system below it, for virtual time.
type pipes struct {
	conns chan net.Conn
	ended chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.ended)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours
}

// served runs a handler in a bubble; talk is the caller.
func served(t *testing.T, h http.Handler, talk func(p *pipes)) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- localapi.Serve(ctx, p, h) }()
		talk(p)
		stop()
		must(t, <-ended)
	})
}

func TestACallerThatSendsSlowlyIsLetGo(t *testing.T) {
	t.Parallel()
	h := localapi.Faulty(localapi.Status{Fault: "x"})
	for _, c := range []struct{ name, sent, want string }{
		{"nothing at all", "", ""},
		{"half a header", "GET /v1/sta", ""},
		{"half a body", "POST /v1/provision HTTP/1.1\r\nHost: k\r\nContent-Length: 50\r\n\r\n{\"key\":", "HTTP/1.1 408 "},
	} {
		served(t, h, func(p *pipes) {
			conn := p.dial()
			begun := time.Now()
			_, err := io.WriteString(conn, c.sent)
			must(t, err)
			b, err := io.ReadAll(conn) // ends when the daemon closes
			must(t, err)
			if took := time.Since(begun); took < 4*time.Second || took > 6*time.Second {
				t.Errorf("%s: let go after %v", c.name, took)
			}
			if !strings.HasPrefix(string(b), c.want) {
				t.Errorf("%s: answered %q", c.name, b)
			}
		})
	}
}

func TestACallerThatDoesNotReadIsLetGo(t *testing.T) {
	t.Parallel()
	k := localapi.Faulty(localapi.Status{Status: agent.Status{Note: &agent.Note{}}, Fault: strings.Repeat("x", 100_000)})
	for _, path := range []string{"/v1/status", "/v1/events"} {
		served(t, k, func(p *pipes) {
			conn := p.dial()
			_, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: k\r\n\r\n")
			must(t, err)
			time.Sleep(15 * time.Second)
			synctest.Wait()
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			b, err := io.ReadAll(conn)
			if err != nil && !errors.Is(err, io.EOF) {
				t.Errorf("%s: after 15 s without a reader the connection is still there: %d bytes, %v", path, len(b), err)
			}
		})
	}
}

func TestAnIdleConnectionEndsAfterAMinuteAndAStreamDoesNot(t *testing.T) {
	t.Parallel()
	h := localapi.Faulty(localapi.Status{})
	served(t, h, func(p *pipes) {
		conn := p.dial()
		_, err := io.WriteString(conn, "GET /v1/status HTTP/1.1\r\nHost: k\r\n\r\n")
		must(t, err)
		begun := time.Now()
		_, err = io.ReadAll(conn)
		must(t, err)
		if took := time.Since(begun); took != time.Minute {
			t.Errorf("idle for %v", took)
		}
	})
	served(t, h, func(p *pipes) {
		conn := p.dial()
		_, err := io.WriteString(conn, "GET /v1/events HTTP/1.1\r\nHost: k\r\n\r\n")
		must(t, err)
		r := bufio.NewReader(conn)
		for line := ""; !strings.HasPrefix(line, "data: "); {
			line, err = r.ReadString('\n')
			must(t, err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(24 * time.Hour))
		if _, err = io.Copy(io.Discard, r); err == nil {
			t.Error("the stream ended by itself")
		}
		must(t, conn.Close())
	})
}

func TestADaemonThatNeverAnswersIsUnreachable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		c := localapi.DialWith(func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go io.Copy(io.Discard, theirs) // it ends with the connection
			return ours, nil
		})
		err := c.Get(t.Context(), "/v1/status", nil)
		if !errors.Is(err, localapi.ErrUnreachable) || time.Since(begun) != time.Minute {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		key := []byte(baseKey)
		if _, err = c.Provision(t.Context(), key, ""); !errors.Is(err, localapi.ErrUnreachable) || string(key) == baseKey {
			t.Errorf("provision: %v, key cleared: %v", err, string(key) != baseKey)
		}
	})
}
