package topup

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

var (
	ours    = LogRecord{Seq: 5, Amount: 300, Type: 2, Terminal: "112233445566", Date: "20260102", Time: "030405"}
	earlier = LogRecord{Seq: 4, Amount: 900, Type: 2, Terminal: "665544332211", Date: "20260101", Time: "010101"}
	foreign = LogRecord{Seq: 5, Amount: 300, Type: 2, Terminal: "665544332211", Date: "20260102", Time: "030405"}
)

func purseRecord(p Phase) Record {
	n := earlier
	return Record{
		Version: 1, TransNo: NewTransNo(), Phase: p, Kind: Load, Card: Card{Type: "CPU"},
		Load: &LoadPlan{Type: 2, Terminal: ours.Terminal, Amount: 300, Seq: 5, HostDate: ours.Date, HostTime: ours.Time, Newest: &n, LogSeen: true},
	}
}

func with(l LogRecord, f func(*LogRecord)) LogRecord { f(&l); return l }

func TestDecidePurse(t *testing.T) {
	t.Parallel()
	full := func(log ...LogRecord) PurseEvidence { return PurseEvidence{Log: log, State: LogFull} }
	seq := func(e PurseEvidence, s uint16) PurseEvidence { e.Seq, e.SeqRead = s, true; return e }
	for _, c := range []struct {
		name   string
		e      PurseEvidence
		want   Judgement
		basis  Basis
		manual bool
	}{
		{"card confirmed", PurseEvidence{Answer: Committed}, IsWritten, ByAnswer, false},
		{"refusal alone proves nothing", PurseEvidence{Answer: Refused}, NeedsSequence, "", false},
		{"own record, sequence before", full(ours, earlier), IsWritten, ByLog, false},
		{"own record, sequence after", full(with(ours, func(l *LogRecord) { l.Seq = 6 }), earlier), IsWritten, ByLog, false},
		{"own record in a log that broke off", PurseEvidence{Log: []LogRecord{ours}, State: LogUnread}, IsWritten, ByLog, false},
		{"sequence unchanged", seq(full(earlier), 5), IsNotWritten, ByAnswer, false},
		{"sequence used by another terminal", seq(full(foreign, earlier), 6), IsNotWritten, ByLog, false},
		{"our terminal at another time is not this load", seq(full(with(ours, func(l *LogRecord) { l.Time = "030406" }), earlier), 6), IsNotWritten, ByLog, false},
		{"our terminal on another day is not this load", seq(full(with(ours, func(l *LogRecord) { l.Date = "20260103" }), earlier), 6), IsNotWritten, ByLog, false},
		{"another amount is not this load", seq(full(with(ours, func(l *LogRecord) { l.Amount = 301 }), earlier), 6), IsNotWritten, ByLog, false},
		{"a record older than the attempt is not this load", seq(full(earlier, ours), 6), IsUnknown, ByLog, true},
		{"log does not reach back", seq(full(foreign), 6), IsUnknown, ByLog, true},
		{"log not read", seq(PurseEvidence{State: LogUnread}, 6), IsUnknown, ByLog, false},
		{"log refused", seq(PurseEvidence{State: LogRefused}, 6), IsUnknown, ByLog, true},
		{"sequence used, nobody's record", seq(full(earlier), 6), IsUnknown, ByLog, true},
		{"another load at the next sequence does not clear a load that was never logged", seq(full(with(foreign, func(l *LogRecord) { l.Seq = 6 }), earlier), 7), IsUnknown, ByLog, true},
		{"logged after it was counted up", seq(full(with(foreign, func(l *LogRecord) { l.Seq = 6 }), earlier), 6), IsNotWritten, ByLog, false},
		{"used by another terminal, and once more since", seq(full(with(foreign, func(l *LogRecord) { l.Seq = 6 }), foreign, earlier), 7), IsNotWritten, ByLog, false},
		{"the newest load was not logged", seq(full(foreign, earlier), 7), IsUnknown, ByLog, true},
		{"sequence went back", seq(full(earlier), 4), IsUnknown, "", true},
		{"a proof is for the platform to check", seq(PurseEvidence{State: LogRefused, TAC: "C324A0EF"}, 6), IsUnknown, ByProof, true},
	} {
		for _, p := range []Phase{Writing, Unknown} {
			v := Decide(purseRecord(p), Evidence{Purse: &c.e})
			if v.Judgement != c.want || v.Basis != c.basis || v.Manual != c.manual {
				t.Errorf("%s, %s: %+v", c.name, p, v)
			}
		}
	}
	empty := purseRecord(Writing)
	empty.Load.Newest = nil
	if v := Decide(empty, Evidence{Purse: &PurseEvidence{Log: []LogRecord{foreign}, State: LogRoom, Seq: 6, SeqRead: true}}); v.Judgement != IsNotWritten {
		t.Errorf("log was empty and has room: %+v", v)
	}
	if v := Decide(empty, Evidence{Purse: &PurseEvidence{Log: []LogRecord{foreign}, State: LogFull, Seq: 6, SeqRead: true}}); v.Judgement != IsUnknown {
		t.Errorf("log was empty and is full: %+v", v)
	}
}

func TestDecideWithoutWritingIsTheJournals(t *testing.T) {
	t.Parallel()
	r := purseRecord(Intent)
	if v := Decide(r, Evidence{}); v.Judgement != IsNotWritten || v.Basis != ByJournal {
		t.Errorf("%+v", v)
	}
	r.Salvaged = true
	if v := Decide(r, Evidence{}); v.Judgement != IsUnknown {
		t.Errorf("salvaged: %+v", v)
	}
	for _, p := range []Phase{Written, NotWritten, Closed, Paid} {
		if v := Decide(purseRecord(p), Evidence{Purse: &PurseEvidence{Answer: Committed}}); v.Judgement != Settled {
			t.Errorf("%s: %+v", p, v)
		}
	}
}

var layout = Layout{Size: 24, Identity: []Field{{0, 4}}, Count: Field{8, 2}, Gas: Field{10, 2}}

func randomPlan(t testing.TB, r *rand.Rand) Plan {
	t.Helper()
	before := make([]byte, 24)
	for i := range before {
		before[i] = byte(r.UintN(256))
	}
	before[10], before[11] = 0, 0
	aux := make([]byte, 6)
	for i := range aux {
		aux[i] = byte(r.UintN(256))
	}
	p, err := NewPlan(before, []Write{
		{Offset: 14, Data: aux},
		{Offset: 8, Data: []byte{before[8], before[9] + 1, 1, byte(r.UintN(255) + 1)}},
	}, layout.Count, layout)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestEveryTearOfOurOwnIsFinished: erased or partly written, at every byte.
func TestEveryTearOfOurOwnIsFinished(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		p := randomPlan(t, rnd)
		if !p.Valid() || !p.Commit.has(p.Order[len(p.Order)-1]) {
			t.Fatalf("plan %+v", p)
		}
		for n := range p.Order {
			for _, torn := range []byte{0xFF, p.Target[p.Order[n]] | byte(rnd.UintN(256)), p.Before[p.Order[n]] | byte(rnd.UintN(256))} {
				c := bytes.Clone(p.Before)
				for _, off := range p.Order[:n] {
					c[off] = p.Target[off]
				}
				c[p.Order[n]] = torn
				r := Record{Phase: Writing, Kind: Image, Image: &ImagePlan{Plan: &p}}
				r.Phase = Unknown
				if v := Decide(r, Evidence{Image: &ImageEvidence{Content: c, Here: true}}); v.Judgement == RollForward {
					t.Fatalf("rolled forward without asking whose the order is")
				}
				r.Phase = Writing
				if v := Decide(r, Evidence{Image: &ImageEvidence{Content: c}}); v.Judgement == RollForward {
					t.Fatalf("rolled forward in a later session without asking whose the order is")
				}
				v := Decide(r, Evidence{Image: &ImageEvidence{Content: c, Here: true}})
				switch v.Judgement {
				case RollForward:
					for _, w := range p.Rest(v.Done) {
						copy(c[w.Offset:], w.Data)
					}
					if !bytes.Equal(c, p.Target) {
						t.Fatalf("rest does not complete the plan")
					}
				case IsNotWritten:
					if !bytes.Equal(c, p.Before) {
						t.Fatalf("not written, but changed")
					}
				case IsWritten:
					if !bytes.Equal(p.Commit.of(c), p.Commit.of(p.Target)) {
						t.Fatalf("written, but the count is not there")
					}
				default:
					t.Fatalf("byte %d torn to %02X: %+v", n, torn, v)
				}
			}
		}
		mixture := bytes.Clone(p.Before)
		mixture[4] ^= 0x55 // a byte no plan of ours touches
		mixture[p.Order[0]] = p.Target[p.Order[0]]
		v := Decide(Record{Phase: Writing, Kind: Image, Image: &ImagePlan{Plan: &p}}, Evidence{Image: &ImageEvidence{Content: mixture, Here: true}})
		if v.Judgement != IsUnknown || !v.Manual {
			t.Fatalf("mixture: %+v", v)
		}
	}
}

func TestPlanRefusals(t *testing.T) {
	t.Parallel()
	before := make([]byte, 24)
	commit := Write{Offset: 8, Data: []byte{0, 1}}
	for _, c := range []struct {
		name   string
		writes []Write
		gas    byte
		field  Field
	}{
		{"identity", []Write{commit, {Offset: 2, Data: []byte{9}}}, 0, layout.Count},
		{"count unchanged", []Write{{Offset: 14, Data: []byte{9}}}, 0, layout.Count},
		{"outside", []Write{commit, {Offset: 23, Data: []byte{1, 2}}}, 0, layout.Count},
		{"negative", []Write{commit, {Offset: -1, Data: []byte{1}}}, 0, layout.Count},
		{"gas not taken", []Write{commit}, 1, layout.Count},
		{"another commit field", []Write{commit}, 0, Field{14, 2}},
	} {
		b := bytes.Clone(before)
		b[11] = c.gas
		if _, err := NewPlan(b, c.writes, c.field, layout); err == nil {
			t.Errorf("%s: accepted", c.name)
		}
	}
}

// TestSettleTable is the table of answers in docs/contract.md, cell by cell.
func TestSettleTable(t *testing.T) {
	t.Parallel()
	outcome := func(o Outcome, b Basis, cpu bool) Record {
		r := Record{Phase: Phase(o), Outcome: o, Basis: b, Rev: 1, NoAttempt: b == ByJournal, Card: Card{Type: "SLE4442"}}
		if cpu {
			r.Card.Type = "CPU"
		}
		return r
	}
	written := outcome(OutcomeWritten, ByAnswer, true)
	not, notImage := outcome(OutcomeNotWritten, ByAnswer, true), outcome(OutcomeNotWritten, ByImage, false)
	unknown, proof := outcome(OutcomeUnknown, "", true), outcome(OutcomeUnknown, ByProof, true)
	for _, c := range []struct {
		name   string
		r      Record
		m      Message
		a      Reply
		phase  Phase
		await  bool
		send   Message
		parked bool
		alarm  Alarm
	}{
		{"0 S", written, Report, Reply{State: SettledState}, Closed, false, "", false, ""},
		{"0 R", written, Report, Reply{State: GivenBack}, Written, false, "", true, AlarmConflict},
		{"0 P", written, Report, Reply{State: Pending}, Closed, true, Query, false, ""},
		{"0 ?", written, Report, Reply{State: UnknownOrder}, Written, false, "", true, AlarmUnknownOrder},
		{"1 S", not, Report, Reply{State: SettledState}, NotWritten, false, "", true, AlarmConflict},
		{"1 R", not, Report, Reply{State: GivenBack}, Closed, false, "", false, ""},
		{"1 P, CPU card", not, Report, Reply{State: Pending}, NotWritten, false, Reverse, false, ""},
		{"1 P, memory card", notImage, Report, Reply{State: Pending}, Closed, true, Query, false, ""},
		{"1 P, memory card, journal", outcome(OutcomeNotWritten, ByJournal, false), Report, Reply{State: Pending}, NotWritten, false, Reverse, false, ""},
		{"1 ?", not, Report, Reply{State: UnknownOrder}, NotWritten, false, Query, false, ""},
		{"2 S", unknown, Report, Reply{State: SettledState}, Closed, false, "", false, AlarmUnproven},
		{"2 S with proof", proof, Report, Reply{State: SettledState}, Closed, false, "", false, ""},
		{"2 R", unknown, Report, Reply{State: GivenBack}, Unknown, false, "", false, ""},
		{"2 P", unknown, Report, Reply{State: Pending}, Unknown, false, Query, false, ""},
		{"2 ?", unknown, Report, Reply{State: UnknownOrder}, Unknown, false, "", true, AlarmUnknownOrder},
		{"6003 S", not, Reverse, Reply{State: SettledState}, NotWritten, false, "", true, AlarmConflict},
		{"6003 R", not, Reverse, Reply{State: GivenBack}, Closed, false, "", false, ""},
		{"6003 P", not, Reverse, Reply{State: Pending}, Closed, true, Query, false, ""},
		{"6003 ?", not, Reverse, Reply{State: UnknownOrder}, NotWritten, false, Query, false, ""},
	} {
		n := Settle(c.r, c.m, 1, c.a)
		var send Message
		if len(n.Send) > 0 {
			send = n.Send[0].Message
		}
		var alarm Alarm
		if len(n.Alarms) > 0 {
			alarm = n.Alarms[0]
		}
		if n.Record.Phase != c.phase || n.Record.Awaiting != c.await || send != c.send || (n.Park != "") != c.parked || alarm != c.alarm {
			t.Errorf("%s: %+v", c.name, n)
		}
		if c.parked && alarm == AlarmConflict && (n.Record.Conflict == nil || !n.Record.BlocksOrder()) {
			t.Errorf("%s: conflict without evidence, or its order is free", c.name)
		}
		if n.Record.Phase != Closed && !n.Record.BlocksOrder() {
			t.Errorf("%s: order is free before the record is closed", c.name)
		}
	}
}

// TestUnknownIsSettledByItsCard: the revision that follows, and what an
// answered give-back leaves to say.
func TestUnknownIsSettledByItsCard(t *testing.T) {
	t.Parallel()
	r, ok := Conclude(purseRecord(Writing), Verdict{Judgement: IsUnknown})
	if !ok || r.Phase != Unknown || r.Rev != 1 || !r.BlocksCard() || !r.BlocksOrder() {
		t.Fatalf("%+v", r)
	}
	if _, again := Conclude(r, Verdict{Judgement: IsUnknown}); again {
		t.Error("the same Unknown was reported again")
	}
	w, _ := Conclude(r, Verdict{Judgement: IsWritten, Basis: ByLog})
	if w.Phase != Written || w.Rev != 2 || w.ResultCode() != 0 || w.BlocksCard() {
		t.Errorf("written: %+v", w)
	}
	m, _ := Conclude(r, Verdict{Judgement: IsUnknown, Manual: true, Basis: ByProof})
	if m.Phase != Unknown || m.Rev != 2 || m.BlocksCard() || !m.BlocksOrder() || m.Parked == "" {
		t.Errorf("manual: %+v", m)
	}
	r.AckState = GivenBack
	n, _ := Conclude(r, Verdict{Judgement: IsNotWritten, Basis: ByAnswer})
	if n.Phase != Closed || n.Rev != 1 {
		t.Errorf("given back and not written: %+v", n)
	}
	w, _ = Conclude(r, Verdict{Judgement: IsWritten, Basis: ByLog})
	if w.Phase != Written || w.Rev != 2 {
		t.Errorf("given back and written must be said: %+v", w)
	}
}

// TestAWrittenLoadCarriesItsOwnProofOnly: what an earlier look stored may prove
// another load.
func TestAWrittenLoadCarriesItsOwnProofOnly(t *testing.T) {
	t.Parallel()
	for basis, want := range map[Basis]string{ByAnswer: "C324A0EF", ByLog: ""} {
		r := purseRecord(Writing)
		r.Observed.TAC = "C324A0EF"
		if w, _ := Conclude(r, Verdict{Judgement: IsWritten, Basis: basis}); w.Observed.TAC != want {
			t.Errorf("written by %s with proof %q", basis, w.Observed.TAC)
		}
	}
}
