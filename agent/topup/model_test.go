package topup

import (
	"fmt"
	"os"
	"testing"
)

// The model: two kiosks, one purse, two orders, two attempts, a platform
// that keeps the contract, cuts and lost answers at every step, and a card
// whose log holds two records. Every reachable state is visited once; the
// rules asked are the real ones.
const (
	modelTries  = 2
	modelMoves  = 3
	modelBought = 1
	meterRecord = 10 // log entries from here on are purchases at the meter
)

// attempt is a Record without what the rules do not look at, and the place
// its messages have reached. Sent and reply are interface 4006.
type attempt struct {
	used                               bool
	kiosk, order                       int8
	phase                              Phase
	outcome                            Outcome
	basis                              Basis
	noAttempt, manual, awaiting, asked bool
	conflict, parked                   bool
	rev, ackRev                        int8
	ack                                State
	seq, newest                        int8
	message                            Message
	sent, reply                        int8 // reply: 1 granted, 2 refused
	// fenced is the platform's memory: this number was given back.
	fenced bool
}

// world is one state. Holder and settled are attempt+1, 0 for none.
type world struct {
	tries           [modelTries]attempt
	live            [2]int8 // attempt+1 a kiosk is going on with
	where           int8
	moves, bought   int8
	seq, logged     int8
	log             [2]int8 // newest first: attempt+1, or meterRecord up
	loaded          [2]int8
	by              [2]int8
	holder, settled [2]int8
	// The newest challenge and the evidence that came with it.
	challenge, sawSeq int8
	sawLog            [2]int8
}

type model struct {
	t     *testing.T
	seen  map[world]struct{}
	todo  []world
	cells map[string]int
}

func (w *world) entry(l int8) LogRecord {
	if l >= meterRecord {
		return LogRecord{Seq: uint16(l), Type: 6}
	}
	a := w.tries[l-1]
	return LogRecord{
		Seq: uint16(a.seq), Amount: 100, Type: 2,
		Terminal: fmt.Sprint(a.kiosk), Date: "20260101", Time: fmt.Sprint(l),
	}
}

func (w *world) record(i int8) Record {
	a := w.tries[i]
	r := Record{
		Phase: a.phase, Kind: Load, Card: Card{Type: "CPU"}, Outcome: a.outcome, Basis: a.basis,
		NoAttempt: a.noAttempt, Manual: a.manual, Awaiting: a.awaiting, Asked: a.asked,
		Rev: int(a.rev), AckRev: int(a.ackRev), AckState: a.ack,
		Load: &LoadPlan{
			Type: 2, Terminal: fmt.Sprint(a.kiosk), Amount: 100, Seq: uint16(a.seq),
			HostDate: "20260101", HostTime: fmt.Sprint(i + 1), LogSeen: true,
		},
	}
	if a.newest != 0 {
		n := w.entry(a.newest)
		r.Load.Newest = &n
	}
	if a.conflict {
		r.Conflict = &Conflict{}
	}
	return r
}

func (w *world) keep(i int8, r Record) {
	a := &w.tries[i]
	a.phase, a.outcome, a.basis = r.Phase, r.Outcome, r.Basis
	a.noAttempt, a.manual, a.awaiting, a.asked = r.NoAttempt, r.Manual, r.Awaiting, r.Asked
	a.rev, a.ackRev, a.ack = int8(r.Rev), int8(r.AckRev), r.AckState
	a.conflict = r.Conflict != nil
}

func (w *world) push(l int8) {
	w.log[1], w.log[0] = w.log[0], l
	w.logged = min(w.logged+1, 2)
}

// observe is what a kiosk does with an open record: read, decide, conclude.
func (m *model) observe(w world, i int8, answer Answer) {
	r := w.record(i)
	var e Evidence
	if w.where == w.tries[i].kiosk {
		p := &PurseEvidence{Answer: answer, State: LogRoom}
		for _, l := range w.log {
			if l != 0 {
				p.Log = append(p.Log, w.entry(l))
			}
		}
		if w.logged == 2 {
			p.State = LogFull
		}
		e.Purse = p
	}
	v := Decide(r, e)
	m.cells[string(r.Phase)+": "+v.Why]++
	if v.Judgement == NeedsSequence {
		e.Purse.Seq, e.Purse.SeqRead = uint16(w.seq), true
		v = Decide(r, e)
		m.cells[string(r.Phase)+": "+v.Why]++
	}
	next, changed := Conclude(r, v)
	if !changed {
		return
	}
	w.keep(i, next)
	w.tries[i].message = Report
	if next.Phase == Closed {
		w.tries[i].message = ""
	}
	if w.live[w.tries[i].kiosk] == i+1 {
		w.live[w.tries[i].kiosk] = 0
	}
	m.visit(w)
}

// forget drops what nothing can depend on any more.
func (w *world) forget() {
	pending := false
	for i := range w.tries {
		a := &w.tries[i]
		live, newest := w.live[a.kiosk] == int8(i)+1, w.challenge == int8(i)+1
		if a.sent == 1 && !live && (a.reply != 0 || !newest) {
			a.reply = 2
		}
		pending = pending || newest && a.reply == 0 && (live || a.sent == 1)
		if a.phase == Closed && a.message == "" && !a.awaiting {
			a.basis, a.ack, a.rev, a.ackRev, a.newest, a.asked, a.noAttempt = "", "", 0, 0, 0, false, false
		}
	}
	if !pending {
		w.challenge, w.sawSeq, w.sawLog = 0, 0, [2]int8{}
	}
}

func (m *model) visit(w world) {
	w.forget()
	if _, was := m.seen[w]; was {
		return
	}
	m.seen[w] = struct{}{}
	m.judge(w)
	m.todo = append(m.todo, w)
}

func (m *model) judge(w world) {
	for o := range w.loaded {
		if w.loaded[o] > 1 {
			m.t.Fatalf("order %d is on the card twice: %+v", o, w)
		}
		if by := w.by[o]; by != 0 {
			a := w.tries[by-1]
			if a.fenced {
				m.t.Fatalf("order %d was given back and is on the card: %+v", o, w)
			}
			if w.settled[o] == 0 && a.message == "" && !a.awaiting && !a.parked && !w.record(by-1).NeedsCard() {
				m.t.Fatalf("order %d is loaded and nobody will say so: %+v", o, w)
			}
		}
		if s := w.settled[o]; s != 0 && w.by[o] != s {
			m.t.Fatalf("order %d is settled and not on the card: %+v", o, w)
		}
	}
	for i, a := range w.tries {
		if a.conflict {
			m.t.Fatalf("attempt %d contradicts a platform that keeps the contract: %+v", i, w)
		}
	}
}

func (m *model) begin(w world, k, o int8) {
	if w.live[k] != 0 || w.settled[o] != 0 {
		return
	}
	n := int8(-1)
	for i := int8(modelTries - 1); i >= 0; i-- {
		a := w.tries[i]
		if !a.used {
			n = i
			continue
		}
		if r := w.record(i); a.kiosk == k && (r.BlocksCard() || a.order == o && r.BlocksOrder()) {
			return
		}
	}
	if n < 0 {
		return
	}
	w.tries[n] = attempt{used: true, kiosk: k, order: o, phase: Intent, seq: w.seq, newest: w.log[0]}
	w.live[k], w.challenge, w.sawSeq, w.sawLog = n+1, n+1, w.seq, w.log
	m.visit(w)
}

// authorise is interface 4006 reaching the platform, however late.
func (w *world) authorise(i int8) {
	a := &w.tries[i]
	a.reply = 2
	h := w.holder[a.order]
	if a.fenced || w.challenge != i+1 || w.settled[a.order] != 0 {
		return
	}
	if h != 0 && h != i+1 {
		b := &w.tries[h-1]
		used := false
		for _, l := range w.sawLog {
			if l == h {
				w.settled[a.order] = h
				return
			}
			used = used || l > 0 && l < meterRecord && w.tries[l-1].seq == b.seq
		}
		if w.sawSeq != b.seq && !used {
			return
		}
		b.fenced = true
	}
	w.holder[a.order], a.reply = i+1, 1
}

// hear is the platform receiving the waiting message of attempt i.
func (w *world) hear(i int8) Reply {
	a := &w.tries[i]
	o, me := a.order, i+1
	mine := w.settled[o] == me
	switch a.message {
	case Report:
		switch {
		case mine:
			return Reply{State: SettledState}
		case a.fenced:
			return Reply{State: GivenBack}
		case a.outcome == OutcomeWritten:
			if w.holder[o] != me {
				return Reply{State: UnknownOrder}
			}
			w.settled[o] = me
			return Reply{State: SettledState}
		case w.holder[o] == me:
			return Reply{State: Pending}
		case a.outcome == OutcomeNotWritten:
			a.fenced = true
			return Reply{State: GivenBack}
		}
	case Reverse:
		if mine {
			return Reply{State: SettledState}
		}
		if w.holder[o] == me {
			w.holder[o] = 0
		}
		a.fenced = true
		return Reply{State: GivenBack}
	case Query:
		switch {
		case w.settled[o] != 0:
			return Reply{State: SettledState, Ours: mine}
		case a.fenced:
			return Reply{State: GivenBack}
		case w.holder[o] != 0:
			return Reply{State: Authorised, Ours: w.holder[o] == me}
		}
	}
	return Reply{State: UnknownOrder}
}

func (m *model) deliver(w world, i int8) {
	sent := w.tries[i].message
	a := w.hear(i)
	m.visit(w) // the answer is lost
	n := Settle(w.record(i), sent, int(w.tries[i].rev), a)
	w.keep(i, n.Record)
	w.tries[i].parked = n.Park != ""
	w.tries[i].message = ""
	if n.Park != "" {
		w.tries[i].message = sent
	} else if len(n.Send) > 0 {
		w.tries[i].message = n.Send[0].Message
	}
	m.visit(w)
}

func (m *model) step(w world) {
	if w.moves < modelMoves {
		v := w
		v.where, v.live[w.where] = 1-w.where, 0
		v.moves++
		m.visit(v)
	}
	if w.bought < modelBought && w.live == [2]int8{} {
		v := w
		v.push(meterRecord + v.bought)
		v.bought++
		m.visit(v)
	}
	for o := range int8(2) {
		m.begin(w, w.where, o)
	}
	for i := range int8(modelTries) {
		a := w.tries[i]
		if !a.used {
			continue
		}
		if a.sent == 1 && a.reply == 0 {
			v := w
			v.authorise(i)
			m.visit(v)
		}
		if a.message != "" {
			m.deliver(w, i)
		}
		if w.live[a.kiosk] == i+1 {
			m.goOn(w, i)
		} else if r := w.record(i); r.NeedsCard() || r.Phase == Intent {
			m.observe(w, i, NoAnswer)
		}
	}
}

// goOn: the kiosk's next step with the attempt it is at, or a power cut.
func (m *model) goOn(w world, i int8) {
	k := w.tries[i].kiosk
	cut := w
	cut.live[k] = 0
	m.visit(cut)
	switch a := w.tries[i]; {
	case a.phase == Intent && a.sent == 0:
		w.tries[i].sent = 1
		m.visit(w)
	case a.phase == Intent && a.reply == 1:
		w.tries[i].phase = Writing
		m.visit(w)
	case a.phase == Intent && a.reply == 2:
		w.keep(i, Drop(w.record(i), "46003", "refused"))
		w.live[k] = 0
		m.visit(w)
	case a.phase == Writing:
		m.observe(w, i, Refused)
		w.push(i + 1)
		w.seq++
		w.loaded[a.order]++
		w.by[a.order] = i + 1
		cut := w
		cut.live[k] = 0
		m.visit(cut)
		m.observe(w, i, Committed)
	}
}

// TestModel visits every state and holds money's invariants in each.
func TestModel(t *testing.T) {
	if os.Getenv("MUTANT") != "" {
		t.Skip("mutants are judged by the rules' own tests, which are faster")
	}
	t.Parallel()
	m := &model{t: t, seen: map[world]struct{}{}, cells: map[string]int{}}
	m.visit(world{seq: 1})
	for len(m.todo) > 0 {
		w := m.todo[len(m.todo)-1]
		m.todo = m.todo[:len(m.todo)-1]
		m.step(w)
	}
	for _, cell := range []string{
		"intent: no changing command was sent",
		"writing: card not read", "writing: card confirmed the load", "writing: own record in the card's log",
		"writing: sequence not read", "writing: online sequence unchanged",
		"writing: sequence used by another terminal", "writing: sequence used, log does not reach back",
		"unknown: own record in the card's log", "unknown: online sequence unchanged",
		"unknown: sequence used by another terminal", "unknown: sequence used, log does not reach back",
	} {
		t.Logf("%8d %s", m.cells[cell], cell)
		if m.cells[cell] == 0 {
			t.Errorf("never reached: %s", cell)
		}
	}
	fmt.Printf("states=%d violations=0\n", len(m.seen))
}
