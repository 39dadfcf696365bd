package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/creack/pty"

	"vcckiosk/agent"
)

// screen is a daemon whose pictures a test sends one by one.
type screen struct {
	t      *testing.T
	socket string
	views  chan agent.View
	posted chan string
}

func newScreen(t *testing.T) *screen {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl")
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{t: t, socket: filepath.Join(dir, "s"), views: make(chan agent.View), posted: make(chan string, 8)}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	srv := &http.Server{Handler: s, BaseContext: func(net.Listener) context.Context { return ctx }}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() { cancel(); _ = srv.Close(); wg.Wait(); _ = os.RemoveAll(dir) })
	return s
}

func (s *screen) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		b, _ := io.ReadAll(r.Body)
		s.posted <- strings.TrimSpace(strings.TrimPrefix(r.URL.Path, "/v1/session/") + " " + string(b))
		_, _ = w.Write([]byte(`{"ok":true}`))
		return
	}
	out := http.NewResponseController(w)
	_ = out.Flush()
	for {
		select {
		case v := <-s.views:
			b, err := json.Marshal(v)
			if err != nil {
				s.t.Error(err)
			}
			fmt.Fprintf(w, "data: %s\n\n", b)
			_ = out.Flush()
		case <-r.Context().Done():
			return
		}
	}
}

var twoOffers = []agent.Offer{{OrderNo: "O1", Amount: 100, Volume: 33}, {OrderNo: "O2", Amount: 250, Volume: 80}}

func TestCtrlCDuringALoadAsksTheKioskToCancel(t *testing.T) {
	t.Parallel()
	s := newScreen(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, errOut bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"topup", "--yes", "--socket", s.socket}, strings.NewReader(""), &out, &errOut)
	}()
	s.views <- agent.View{Stage: agent.StageReading}
	s.views <- agent.View{Stage: agent.StageConfirm, Chosen: &twoOffers[0]}
	if got := <-s.posted; got != "confirm" {
		t.Errorf("posted %q", got)
	}
	s.views <- agent.View{Stage: agent.StageWorking, TransNo: "ABCD"}
	cancel()
	if got := <-s.posted; got != "cancel" {
		t.Errorf("posted %q", got)
	}
	if c := <-code; c != exitInterrupted || !strings.Contains(errOut.String(), "interrupted") {
		t.Errorf("exit code %d: %s", c, &errOut)
	}
	if !strings.Contains(out.String(), "正在读卡，请勿取卡 / Reading, do not take the card") {
		t.Errorf("no progress: %s", &out)
	}
}

func TestCtrlCBeforeAnythingIsAskedLeavesTheCustomerAlone(t *testing.T) {
	t.Parallel()
	s := newScreen(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"topup", "--socket", s.socket}, strings.NewReader(""), io.Discard, io.Discard)
	}()
	s.views <- agent.View{Stage: agent.StageWorking} // somebody at the screen
	cancel()
	if c := <-code; c != exitInterrupted {
		t.Errorf("exit code %d", c)
	}
	if len(s.posted) > 0 {
		t.Errorf("posted %q", <-s.posted)
	}
}

func TestNoCardEndsWith12(t *testing.T) {
	t.Parallel()
	s := newScreen(t)
	var errOut bytes.Buffer
	if code := run(t.Context(), []string{"topup", "--wait", "1ms", "--socket", s.socket}, strings.NewReader(""), io.Discard, &errOut); code != exitNoCard {
		t.Errorf("exit code %d: %s", code, &errOut)
	}
}

// prompts passes on what is written for a person.
type prompts struct{ said chan string }

func (p prompts) Write(b []byte) (int, error) {
	p.said <- string(b)
	return len(b), nil
}

func TestTopUpAtATerminal(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		typed   []string // after the list, and after the question
		posted  []string
		outcome agent.View
		want    int
	}{
		{
			"chosen and confirmed",
			[]string{"9\nx\n2\n", "y\n"},
			[]string{`choose {"orderNo":"O2"}`, "confirm"},
			agent.View{Stage: agent.StageRemove, Outcome: "written"},
			exitOK,
		},
		{
			"chosen and refused",
			[]string{"1\n", "\n"},
			[]string{`choose {"orderNo":"O1"}`, "cancel"},
			agent.View{Stage: agent.StageRemove, Note: &agent.Note{Code: "cancelled"}},
			exitFailed,
		},
		{
			"card taken out",
			[]string{"1\n", "是\n"},
			[]string{`choose {"orderNo":"O1"}`, "confirm"},
			agent.View{Stage: agent.StageIdle},
			exitFailed,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctrl, tty, err := pty.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer ctrl.Close()
			defer tty.Close()
			s := newScreen(t)
			asked := prompts{make(chan string, 16)}
			code := make(chan int, 1)
			go func() {
				code <- run(t.Context(), []string{"topup", "--socket", s.socket}, tty, io.Discard, asked)
			}()
			for i, v := range []agent.View{{Stage: agent.StageChoose, Offers: twoOffers}, {Stage: agent.StageConfirm, Chosen: &twoOffers[0]}} {
				s.views <- v
				<-asked.said // what is typed ahead of a question answers nothing
				if _, err := io.WriteString(ctrl, c.typed[i]); err != nil {
					t.Fatal(err)
				}
				if got := <-s.posted; got != c.posted[i] {
					t.Errorf("posted %q, want %q", got, c.posted[i])
				}
				for len(asked.said) > 0 {
					<-asked.said
				}
			}
			s.views <- c.outcome
			if got := <-code; got != c.want {
				t.Errorf("exit code %d, want %d", got, c.want)
			}
		})
	}
}
