//go:build cgo && pcsc

package pcsc

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"vcckiosk/cardreader"
)

const envHold = "KIOSKD_TEST_PCSC_HOLD"

// A kiosk that is killed in the middle of a load leaves the card to the one started after it, in the reader and with power.
func TestAProgramKilledInsideATransaction(t *testing.T) {
	if os.Getenv(envHold) != "" {
		hold(t)
		return
	}
	withPeer(t, 8, func(p *peer) {
		r, ctx := p.reader()
		p.event(ctx, r, cardreader.CardOut)
		p.insert(newCard())
		p.event(ctx, r, cardreader.CardIn)
		var took []time.Duration
		for range 5 {
			other := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+p.Name()+"$", "-test.timeout=1m")
			other.Env = append(os.Environ(), envHold+"=1")
			in, err := other.StdinPipe() // held open: the other ends by the kill, or with this process
			if err != nil {
				p.Fatal(err)
			}
			defer in.Close()
			out, err := other.StdoutPipe()
			if err != nil {
				p.Fatal(err)
			}
			if err := other.Start(); err != nil {
				p.Fatal(err)
			}
			if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "holding the card\n" {
				p.Fatalf("the other program says %q, %v", line, err)
			}
			if _, err := r.Open(ctx); !errors.Is(err, cardreader.ErrBusy) {
				p.Errorf("open beside another program: %v, want ErrBusy", err)
			}
			if err := other.Process.Kill(); err != nil {
				p.Fatal(err)
			}
			_ = other.Wait() // "signal: killed"
			began := time.Now()
			p.works(ctx, r)
			took = append(took, time.Since(began))
		}
		p.Logf("after the death of the program that had the card, a command is answered in %v", took)
	})
}

// hold is the other program: it takes the card and keeps it until it is killed.
func hold(t *testing.T) {
	r, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		ev, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind == cardreader.CardIn {
			break
		}
	}
	s, err := r.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Transmit(t.Context(), someCommand); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stdout.WriteString("holding the card\n"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}
