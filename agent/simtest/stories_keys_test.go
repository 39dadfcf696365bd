package simtest

import (
	"time"

	"vcckiosk/agent"
	"vcckiosk/protocol/vcctest"
)

const nextKey = "Z9y8X7w6V5u4T3s2R1q0P9o8N7m6L5k4"

// switchKey makes the platform take another base key from kiosk A, and the old
// one no more. Its tokens end.
func switchKey(w *World) {
	w.Platform.AddAccount(vcctest.Account{AppID: "APPA", BaseKey: nextKey})
}

// withOwnKey is a card and an order at a kiosk whose key the platform can
// change.
func withOwnKey(w *World) *Card {
	w.Platform.AddAccount(vcctest.Account{AppID: "APPA", BaseKey: baseKey})
	c := w.AddPurse(1)
	w.Pay(c, "O1", 5000)
	w.A.On()
	return c
}

// switchAt changes the key as an interface is called for the n-th time.
func switchAt(w *World, code string, n int) {
	w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
		if c.Code == code && c.N == n {
			switchKey(w)
		}
		return vcctest.Action{}
	})
}

// inUse notes that the kiosk works with the new key.
func inUse(w *World) {
	if st := w.A.Agent.Status(); st.KeyGen == 2 && st.Key == "active" {
		w.Reach("key changed")
	}
}

// keyStories change the base key while a top-up is under way.
var keyStories = []story{
	{"key changed between list and authorise", good, func(w *World) []*Card {
		c := withOwnKey(w)
		w.A.Visit(c, Visit{AtList: func() { switchKey(w); w.A.Provision(nextKey) }})
		inUse(w)
		return []*Card{c}
	}},
	{"key pending at the list, platform switches before authorise", good, func(w *World) []*Card {
		c := withOwnKey(w)
		w.A.Visit(c, Visit{AtList: func() {
			w.A.offline.Store(true) // the key cannot be proven yet
			w.A.revive()
			_, _ = w.A.Agent.Rotator.Offer(w.t.Context(), []byte(nextKey), "", "technician")
			w.A.offline.Store(false)
			switchKey(w)
		}})
		time.Sleep(20 * time.Minute) // the pending key is proven meanwhile
		w.A.Provision(nextKey)       // unless the power was cut before it was stored
		inUse(w)
		w.A.Visit(c, Visit{})
		return []*Card{c}
	}},
	{"platform switches key at authorise", good, func(w *World) []*Card {
		c := withOwnKey(w)
		switchAt(w, "4006", 1)
		w.A.Visit(c, Visit{})
		switchKey(w)
		w.A.Provision(nextKey)
		inUse(w)
		w.A.Visit(c, Visit{})
		return []*Card{c}
	}},
	{"platform switches key at the report", good, func(w *World) []*Card {
		c := withOwnKey(w)
		switchAt(w, "6002", 1)
		w.A.Visit(c, Visit{})
		time.Sleep(3 * time.Minute)
		switchKey(w)
		w.A.Provision(nextKey)
		inUse(w)
		return []*Card{c}
	}},
	{"new key in use between authorise and report", good, func(w *World) []*Card {
		c := withOwnKey(w)
		w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
			return vcctest.Action{DropRequest: c.Code == "6002" && c.N <= 2}
		})
		w.A.Visit(c, Visit{})
		switchKey(w)
		w.A.Provision(nextKey)
		inUse(w)
		return []*Card{c}
	}},
	{"a key that the platform refuses is offered midway", good, func(w *World) []*Card {
		c := withOwnKey(w)
		w.A.Visit(c, Visit{AtList: func() {
			w.A.revive()
			_, _ = w.A.Agent.Rotator.Offer(w.t.Context(), []byte(nextKey), "", "technician")
		}, Cancel: agent.StageReading})
		w.A.Visit(c, Visit{})
		return []*Card{c}
	}},
}
