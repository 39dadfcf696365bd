package simtest

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/protocol/vcctest"
)

// TestACommandWakesTheMirror: what has changed is here minutes after the
// command, not at the next regular pull.
func TestACommandWakesTheMirror(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := mirrored(t, vcctest.Options{Good: true})
		defer w.Close()
		w.A.beat = 5 * time.Minute
		w.A.On()
		time.Sleep(80 * time.Minute)
		before := w.Platform.Calls()["3003"]
		w.Platform.AddEntries(vcctest.Subscriber{Code: "1499", Name: "李四", AddrCode: "1", Detail: "1室", Type: "1", State: "A", OrgCode: "SU0105"})
		give(w, vcctest.Order{Cmd: "syncNow", Args: map[string]string{"code": "3003"}, Life: time.Hour})
		time.Sleep(8 * time.Minute)
		if s, err := w.A.Agent.Mirror.Subscriber("1499"); err != nil {
			t.Errorf("after the command: %+v, %v", s, err)
		}
		if n := w.Platform.Calls()["3003"] - before; n == 0 || n > 3 {
			t.Errorf("3003 was asked %d times", n)
		}
		wantAcks(t, w, "ok")
	})
}

// TestACommandShipsADay: the day's file is sent again, now.
func TestACommandShipsADay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, s := reconWorld(t, vcctest.Options{Good: true})
		defer w.Close()
		load(w, 1, 5000)
		until(t, "20000102 12:00")
		before := len(s.sent())
		give(w, vcctest.Order{Cmd: "reconcile", Args: map[string]string{"day": "20000101"}, Life: 6 * time.Hour})
		give(w, vcctest.Order{Cmd: "reconcile", Args: map[string]string{"day": "20000102"}, Life: 6 * time.Hour}) // not over yet
		until(t, "20000102 14:00")
		sent := s.sent()[before:]
		if len(sent) != 2 || !strings.HasSuffix(sent[0], "QC_QC000A_20000101.txt") {
			t.Errorf("sent %v", sent)
		}
		wantAcks(t, w, "ok", "refused")
	})
}

func wantAcks(t *testing.T, w *World, results ...string) {
	t.Helper()
	got := map[string]int{}
	for _, a := range w.Platform.Acks() {
		got[a.Result]++
	}
	for _, r := range results {
		if got[r] == 0 {
			t.Errorf("no command was acknowledged %s: %v", r, got)
		}
	}
}
