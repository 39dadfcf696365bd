package simcard

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"time"
)

// Plug is a card in the reader at the other end of a vpcd connection: that of
// vpcd's own driver under pcscd, or that of this project's simulated reader.
// A torn card closes the connection, as does Remove; to put the card back, Dial
// again. A fault of kind EmptyAnswer answers one byte, since an empty frame
// hangs pcscd, and both mean the same to a caller.
type Plug struct {
	conn net.Conn
	out  chan struct{} // closed by Remove
	once sync.Once
	done chan struct{}

	mu   sync.Mutex
	card Card
	err  error
}

// Dial puts c into the reader listening at addr and powers it when the reader
// says so. ctx limits the connecting only. The goroutine that serves the reader
// ends with the connection: by Remove, by a tear, or when the reader closes.
func Dial(ctx context.Context, addr string, c Card) (*Plug, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("insert card: %w", err)
	}
	p := &Plug{conn: conn, card: c, out: make(chan struct{}), done: make(chan struct{})}
	go p.serve()
	return p, nil
}

// Remove pulls the card out and waits until it is without power. A second call
// does nothing.
func (p *Plug) Remove() {
	p.once.Do(func() { close(p.out) })
	p.conn.Close()
	<-p.done
}

// Wait blocks until the card is out of the reader. It returns nil after Remove,
// a tear, or an orderly close by the reader.
func (p *Plug) Wait() error {
	<-p.done
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Done is closed when the card is out of the reader.
func (p *Plug) Done() <-chan struct{} { return p.done }

// Swap exchanges the card behind the reader's back: the connection stays.
func (p *Plug) Swap(c Card) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.card.PowerOff()
	p.card = c
	c.PowerOn()
}

// Control bytes of the vpcd protocol: a frame of length 1 carries one of them.
const (
	vpcdOff   = 0
	vpcdOn    = 1
	vpcdReset = 2
	vpcdATR   = 4
)

func (p *Plug) serve() {
	defer close(p.done)
	err := p.loop()
	p.conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.card.PowerOff()
	select {
	case <-p.out:
	default:
		if !errors.Is(err, io.EOF) && !errors.Is(err, errTorn) {
			p.err = fmt.Errorf("serve reader: %w", err)
		}
	}
}

// errTorn ends the loop of a card that was torn out by a fault.
var errTorn = errors.New("card torn")

func (p *Plug) loop() error {
	for {
		quickAck(p.conn)
		cmd, err := readFrame(p.conn)
		if err != nil {
			return err
		}
		if len(cmd) == 1 {
			err = p.control(cmd[0])
		} else {
			err = p.command(cmd)
		}
		if err != nil {
			return err
		}
	}
}

func (p *Plug) control(code byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch code {
	case vpcdOff:
		p.card.PowerOff()
	case vpcdOn:
		p.card.PowerOn()
	case vpcdReset:
		p.card.PowerOff()
		p.card.PowerOn()
	case vpcdATR:
		return writeFrame(p.conn, p.card.ATR())
	}
	return nil
}

func (p *Plug) command(cmd []byte) error {
	p.mu.Lock()
	r, now := reply(p.card, cmd)
	p.card = now
	p.mu.Unlock()
	switch {
	case r.Torn:
		return errTorn
	case r.Mute:
		// The reader gets nothing more until the card is out.
		_, err := io.Copy(io.Discard, p.conn)
		if err == nil {
			err = io.EOF
		}
		return err
	case r.Delay > 0:
		select {
		case <-time.After(r.Delay):
		case <-p.out:
			return io.EOF
		}
	}
	if len(r.Data) == 0 {
		r.Data = []byte{0}
	}
	return writeFrame(p.conn, r.Data)
}

// readFrame reads one vpcd frame: a big-endian length of two bytes and as many
// bytes of payload, none for length 0.
func readFrame(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint16(head[:]))
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	return body, nil
}

// writeFrame sends length and payload in one segment: in two, the reader's
// delayed acknowledgement costs 40 ms.
func writeFrame(w io.Writer, body []byte) error {
	if len(body) > math.MaxUint16 {
		return fmt.Errorf("frame of %d bytes is too long", len(body))
	}
	frame := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(body)), uint16(len(body)))
	_, err := w.Write(append(frame, body...))
	return err
}
