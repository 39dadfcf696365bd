package simtest

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/agent"
	"vcckiosk/agent/topup"
	"vcckiosk/cardreader/simcard"
	"vcckiosk/protocol/vcctest"
)

// TestReconcileClosesWhatNoCardWill: the order was loaded by another kiosk, the
// platform says so twice, and the card is not seen here for a month.
func TestReconcileClosesWhatNoCardWill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, _ := reconWorld(t, vcctest.Options{Good: true})
		defer w.Close()
		until(t, "20000101 20:00")
		c := w.AddPurse(1)
		w.Pay(c, "O1", 5000)
		c.Arm(tornPurse(simcard.Before))
		w.A.Visit(c, Visit{})
		w.B.On()
		w.B.Visit(c, Visit{})
		w.B.Off()
		if len(c.Purse.Loads()) != 1 {
			t.Fatal("the story does not begin: the other kiosk did not load")
		}
		until(t, "20000129 12:00")
		r := w.A.journal.ByOrder("O1")[0]
		if r.Phase != topup.Unknown || r.AckState != topup.GivenBack {
			t.Errorf("after 28 days: %s, %s", r.Phase, r.AckState)
		}
		before := w.A.count().commits
		until(t, "20000202 12:00")
		r = w.A.journal.ByOrder("O1")[0]
		if r.Phase != topup.Closed || r.Outcome != topup.OutcomeUnknown || !r.Reconciled || !r.BlocksOrder() {
			t.Errorf("after 32 days: %s, %s, reconciled %t", r.Phase, r.Outcome, r.Reconciled)
		}
		if !has(w.A.Agent.Status().Alarms, string(topup.AlarmUnproven)) {
			t.Errorf("alarms %v", w.A.Agent.Status().Alarms)
		}
		until(t, "20000210 12:00")
		if n := w.A.count().commits - before; n > 12*4+6 {
			t.Errorf("%d commits in 12 days: the answer is read again and again", n)
		}
	})
}

// TestReconcileAKioskThatWasOff sends the days it missed, in order, those without a
// top-up only if they are recent.
func TestReconcileAKioskThatWasOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, s := reconWorld(t, vcctest.Options{Good: true})
		defer w.Close()
		load(w, 1, 5000)
		time.Sleep(time.Minute) // what was acknowledged is on disk
		w.A.Off()
		until(t, "20000301 12:00")
		w.A.On()
		until(t, "20000302 12:00")
		var days []string
		for _, p := range s.sent() {
			if day, is := strings.CutSuffix(p[len("20000301 12:00 QC_QC000A_"):], ".txt"); is {
				days = append(days, day)
			}
		}
		if len(days) != 33 || days[0] != "20000101" || days[1] != "20000130" || days[32] != "20000301" || !slices.IsSorted(days) {
			t.Errorf("%d days sent: %v", len(days), days)
		}
		if st := w.A.Agent.Status(); st.Outbox.Depth != 0 || len(st.Alarms) != 0 {
			t.Errorf("%+v %v", st.Outbox, st.Alarms)
		}
	})
}

// TestReconcileNeverEmptiesADay the journal no longer has.
func TestReconcileNeverEmptiesADay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, s := reconWorld(t, vcctest.Options{Good: true})
		defer w.Close()
		load(w, 1, 5000)
		until(t, "20000102 12:00")
		w.A.Off()
		for _, name := range []string{"agent.db"} { // a new disk
			if err := os.Remove(filepath.Join(w.A.dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		w.A.On()
		time.Sleep(2 * time.Hour)
		before := len(s.sent())
		if _, err := w.A.Agent.Reconcile(t.Context(), "20000101", "t"); !errors.Is(err, agent.ErrDayShrunk) {
			t.Errorf("a day before this journal: %v", err)
		}
		if len(s.sent()) != before {
			t.Error("a full day was replaced by an empty one")
		}
	})
}
