package simtest

import (
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/agent/audit"
	"vcckiosk/agent/mirror"
	"vcckiosk/protocol/vcctest"
)

// mirrored is a world whose kiosk A has a mirror of some accounts, at noon in
// China: a bubble begins with the century, which no stamp of a month before may
// precede.
func mirrored(t *testing.T, o vcctest.Options) *World {
	t.Helper()
	w := NewWorld(t, o, nil)
	w.A.Mirror = &mirror.Config{Path: filepath.Join(w.A.dir, "mirror.db")}
	time.Sleep(90*24*time.Hour + 4*time.Hour)
	for i := range 50 {
		code := strconv.Itoa(1400000000 + i)
		w.Platform.AddEntries(
			vcctest.Subscriber{Code: code, Name: "张三", AddrCode: "1", Detail: "301室", Type: "1", State: "A", Mobile: "13612345678", OrgCode: "SU0105"},
			vcctest.Meter{Code: "8" + code, Type: "01", Model: "01", Direction: "1", State: "A", SubsCode: code, OrgCode: "SU0105"},
		)
	}
	time.Sleep(time.Minute)
	return w
}

// TestAMirrorKeepsNoCustomerAndNoReportWaiting: a table that never ends is being
// pulled when a customer comes; the report of the top-up is with the platform
// within seconds, and the mirror is pulled afterwards all the same.
func TestAMirrorKeepsNoCustomerAndNoReportWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		slow, asked := true, 0
		w := mirrored(t, vcctest.Options{Good: true, Hook: func(c vcctest.Call) vcctest.Action {
			mu.Lock()
			defer mu.Unlock()
			if c.Code != "3003" {
				return vcctest.Action{}
			}
			asked++
			if slow {
				return vcctest.Action{AnswerDelay: 29 * time.Second}
			}
			return vcctest.Action{}
		}})
		defer w.Close()
		w.A.On()
		time.Sleep(16 * time.Minute)
		mu.Lock()
		slow = true
		before := asked
		mu.Unlock()
		for {
			w.A.Agent.Mirror.Wake("3003")
			time.Sleep(time.Second)
			mu.Lock()
			going := asked > before
			mu.Unlock()
			if going {
				break
			}
		}
		c := w.AddPurse(1)
		w.Pay(c, "O1", 500)
		at := time.Now()
		w.A.Visit(c, Visit{})
		time.Sleep(5 * time.Second)
		o, ok := w.Platform.Order("O1")
		if !ok || o.State != vcctest.StateSettled || len(o.Reports) == 0 {
			t.Fatalf("seconds after the top-up the platform knows %+v", o)
		}
		if took := o.Reports[0].At.Sub(at); took > 10*time.Second {
			t.Errorf("the report came %v after the card", took)
		}
		mu.Lock()
		slow = false
		mu.Unlock()
		time.Sleep(10 * time.Minute)
		if st := w.A.Agent.Status(); st.Mirror == nil || st.Mirror.State != mirror.Current || st.Mirror.Tables[0].Rows < 50 || st.Mirror.Tables[0].Error != "" {
			t.Errorf("%+v", st.Mirror)
		}
		a, err := w.A.Agent.Account(t.Context(), "1400000007", "technician uid 1000")
		if err != nil || a.Name != "张***" || len(a.Meters) != 1 || a.Meters[0].Code != "81400000007" {
			t.Errorf("%+v %v", a, err)
		}
		if len(c.Purse.Loads()) != 1 {
			t.Errorf("loads %v", c.Purse.Loads())
		}
	})
}

// TestAGapOfTheMirrorIsAnAlarmUntilResync: the kiosk stood in a store for two
// months.
func TestAGapOfTheMirrorIsAnAlarmUntilResync(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := mirrored(t, vcctest.Options{Good: true})
		defer w.Close()
		w.A.On()
		time.Sleep(2 * time.Hour)
		alarm := func() bool { return slices.Contains(w.A.Agent.Status().Alarms, string(audit.MirrorResync)) }
		if alarm() {
			t.Error("an alarm without a gap")
		}
		w.A.Off()
		time.Sleep(60 * 24 * time.Hour)
		w.A.On()
		time.Sleep(2 * time.Hour)
		if st := w.A.Agent.Status(); !alarm() || st.State != "serving" || st.Mirror.State != mirror.ResyncNeeded {
			t.Errorf("%v %s %+v", st.Alarms, st.State, st.Mirror)
		}
		if err := w.A.Agent.ResyncMirror(t.Context(), "technician uid 1000"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		if st := w.A.Agent.Status(); alarm() || st.Mirror.State != mirror.Current {
			t.Errorf("%v %+v", st.Alarms, st.Mirror)
		}
	})
}
