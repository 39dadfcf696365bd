// Package localapi is the kiosk's local API: HTTP/1.1 with JSON on unix
// sockets. The socket's group and mode decide who connects; the peer's uid
// names the person in the audit log. Errors are RFC 9457 problems. Nothing in
// an answer is secret, and there is no call that signs a caller's text.
package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"vcckiosk/agent"
	"vcckiosk/agent/topup"
	"vcckiosk/keystore"
	"vcckiosk/protocol"
	"vcckiosk/queue"
)

// Role is what a socket's users may do. Everybody may look; the screen and
// operators answer for customers; technicians offer keys and requeue.
type Role int

// The roles, one socket each.
const (
	Operator Role = iota
	Technician
)

const maxBody = 4 << 10

// Handler serves the API of one socket.
func Handler(a *agent.Agent, role Role) http.Handler {
	mux := http.NewServeMux()
	get := func(path string, f func(*http.Request) (any, error)) { mux.HandleFunc("GET "+path, answer(f)) }
	post := func(path string, f func(*http.Request) (any, error)) { mux.HandleFunc("POST "+path, answer(f)) }
	get("/v1/status", func(*http.Request) (any, error) { return a.Status(), nil })
	get("/v1/session", func(*http.Request) (any, error) { return a.Screen.View(), nil })
	get("/v1/card", func(*http.Request) (any, error) { return a.Status().Reader, nil })
	get("/v1/queue", func(*http.Request) (any, error) { return a.Queue(), nil })
	get("/v1/queue/{n}", func(r *http.Request) (any, error) {
		n, err := number(r)
		if err != nil {
			return nil, err
		}
		for _, it := range a.Queue() {
			if it.ID == n {
				return it, nil
			}
		}
		return nil, queue.ErrNoItem
	})
	get("/v1/journal", func(r *http.Request) (any, error) { return a.Records(100), nil })
	get("/v1/journal/{no}", func(r *http.Request) (any, error) {
		rec, versions, err := a.Record(topup.TransNo(r.PathValue("no")))
		if err != nil {
			return nil, err
		}
		return map[string]any{"record": rec, "versions": versions}, nil
	})
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) { events(a, w, r) })
	post("/v1/session/choose", func(r *http.Request) (any, error) {
		var in struct {
			OrderNo string `json:"orderNo"`
		}
		if err := read(r, &in); err != nil {
			return nil, err
		}
		return ok, a.Screen.Choose(in.OrderNo)
	})
	post("/v1/session/confirm", func(*http.Request) (any, error) { return ok, a.Screen.Confirm() })
	post("/v1/session/cancel", func(*http.Request) (any, error) { return ok, a.Screen.Cancel() })
	if role == Technician {
		post("/v1/queue/{n}/requeue", func(r *http.Request) (any, error) {
			n, err := number(r)
			if err != nil {
				return nil, err
			}
			return ok, a.Requeue(r.Context(), n, peer(r))
		})
		post("/v1/provision", func(r *http.Request) (any, error) { return provision(a, r) })
	}
	return mux
}

var ok = map[string]bool{"ok": true}

// badRequest is the caller's mistake.
type badRequest string

func (e badRequest) Error() string { return string(e) }

func number(r *http.Request) (uint64, error) {
	n, err := strconv.ParseUint(r.PathValue("n"), 10, 64)
	if err != nil {
		return 0, badRequest("not a number")
	}
	return n, nil
}

func read(r *http.Request, into any) error {
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	defer clear(b)
	if err != nil || len(b) > maxBody {
		return badRequest("body is missing or too long")
	}
	if err := json.Unmarshal(b, into); err != nil {
		return badRequest("body is not the JSON expected here") // the decoder's text could quote a key
	}
	return nil
}

// secretText keeps a key out of a Go string: it cannot be cleared.
type secretText []byte

func (s *secretText) UnmarshalJSON(b []byte) error {
	if len(b) < 2 || b[0] != '"' || b[len(b)-1] != '"' {
		return errors.New("not a string")
	}
	*s = append((*s)[:0], b[1:len(b)-1]...) // letters and digits need no unescaping
	return nil
}

func provision(a *agent.Agent, r *http.Request) (any, error) {
	var in struct {
		Key secretText `json:"key"`
		KCV string     `json:"kcv"`
	}
	if err := read(r, &in); err != nil {
		return nil, err
	}
	defer clear(in.Key)
	return a.Rotator.Offer(r.Context(), in.Key, in.KCV, "technician "+peer(r))
}

// problem is an error of RFC 9457.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func answer(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		status, kind := http.StatusOK, "application/json"
		if err != nil {
			status, kind = statusOf(err), "application/problem+json"
			v = problem{"about:blank", http.StatusText(status), status, err.Error()}
		}
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
}

func statusOf(err error) int {
	if _, is := errors.AsType[badRequest](err); is {
		return http.StatusBadRequest
	}
	switch {
	case errors.Is(err, queue.ErrNoItem), errors.Is(err, agent.ErrNoRecord):
		return http.StatusNotFound
	case errors.Is(err, agent.ErrNotNow):
		return http.StatusConflict
	case errors.Is(err, keystore.ErrBadKey), errors.Is(err, agent.ErrKCV):
		return http.StatusUnprocessableEntity
	case errors.Is(err, protocol.ErrKeyRefused):
		return http.StatusForbidden
	case errors.Is(err, agent.ErrNoKeystore):
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// events streams the screen as server-sent events, from Last-Event-ID on.
func events(a *agent.Agent, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	serial, _ := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 64)
	if serial > a.Screen.View().Serial {
		serial = 0 // of an earlier run
	}
	out := http.NewResponseController(w)
	for {
		v, err := a.Screen.Wait(r.Context(), serial)
		if err != nil {
			return
		}
		serial = v.Serial
		b, err := json.Marshal(v)
		if err != nil {
			return
		}
		if _, err := fmt.Fprintf(w, "id: %d\nevent: screen\ndata: %s\n\n", v.Serial, b); err != nil || out.Flush() != nil {
			return
		}
	}
}

type peerKey struct{}

// peer names who is at the other end of the socket.
func peer(r *http.Request) string {
	p, _ := r.Context().Value(peerKey{}).(string)
	if p == "" {
		return "unknown"
	}
	return p
}

func withPeer(ctx context.Context, c net.Conn) context.Context {
	uc, is := c.(*net.UnixConn)
	if !is {
		return ctx
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return ctx
	}
	name := ""
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			name = "uid " + strconv.Itoa(int(cred.Uid))
		}
	})
	return context.WithValue(ctx, peerKey{}, name)
}

// Listen makes a socket for a group: mode 0660. An empty group, or one that
// does not exist here, leaves the socket to the process's own user (0600).
func Listen(path, group string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	old := unix.Umask(0o177) // nobody connects before the mode is right
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if g, err := user.LookupGroup(group); group != "" && err == nil {
		gid, _ := strconv.Atoi(g.Gid)
		if err := errors.Join(os.Chown(path, -1, gid), os.Chmod(path, 0o660)); err != nil {
			return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), l.Close())
		}
	}
	return l, nil
}

// Serve serves h on l until ctx ends.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 8 << 10,
		ConnContext: withPeer, BaseContext: func(net.Listener) context.Context { return ctx },
	}
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve local API: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err := s.Shutdown(stop)
	<-failed
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.Close()
	}
	return err
}
