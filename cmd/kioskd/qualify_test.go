//go:build sim

package main

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vcckiosk/cardreader/simcard"
	"vcckiosk/cardreader/transcript"
)

// benchHand does at a simulated reader what kioskctl says.
type benchHand struct {
	t    *testing.T
	addr string
	card simcard.Card
	plug *simcard.Plug
}

func (h *benchHand) hear(line string) {
	switch {
	case strings.Contains(line, "put the bench card in"):
		plug, err := simcard.Dial(h.t.Context(), h.addr, h.card)
		if err != nil {
			h.t.Error(err)
			return
		}
		h.plug = plug
	case strings.Contains(line, ">>") && h.plug != nil: // taken or pulled out
		h.plug.Remove()
		h.plug = nil
	}
}

func TestAReaderIsQualifiedFromATerminal(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	k := newKiosk(t)
	k.configure(strings.Replace(processConfig, "127.0.0.1:0", addr, 1) + "[card.memory]\ncard_no = [32, 8]\ncount = [64, 2]\ngas = [66, 4]\n")
	var content [256]byte
	copy(content[32:], "card no.")
	memory := simcard.NewSLE4442(content, [3]byte{0x12, 0x34, 0x56})
	hand := &benchHand{t: t, addr: addr, card: memory}
	out := filepath.Join(k.dir, "bench.transcript")
	cmd := exec.CommandContext(t.Context(), filepath.Join(k.bin, "kioskctl"),
		"--socket", filepath.Join(k.run, "technician.sock"), "qualify", "reader", "--config", k.config, "--out", out, "--fixed-cable", "--overwrite-card")
	cmd.Stdin = strings.NewReader("123456\n")
	cmd.Stderr = &k.stderr
	r, w := io.Pipe()
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		_ = w.Close()
		ended <- err
	}()
	var said strings.Builder
	for lines := bufio.NewScanner(r); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		hand.hear(lines.Text())
	}
	if err := <-ended; err != nil {
		t.Fatalf("%v: %s\n%s", err, k.stderr.String(), said.String())
	}
	for _, want := range []string{"passed    pulled while being written", "for docs/hardware.md:\n| ", "; pulled while being written | unplugged and plugged in (the reader is built in); the card service restarted (no service"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("not said: %s\n%s", want, said.String())
		}
	}
	if memory.Image() != content {
		t.Error("the card is not as it was")
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Mode().Perm() != 0o600 || transcript.Rest(transcript.Replay(f)) < 100 {
		t.Errorf("transcript: %v, %v", st.Mode(), err)
	}
}

func TestAReaderIsNotQualifiedBesideTheDaemon(t *testing.T) {
	t.Parallel()
	k := newKiosk(t)
	if _, up := k.start(); !up {
		t.Fatal(k.stderr.String())
	}
	out := filepath.Join(k.dir, "bench.transcript")
	if code, said := k.ctl("qualify", "reader", "--config", k.config, "--out", out); code != 1 || !strings.Contains(said, "systemctl stop kioskd") {
		t.Errorf("code %d: %s", code, said)
	}
	k.stop()
	began := time.Now()
	if code, said := k.ctl("qualify", "reader", "--config", filepath.Join(k.dir, "nowhere.toml"), "--out", out); code != 1 || !strings.Contains(said, "nowhere.toml") {
		t.Errorf("code %d after %v: %s", code, time.Since(began), said)
	}
	if err := os.WriteFile(out, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, said := k.ctl("qualify", "reader", "--config", k.config, "--out", out); code != 1 || !strings.Contains(said, "exists") {
		t.Errorf("an existing file: code %d: %s", code, said)
	}
}
