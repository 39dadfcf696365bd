package simtest

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"vcckiosk/agent/topup"
	"vcckiosk/protocol/vcctest"
)

// Books is the judge's verdict on a world. Each order is counted at most once
// in each of the first three; an order whose contract the platform broke is
// counted in Conflict and nowhere else.
type Books struct {
	Lost, Double, Stuck, Conflict []string
	// Manual orders wait for a person, who was told: the card came back and
	// cannot tell. Away: the card never came back; the platform has our
	// "unknown" and the day file will close it.
	Manual, Away []string
	Clauses      map[int]int // conflicts by clause of docs/contract.md
}

func (b Books) clean() bool { return len(b.Lost)+len(b.Double)+len(b.Stuck) == 0 }

func (b Books) String() string {
	return fmt.Sprintf("lost=%v double=%v stuck=%v conflict=%v manual=%v away=%v", b.Lost, b.Double, b.Stuck, b.Conflict, b.Manual, b.Away)
}

// Counted is what happened in a world: a judge that never sees anything happen
// proves nothing.
type Counted struct {
	Loads    int // orders that got onto their cards
	Cuts     int // power cuts
	Tears    int // faults of cards that struck
	Refusals int // calls that the platform answered with a result code
	Breaches int // clauses that the platform broke, each time
	Requeued int // parked reports a person sent again, as the alarm says
}

// Counted counts.
func (w *World) Counted() (c Counted) {
	c.Requeued = w.requeued
	for _, o := range w.Platform.Orders() {
		loads, _ := w.loaded(w.cards[o.CardNo], o)
		c.Loads += loads
	}
	for _, x := range w.Platform.Conflicts() {
		if x.Clause > 0 {
			c.Breaches++
		}
	}
	for _, x := range w.cards {
		if x.Purse != nil {
			c.Tears += x.Purse.Struck()
		} else {
			c.Tears += x.Image.Struck()
		}
	}
	for _, k := range []*Kiosk{w.A, w.B} {
		k.p.mu.Lock()
		c.Cuts, c.Refusals = c.Cuts+k.p.cuts, c.Refusals+k.p.refusals
		k.p.mu.Unlock()
	}
	return c
}

// Aftermath ends all faults, brings every card in shown back to kiosk A until
// nothing is left to collect, and lets a day pass.
func (w *World) Aftermath(shown ...*Card) {
	w.Platform.SetHook(nil)
	w.Platform.SetLapses(vcctest.Lapses{})
	w.Platform.ReleaseLate()
	for _, k := range []*Kiosk{w.A, w.B} {
		k.p.mu.Lock()
		k.p.next, k.p.later = cut{}, nil
		k.p.mu.Unlock()
		k.offline.Store(false)
		if k.done == nil {
			k.On()
		}
		k.revive()
	}
	time.Sleep(20 * time.Minute) // back-offs end, authorisations expire
	for _, c := range shown {
		c.Shown = true
		if c.Purse != nil {
			c.Purse.Disarm()
		} else {
			c.Image.Disarm()
		}
		for i := range 4 { // whoever is refused one order asks for the next
			if c.Meter != nil {
				c.Meter.Insert(c.Image)
			}
			w.A.Visit(c, Visit{Pick: i})
			w.B.Visit(c, Visit{Pick: i})
		}
		if c.Meter != nil {
			c.Meter.Insert(c.Image)
		}
	}
	time.Sleep(25 * time.Hour)
	w.person()
	for _, c := range shown { // what waited for a daily question, or a person, may be collected now
		w.A.Visit(c, Visit{})
		if c.Meter != nil {
			c.Meter.Insert(c.Image)
		}
	}
	time.Sleep(time.Hour)
}

// person does what the alarm of a refused report asks for, now that its reason
// is gone: sends it again. What the cards cannot tell, and what the platform
// contradicts, is left as it is. Each is counted: a kiosk that parks everything
// would be seen.
func (w *World) person() {
	before := w.requeued
	for _, k := range []*Kiosk{w.A, w.B} {
		for _, it := range k.Agent.Queue() {
			if !strings.HasPrefix(it.Parked, "refused: ") {
				continue
			}
			if err := k.Agent.Requeue(context.Background(), it.ID, "operator"); err != nil {
				w.t.Errorf("requeue %s at kiosk %s: %v", it.Ref, k.name, err)
			}
			w.requeued++
		}
	}
	if w.requeued > before {
		time.Sleep(time.Hour)
	}
}

// Judge looks at cards, meter and platform, and at the kiosks only for records
// that are neither closed nor parked.
func (w *World) Judge() Books {
	b := Books{Clauses: map[int]int{}}
	broken := map[string][]vcctest.Conflict{}
	for _, c := range w.Platform.Conflicts() {
		if c.Clause > 0 { // 0: two words against each other, nobody's breach yet
			broken[c.OrderNo] = append(broken[c.OrderNo], c)
		}
	}
	for _, o := range w.Platform.Orders() {
		c := w.cards[o.CardNo]
		loads, takes := w.loaded(c, o)
		settled := o.State == vcctest.StateSettled
		var lost, double, stuck string
		switch {
		case loads <= 1 && takes <= 1 && !settled && w.manual(o.OrderNo):
			b.Manual = append(b.Manual, o.OrderNo)
		case loads == 1 && !settled && !c.Shown && told(o):
			b.Away = append(b.Away, o.OrderNo)
		case loads > 1 || takes > 1:
			double = fmt.Sprintf("%s: loaded %d times, taken %d times", o.OrderNo, loads, takes)
		case loads == 0 && settled:
			lost = o.OrderNo + ": settled, never loaded"
		case loads == 1 && !settled:
			lost = fmt.Sprintf("%s: loaded, platform says %s", o.OrderNo, o.State)
		case loads == 0 && c.Shown:
			stuck = fmt.Sprintf("%s: neither loaded nor settled, platform says %s", o.OrderNo, o.State)
		}
		if k, ok := w.excused(o, broken[o.OrderNo], lost+stuck, double); ok {
			b.Conflict = append(b.Conflict, fmt.Sprintf("%s: clause %d: %s: %s", o.OrderNo, k.Clause, k.What, lost+double+stuck))
			b.Clauses[k.Clause]++
			continue
		}
		for _, x := range []struct {
			what string
			list *[]string
		}{{lost, &b.Lost}, {double, &b.Double}, {stuck, &b.Stuck}} {
			if x.what != "" {
				*x.list = append(*x.list, x.what)
			}
		}
	}
	for _, c := range w.cards {
		if c.Image == nil {
			continue
		}
		if _, wrong, _ := c.Image.Codes(); wrong > 0 || c.Image.Counter() != 7 {
			b.Stuck = append(b.Stuck, fmt.Sprintf("card %s: %d wrong codes, counter %d", c.No, wrong, c.Image.Counter()))
		}
	}
	for _, k := range []*Kiosk{w.A, w.B} {
		for _, r := range k.records() {
			if _, ok := broken[r.OrderNo]; ok || r.Parked != "" || r.Phase == topup.Closed {
				continue
			}
			if c := w.cards[r.Card.No]; r.Phase == topup.Unknown && c != nil && !c.Shown {
				continue
			}
			b.Stuck = append(b.Stuck, fmt.Sprintf("%s: record at kiosk %s is %s, ack %q", r.OrderNo, k.name, r.Phase, r.AckState))
		}
	}
	slices.Sort(b.Stuck)
	return b
}

// told reports whether the platform has heard "unknown" about the order.
func told(o vcctest.OrderView) bool {
	return slices.ContainsFunc(o.Reports, func(r vcctest.Report) bool { return r.Result == 2 })
}

// manual reports whether a kiosk has parked the order as one its card cannot
// tell about.
func (w *World) manual(orderNo string) bool {
	for _, k := range []*Kiosk{w.A, w.B} {
		for _, r := range k.records() {
			if r.OrderNo == orderNo && r.Manual && r.Parked != "" {
				return true
			}
		}
	}
	return false
}

// excused tells by which broken clause the platform did what is wrong with an
// order. Gas given twice needs two kiosks that were both authorised because the
// order did not stay with its holder: what one kiosk does twice is its own
// fault. Everything else must be on record at a kiosk, parked, so that a person
// has been told.
func (w *World) excused(o vcctest.OrderView, broken []vcctest.Conflict, wrong, double string) (vcctest.Conflict, bool) {
	if double != "" {
		i := slices.IndexFunc(broken, func(c vcctest.Conflict) bool { return c.Clause != 1 && c.Clause != 5 })
		two := slices.ContainsFunc(o.Issued, func(i vcctest.Issue) bool { return i.TerminalNo != o.Issued[0].TerminalNo })
		if i < 0 || !two {
			return vcctest.Conflict{}, false
		}
		return broken[i], true
	}
	for _, k := range []*Kiosk{w.A, w.B} {
		for _, r := range k.records() {
			if r.OrderNo == o.OrderNo && r.Parked != "" && (wrong != "" || r.Conflict != nil) && len(broken) > 0 {
				return broken[0], true
			}
		}
	}
	return vcctest.Conflict{}, false
}

// loaded counts how often an order got onto its card, by the card's own
// memory and what the platform issued for the order, and how often the meter
// took it.
func (w *World) loaded(c *Card, o vcctest.OrderView) (loads, takes int) {
	if c.Purse != nil {
		for _, l := range c.Purse.Loads() {
			mac := strings.ToUpper(hex.EncodeToString(l.MAC2[:]))
			if slices.ContainsFunc(o.Issued, func(i vcctest.Issue) bool { return i.MAC2 == mac && i.Seq == int(l.Seq) }) {
				loads++
			}
		}
		return loads, loads
	}
	l := vcctest.DefaultLayout()
	count := func(b []byte) []byte { return b[l.Count.Offset : l.Count.Offset+l.Count.Len] }
	gas := func(b []byte) []byte { return b[l.Gas.Offset : l.Gas.Offset+l.Gas.Len] }
	issued := func(img []byte) bool {
		return slices.ContainsFunc(o.Issued, func(i vcctest.Issue) bool {
			return len(i.Target) == 256 && bytes.Equal(count(i.Target), count(img)) && bytes.Equal(gas(i.Target), gas(img))
		})
	}
	h := c.Image.History()
	for i := 1; i < len(h); i++ {
		if issued(h[i][:]) && !bytes.Equal(count(h[i-1][:]), count(h[i][:])) {
			loads++
		}
	}
	for _, v := range c.Meter.Visits() {
		if v.Took && issued(v.Before[:]) {
			takes++
		}
	}
	return loads, takes
}
