package push

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// CheckAddress tells whether a kiosk may listen there: an IP address and port,
// the address a loopback, private (RFC 1918, RFC 4193) or carrier-grade NAT one
// (RFC 6598, used by VPNs). A name, every address at once (0.0.0.0, [::]) and a
// public address are refused.
func CheckAddress(s string) error {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return errors.New("want an IP address and a port, such as 10.8.0.7:8480")
	}
	a := ap.Addr().Unmap()
	switch {
	case a.Zone() != "":
		return errors.New("no zone, please")
	case a.IsUnspecified():
		return errors.New("listens on every address: name the one of the VPN")
	case a.IsLoopback(), a.IsPrivate(), netip.MustParsePrefix("100.64.0.0/10").Contains(a):
		return nil
	}
	return errors.New("is not a loopback or private address: pushes come through a VPN only")
}

// Listen opens an address that CheckAddress allows.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	if err := CheckAddress(address); err != nil {
		return nil, fmt.Errorf("push: %s: %w", address, err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("push: %w", err)
	}
	return &few{Listener: l, room: make(chan struct{}, maxConns), closed: make(chan struct{})}, nil
}

// maxConns is how many callers are heard at once; the others wait in the
// kernel's queue.
const maxConns = 8

// Serve answers until ctx ends, and then nil. It bounds how long a caller may
// take. It closes l.
func Serve(ctx context.Context, l net.Listener, h *Handler) error {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		IdleTimeout: 10 * time.Second, MaxHeaderBytes: 8 << 10,
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("push: %w", err)
	}
	return nil
}

// few lets in so many connections at a time.
type few struct {
	net.Listener
	room   chan struct{}
	once   sync.Once
	closed chan struct{}
}

func (f *few) Accept() (net.Conn, error) {
	select {
	case f.room <- struct{}{}: // freed by the server's own time limits at the latest
	case <-f.closed:
		return nil, net.ErrClosed
	}
	c, err := f.Listener.Accept()
	if err != nil {
		<-f.room
		return nil, err
	}
	return &counted{Conn: c, left: func() { <-f.room }}, nil
}

func (f *few) Close() error {
	f.once.Do(func() { close(f.closed) })
	return f.Listener.Close()
}

type counted struct {
	net.Conn
	once sync.Once
	left func()
}

func (c *counted) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.left)
	return err
}
