package simtest

import (
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/protocol/vcctest"
)

// TestIdleKioskHardlyWrites: no customer, heartbeat running, for a day.
func TestIdleKioskHardlyWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := NewWorld(t, vcctest.Options{Good: true}, nil)
		defer w.Close()
		w.A.On()
		time.Sleep(time.Hour)
		from := w.A.count()
		time.Sleep(24 * time.Hour)
		to := w.A.count()
		if beats := to.http - from.http; beats < 20 {
			t.Errorf("%d calls in a day: the heartbeat does not run", beats)
		}
		if n := to.commits - from.commits; n > 2*24 {
			t.Errorf("%d commits in a day without a customer", n)
		}
		if n := to.apdus - from.apdus; n != 0 {
			t.Errorf("%d APDUs without a card", n)
		}
	})
}

// TestNextCustomerIsServed: whatever became of the last card, the next one is
// asked for its order within five seconds.
func TestNextCustomerIsServed(t *testing.T) {
	t.Parallel()
	for _, s := range stories {
		if s.options.Lapses != good.Lapses {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := NewWorld(t, s.options, nil)
				defer w.Close()
				s.play(w)
				w.Platform.SetHook(nil)
				w.A.offline.Store(false)
				c := w.AddPurse(99)
				w.Pay(c, "NEXT", 100)
				from := time.Now()
				w.A.Visit(c, Visit{Order: "NEXT"})
				if took := time.Since(from); took > 7*time.Second { // two of them are the customer's own
					t.Errorf("took %v", took)
				}
				if len(c.Purse.Loads()) != 1 {
					t.Errorf("next customer was not served")
				}
			})
		})
	}
}
