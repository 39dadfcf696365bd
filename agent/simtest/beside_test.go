package simtest

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/agent"
	"vcckiosk/agent/topup"
	"vcckiosk/protocol/vcctest"
)

// hesitate puts a card in, looks at the list for a while and then takes the
// first order. It returns what was shown before the choice and in the end.
func (k *Kiosk) hesitate(t *testing.T, c *Card, how time.Duration) (list, confirm, end agent.View) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	k.Slot.Insert(c.sim())
	until := func(s agent.Stage) {
		for k.Agent.Screen.View().Stage != s {
			if _, err := k.Agent.Screen.Wait(ctx, k.Agent.Screen.View().Serial); err != nil {
				t.Fatalf("waiting for %s: %v", s, err)
			}
		}
	}
	until(agent.StageChoose)
	time.Sleep(how)
	synctest.Wait()
	list = k.Agent.Screen.View()
	if err := k.Agent.Screen.Choose(list.Offers[0].OrderNo); err != nil {
		t.Fatal(err)
	}
	until(agent.StageConfirm)
	confirm = k.Agent.Screen.View()
	if err := k.Agent.Screen.Confirm(); err != nil {
		t.Fatal(err)
	}
	until(agent.StageRemove)
	end = k.Agent.Screen.View()
	k.Slot.Remove()
	until(agent.StageIdle)
	return list, confirm, end
}

// TestAHeartbeatWaitsForTheCustomer: it does not run beside the calls a customer
// waits for, and not until a customer has chosen.
func TestAHeartbeatWaitsForTheCustomer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var beats []time.Time
		w := NewWorld(t, vcctest.Options{Good: true, Hook: func(c vcctest.Call) vcctest.Action {
			mu.Lock()
			defer mu.Unlock()
			switch c.Code {
			case "6004":
				beats = append(beats, time.Now())
			case "3010":
				return vcctest.Action{Delay: 10 * time.Second} // a bad line
			}
			return vcctest.Action{}
		}}, nil)
		defer w.Close()
		last := func() (n int, at time.Time) {
			mu.Lock()
			defer mu.Unlock()
			if len(beats) > 0 {
				at = beats[len(beats)-1]
			}
			return len(beats), at
		}
		c := w.AddPurse(1)
		w.A.On()
		n, due := last()
		for n == 0 {
			time.Sleep(time.Minute)
			n, due = last()
		}
		for _, x := range []struct {
			order       string
			early, late time.Duration // the card comes in so long before the heartbeat is due; the heartbeat comes so late
		}{{"WAITS", 5 * time.Second, 5 * time.Second}, {"CHOOSES", 20 * time.Second, 0}} {
			w.Pay(c, x.order, 300)
			due = due.Add(time.Hour)
			time.Sleep(time.Until(due.Add(-x.early)))
			before, _ := last()
			if _, _, end := w.A.hesitate(t, c, 40*time.Second); end.Outcome != topup.OutcomeWritten {
				t.Fatalf("%+v", end)
			}
			n, at := last()
			if n != before+1 || at.Sub(due).Round(time.Second) != x.late {
				t.Errorf("%s: %d heartbeats, %v late, want one %v late", x.order, n-before, at.Sub(due), x.late)
			}
			due = at
		}
	})
}

// TestThePriceIsShownToWhoHesitates: it is asked for beside the customer, never
// in the way, and nothing depends on it.
func TestThePriceIsShownToWhoHesitates(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name   string
		off    bool
		how    time.Duration
		action vcctest.Action
		asked  int
		shown  bool
	}{
		{"looks at the list", false, 3 * time.Second, vcctest.Action{}, 1, true},
		{"knows what to choose", false, 0, vcctest.Action{}, 0, false},
		{"not configured", true, 3 * time.Second, vcctest.Action{}, 0, false},
		{"platform refuses", false, 3 * time.Second, vcctest.Action{Code: "50000"}, 1, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int32
				w := NewWorld(t, vcctest.Options{Good: true, Hook: func(c vcctest.Call) vcctest.Action {
					if c.Code != "3019" {
						return vcctest.Action{}
					}
					asked.Add(1)
					return x.action
				}}, nil)
				defer w.Close()
				w.prices = !x.off
				c := w.AddPurse(1)
				w.A.On()
				for _, order := range []string{"ONE", "TWO"} {
					w.Pay(c, order, 300)
					asked.Store(0)
					list, confirm, end := w.A.hesitate(t, c, x.how)
					if end.Note == nil || end.Note.Code != "written" || end.Price != nil {
						t.Errorf("%s: %+v", order, end)
					}
					if int(asked.Load()) != x.asked || (list.Price != nil) != x.shown || (confirm.Price != nil) != x.shown {
						t.Errorf("%s: asked %d times, want %d; shown %v, %v, want %t", order, asked.Load(), x.asked, list.Price, confirm.Price, x.shown)
					}
					if p := list.Price; p != nil && (len(p.Steps) != 3 || p.Steps[0].Price != "2.67" || p.Unit == "") {
						t.Errorf("price %+v", p)
					}
				}
			})
		})
	}
}
