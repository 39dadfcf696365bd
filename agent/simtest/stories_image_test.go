package simtest

import (
	"time"

	"vcckiosk/cardreader/simcard"
	"vcckiosk/protocol/vcctest"
)

// imageStories tear a memory card at its places: inside prices and checks,
// inside the gas, inside the count, around the check of its code, and between
// two writes.
var imageStories = []story{
	{"torn at image byte 0", good, func(w *World) []*Card { return oneImage(w, simcard.Strict, tornImage(0, simcard.Erased)) }},
	{"torn at image byte 0, byte half written", good, func(w *World) []*Card {
		return oneImage(w, simcard.Lax, tornImage(0, simcard.Partial))
	}},
	{"torn at image byte 2", good, func(w *World) []*Card { return oneImage(w, simcard.Strict, tornImage(2, simcard.Partial)) }},
	{"torn at the last byte before the gas", good, func(w *World) []*Card {
		return oneImage(w, simcard.Lax, tornImage(7, simcard.Partial))
	}},
	{"torn at the first gas byte", good, func(w *World) []*Card { return oneImage(w, simcard.Lax, tornImage(8, simcard.Partial)) }},
	{"torn at image byte 9", good, func(w *World) []*Card { return oneImage(w, simcard.Lax, tornImage(9, simcard.Erased)) }},
	{"torn in the commit field", good, func(w *World) []*Card { return oneImage(w, simcard.Strict, tornImage(16, simcard.Erased)) }},
	// 00FF becomes 0100: both bytes of the count change.
	{"torn at the first count byte", good, func(w *World) []*Card {
		return countedImage(w, 0x00FF, simcard.Strict, tornImage(16, simcard.Partial))
	}},
	{"torn at the last count byte", good, func(w *World) []*Card {
		return countedImage(w, 0x00FF, simcard.Strict, tornImage(17, simcard.Erased))
	}},
	{"torn between gas and count", good, func(w *World) []*Card {
		return oneImage(w, simcard.Strict, simcard.Fault{INS: 0xD0, At: 2, When: simcard.After, Kind: simcard.Tear})
	}},
	{"torn before its code is checked", good, func(w *World) []*Card {
		return oneImage(w, simcard.Strict, simcard.Fault{INS: 0x20, When: simcard.Before, Kind: simcard.Tear})
	}},
	{"torn after its code is checked", good, func(w *World) []*Card {
		return oneImage(w, simcard.Strict, simcard.Fault{INS: 0x20, When: simcard.After, Kind: simcard.Tear})
	}},
	{"torn card goes to the meter first", good, func(w *World) []*Card {
		c := oneImage(w, simcard.Strict, tornImage(8, simcard.Partial))
		c[0].Meter.Insert(c[0].Image)
		return c
	}},
	{"image answered with nothing", good, func(w *World) []*Card {
		return oneImage(w, simcard.Strict, simcard.Fault{INS: 0xD0, At: 2, When: simcard.After, Kind: simcard.EmptyAnswer})
	}},
	{"memory card swapped before the first write", good, func(w *World) []*Card {
		other := w.AddImage(2, simcard.Strict, 0)
		w.Pay(other, "O2", 700)
		c := oneImage(w, simcard.Strict, simcard.Fault{INS: 0x20, When: simcard.Before, Kind: simcard.Swap, With: other.sim()})
		return append(c, other)
	}},
	{"torn memory card never returns", good, func(w *World) []*Card {
		oneImage(w, simcard.Strict, tornImage(9, simcard.Erased))
		return nil
	}},
	// The question whose the order is comes back with a code that is not about the order.
	{"torn memory card, platform in trouble when asked whose the order is", good, func(w *World) []*Card {
		refused := 0
		w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
			if c.Code == "6006" && refused == 0 {
				refused++
				w.Reach("6006 refused")
				return vcctest.Action{Code: "50000"}
			}
			return vcctest.Action{}
		})
		c := oneImage(w, simcard.Strict, tornImage(3, simcard.Erased))
		w.Pay(c[0], "O2", 900)
		w.A.Visit(c[0], Visit{})
		return c
	}},
	{"another order asked for elsewhere while a memory card is held", good, func(w *World) []*Card {
		c := oneImage(w, simcard.Strict, tornImage(3, simcard.Erased))
		w.Pay(c[0], "O2", 900)
		w.B.On()
		w.B.Visit(c[0], Visit{Order: "O2"})
		w.A.Visit(c[0], Visit{})
		return c
	}},
	{"another order asked for elsewhere, memory card unchanged", good, func(w *World) []*Card {
		c := oneImage(w, simcard.Strict, simcard.Fault{INS: 0x20, When: simcard.Before, Kind: simcard.Tear})
		w.Pay(c[0], "O2", 900)
		w.B.On()
		w.B.Visit(c[0], Visit{Order: "O2"})
		time.Sleep(time.Minute)
		w.A.Visit(c[0], Visit{Order: "O2"})
		return c
	}},
}
