package simcard

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"
)

// fakeReader is the other end of a Plug, as careless as vsmartcard's own
// driver: length and body go out in two writes.
type fakeReader struct {
	t    *testing.T
	conn net.Conn
	plug *Plug
}

func dialled(t *testing.T, c Card) *fakeReader {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p, err := Dial(t.Context(), ln.Addr().String(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Remove)
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &fakeReader{t: t, conn: conn, plug: p}
}

func (r *fakeReader) send(body []byte) {
	r.t.Helper()
	head := binary.BigEndian.AppendUint16(nil, uint16(len(body)))
	for _, part := range [][]byte{head, body} {
		if _, err := r.conn.Write(part); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *fakeReader) want(body []byte) {
	r.t.Helper()
	got, err := readFrame(r.conn)
	if err != nil || !bytes.Equal(got, body) {
		r.t.Fatalf("card sent %X, %v; want %X", got, err, body)
	}
}

func TestPlugServesAReader(t *testing.T) {
	t.Parallel()
	p := NewPurse(vectorA(t))
	r := dialled(t, p)
	r.send([]byte{4})
	r.want(p.ATR())
	r.send([]byte{1})
	r.send(unhex(t, selectEP))
	r.want(unhex(t, fci+"9000"))
	r.send(unhex(t, "805C000204"))
	r.want(unhex(t, "000000009000"))
	r.send([]byte{2}) // reset: no answer, nothing selected any more
	r.send(unhex(t, "805C000204"))
	r.want(unhex(t, "6985"))
	r.send([]byte{0}) // off
	r.send([]byte{1})
	p.Arm(Fault{Kind: EmptyAnswer})
	r.send(unhex(t, "805C000204"))
	r.want([]byte{0}) // an empty frame would hang pcscd
	r.plug.Remove()
	r.plug.Remove()
	if err := r.plug.Wait(); err != nil {
		t.Errorf("wait: %v", err)
	}
	if _, err := readFrame(r.conn); err == nil {
		t.Error("the card is out and the connection open")
	}
	if got := p.Exchange(unhex(t, "805C000204")); !bytes.Equal(got, status(swLength)) {
		t.Errorf("card still powered: %X", got)
	}
}

func TestPlugTearsAndSwaps(t *testing.T) {
	t.Parallel()
	p, other := NewPurse(vectorA(t)), NewPurse(vectorA(t))
	r := dialled(t, p)
	r.send([]byte{1})
	r.plug.Swap(other)
	r.send(unhex(t, selectEP))
	r.want(unhex(t, fci+"9000"))
	other.Arm(Fault{Kind: Tear, When: After})
	r.send(unhex(t, "805C000204"))
	if got, err := io.ReadAll(r.conn); err != nil || len(got) != 0 {
		t.Errorf("torn card sent %X, %v", got, err)
	}
	if err := r.plug.Wait(); err != nil {
		t.Errorf("wait: %v", err)
	}
}

func TestPlugEndsWhenTheReaderDoes(t *testing.T) {
	t.Parallel()
	for _, f := range []*Fault{nil, {Kind: Mute}} {
		p := NewPurse(vectorA(t))
		r := dialled(t, p)
		r.send([]byte{1})
		if f != nil {
			p.Arm(*f)
			r.send(unhex(t, selectEP))
		}
		r.conn.Close()
		if err := r.plug.Wait(); err != nil {
			t.Errorf("wait: %v", err)
		}
	}
}

func TestDialNeedsAReader(t *testing.T) {
	t.Parallel()
	if _, err := Dial(t.Context(), "127.0.0.1:0", NewPurse(vectorA(t))); err == nil {
		t.Error("dialled nobody")
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{0, 1, 4})
	f.Add([]byte{0, 0})
	f.Add([]byte{0xFF, 0xFF, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		body, err := readFrame(bytes.NewReader(b))
		if err != nil {
			return
		}
		var w bytes.Buffer
		if err := writeFrame(&w, body); err != nil || !bytes.HasPrefix(b, w.Bytes()) {
			t.Fatalf("%X read as %X, written as %X, %v", b, body, w.Bytes(), err)
		}
	})
}
