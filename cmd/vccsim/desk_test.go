//go:build sim

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vcckiosk/agent"
	"vcckiosk/cardreader/simcard"
	"vcckiosk/protocol/vcctest"
)

// TestAKioskServedFromATerminal reads cards and tops them up with kioskctl, on
// a kiosk without a screen.
func TestAKioskServedFromATerminal(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"", vcctest.Selfservice} {
		t.Run("dialect "+dialect, func(t *testing.T) {
			t.Parallel()
			servedFromATerminal(t, dialect)
		})
	}
}

func servedFromATerminal(t *testing.T, dialect string) {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	p := vcctest.New(vcctest.Options{Good: true, BaseKey: simKey, Dialect: dialect})
	pl, err := listen(t.Context(), "127.0.0.1:0", p)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := folder()
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	k := &kiosk{
		program: filepath.Join(bin, "kioskd"), name: "A", terminal: "112233445566", platform: pl.url + simPrefix, dir: dir, dialect: dialect,
		config: filepath.Join(dir, "c"), log: filepath.Join(dir, "log"),
	}
	k.dial()
	if err := k.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := k.stop(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
	}()
	if _, err := k.provision(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctl := func(want int, says string, args ...string) {
		t.Helper()
		args = append([]string{"--socket", filepath.Join(dir, "run", "technician.sock")}, args...)
		out, err := exec.CommandContext(t.Context(), filepath.Join(bin, "kioskctl"), args...).CombinedOutput()
		code := 0
		if e, ended := errors.AsType[*exec.ExitError](err); ended {
			code = e.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if code != want || !strings.Contains(string(out), says) {
			t.Errorf("%v ends with %d, want %d and %q:\n%s", args[2:], code, want, says, out)
		}
	}
	ctl(12, "no card in the reader", "card", "read")
	ctl(12, "no card was put in", "topup", "--wait", "50ms")

	purse, purseNo := newPurse(1)
	image, imageNo := newImage(1)
	foreign := simcard.NewSLE4442([256]byte{}, simPSC) // no number where ours have it
	if err := errors.Join(
		p.AddCard(book(purseNo, vcctest.KindLoad)), p.AddCard(book(imageNo, vcctest.KindImage)),
		p.AddOrder(vcctest.OrderBook{OrderNo: "T1", CardNo: purseNo, Amount: 5000, Volume: 1666, PayTime: time.Now(), Source: "wechat"}),
		p.AddOrder(vcctest.OrderBook{OrderNo: "T2", CardNo: imageNo, Amount: 4200, Volume: 1400, PayTime: time.Now(), Source: "wechat"}),
	); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		card  simcard.Card
		stage agent.Stage // before the terminal takes over
		visit func()
	}{
		{"purse", purse, agent.StageChoose, func() {
			ctl(0, "CPU "+purseNo[12:]+"/", "card", "read")
			ctl(2, "give --yes", "topup") // and cancels
		}},
		{"purse again", purse, agent.StageChoose, func() {
			ctl(0, "充值成功，请取卡 / Done, please take your card", "topup", "--yes")
			ctl(0, "T1", "journal", "ls")
		}},
		{"memory card", image, agent.StageChoose, func() {
			ctl(0, "SLE4442 "+imageNo[12:]+"/", "card", "read")
			ctl(0, `"stage":"remove"`, "--json", "topup", "--yes", "--order", "T2")
		}},
		{"card of somebody else", foreign, agent.StageRemove, func() {
			ctl(1, "not a card of this gas company", "card", "read")
			ctl(1, "last card  SLE4442", "card", "read")
		}},
	} {
		plug, err := simcard.Dial(t.Context(), k.reader, c.card)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if err := k.operator.Events(t.Context(), func(v agent.View) bool { return v.Stage != c.stage }); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		c.visit()
		plug.Remove()
		if err := k.idle(t.Context()); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
	}
	ctl(12, "no card in the reader", "card", "read")
	for _, no := range []string{"T1", "T2"} {
		if o, _ := p.Order(no); o.State != vcctest.StateSettled {
			t.Errorf("%s is %s", no, o.State)
		}
	}
}
