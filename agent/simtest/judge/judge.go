// Package judge counts what became of an order, by the memories of card, meter
// and platform alone: never by what a kiosk says. The simulated world, the rig
// of real processes and the demo share it.
package judge

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"

	"vcckiosk/cardreader/simcard"
	"vcckiosk/protocol/vcctest"
)

// Purse counts how often an order was loaded onto a purse: its loads whose MAC2
// the platform issued for the order. A purse has no meter here; what is on it
// counts as taken.
func Purse(c *simcard.Purse, o vcctest.OrderView) (loads int) {
	for _, l := range c.Loads() {
		mac := strings.ToUpper(hex.EncodeToString(l.MAC2[:]))
		if slices.ContainsFunc(o.Issued, func(i vcctest.Issue) bool { return i.MAC2 == mac && i.Seq == int(l.Seq) }) {
			loads++
		}
	}
	return loads
}

// Image counts how often an order's content came to stand on a memory card, and
// how often the meter took it. Content is the order's when count and gas are
// those of an image issued for it.
func Image(c *simcard.SLE4442, m *simcard.Meter, o vcctest.OrderView) (loads, takes int) {
	l := vcctest.DefaultLayout()
	field := func(b []byte, f vcctest.Field) []byte { return b[f.Offset : f.Offset+f.Len] }
	issued := func(img []byte) bool {
		return slices.ContainsFunc(o.Issued, func(i vcctest.Issue) bool {
			return len(i.Target) == len(img) && bytes.Equal(field(i.Target, l.Count), field(img, l.Count)) &&
				bytes.Equal(field(i.Target, l.Gas), field(img, l.Gas))
		})
	}
	h := c.History()
	for i := 1; i < len(h); i++ {
		if issued(h[i][:]) && !bytes.Equal(field(h[i-1][:], l.Count), field(h[i][:], l.Count)) {
			loads++
		}
	}
	for _, v := range m.Visits() {
		if v.Took && issued(v.Before[:]) {
			takes++
		}
	}
	return loads, takes
}
