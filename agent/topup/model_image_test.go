package topup

import (
	"bytes"
	"fmt"
)

// content is a memory card of six bytes: identity, date of the purchase, count
// (two bytes, the first purchase changes both), gas, the meter's total.
type content [6]byte

var tinyLayout = Layout{Size: 6, Identity: []Field{{0, 1}}, Count: Field{2, 2}, Gas: Field{4, 1}}

const (
	totalAt   = 5
	gasVolume = 3
)

// planFrom is the plan of a purchase: all orders bring the same gas, as the
// orders of one household often do.
func planFrom(before content) (Plan, error) {
	count, _ := tinyLayout.CountOf(before[:])
	count++
	return NewPlan(before[:], []Write{
		{Offset: 1, Data: []byte{7}}, {Offset: 2, Data: []byte{byte(count >> 8), byte(count), gasVolume}},
	}, tinyLayout.Count, tinyLayout)
}

// world is what lies outside kiosk and platform.
type surroundings string

const (
	strictMeter surroundings = "card, strict meter" // takes gas with the next count only
	laxMeter    surroundings = "card, lax meter"    // takes whatever gas there is
	// Strict, and the customer has a copy of the card. Clause 6 is kept in the
	// sense that an order once reported "not written" by a card's content is
	// never given back by the journal of a later number.
	copiedCard surroundings = "card, copied card"
	// The same with clause 6 kept by the letter: the journal of a later number,
	// which wrote nothing, clears the earlier one too.
	letterOfSix surroundings = "card, copied card, letter of clause 6"
	// A meter that takes whatever gas there is and leaves no other trace:
	// nobody can tell a card it has emptied from one never written.
	tracelessMeter surroundings = "card, traceless meter"
)

// medium is one memory card; gasOf is order+1 whose write put its gas there.
type medium struct {
	content
	gasOf int8
}

// imageWorld is one state of the world with a memory card.
type imageWorld struct {
	common
	card, copy    medium
	copied        bool
	swaps, visits int8
	last          uint16 // count of the last gas a strict meter took
	taken, torn   [2]int8
	// The write under way: next place in the plan, whether it began in this
	// very session, whether the card was torn in it before.
	at          int8
	here, again bool
}

type imageModel struct {
	search[imageWorld]
	size  size
	world surroundings
	cells map[cell]int
	plans map[content]*Plan
}

// plan is the plan of attempt i, nil when content before allows none.
func (m *imageModel) plan(before content) *Plan {
	p, known := m.plans[before]
	if !known {
		if q, err := planFrom(before); err == nil {
			p = &q
		}
		m.plans[before] = p
	}
	return p
}

func (m *imageModel) record(w *imageWorld, i int8, sealed bool) Record {
	a := &w.tries[i]
	r := a.record("SLE4442")
	r.Kind, r.Image = Image, &ImagePlan{}
	if (a.is(Writing) || a.is(Unknown)) && !sealed {
		r.Image.Plan = m.plan(a.before)
	}
	return r
}

func (m *imageModel) decide(r Record, e Evidence) Verdict {
	v := Decide(r, e)
	m.cells[cell{r.Phase, v.Judgement, v.Why}]++
	return v
}

func countOf(c content) uint16 { return uint16(c[2])<<8 | uint16(c[3]) }

// settleBy is what 3010 and 4006 make of a card's content: its count is that
// of a held order.
func (w *imageWorld) settleBy(c content) {
	for o, h := range w.holder {
		if h != 0 && w.settled[o] == 0 && countOf(w.tries[h-1].before)+1 == countOf(c) {
			w.settled[o] = h
		}
	}
}

// may says whether the platform gives order o to number i for a card with this
// content (contract clause 6).
func (w *imageWorld) may(i, o int8, c content) bool {
	if w.settled[o] != 0 || c[4] != 0 {
		return false
	}
	for _, s := range w.settled {
		if s != 0 && countOf(c) <= countOf(w.tries[s-1].before) {
			return false // old content
		}
	}
	for p, h := range w.holder {
		if h == 0 || h == i+1 || w.settled[p] != 0 {
			continue
		}
		if b := &w.tries[h-1]; int8(p) != o || !b.heard && !w.doubted[p] || countOf(b.before) != countOf(c) {
			return false
		}
	}
	return true
}

// authorise is interface 4006 reaching the platform, however late.
func (m *imageModel) authorise(w *imageWorld, i int8) {
	a := &w.tries[i]
	a.reply = 2
	if a.fenced || w.challenge != i+1 {
		return
	}
	w.settleBy(a.before)
	if !w.may(i, a.order, a.before) {
		return
	}
	if h := w.holder[a.order]; h != 0 && h != i+1 {
		w.doubted[a.order] = m.world == copiedCard
		w.giveBack(h - 1) // the same image, now under this number
	}
	w.holder[a.order], a.reply = i+1, 1
}

// begin is 3010, a choice and commit 1. Shown: the card was shown at least.
func (m *imageModel) begin(w imageWorld, o int8) (v imageWorld, begun bool) {
	k := w.where
	w.challenge = 0
	w.settleBy(w.card.content)
	n := w.free(m.size, k, o, "SLE4442")
	if w.live[k] != 0 || n < 0 || w.settled[o] != 0 || w.card.content[4] != 0 || m.plan(w.card.content) == nil {
		return w, false
	}
	w.tries[n] = attempt{used: true, kiosk: k, order: o, phase: place(phaseList, Intent), before: w.card.content}
	w.live[k], w.challenge = n+1, n+1
	return w, true
}

// put writes one byte of the plan of attempt i.
func (m *imageModel) put(w *imageWorld, i int8, off int, b byte) {
	target := m.plan(w.tries[i].before).Target
	was := countOf(w.card.content)
	w.card.content[off] = b
	if tinyLayout.Gas.has(off) {
		w.card.gasOf = w.tries[i].order + 1
	}
	if now := countOf(w.card.content); now != was && bytes.Equal(tinyLayout.Count.of(w.card.content[:]), tinyLayout.Count.of(target)) {
		o := w.tries[i].order
		w.loaded[o]++
		w.by[o], w.card.gasOf = i+1, o+1 // whoever completes a purchase has given its gas
	}
}

// tears are values a byte may be left with on the way from one to the other.
func tears(before, target byte) []byte {
	all := []byte{0xFF, target | 0x20}
	if before|target != target && before|target != 0xFF {
		all = append(all, before|target)
	}
	return all
}

// look is what a kiosk does with an open record: read, decide, ask whose the
// order is, and go on writing or conclude.
func (m *imageModel) look(w imageWorld, i int8, sealed, readable, answered bool) imageWorld {
	a := &w.tries[i]
	r := m.record(&w, i, sealed)
	if w.where != a.kiosk || !readable || a.is(Intent) {
		w.conclude(i, r, m.decide(r, Evidence{}))
		return w
	}
	live := w.live[a.kiosk] == i+1
	e := &ImageEvidence{Content: w.card.content[:], Here: live && w.here}
	if live && !w.here {
		e.Holder = HolderOurs // it was asked when this write began
	}
	v := m.decide(r, Evidence{Image: e})
	if v.Judgement == NeedsHolder {
		if !answered {
			w.conclude(i, r, given(v))
			return w
		}
		e.Holder = HolderNotOurs
		if o := a.order; w.holder[o] == i+1 && w.settled[o] == 0 && !a.fenced {
			e.Holder = HolderOurs
		}
		v = m.decide(r, Evidence{Image: e})
	}
	if v.Judgement != RollForward {
		w.conclude(i, r, v)
		return w
	}
	if live && w.again {
		w.conclude(i, r, Verdict{Judgement: IsUnknown, Basis: ByImage, Why: "torn twice"})
		return w
	}
	w.again = live
	if !live {
		w.live[a.kiosk], w.here = i+1, false
	}
	w.at = int8(v.Done)
	return w
}

// given turns a wish nobody fulfils now into Unknown, as the kiosk does.
func given(v Verdict) Verdict { return Verdict{Judgement: IsUnknown, Basis: v.Basis, Why: v.Why} }

// meter is the card held to the meter. Notes: a strict meter that takes
// nothing writes its total nevertheless.
func (m *imageModel) meter(w *imageWorld, notes bool) {
	c := &w.card
	gas, count := c.content[4], countOf(c.content)
	if m.strict() {
		if gas == 0 || count != w.last+1 {
			if notes {
				c.content[totalAt]++
			}
			return
		}
		w.last = count
	}
	if gas == 0 {
		return
	}
	o := c.gasOf - 1
	if by := w.by[o]; by != 0 && countOf(w.tries[by-1].before)+1 == count {
		w.taken[o]++
	} else {
		w.torn[o]++
	}
	c.content[4], c.gasOf = 0, 0
	if m.world != tracelessMeter {
		c.content[totalAt]++
	}
}

func (m *imageModel) normal(w *imageWorld) {
	w.forget()
	for i := range w.tries {
		a := &w.tries[i]
		if a.is(Closed) && w.settled[a.order] != 0 && w.settled[a.order] != int8(i)+1 && w.by[a.order] != int8(i)+1 {
			a.before = content{}
		}
	}
	if w.live == [2]int8{} {
		w.at, w.here, w.again = 0, false, false
	}
}

func (m *imageModel) strict() bool { return m.world != laxMeter && m.world != tracelessMeter }

func (m *imageModel) copies() bool { return m.world == copiedCard || m.world == letterOfSix }

func (m *imageModel) judge(w imageWorld) string {
	for o := range w.loaded {
		got := w.taken[o] + w.torn[o]
		takes := !m.strict() || countOf(w.card.content) == w.last+1
		if w.card.content[4] != 0 && w.card.gasOf == int8(o)+1 && takes && w.loaded[o] > 0 {
			got++
		}
		switch {
		case got > 1 || w.torn[o] > 0 && w.loaded[o] > 0:
			return fmt.Sprintf("the gas of order %d is given twice", o)
		case w.loaded[o]+w.torn[o] > 0 && w.settled[o] == 0 && w.holder[o] == 0:
			return fmt.Sprintf("order %d has its gas and is free", o)
		case w.settled[o] != 0 && w.loaded[o] == 0:
			return fmt.Sprintf("order %d is settled and was never loaded", o)
		}
	}
	if m.copies() {
		return "" // a copy may contradict the books: then a person is told
	}
	return w.common.judge()
}

func (m *imageModel) step(w imageWorld) {
	fresh := !w.tries[0].used
	if w.moves < m.size.moves && !fresh {
		v := w
		v.where, v.live[w.where] = 1-w.where, 0
		v.moves++
		m.visit("the card goes to the other kiosk", v)
	}
	if w.visits < m.size.visits && w.live == [2]int8{} {
		for _, notes := range []bool{false, true} {
			v := w
			m.meter(&v, notes)
			v.visits++
			m.visit("the card is held to the meter", v)
		}
	}
	if m.copies() && w.live == [2]int8{} {
		v := w
		if !w.copied {
			v.copy, v.copied = w.card, true
			m.visit("the card is copied", v)
		} else if w.swaps < m.size.swaps {
			v.card, v.copy = w.copy, w.card
			v.swaps++
			m.visit("the other card is shown", v)
		}
	}
	for o := range int8(2) {
		if w.live[w.where] != 0 || fresh && o > 0 {
			break
		}
		v, begun := m.begin(w, o)
		m.visit(m.say("kiosk %d: order %d, begun %t", w.where, o, begun), v)
	}
	for i := range m.size.tries {
		a := &w.tries[i]
		if !a.used {
			continue
		}
		if a.sent == 1 && a.reply == 0 {
			v := w
			m.authorise(&v, i)
			m.visit(m.say("4006 of attempt %d arrives", i), v)
		}
		for _, gone := range []bool{false, true} {
			v := w
			if v.day(i, m.record(&v, i, false), gone) {
				m.visit(m.say("the day file tells of attempt %d, card gone %t", i, gone), v)
			}
		}
		if a.message != mNone {
			for _, firm := range []bool{false, true} {
				v := w
				reply := v.hear(i, firm)
				what := m.say("%s of attempt %d is heard", messageList[a.message], i)
				m.visit(what+", its answer lost", v)
				v.answered(i, m.record(&v, i, false), reply)
				m.visit(what+" and answered", v)
			}
		}
		if w.live[a.kiosk] == i+1 {
			m.goOn(w, i)
		} else if w.live[a.kiosk] == 0 && (a.is(Intent) || a.is(Writing) || a.is(Unknown)) {
			what := m.say("kiosk %d looks for attempt %d", a.kiosk, i)
			m.visit(what, m.look(w, i, false, true, true))
			m.visit(what+", no answer of 6006", m.look(w, i, false, true, false))
			m.visit(what+", locked keystore", m.look(w, i, true, true, true))
			m.visit(what+", in vain", m.look(w, i, false, false, false))
		}
	}
}

// goOn: the kiosk's next step with the attempt it is at, or a power cut.
func (m *imageModel) goOn(w imageWorld, i int8) {
	k := w.tries[i].kiosk
	cut := w
	cut.live[k] = 0
	m.visit("power cut", cut)
	a := &w.tries[i]
	if a.is(Intent) {
		m.visit("given up before the marker", m.look(w, i, false, true, true))
		v := w
		switch {
		case a.sent == 0:
			v.drop(i, m.record(&w, i, false))
			m.visit("4006 could not be sent", v)
			v = w
			v.tries[i].sent = 1
			m.visit("4006 is sent", v)
		case a.reply == 1:
			v.tries[i].phase = place(phaseList, Writing)
			v.at, v.here, v.again = 0, true, false
			m.visit("commit 2", v)
		case a.reply == 2:
			v.drop(i, m.record(&w, i, false))
			m.visit("4006 was refused", v)
		}
		return
	}
	p := m.plan(a.before)
	if int(w.at) == len(p.Order) {
		m.visit("written and read back", m.look(w, i, false, true, true))
		m.visit("written, not read back", m.look(w, i, false, false, true))
		return
	}
	off := p.Order[w.at]
	next := w
	m.put(&next, i, off, p.Target[off])
	next.at++
	m.visit(m.say("byte %d is written", off), next)
	ends := []imageWorld{w, next}
	values := tears(w.card.content[off], p.Target[off])
	if m.copies() {
		values = values[:1]
	}
	for _, b := range values {
		v := w
		m.put(&v, i, off, b)
		ends = append(ends, v)
	}
	for n, v := range ends {
		what := m.say("tear %d at byte %d, value %02X, ", n, off, v.card.content[off])
		m.visit(what+"card still there", m.look(v, i, false, true, true))
		m.visit(what+"card gone", m.look(v, i, false, false, true))
		v.live[k] = 0
		m.visit(what+"power cut", v)
	}
}

// onwardMove is the next move without faults; see the purse.
func (m *imageModel) onwardMove(w imageWorld) (imageWorld, bool) {
	w.moves, w.visits = 0, 0
	for i := range m.size.tries {
		a := &w.tries[i]
		live := a.used && w.live[a.kiosk] == i+1
		switch {
		case a.sent == 1 && a.reply == 0:
			m.authorise(&w, i)
		case live && a.is(Intent) && a.sent == 0:
			a.sent = 1
		case live && a.is(Intent) && a.reply == 1:
			a.phase = place(phaseList, Writing)
			w.at, w.here, w.again = 0, true, false
		case live && a.is(Intent):
			w.drop(i, m.record(&w, i, false))
		case live:
			p := m.plan(a.before)
			for ; int(w.at) < len(p.Order); w.at++ {
				m.put(&w, i, p.Order[w.at], p.Target[p.Order[w.at]])
			}
			w = m.look(w, i, false, true, true)
		default:
			continue
		}
		return w, true
	}
	for i := range m.size.tries {
		v := w
		if v.tries[i].message == mNone || v.tries[i].parked {
			continue
		}
		v.answered(i, m.record(&v, i, false), v.hear(i, false))
		m.normal(&v)
		if v != w {
			return v, true
		}
	}
	for i := range m.size.tries {
		if a := &w.tries[i]; a.open() {
			w.live[w.where] = 0
			w.where = a.kiosk
			return m.look(w, i, false, true, true), true
		}
	}
	for o := range int8(2) {
		if w.settled[o] != 0 || w.person(0) || w.person(1) { // a held card waits for its person
			continue
		}
		for range 2 {
			if v, ok := m.begin(w, o); ok {
				return v, true
			}
			w.where = 1 - w.where
		}
	}
	if v := w; w.card.content[4] != 0 {
		if m.meter(&v, false); v != w {
			return v, true
		}
	}
	return w, false
}

// restAt tells what a world at rest has left undone.
func (m *imageModel) restAt(w imageWorld) string {
	if why := w.unfinished(); why != "" {
		return why
	}
	for o := range int8(2) {
		w := w
		w.settleBy(w.card.content)
		switch {
		case w.settled[o] != 0 || w.person(0) || w.person(1):
		case w.tries[m.size.tries-1].used && (w.may(-1, o, w.card.content) || w.may(-1, 1-o, w.card.content)):
			// No room to try, but it would be given, at once or after the order
			// the card is held for.
		default:
			return fmt.Sprintf("order %d can neither be collected nor is anybody told", o)
		}
	}
	return ""
}

func exploreImage(s size, outside surroundings) result {
	m := &imageModel{size: s, world: outside, cells: map[cell]int{}, plans: map[content]*Plan{}}
	m.search = search[imageWorld]{normal: m.normal, judge: m.judge, step: m.step}
	if outside == letterOfSix || outside == tracelessMeter {
		m.from = map[imageWorld]origin[imageWorld]{} // the story is wanted at once
	}
	if outside == strictMeter || outside == laxMeter {
		m.search.onward, m.search.rest = m.onwardMove, m.restAt
	}
	if outside == copiedCard {
		m.size.moves = s.moves / 3 // a world with two cards has enough to do
	}
	first := imageWorld{card: medium{content: content{1, 0, 0, 0xFF, 0, 0}}, last: 0xFF}
	return explore(string(outside), &m.search, m.cells, first)
}
