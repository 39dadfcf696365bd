package topup

import (
	"slices"
	"testing"
)

func TestSettleDay(t *testing.T) {
	t.Parallel()
	rec := func(p Phase, o Outcome, ack State, f func(*Record)) Record {
		r := purseRecord(p)
		r.Outcome, r.Basis, r.Rev, r.AckRev, r.AckState = o, ByLog, 1, 1, ack
		if f != nil {
			f(&r)
		}
		return r
	}
	awaiting := func(r *Record) { r.Awaiting = true }
	bare := func(r *Record) { r.Basis = "" }
	for _, c := range []struct {
		name       string
		r          Record
		w          DayWord
		changed    bool
		phase      Phase
		ack        State
		awaiting   bool
		reconciled bool
		alarm      bool
	}{
		{"unknown is booked", rec(Unknown, OutcomeUnknown, Pending, nil), DayWord{State: SettledState}, true, Closed, SettledState, false, true, false},
		{"unknown is booked without evidence", rec(Unknown, OutcomeUnknown, Pending, bare), DayWord{State: SettledState}, true, Closed, SettledState, false, true, true},
		{"a card that cannot tell, booked", rec(Unknown, OutcomeUnknown, Pending, func(r *Record) { r.Manual, r.Parked = true, "card cannot tell" }), DayWord{State: SettledState}, true, Closed, SettledState, false, true, false},
		{"unknown is given back: the card is still asked", rec(Unknown, OutcomeUnknown, Pending, nil), DayWord{State: GivenBack}, true, Unknown, GivenBack, false, false, false},
		{"given back for the first time, the card long gone", rec(Unknown, OutcomeUnknown, Pending, nil), DayWord{GivenBack, true}, true, Unknown, GivenBack, false, false, false},
		{"given back twice, the card may come", rec(Unknown, OutcomeUnknown, GivenBack, nil), DayWord{State: GivenBack}, false, Unknown, GivenBack, false, false, false},
		{"given back twice, the card long gone", rec(Unknown, OutcomeUnknown, GivenBack, nil), DayWord{GivenBack, true}, true, Closed, GivenBack, false, true, true},
		{"given back twice, the card cannot tell", rec(Unknown, OutcomeUnknown, GivenBack, func(r *Record) { r.Manual = true }), DayWord{GivenBack, true}, false, Unknown, GivenBack, false, false, false},
		{"unknown, undecided", rec(Unknown, OutcomeUnknown, Pending, nil), DayWord{Pending, true}, false, Unknown, Pending, false, false, false},
		{"unknown, its report on the way", rec(Unknown, OutcomeUnknown, Pending, func(r *Record) { r.Rev = 2 }), DayWord{SettledState, true}, false, Unknown, Pending, false, false, false},
		{"unknown, never reported", rec(Unknown, OutcomeUnknown, "", func(r *Record) { r.Rev, r.AckRev = 0, 0 }), DayWord{SettledState, true}, false, Unknown, "", false, false, false},
		{"in conflict", rec(Unknown, OutcomeUnknown, Pending, func(r *Record) { r.Conflict = &Conflict{} }), DayWord{SettledState, true}, false, Unknown, Pending, false, false, false},
		{"torn", rec(Writing, NoOutcome, "", nil), DayWord{SettledState, true}, false, Writing, "", false, false, false},
		{"written and booked", rec(Closed, OutcomeWritten, SettledState, nil), DayWord{State: SettledState}, true, Closed, SettledState, false, true, false},
		{"written, awaited, booked", rec(Closed, OutcomeWritten, Pending, awaiting), DayWord{State: SettledState}, true, Closed, Pending, false, true, false},
		{"written, awaited, undecided", rec(Closed, OutcomeWritten, Pending, awaiting), DayWord{State: Pending}, false, Closed, Pending, true, false, false},
		{"written, given back: for a person", rec(Closed, OutcomeWritten, SettledState, nil), DayWord{GivenBack, true}, false, Closed, SettledState, false, false, false},
		{"written, not acknowledged", rec(Written, OutcomeWritten, "", func(r *Record) { r.AckRev = 0 }), DayWord{State: SettledState}, false, Written, "", false, false, false},
		{"not written, given back", rec(Closed, OutcomeNotWritten, GivenBack, nil), DayWord{State: GivenBack}, true, Closed, GivenBack, false, true, false},
		{"not written, awaited, given back", rec(Closed, OutcomeNotWritten, Pending, awaiting), DayWord{State: GivenBack}, true, Closed, Pending, false, true, false},
		{"not written, booked: for a person", rec(Closed, OutcomeNotWritten, GivenBack, nil), DayWord{SettledState, true}, false, Closed, GivenBack, false, false, false},
		{"not written, give-back on its way", rec(NotWritten, OutcomeNotWritten, Pending, nil), DayWord{State: GivenBack}, false, NotWritten, Pending, false, false, false},
		{"reconciled before", rec(Closed, OutcomeWritten, SettledState, func(r *Record) { r.Reconciled = true }), DayWord{State: SettledState}, false, Closed, SettledState, false, true, false},
		{"closed as booked", rec(Closed, OutcomeUnknown, Pending, nil), DayWord{State: SettledState}, true, Closed, Pending, false, true, false},
		{"closed as booked, now given back", rec(Closed, OutcomeUnknown, SettledState, nil), DayWord{GivenBack, true}, false, Closed, SettledState, false, false, false},
		{"refused and dropped", Drop(purseRecord(Intent), "46003", ""), DayWord{State: GivenBack}, false, Closed, "", false, false, false},
	} {
		n, changed := SettleDay(c.r, c.w)
		r := n.Record
		if changed != c.changed || r.Phase != c.phase || r.AckState != c.ack || r.Awaiting != c.awaiting || r.Reconciled != c.reconciled ||
			slices.Contains(n.Alarms, AlarmUnproven) != c.alarm || len(n.Send) != 0 || n.Park != "" || n.Lazy {
			t.Errorf("%s: %t %+v, alarms %v", c.name, changed, r, n.Alarms)
		}
		if r.Phase == Closed && r.Parked != "" {
			t.Errorf("%s: closed and parked", c.name)
		}
		if r.Outcome != c.r.Outcome || r.Rev != c.r.Rev {
			t.Errorf("%s: a day file has changed what happened on the card", c.name)
		}
		if again, more := SettleDay(r, c.w); more && again.Record.Phase == r.Phase && again.Record.AckState == r.AckState {
			t.Errorf("%s: twice the same changes again", c.name)
		}
	}
}
