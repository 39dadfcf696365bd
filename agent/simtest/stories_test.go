package simtest

import (
	"bytes"
	"slices"
	"time"

	"vcckiosk/agent"
	"vcckiosk/cardreader/simcard"
	"vcckiosk/protocol/vcctest"
)

// story is what happens to people before the faults end. play returns the
// cards that come back afterwards.
type story struct {
	name    string
	options vcctest.Options
	play    func(w *World) []*Card
}

// stories are all of them.
var stories = slices.Concat(mainStories, imageStories, keyStories, reportStories)

var good = vcctest.Options{Good: true}

func lapse(l vcctest.Lapses) vcctest.Options {
	return vcctest.Options{Good: true, Lapses: l, Odds: 1}
}

// nth spoils the n-th call of an interface.
func nth(code string, n int, a vcctest.Action) func(vcctest.Call) vcctest.Action {
	return func(c vcctest.Call) vcctest.Action {
		if c.Code == code && c.N == n {
			return a
		}
		return vcctest.Action{}
	}
}

func onePurse(w *World, f ...simcard.Fault) []*Card {
	c := w.AddPurse(1)
	w.Pay(c, "O1", 5000)
	w.A.On()
	for _, x := range f {
		c.Arm(x)
	}
	w.A.Visit(c, Visit{})
	return []*Card{c}
}

func oneImage(w *World, mode simcard.Mode, f ...simcard.Fault) []*Card {
	return countedImage(w, 0, mode, f...)
}

// countedImage is oneImage with a card that has had so many purchases.
func countedImage(w *World, count int, mode simcard.Mode, f ...simcard.Fault) []*Card {
	c := w.AddImage(1, mode, count)
	w.Pay(c, "O1", 5000)
	w.A.On()
	for _, x := range f {
		c.Arm(x)
	}
	w.A.Visit(c, Visit{})
	return []*Card{c}
}

func tornPurse(when simcard.When) simcard.Fault {
	return simcard.Fault{INS: 0x52, When: when, Kind: simcard.Tear}
}

// tornImage tears a memory card at the n-th byte of the order's image: 0..7 are
// prices and checks, 8 and 9 the gas, 16 the count; each has a write of its own.
func tornImage(n int, rest simcard.Rest) simcard.Fault {
	return simcard.Fault{INS: 0xD0, At: 1 + n/8, When: simcard.Byte, N: n % 8, Rest: rest, Kind: simcard.Tear}
}

var mainStories = []story{
	{"plain load", good, func(w *World) []*Card { return onePurse(w) }},
	{"plain image", good, func(w *World) []*Card { return oneImage(w, simcard.Strict) }},
	{"torn before 80 52", good, func(w *World) []*Card { return onePurse(w, tornPurse(simcard.Before)) }},
	{"torn after 80 52", good, func(w *World) []*Card { return onePurse(w, tornPurse(simcard.After)) }},
	{"empty answer to 80 52", good, func(w *World) []*Card {
		return onePurse(w, simcard.Fault{INS: 0x52, When: simcard.After, Kind: simcard.EmptyAnswer})
	}},
	{"80 52 refused", good, func(w *World) []*Card {
		return onePurse(w, simcard.Fault{INS: 0x52, When: simcard.Before, Kind: simcard.Status, SW: 0x9302})
	}},
	{"report answer lost", good, func(w *World) []*Card {
		w.Platform.SetHook(nth("6002", 1, vcctest.Action{DropAnswer: true}))
		return onePurse(w)
	}},
	{"authorise answer lost", good, func(w *World) []*Card {
		w.Platform.SetHook(nth("4006", 1, vcctest.Action{DropAnswer: true}))
		return onePurse(w)
	}},
	{"both authorise answers lost", good, func(w *World) []*Card {
		w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
			return vcctest.Action{DropAnswer: c.Code == "4006" && c.N <= 2}
		})
		return onePurse(w)
	}},
	{"authorise executed after our give-back", good, func(w *World) []*Card {
		w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
			if c.Code == "4006" && c.N <= 2 {
				return vcctest.Action{Late: time.Minute}
			}
			return vcctest.Action{}
		})
		c := onePurse(w)
		time.Sleep(3 * time.Minute)
		return c
	}},
	{"authorisation expired", good, func(w *World) []*Card {
		w.Platform.SetHook(nth("4006", 1, vcctest.Action{Edit: expire}))
		return onePurse(w)
	}},
	{"token expired midway", good, func(w *World) []*Card {
		w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
			if c.Code == "4006" && c.N == 1 {
				return vcctest.Action{Code: "20001"}
			}
			return vcctest.Action{}
		})
		return onePurse(w)
	}},
	{"token evicted midway", good, func(w *World) []*Card {
		w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
			if c.Code == "4006" && c.N == 1 {
				w.Platform.Evict()
			}
			return vcctest.Action{}
		})
		return onePurse(w)
	}},
	{"wrong card put back", good, func(w *World) []*Card {
		other := w.AddPurse(2)
		w.Pay(other, "O2", 700)
		c := onePurse(w, tornPurse(simcard.After))
		w.A.Visit(other, Visit{})
		w.A.Visit(c[0], Visit{})
		return append(c, other)
	}},
	{"card swapped before 80 52", good, func(w *World) []*Card {
		other := w.AddPurse(2)
		w.Pay(other, "O2", 700)
		c := onePurse(w, simcard.Fault{INS: 0x50, When: simcard.After, Kind: simcard.Swap, With: other.sim()})
		return append(c, other)
	}},
	{"card never returns", good, func(w *World) []*Card {
		onePurse(w, tornPurse(simcard.After))
		return nil
	}},
	{"torn unloaded card never returns", good, func(w *World) []*Card {
		onePurse(w, tornPurse(simcard.Before))
		return nil
	}},
	{"card loaded at another kiosk in between", good, func(w *World) []*Card {
		c := onePurse(w, tornPurse(simcard.Before))
		w.Pay(c[0], "O2", 900)
		w.B.On()
		w.B.Visit(c[0], Visit{Order: "O2"})
		w.A.Visit(c[0], Visit{})
		return c
	}},
	{"unknown here and shown there", good, func(w *World) []*Card {
		c := onePurse(w, tornPurse(simcard.After))
		w.B.On()
		w.B.Visit(c[0], Visit{})
		return c
	}},
	{"unloaded here and shown there", good, func(w *World) []*Card {
		c := onePurse(w, tornPurse(simcard.Before))
		w.B.On()
		w.B.Visit(c[0], Visit{})
		return c
	}},
	{"image torn here and shown there", good, func(w *World) []*Card {
		c := oneImage(w, simcard.Strict, tornImage(3, simcard.Erased))
		w.B.On()
		w.B.Visit(c[0], Visit{})
		return c
	}},
	{"card absent at restart", good, func(w *World) []*Card {
		c := onePurse(w, tornPurse(simcard.After))
		w.A.Reboot()
		time.Sleep(time.Minute)
		return c
	}},
	{"meter took the gas in between", good, func(w *World) []*Card {
		c := oneImage(w, simcard.Strict, simcard.Fault{INS: 0xD0, At: 3, When: simcard.After, Kind: simcard.Tear})
		c[0].Meter.Insert(c[0].Image)
		return c
	}},
	{"two orders pending", good, func(w *World) []*Card {
		c := w.AddPurse(1)
		w.Pay(c, "O1", 5000)
		w.Pay(c, "O2", 800)
		w.A.On()
		w.A.Visit(c, Visit{Order: "O2"})
		w.A.Visit(c, Visit{})
		return []*Card{c}
	}},
	{"customer cancels at the list", good, func(w *World) []*Card { return cancelled(w, agent.StageChoose) }},
	{"customer cancels at the question", good, func(w *World) []*Card { return cancelled(w, agent.StageConfirm) }},
	{"customer cancels while it works", good, func(w *World) []*Card { return cancelled(w, agent.StageWorking) }},
	{"report refused while another card is served", good, func(w *World) []*Card {
		w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
			if c.Code == "6002" && c.OrderNo == "O1" {
				return vcctest.Action{Code: "50000"}
			}
			return vcctest.Action{}
		})
		c := onePurse(w)
		other := w.AddPurse(2)
		w.Pay(other, "O2", 700)
		w.A.Visit(other, Visit{})
		return append(c, other)
	}},
	{"outage and drain", good, func(w *World) []*Card {
		w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
			return vcctest.Action{DropRequest: c.Code == "6002" && c.N < 4}
		})
		c := onePurse(w)
		w.A.offline.Store(true)
		time.Sleep(10 * time.Minute)
		w.A.Visit(c[0], Visit{})
		w.A.offline.Store(false)
		return c
	}},
	{"platform pends what was not written", vcctest.Options{Good: true, PendNotWritten: true}, func(w *World) []*Card {
		return onePurse(w, tornPurse(simcard.Before))
	}},
	{"platform without fences", lapse(vcctest.Lapses{NoFences: true}), func(w *World) []*Card {
		w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
			return vcctest.Action{DropRequest: c.Code == "4006" && c.N <= 2}
		})
		return onePurse(w)
	}},
	{"platform not idempotent", lapse(vcctest.Lapses{NoIdempotency: true}), func(w *World) []*Card {
		w.Platform.SetHook(nth("4006", 1, vcctest.Action{DropAnswer: true}))
		return onePurse(w)
	}},
	{"platform lists what was loaded", lapse(vcctest.Lapses{ListLoaded: true}), func(w *World) []*Card {
		c := onePurse(w)
		w.A.Visit(c[0], Visit{})
		w.B.On()
		w.B.Visit(c[0], Visit{})
		return c
	}},
	{"platform issues again at expiry", lapse(vcctest.Lapses{ReissueAtExpiry: true}), func(w *World) []*Card {
		c := onePurse(w, tornPurse(simcard.After))
		w.A.offline.Store(true)
		time.Sleep(10 * time.Minute)
		w.B.On()
		w.B.Visit(c[0], Visit{})
		return c
	}},
}

func cancelled(w *World, at agent.Stage) []*Card {
	c := w.AddPurse(1)
	w.Pay(c, "O1", 5000)
	w.A.On()
	w.A.Visit(c, Visit{Cancel: at})
	return []*Card{c}
}

// otherOrder is an answer that belongs to somebody else.
func otherOrder(body []byte) []byte {
	return bytes.ReplaceAll(body, []byte(`"orderNo":"O1"`), []byte(`"orderNo":"O7"`))
}
