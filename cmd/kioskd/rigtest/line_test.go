//go:build rig

package rigtest

import (
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// quality is what a line does to what it carries.
type quality struct {
	delay time.Duration // one way
	rate  int           // bytes per second; 0: as fast as it comes
	lost  float64       // odds that a connection is cut at each piece carried
	down  bool
}

var (
	lan  = quality{}
	lte  = quality{delay: 25 * time.Millisecond}
	far  = quality{delay: 300 * time.Millisecond}
	gprs = quality{delay: 300 * time.Millisecond, rate: 5000}
)

// line is the way between kiosk and platform: a TCP proxy whose quality can be
// changed at any moment. A connection cut by it is reset, in the middle of
// whatever it was carrying.
type line struct {
	addr, to string
	q        atomic.Pointer[quality]
	opened   atomic.Int64 // connections, and so TLS handshakes
	bytes    atomic.Int64
	mu       sync.Mutex
	conns    map[net.Conn]struct{}
}

func newLine(t testing.TB, to string) *line {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	n := &line{addr: l.Addr().String(), to: to, conns: map[net.Conn]struct{}{}}
	n.set(lan)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go n.carry(c)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		n.cut()
	})
	return n
}

func (n *line) set(q quality) {
	n.q.Store(&q)
	if q.down {
		n.cut()
	}
}

// cut resets every connection.
func (n *line) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		reset(c)
	}
	clear(n.conns)
}

func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

func (n *line) carry(c net.Conn) {
	if n.q.Load().down {
		reset(c)
		return
	}
	up, err := net.Dial("tcp", n.to)
	if err != nil {
		reset(c)
		return
	}
	n.opened.Add(1)
	n.mu.Lock()
	n.conns[c], n.conns[up] = struct{}{}, struct{}{}
	n.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { n.copy(up, c) })
	wg.Go(func() { n.copy(c, up) })
	wg.Wait()
	n.mu.Lock()
	delete(n.conns, c)
	delete(n.conns, up)
	n.mu.Unlock()
}

// copy carries one direction. Each piece arrives a delay after it was sent,
// however many are on the way.
func (n *line) copy(to, from net.Conn) {
	type piece struct {
		b  []byte
		at time.Time
	}
	pieces := make(chan piece, 1024)
	go func() {
		defer close(pieces)
		free := time.Now() // when the line has carried all before
		for {
			b := make([]byte, 4096)
			k, err := from.Read(b)
			if k > 0 {
				q := n.q.Load()
				n.bytes.Add(int64(k))
				now := time.Now()
				if free.Before(now) {
					free = now
				}
				if q.rate > 0 {
					free = free.Add(time.Duration(k) * time.Second / time.Duration(q.rate))
				}
				pieces <- piece{b[:k], free.Add(q.delay)}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range pieces {
		time.Sleep(time.Until(p.at))
		b := p.b
		if q := n.q.Load(); q.lost > 0 && rand.Float64() < q.lost {
			_, _ = to.Write(b[:rand.IntN(len(b)+1)]) // and the rest never comes
			reset(to)
			reset(from)
			break
		}
		if _, err := to.Write(b); err != nil {
			reset(from)
			break
		}
	}
	if t, ok := to.(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
	for range pieces { // let the reader end
	}
}
