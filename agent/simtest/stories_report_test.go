package simtest

import (
	"sync/atomic"
	"time"

	"vcckiosk/cardreader/simcard"
	"vcckiosk/protocol/vcctest"
)

// reportStories trouble the way of a result to the platform.
var reportStories = []story{
	{"revision 1 in flight when revision 2 is made", good, revisionInFlight},
	{"revision 1 arrives after revision 2", good, func(w *World) []*Card {
		w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
			if c.Code == "6002" && c.Rev == 1 && c.N <= 2 {
				return vcctest.Action{Late: 5 * time.Minute}
			}
			return vcctest.Action{}
		})
		c := onePurse(w, tornPurse(simcard.After))
		w.A.Visit(c[0], Visit{})
		time.Sleep(10 * time.Minute)
		return c
	}},
	{"answer to revision 2 lost", good, func(w *World) []*Card {
		w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
			return vcctest.Action{DropAnswer: c.Code == "6002" && c.Rev == 2 && c.N <= 3}
		})
		c := onePurse(w, tornPurse(simcard.Before))
		w.A.Visit(c[0], Visit{})
		return c
	}},
	{"report parked while another card is served", good, func(w *World) []*Card {
		w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
			if c.Code == "6002" && c.OrderNo == "O1" {
				return vcctest.Action{Code: "50000"}
			}
			return vcctest.Action{}
		})
		c := onePurse(w)
		time.Sleep(30 * time.Minute) // three tries over ten minutes, then a person is told
		other := w.AddPurse(2)
		w.Pay(other, "O2", 700)
		w.A.Visit(other, Visit{})
		if st := w.A.Agent.Status(); st.Outbox.Parked == 1 && len(other.Purse.Loads()) == 1 {
			w.Reach("served beside a parked report")
		}
		return append(c, other)
	}},
	{"give-back answer lost", vcctest.Options{Good: true, PendNotWritten: true}, func(w *World) []*Card {
		w.Platform.SetHook(nth("6003", 1, vcctest.Action{DropAnswer: true}))
		c := onePurse(w, tornPurse(simcard.Before))
		w.A.Visit(c[0], Visit{})
		return c
	}},
	{"give-back arrives late", vcctest.Options{Good: true, PendNotWritten: true}, func(w *World) []*Card {
		w.Platform.SetHook(nth("6003", 1, vcctest.Action{Late: 15 * time.Minute}))
		c := onePurse(w, tornPurse(simcard.Before))
		w.A.Visit(c[0], Visit{})
		w.A.Visit(c[0], Visit{})
		return c
	}},
	{"report answered as a web page", good, func(w *World) []*Card {
		w.Platform.SetHook(nth("6002", 1, vcctest.Action{Status: 200, Body: "<html>login</html>"}))
		return onePurse(w)
	}},
	{"authorise answered for another order", good, func(w *World) []*Card {
		w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
			if c.Code == "4006" && c.N <= 2 {
				return vcctest.Action{Edit: otherOrder}
			}
			return vcctest.Action{}
		})
		return onePurse(w)
	}},
}

// revisionInFlight: "unknown" is on its way, and its answer takes so long that
// the card has been put back and has cleared matters before it comes.
func revisionInFlight(w *World) []*Card {
	var through atomic.Bool // reports arrive
	w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
		switch {
		case c.Code != "6002" || c.Rev != 1:
			return vcctest.Action{}
		case !through.Load():
			return vcctest.Action{DropRequest: true}
		}
		return vcctest.Action{AnswerDelay: 25 * time.Second, Edit: func(body []byte) []byte {
			for _, r := range w.A.records() {
				if r.Rev == 2 && r.AckRev == 0 {
					w.Reach("revision 2 made while revision 1 was in flight")
				}
			}
			return body
		}}
	})
	c := onePurse(w, tornPurse(simcard.After))
	// Two reads of the log belong to the first look at the card, before its
	// undelivered reports are tried. The next one is slow: the backlog has its
	// turn meanwhile.
	c[0].Arm(simcard.Fault{INS: 0xB2, At: 3, Kind: simcard.Slow, Delay: 14 * time.Second})
	defer time.AfterFunc(3*time.Second, func() { through.Store(true) }).Stop()
	w.A.Visit(c[0], Visit{})
	through.Store(true)
	time.Sleep(time.Minute)
	return c
}
