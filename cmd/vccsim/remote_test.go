//go:build sim

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"vcckiosk/protocol/push"
	"vcckiosk/protocol/vcctest"
)

func runSim(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	c := command()
	c.SetArgs(args)
	c.SetOut(&out)
	err := c.ExecuteContext(ctx)
	return out.String(), err
}

func TestCommandReachesThePlatform(t *testing.T) {
	t.Parallel()
	p := vcctest.New(vcctest.Options{Good: true, BaseKey: simKey, CommandKey: simCommandKey})
	pl, err := listen(t.Context(), "127.0.0.1:0", p)
	if err != nil {
		t.Fatal(err)
	}
	out, err := runSim(t.Context(), "command", "QC1", "reconcile", "day=20261124", "--sim", pl.url)
	if err != nil || !strings.Contains(out, `"cmdId":"C1"`) {
		t.Errorf("%s, %v", out, err)
	}
	if w := p.Waiting("QC1"); len(w) != 1 || w[0] != "C1" {
		t.Errorf("waiting: %v", w)
	}
	for _, args := range [][]string{
		{"command", "QC1", "reload", "day", "--sim", pl.url}, {"command", "QC 1", "reload", "--sim", pl.url}, {"command", "QC1", "reload", "--life", "soon", "--sim", pl.url},
	} {
		if out, err := runSim(t.Context(), args...); err == nil {
			t.Errorf("%v: %s", args, out)
		}
	}
	if _, err := postJSON(t.Context(), pl.url+"/sim/codes", ""); err == nil {
		t.Error("an empty code")
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, pl.url+"/sim/acks", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || !json.Valid(b) {
		t.Errorf("%s, %v", b, err)
	}
}

func TestPushReachesAKiosk(t *testing.T) {
	t.Parallel()
	token, err := push.NewToken("of-the-tests")
	if err != nil {
		t.Fatal(err)
	}
	events := 0
	h, err := push.New(push.Config{Token: token, OrgCode: "SU0105", Pull: func(push.Event) { events++ }})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	defer s.Close()
	if out, err := runSim(t.Context(), "push", s.URL, "--token", "of-the-tests", "--subscribe"); err != nil || events != 0 {
		t.Errorf("handshake: %s, %v", out, err)
	}
	if out, err := runSim(t.Context(), "push", s.URL, "--token", "of-the-tests", "--id", "E1"); err != nil || events != 1 || !strings.Contains(out, "pushed 7003 E1") {
		t.Errorf("push: %s, %v, %d events", out, err, events)
	}
	if out, err := runSim(t.Context(), "push", s.URL, "--token", "of-others"); err == nil || events != 1 {
		t.Errorf("another token: %s", out)
	}
}
