package topup

import "fmt"

// meterRecord: log entries from here on are purchases at the meter.
const meterRecord = 10

// kiosk is how the modelled kiosk behaves; only the first one is right.
type kiosk int

const (
	rightKiosk    kiosk = iota
	balanceKiosk        // takes the balance for the card's word
	hastyKiosk          // sends 80 50 as soon as a card is in
	nilErrorKiosk       // takes any answer to 80 52 for a success
)

// purseWorld is one state of the world with a purse whose log has two places.
type purseWorld struct {
	common
	seq, logged, bought int8
	log                 [2]int8 // newest first: attempt+1, or meterRecord up
	after               bool    // the log shows a load's sequence after it was counted up
	proof               int8    // attempt+1 whose load 80 5A would prove
	// The evidence that came with the newest challenge.
	sawSeq int8
	sawLog [2]int8
}

type purseModel struct {
	search[purseWorld]
	size  size
	kiosk kiosk
	cells map[cell]int
}

// reading is how a look at the purse goes wrong; the zero value goes well.
type reading struct {
	nothing         bool // the card could not be read at all
	log             shape
	noProof, noInit bool // 80 5A gives nothing; 80 50 is not answered
}

type shape int

const (
	wholeLog   shape = iota
	unreadLog        // the first record could not be read
	shortLog         // the transport broke after the first record
	refusedLog       // the card does not give its log
)

// readings are all the ways.
func readings() []reading {
	all := []reading{{nothing: true}, {noInit: true}}
	for _, l := range []shape{wholeLog, unreadLog, shortLog, refusedLog} {
		all = append(all, reading{log: l}, reading{log: l, noProof: true})
	}
	return all
}

var terminals = [...]string{"000000000001", "000000000002"}

var moments = [...]string{"", "000001", "000002", "000003"}

func (w *purseWorld) entry(l int8) LogRecord {
	if l >= meterRecord {
		return LogRecord{Seq: uint16(l), Type: 6}
	}
	a := &w.tries[l-1]
	seq := uint16(a.seq)
	if w.after {
		seq++
	}
	return LogRecord{
		Seq: seq, Amount: 100, Type: 2, Terminal: terminals[a.kiosk], Date: "20260101", Time: moments[l],
	}
}

func (w *purseWorld) record(i int8) Record {
	a := &w.tries[i]
	r := a.record("CPU")
	r.Kind = Load
	r.Load = &LoadPlan{
		Type: 2, Terminal: terminals[a.kiosk], Amount: 100, Seq: uint16(a.seq), Balance: uint32(a.balance),
		HostDate: "20260101", HostTime: moments[i+1], LogSeen: a.logSeen,
	}
	if a.newest != 0 {
		n := w.entry(a.newest)
		r.Load.Newest = &n
	}
	return r
}

// balance is what the purse holds: every load and every purchase counts one.
func (w *purseWorld) balance() int8 { return 10 + w.loaded[0] + w.loaded[1] - w.bought }

func (w *purseWorld) push(l int8) {
	w.log[1], w.log[0] = w.log[0], l
	w.logged = min(w.logged+1, 2)
}

func (m *purseModel) decide(r Record, e Evidence) Verdict {
	v := Decide(r, e)
	if m.kiosk == balanceKiosk && e.Purse != nil && e.Purse.Answer != Committed {
		v = Verdict{Judgement: IsNotWritten, Basis: ByAnswer, Why: "by balance"}
		if e.Purse.Seq > uint16(r.Load.Balance) { // the wrong kiosk passes the balance here
			v.Judgement = IsWritten
		}
		return v
	}
	m.cells[cell{r.Phase, v.Judgement, v.Why}]++
	return v
}

// initialise is 80 50 at kiosk k: it erases the proof of the last load.
func (m *purseModel) initialise(w *purseWorld, k int8, asked bool) {
	if w.proof != 0 && !asked {
		a := &w.tries[w.proof-1]
		if a.kiosk == k && a.open() && a.tac == 0 && m.wrong == "" {
			m.wrong, m.found = "80 50 erased the proof of an open top-up before it was read", m.now
		}
	}
	w.proof = 0
}

// look is what a kiosk does with an open record: read, decide, conclude.
func (m *purseModel) look(w purseWorld, i int8, answer Answer, how reading) purseWorld {
	a := &w.tries[i]
	if w.where != a.kiosk || how.nothing || a.is(Intent) {
		w.conclude(i, w.record(i), m.decide(w.record(i), Evidence{}))
		return w
	}
	if m.kiosk == hastyKiosk && answer == NoAnswer {
		m.initialise(&w, a.kiosk, false)
	}
	e := &PurseEvidence{Answer: answer, State: LogRoom}
	if w.logged == 2 {
		e.State = LogFull
	}
	for _, l := range w.log {
		if l != 0 {
			e.Log = append(e.Log, w.entry(l))
		}
	}
	switch how.log {
	case unreadLog:
		e.Log, e.State = nil, LogUnread
	case refusedLog:
		e.Log, e.State = nil, LogRefused
	case shortLog:
		e.Log, e.State = e.Log[:min(1, len(e.Log))], LogUnread
	}
	if m.kiosk == balanceKiosk {
		e.Seq = uint16(w.balance())
	}
	r := w.record(i)
	v := m.decide(r, Evidence{Purse: e})
	if v.Judgement == NeedsSequence {
		// 80 5A first: it is asked for the sequence before and after.
		if p := w.proof; p != 0 && a.tac == 0 && !how.noProof {
			if at := w.tries[p-1].seq; at == a.seq || at == a.seq+1 {
				a.tac = 2
				if p == i+1 {
					a.tac = 1
				}
			}
		}
		r = w.record(i)
		e.TAC = r.Observed.TAC
		if how.noInit {
			v = m.decide(r, Evidence{})
		} else {
			m.initialise(&w, a.kiosk, true)
			e.Seq, e.SeqRead = uint16(w.seq), true
			v = m.decide(r, Evidence{Purse: e})
		}
	}
	w.conclude(i, r, v)
	return w
}

func (m *purseModel) normal(w *purseWorld) {
	if !w.forget() {
		w.sawSeq, w.sawLog = 0, [2]int8{}
	}
	for i := range w.tries {
		if a := &w.tries[i]; a.tac == 0 && (a.is(Writing) || a.is(Unknown)) {
			return
		}
	}
	w.proof = 0 // nobody will ask for it
}

func (m *purseModel) judge(w purseWorld) string {
	if wrong := w.common.judge(); wrong != "" {
		return wrong
	}
	for o := range w.loaded {
		if w.loaded[o] > 0 && w.settled[o] == 0 && w.holder[o] == 0 {
			return fmt.Sprintf("order %d is on the card and free", o)
		}
	}
	return ""
}

// show is 3010 at the card's kiosk: the platform settles what the log shows.
func (w *purseWorld) show(log bool) {
	w.challenge, w.sawSeq, w.sawLog = 0, w.seq, [2]int8{}
	if !log {
		return
	}
	w.sawLog = w.log
	for _, l := range w.log {
		if l > 0 && l < meterRecord && w.holder[w.tries[l-1].order] == l {
			w.settled[w.tries[l-1].order] = l
		}
	}
}

// begin is 3010, a choice, commit 1 and 80 50.
func (m *purseModel) begin(w purseWorld, o int8, logSeen bool) (purseWorld, bool) {
	k := w.where
	n := w.free(m.size, k, o, "CPU")
	if w.live[k] != 0 || n < 0 {
		return w, false
	}
	w.show(logSeen)
	if w.settled[o] != 0 {
		return w, false
	}
	a := attempt{used: true, kiosk: k, order: o, phase: place(phaseList, Intent), seq: w.seq, logSeen: logSeen}
	if logSeen {
		a.newest = w.log[0]
	}
	if m.kiosk == balanceKiosk {
		a.balance = w.balance()
	}
	m.initialise(&w, k, false)
	w.tries[n] = a
	w.live[k], w.challenge = n+1, n+1
	return w, true
}

// may says whether the platform gives order o to a new number after a reading
// of the card, and what that reading makes of the holder (clause 2).
func (w *purseWorld) may(o int8, seq int8, log [2]int8) bool {
	h := w.holder[o]
	if w.settled[o] != 0 || h == 0 {
		return w.settled[o] == 0
	}
	b := &w.tries[h-1]
	used := false
	for _, l := range log {
		used = used || l > 0 && l < meterRecord && l != h && w.tries[l-1].seq == b.seq
	}
	return seq == b.seq || used
}

// authorise is interface 4006 reaching the platform, however late.
func (w *purseWorld) authorise(i int8) {
	a := &w.tries[i]
	a.reply = 2
	if a.fenced || w.challenge != i+1 || !w.may(a.order, w.sawSeq, w.sawLog) {
		return
	}
	if h := w.holder[a.order]; h != 0 && h != i+1 {
		w.giveBack(h - 1)
	}
	w.holder[a.order], a.reply = i+1, 1
}

// load is 80 52 taking effect.
func (w *purseWorld) load(i int8, logged bool) {
	a := &w.tries[i]
	if logged {
		w.push(i + 1)
	}
	w.seq++
	w.loaded[a.order]++
	w.by[a.order], w.proof = i+1, i+1
}

func (m *purseModel) deliver(w purseWorld, i int8, firm bool) (heard, answered purseWorld) {
	reply := w.hear(i, firm)
	heard = w
	w.answered(i, w.record(i), reply)
	return heard, w
}

func (m *purseModel) step(w purseWorld) {
	fresh := !w.tries[0].used // both kiosks and both orders are alike: the first attempt names them
	if w.moves < m.size.moves && !fresh {
		v := w
		v.where, v.live[w.where] = 1-w.where, 0
		v.moves++
		m.visit("the card goes to the other kiosk", v)
	}
	if w.bought < min(m.size.visits, 1) && w.live == [2]int8{} {
		v := w
		v.push(meterRecord + v.bought)
		v.bought++
		m.visit("a purchase at the meter", v)
	}
	if w.live[w.where] == 0 && !fresh {
		v := w
		v.show(true)
		m.visit("3010 alone", v)
	}
	for o := range int8(2) {
		if fresh && o > 0 {
			break
		}
		for _, seen := range []bool{true, false} {
			if v, ok := m.begin(w, o, seen); ok {
				m.visit(m.say("kiosk %d begins order %d, log seen %t", w.where, o, seen), v)
			}
		}
	}
	for i := range m.size.tries {
		a := &w.tries[i]
		if !a.used {
			continue
		}
		if a.sent == 1 && a.reply == 0 {
			v := w
			v.authorise(i)
			m.visit(m.say("4006 of attempt %d arrives", i), v)
		}
		for _, gone := range []bool{false, true} {
			v := w
			if v.day(i, v.record(i), gone) {
				m.visit(m.say("the day file tells of attempt %d, card gone %t", i, gone), v)
			}
		}
		if a.message != mNone {
			for _, firm := range []bool{false, true} {
				heard, answered := m.deliver(w, i, firm)
				what := m.say("%s of attempt %d is heard", messageList[a.message], i)
				m.visit(what+", its answer lost", heard)
				m.visit(what+" and answered", answered)
			}
		}
		if w.live[a.kiosk] == i+1 {
			m.goOn(w, i)
		} else if r := w.record(i); r.NeedsCard() || r.Phase == Intent {
			m.looks(m.say("kiosk %d looks for attempt %d", a.kiosk, i), w, i, NoAnswer)
		}
	}
}

func (m *purseModel) looks(what string, w purseWorld, i int8, answer Answer) {
	for _, how := range readings() {
		m.visit(m.say("%s %+v", what, how), m.look(w, i, answer, how))
	}
}

// goOn: the kiosk's next step with the attempt it is at, or a power cut.
func (m *purseModel) goOn(w purseWorld, i int8) {
	k := w.tries[i].kiosk
	cut := w
	cut.live[k] = 0
	m.visit("power cut", cut)
	switch a := &w.tries[i]; {
	case a.is(Intent):
		m.visit("given up before the marker", m.look(w, i, NoAnswer, reading{}))
		v := w
		switch {
		case a.sent == 0:
			v.drop(i, w.record(i))
			m.visit("4006 could not be sent", v)
			v = w
			v.tries[i].sent = 1
			m.visit("4006 is sent", v)
		case a.reply == 1:
			v.tries[i].phase = place(phaseList, Writing)
			m.visit("commit 2", v)
		case a.reply == 2:
			v.drop(i, w.record(i))
			m.visit("4006 was refused", v)
		}
	case a.is(Writing):
		m.looks("80 52 is refused", w, i, Refused)
		m.looks("80 52 is lost", w, i, NoAnswer)
		if m.kiosk == nilErrorKiosk {
			m.visit("80 52 is lost and taken for done", m.look(w, i, Committed, reading{}))
		}
		for _, logged := range []bool{true, false} {
			done := w
			done.load(i, logged)
			what := m.say("80 52 takes effect, logged %t, ", logged)
			m.visit(what+"confirmed", m.look(done, i, Committed, reading{}))
			m.looks(what+"answer lost", done, i, NoAnswer)
			m.looks(what+"its repeat refused", done, i, Refused)
			done.live[k] = 0
			m.visit(what+"power cut", done)
		}
	}
}

// onwardMove is the next move without faults: what is begun is finished, messages
// arrive, open records see their card, free orders are collected.
func (m *purseModel) onwardMove(w purseWorld) (purseWorld, bool) {
	w.moves, w.bought = 0, 0
	for i := range m.size.tries {
		a := &w.tries[i]
		live := a.used && w.live[a.kiosk] == i+1
		switch {
		case a.sent == 1 && a.reply == 0:
			w.authorise(i)
		case live && a.is(Intent) && a.sent == 0:
			a.sent = 1
		case live && a.is(Intent) && a.reply == 1:
			a.phase = place(phaseList, Writing)
		case live && a.is(Intent):
			w.drop(i, w.record(i))
		case live:
			w.load(i, true)
			w = m.look(w, i, Committed, reading{})
		default:
			continue
		}
		return w, true
	}
	for i := range m.size.tries {
		if w.tries[i].message == mNone || w.tries[i].parked {
			continue
		}
		_, v := m.deliver(w, i, false)
		m.normal(&v)
		if v != w {
			return v, true
		}
	}
	for i := range m.size.tries {
		if a := &w.tries[i]; a.open() {
			w.live[w.where] = 0
			w.where = a.kiosk
			return m.look(w, i, NoAnswer, reading{}), true
		}
	}
	for o := range int8(2) {
		if w.settled[o] != 0 || w.person(o) {
			continue
		}
		for range 2 {
			if v, ok := m.begin(w, o, true); ok {
				return v, true
			}
			w.where = 1 - w.where
		}
	}
	return w, false
}

// restAt tells what a world at rest has left undone.
func (m *purseModel) restAt(w purseWorld) string {
	if why := w.unfinished(); why != "" {
		return why
	}
	for o := range int8(2) {
		w := w
		w.show(true)
		switch {
		case w.settled[o] != 0 || w.person(o):
		case w.tries[m.size.tries-1].used && w.may(o, w.seq, w.log): // no room to try, but it would be given
		default:
			return fmt.Sprintf("order %d can neither be collected nor is anybody told", o)
		}
	}
	return ""
}

func explorePurse(s size, k kiosk) result {
	if s.tries > 2 {
		s.visits = 0 // purchases push records out of the log; two attempts show it
	}
	m := &purseModel{size: s, kiosk: k, cells: map[cell]int{}}
	m.search = search[purseWorld]{normal: m.normal, judge: m.judge, step: m.step, onward: m.onwardMove, rest: m.restAt}
	if k != rightKiosk {
		m.search.onward, m.short = nil, true
	}
	return explore("purse", &m.search, m.cells, purseWorld{seq: 1}, purseWorld{seq: 1, after: true})
}
