package topup

// DayWord is what the platform's answer to a day file says under a record's own
// number, with the record's own order, card, amount and gas.
type DayWord struct {
	State State // S, R or P
	// Gone: so long after the outcome the card is no longer waited for.
	Gone bool
}

// SettleDay tells what the platform's day file means for r. False: nothing, and
// r is not to be stored again.
//
// A day file is older than the answers to reports and questions, so it settles
// only what those have left open and contradicts nobody: a difference is for a
// person, who is told by the comparison. Of S and R under one number neither
// ever becomes the other again (clauses 3 and 5), so its age does no harm.
//
// An Unknown the platform has booked is closed by that, as by 6006. One it has
// given back stays open until its card has been read once; a card that never
// comes back leaves it to the day file, if the platform's own answer has said
// the same.
func SettleDay(r Record, w DayWord) (Next, bool) {
	if r.Conflict != nil || r.Rev == 0 || r.AckRev != r.Rev {
		return Next{Record: r}, false // its own report is answered first
	}
	if r.Phase == Unknown {
		switch {
		case w.State == SettledState:
			r.AckState = SettledState
		case w.State != GivenBack:
			return Next{Record: r}, false
		case r.AckState != GivenBack:
			r.AckState = GivenBack
			return Next{Record: r}, true
		case !w.Gone || r.Manual:
			return Next{Record: r}, false
		}
		r.Reconciled = true
		n := closed(r)
		n.Lazy = false
		if w.State == GivenBack || r.Basis != ByProof && r.Basis != ByLog {
			n.Alarms = []Alarm{AlarmUnproven}
		}
		return n, true
	}
	if r.Phase != Closed || r.Reconciled || !agrees(r, w.State) {
		return Next{Record: r}, false
	}
	r.Awaiting, r.Reconciled = false, true
	return Next{Record: r}, true
}

// agrees reports whether s is what a closed record expects of its platform.
func agrees(r Record, s State) bool {
	switch r.Outcome {
	case OutcomeWritten:
		return s == SettledState
	case OutcomeNotWritten:
		return s == GivenBack
	case OutcomeUnknown:
		return s == GivenBack && r.AckState == GivenBack || s == SettledState && r.AckState != GivenBack
	}
	return false
}
