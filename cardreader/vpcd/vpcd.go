//go:build sim

package vpcd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"vcckiosk/cardreader"
)

// Available says whether this program was built with the simulated reader.
const Available = true

// ErrNotBuilt is returned by Listen in a program built without the tag sim.
var ErrNotBuilt = errors.New("built without the simulated reader")

const (
	// watchdog is how long an answer may take before the driver gives up with
	// cardreader.ErrStuck: longer than any gas card needs, shorter than the
	// patience of a customer.
	watchdog = 15 * time.Second
	// handshake is how long a card has for its ATR before it is thrown out.
	handshake = 2 * time.Second
	maxATR    = 33
)

// Reader is one simulated reader. Listen starts its goroutine, Close ends it.
type Reader struct {
	ln   net.Listener
	stop chan struct{} // closed by Close
	done chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every change
	card    *link         // nil: empty
	seen    *link         // what Next has reported
	told    bool          // Next has reported something
	sess    *session
	closed  bool
}

// link is one card, from its connection to its end.
type link struct {
	conn net.Conn
	atr  []byte
	gone chan struct{} // closed when the connection has ended

	mu      sync.Mutex
	waiting chan []byte // the answer goes here, capacity 1; nil: nobody waits
	stuck   bool        // an answer is owed that nobody will take
}

// Listen opens the reader at a loopback address such as "127.0.0.1:35963";
// port 0 takes a free one. Other addresses are refused: the port has no lock.
func Listen(addr string) (*Reader, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("listen for cards: %w", err)
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("listen for cards: %q is not a loopback address", host)
	}
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for cards: %w", err)
	}
	r := &Reader{
		ln: ln, stop: make(chan struct{}), done: make(chan struct{}), changed: make(chan struct{}),
	}
	go r.accept()
	return r, nil
}

// Name is the reader's name; it says that the reader is not a real one.
func (r *Reader) Name() string { return "sim " + r.Addr() }

// Addr is the address cards dial.
func (r *Reader) Addr() string { return r.ln.Addr().String() }

// Close throws the card out, ends the listening and waits for both. Sessions
// end with cardreader.ErrReaderGone. A second call does nothing.
func (r *Reader) Close() error {
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		close(r.stop)
	}
	if r.card != nil {
		r.card.conn.Close()
	}
	r.change()
	r.mu.Unlock()
	err := r.ln.Close()
	<-r.done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// change wakes every waiter; the caller holds mu.
func (r *Reader) change() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// accept serves one card after the other; a second one waits in the listener's
// backlog until the first has left.
func (r *Reader) accept() {
	defer close(r.done)
	for {
		conn, err := r.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors and the like: not for ever
			select {
			case <-time.After(time.Second):
			case <-r.stop:
				return
			}
			continue
		}
		r.serve(conn)
	}
}

// serve owns a connection from the handshake to its end.
func (r *Reader) serve(conn net.Conn) {
	defer conn.Close()
	l := &link{conn: conn, gone: make(chan struct{})}
	r.mu.Lock()
	closed := r.closed
	if !closed {
		r.card = l // so that Close can end the handshake; without ATR it is no card yet
	}
	r.mu.Unlock()
	if closed {
		return
	}
	defer func() {
		close(l.gone)
		r.mu.Lock()
		r.card = nil
		r.change()
		r.mu.Unlock()
	}()
	atr, err := greet(conn)
	if err != nil {
		return
	}
	r.mu.Lock()
	l.atr = atr
	r.change()
	r.mu.Unlock()
	for {
		answer, err := readFrame(conn, math.MaxUint16)
		if err != nil || !l.deliver(answer) {
			return
		}
	}
}

// greet powers the card and asks for its ATR.
func greet(conn net.Conn) ([]byte, error) {
	if err := conn.SetDeadline(time.Now().Add(handshake)); err != nil {
		return nil, err
	}
	for _, control := range []byte{1, 4} {
		if err := writeFrame(conn, []byte{control}); err != nil {
			return nil, err
		}
	}
	atr, err := readFrame(conn, maxATR)
	if err != nil {
		return nil, err
	}
	if len(atr) < 2 {
		return nil, errors.New("card without an answer to reset")
	}
	return atr, conn.SetDeadline(time.Time{})
}

// deliver hands an answer to the waiting command. A card that speaks without
// being asked has lost the thread and is thrown out.
func (l *link) deliver(answer []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stuck { // the late answer to a command that was given up
		l.stuck = false
		return true
	}
	if l.waiting == nil {
		return false
	}
	l.waiting <- answer
	l.waiting = nil
	return true
}

// readFrame reads one frame of at most limit bytes of payload.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n > limit {
		return nil, fmt.Errorf("frame of %d bytes where %d are allowed", n, limit)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	return body, nil
}

// writeFrame sends a frame in one segment.
func writeFrame(w io.Writer, body []byte) error {
	frame := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(body)), uint16(len(body)))
	_, err := w.Write(append(frame, body...))
	return err
}

// present is the card in the reader once it has shown its ATR; holds mu.
func (r *Reader) present() *link {
	if r.card == nil || r.card.atr == nil {
		return nil
	}
	return r.card
}

// Next returns the next event: CardIn and CardOut only, since neither the
// simulated reader nor a service under it can go away. After Close it fails with
// net.ErrClosed.
func (r *Reader) Next(ctx context.Context) (cardreader.Event, error) {
	for {
		if err := ctx.Err(); err != nil {
			return cardreader.Event{}, err
		}
		r.mu.Lock()
		ev, ok := r.event()
		wait, closed := r.changed, r.closed
		r.mu.Unlock()
		switch {
		case closed:
			return cardreader.Event{}, fmt.Errorf("wait for card: %w", net.ErrClosed)
		case ok:
			return ev, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return cardreader.Event{}, ctx.Err()
		}
	}
}

// event steps what Next has told by one event towards the present; holds mu.
func (r *Reader) event() (cardreader.Event, bool) {
	now := r.present()
	switch {
	case r.told && r.seen == now:
		return cardreader.Event{}, false
	case now == nil, r.told && r.seen != nil:
		r.told, r.seen = true, nil
		return cardreader.Event{Kind: cardreader.CardOut}, true
	}
	r.told, r.seen = true, now
	return cardreader.Event{Kind: cardreader.CardIn, ATR: slices.Clone(now.atr)}, true
}

// Open takes the card now in the reader.
func (r *Reader) Open(ctx context.Context) (cardreader.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return nil, cardreader.ErrReaderGone
	case r.sess != nil:
		return nil, cardreader.ErrBusy
	case r.present() == nil:
		return nil, cardreader.ErrNoCard
	}
	l := r.card
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stuck {
		return nil, cardreader.ErrStuck
	}
	r.sess = &session{reader: r, link: l, turn: make(chan struct{}, 1), ended: make(chan struct{})}
	return r.sess, nil
}
