package simtest

import (
	"context"
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

// TestAHeartbeatWaitsForTheCustomer: it comes as soon as nobody is served.
func TestAHeartbeatWaitsForTheCustomer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var beats []time.Time
		w := NewWorld(t, vcctest.Options{Good: true, Hook: func(c vcctest.Call) vcctest.Action {
			if c.Code == "6004" {
				beats = append(beats, time.Now())
			}
			return vcctest.Action{}
		}}, nil)
		defer w.Close()
		c := w.AddPurse(1)
		w.Pay(c, "ONE", 300)
		w.A.On()
		for len(beats) == 0 {
			time.Sleep(time.Minute)
		}
		due := beats[0].Add(time.Hour)
		time.Sleep(time.Until(due.Add(-10 * time.Second)))
		seen := len(beats)
		if _, _, end := w.A.hesitate(t, c, 40*time.Second); end.Outcome != topup.OutcomeWritten {
			t.Fatalf("%+v", end)
		}
		done := time.Now()
		time.Sleep(time.Second)
		if len(beats) != seen+1 || beats[seen].Before(due.Add(29*time.Second)) || beats[seen].After(done) {
			t.Errorf("due %v, customer done %v, heartbeats %v", due, done, beats[seen:])
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
				asked := 0
				w := NewWorld(t, vcctest.Options{Good: true, Hook: func(c vcctest.Call) vcctest.Action {
					if c.Code != "3019" {
						return vcctest.Action{}
					}
					asked++
					return x.action
				}}, nil)
				defer w.Close()
				w.prices = !x.off
				c := w.AddPurse(1)
				w.A.On()
				for _, order := range []string{"ONE", "TWO"} {
					w.Pay(c, order, 300)
					asked = 0
					list, confirm, end := w.A.hesitate(t, c, x.how)
					if end.Note == nil || end.Note.Code != "written" || end.Price != nil {
						t.Errorf("%s: %+v", order, end)
					}
					if asked != x.asked || (list.Price != nil) != x.shown || (confirm.Price != nil) != x.shown {
						t.Errorf("%s: asked %d times, want %d; shown %v, %v, want %t", order, asked, x.asked, list.Price, confirm.Price, x.shown)
					}
					if p := list.Price; p != nil && (len(p.Steps) != 3 || p.Steps[0].Price != "2.67" || p.Unit == "") {
						t.Errorf("price %+v", p)
					}
				}
			})
		})
	}
}
