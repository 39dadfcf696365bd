//go:build sim

package vpcd

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"vcckiosk/cardreader"
)

func listen(t *testing.T) *Reader {
	t.Helper()
	r, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func dial(t *testing.T, r *Reader) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// shake is the card's side of the handshake.
func shake(t *testing.T, c net.Conn, atr []byte) {
	t.Helper()
	for _, want := range []byte{1, 4} {
		if got, err := readFrame(c, 10); err != nil || !bytes.Equal(got, []byte{want}) {
			t.Fatalf("handshake: %X, %v; want %d", got, err, want)
		}
	}
	if err := writeFrame(c, atr); err != nil {
		t.Fatal(err)
	}
}

func wantEvent(t *testing.T, r *Reader, want cardreader.EventKind) {
	t.Helper()
	if ev, err := r.Next(t.Context()); err != nil || ev.Kind != want {
		t.Fatalf("event %v, %v; want %v", ev.Kind, err, want)
	}
}

// thrownOut wants the reader to hang up.
func thrownOut(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, c)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatal("the reader keeps a card it should throw out")
	}
}

func TestListenRefusesTheNetwork(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{
		"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "localhost:0", "example.org:35963", "127.0.0.1", "", "127.0.0.1:x",
	} {
		if r, err := Listen(addr); err == nil {
			_ = r.Close()
			t.Errorf("listens at %q", addr)
		}
	}
}

func TestACardWithoutAProperATRIsNoCard(t *testing.T) {
	t.Parallel()
	r := listen(t)
	wantEvent(t, r, cardreader.CardOut)
	for _, atr := range [][]byte{{}, {0x3B}, make([]byte, 34)} {
		c := dial(t, r)
		shake(t, c, atr)
		thrownOut(t, c)
		if _, err := r.Open(t.Context()); !errors.Is(err, cardreader.ErrNoCard) {
			t.Errorf("ATR of %d bytes: open %v", len(atr), err)
		}
	}
	c := dial(t, r)
	shake(t, c, make([]byte, 33))
	wantEvent(t, r, cardreader.CardIn) // and none for the others
}

func TestACardThatSpeaksUnaskedIsThrownOut(t *testing.T) {
	t.Parallel()
	r := listen(t)
	wantEvent(t, r, cardreader.CardOut)
	c := dial(t, r)
	shake(t, c, []byte{0x3B, 0x00})
	wantEvent(t, r, cardreader.CardIn)
	if err := writeFrame(c, []byte{0x90, 0x00}); err != nil {
		t.Fatal(err)
	}
	thrownOut(t, c)
	wantEvent(t, r, cardreader.CardOut)
}

func TestASecondCardWaitsForTheFirst(t *testing.T) {
	t.Parallel()
	r := listen(t)
	wantEvent(t, r, cardreader.CardOut)
	one := dial(t, r)
	shake(t, one, []byte{0x3B, 0x01, 0x01})
	wantEvent(t, r, cardreader.CardIn)
	two := dial(t, r)
	s, err := r.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s.ATR(), []byte{0x3B, 0x01, 0x01}) {
		t.Errorf("session with %X", s.ATR())
	}
	one.Close()
	shake(t, two, []byte{0x3B, 0x02, 0x02, 0x02})
	for { // the reader has the second card before anybody looks again
		r.mu.Lock()
		l, wait := r.present(), r.changed
		r.mu.Unlock()
		if l != nil && len(l.atr) == 4 {
			break
		}
		<-wait
	}
	wantEvent(t, r, cardreader.CardOut)
	wantEvent(t, r, cardreader.CardIn)
	if _, err := s.Transmit(t.Context(), []byte{0, 0xA4, 0, 0}); !errors.Is(err, cardreader.ErrCardRemoved) {
		t.Errorf("old session: %v", err)
	}
}

func TestATornFrameIsATornCard(t *testing.T) {
	t.Parallel()
	r := listen(t)
	wantEvent(t, r, cardreader.CardOut)
	c := dial(t, r)
	shake(t, c, []byte{0x3B, 0x00})
	wantEvent(t, r, cardreader.CardIn)
	s, err := r.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = readFrame(c, 100)
		_, _ = c.Write([]byte{0, 6, 0x90}) // six bytes announced, one sent
		c.Close()
	}()
	if got, err := s.Transmit(t.Context(), []byte{0, 0xA4, 0, 0}); err != nil || got != nil {
		t.Errorf("torn frame: %X, %v; want nothing and no error", got, err)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	r, err := Listen("[::1]:0")
	if err != nil { // a machine without IPv6
		if r, err = Listen("127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	wantEvent(t, r, cardreader.CardOut)
	c := dial(t, r)
	shake(t, c, []byte{0x3B, 0x00})
	wantEvent(t, r, cardreader.CardIn)
	s, err := r.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	inFlight := make(chan error, 1)
	go func() {
		_, err := s.Transmit(t.Context(), []byte{0, 0xA4, 0, 0})
		inFlight <- err
	}()
	if _, err := readFrame(c, 100); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if err := <-inFlight; !errors.Is(err, cardreader.ErrReaderGone) {
		t.Errorf("command under way: %v", err)
	}
	if _, err := r.Next(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("next: %v", err)
	}
	if _, err := r.Open(t.Context()); !errors.Is(err, cardreader.ErrReaderGone) {
		t.Errorf("open: %v", err)
	}
}

func TestCloseDuringTheHandshake(t *testing.T) {
	t.Parallel()
	r := listen(t)
	c := dial(t, r)
	if _, err := readFrame(c, 10); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	thrownOut(t, c)
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{0, 2, 0x90, 0}, 33)
	f.Add([]byte{0xFF, 0xFF}, 33)
	f.Add([]byte{0, 0}, 0)
	f.Fuzz(func(t *testing.T, b []byte, limit int) {
		body, err := readFrame(bytes.NewReader(b), limit)
		if err != nil {
			return
		}
		var w bytes.Buffer
		if err := writeFrame(&w, body); err != nil || !bytes.HasPrefix(b, w.Bytes()) || len(body) > limit {
			t.Fatalf("%X read as %X under limit %d", b, body, limit)
		}
	})
}
