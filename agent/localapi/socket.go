package localapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

type peerKey struct{}

// peer names who is at the other end of the socket.
func (c *call) peer() string {
	p, _ := c.Context().Value(peerKey{}).(string)
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
			name = "uid " + strconv.FormatUint(uint64(cred.Uid), 10)
		}
	})
	return context.WithValue(ctx, peerKey{}, name)
}

// ErrInUse: somebody serves at the socket already.
var ErrInUse = errors.New("another kioskd serves there")

// Listen makes a socket for a group: mode 0660. An empty group, or one that
// does not exist here, leaves the socket to the process's own user (0600). A
// socket that nobody serves any more is replaced; errors.Is ErrInUse when
// somebody does, and a file that is no socket is left alone.
func Listen(ctx context.Context, path, group string) (net.Listener, error) {
	l, err := listen(ctx, path, group)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

func listen(ctx context.Context, path, group string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := makeRoom(ctx, path); err != nil {
		return nil, err
	}
	// Nobody connects before the mode is right: bind gives the file the mode
	// of its socket. The umask would be the whole process's.
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }), err)
	}}
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if g, err := user.LookupGroup(group); group != "" && err == nil {
		gid, _ := strconv.Atoi(g.Gid)
		if err := errors.Join(os.Chown(path, -1, gid), os.Chmod(path, 0o660)); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// makeRoom takes away a socket that a killed daemon has left.
func makeRoom(ctx context.Context, path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.Mode().Type() != fs.ModeSocket:
		return errors.New("there is a file that is no socket")
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(ErrInUse, c.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// maxConns is how many connections one socket has at a time; more are closed
// at once. A screen and some tools need a handful.
const maxConns = 64

// Serve serves h on l until ctx ends. Whoever is slow with a request, or with
// taking the answer, loses the connection.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	var conns atomic.Int32
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10,
		ConnContext: withPeer, BaseContext: func(net.Listener) context.Context { return ctx },
		ConnState: func(c net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				if conns.Add(1) > maxConns {
					_ = c.Close()
				}
			case http.StateClosed, http.StateHijacked:
				conns.Add(-1)
			}
		},
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
