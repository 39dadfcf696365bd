package simtest

import (
	"context"
	"time"

	"vcckiosk/agent"
	"vcckiosk/agent/topup"
)

// Visit is what a customer does at a kiosk.
type Visit struct {
	Order  string      // chosen from the list; "" takes Pick
	Pick   int         // place in the list, counted round
	Cancel agent.Stage // give up when the screen shows this
	Leave  bool        // choose nothing and pull the card
	AtList func()      // done once, before an order is chosen
}

// patience is how long a customer stands there.
const patience = 2 * time.Minute

// Visit puts the card in, does what the screen asks and takes the card. A
// power cut is waited out for a minute with the card in the slot. It returns
// the last picture with a note on it.
func (k *Kiosk) Visit(c *Card, v Visit) agent.View {
	if k.Slot.Card() != nil {
		k.Slot.Remove()
		time.Sleep(time.Second)
	}
	k.Slot.Insert(c.sim())
	last := k.attend(v)
	time.Sleep(time.Second)
	k.revive()
	k.Slot.Remove()
	time.Sleep(time.Second)
	return last
}

// attend answers the screen until there is nothing more to do.
func (k *Kiosk) attend(v Visit) (last agent.View) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	seen := uint64(0)
	a := k.Agent
	started := false
	for {
		wctx, wcancel := context.WithTimeout(ctx, 5*time.Second)
		view, err := a.Screen.Wait(wctx, seen)
		wcancel()
		if err != nil {
			if ctx.Err() != nil {
				return last
			}
			if k.revive() || a != k.Agent {
				a, seen = k.Agent, 0
				continue
			}
			if k.Slot.Card() == nil {
				return last // torn out
			}
			continue
		}
		seen = view.Serial
		switch view.Stage {
		case agent.StageReading:
			started = true
		case agent.StageChoose:
			if v.AtList != nil {
				v.AtList()
				v.AtList = nil
			}
			if v.Leave || v.Cancel == agent.StageChoose {
				_ = a.Screen.Cancel()
				continue
			}
			_ = a.Screen.Choose(pick(view.Offers, v))
		case agent.StageConfirm:
			if v.Cancel == agent.StageConfirm {
				_ = a.Screen.Cancel()
				continue
			}
			_ = a.Screen.Confirm()
		case agent.StageWorking:
			if v.Cancel == agent.StageWorking {
				_ = a.Screen.Cancel()
			}
		case agent.StageRemove:
			return view
		case agent.StageIdle, agent.StageOut:
			if started && k.Slot.Card() == nil {
				return last
			}
		}
		if view.Note != nil {
			last = view
		}
	}
}

func pick(offers []agent.Offer, v Visit) string {
	if v.Order != "" || len(offers) == 0 {
		return v.Order
	}
	return offers[v.Pick%len(offers)].OrderNo
}

// records are the kiosk's unsettled records.
func (k *Kiosk) records() []topup.Record { return k.journal.Unsettled() }
