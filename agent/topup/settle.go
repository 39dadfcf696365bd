package topup

// Message is what goes to the platform about a record.
type Message string

// The messages: 6002 result report, 6003 give-back, 6006 order query.
const (
	Report  Message = "report"
	Reverse Message = "reverse"
	Query   Message = "query"
)

// State is what the platform says of an order.
type State string

// The states of 6002, 6003 and 6006. Authorised is answered by 6006 only.
// UnknownOrder stands for business code 46001.
const (
	SettledState State = "S"
	GivenBack    State = "R"
	Pending      State = "P"
	Authorised   State = "A"
	UnknownOrder State = "?"
)

// Reply is an acknowledged answer to a Message.
type Reply struct {
	State State
	// Ours: 6006 names our number as the holder.
	Ours bool
}

// Send asks for a message to be put into the outbox, due After seconds.
type Send struct {
	Message Message
	After   int
}

// Alarm names an event a person must hear of.
type Alarm string

// The alarms Settle raises; agent/audit has their words.
const (
	AlarmConflict     Alarm = "topup.conflict"
	AlarmUnknownOrder Alarm = "topup.order_unknown"
	AlarmUnproven     Alarm = "topup.settled_unproven"
	AlarmManual       Alarm = "topup.card_cannot_tell"
	AlarmOverdue      Alarm = "topup.awaiting_overdue"
)

// Next is the consequence of a reply. It happens in the transaction that
// removes the answered message from the outbox.
type Next struct {
	Record Record
	Send   []Send
	// Park keeps the answered message in the outbox with this reason.
	Park   string
	Alarms []Alarm
	// Lazy: losing this consequence in a crash costs one repeated message and
	// nothing else, so it may ride on the next commit.
	Lazy bool
}

// Delays of 6006 in seconds.
const (
	QueryDaily   = 24 * 3600
	QueryMinimum = 600
)

// Conclude records an outcome with its first report, or a revision of it. It
// returns the record unchanged and false when v settles nothing new.
//
// A revision is made only when it tells the platform something: the card has
// cleared or convicted the attempt, or has been read and cannot tell (all its
// evidence goes along). An answered give-back that the card confirms makes none.
func Conclude(r Record, v Verdict) (Record, bool) {
	var out Outcome
	switch v.Judgement {
	case IsWritten:
		out = OutcomeWritten
	case IsNotWritten:
		out = OutcomeNotWritten
	case IsUnknown:
		out = OutcomeUnknown
	default:
		return r, false
	}
	if r.Phase == Unknown && out == OutcomeUnknown && (r.Manual || !v.Manual) {
		return r, false
	}
	before := r.Phase
	r.Outcome, r.Basis, r.FailReason = out, v.Basis, v.Why
	r.Manual = v.Manual && out == OutcomeUnknown
	r.Parked = ""
	if r.Manual {
		r.Parked = "card cannot tell"
	}
	r.NoAttempt = before == Intent && v.Basis == ByJournal && out == OutcomeNotWritten
	switch out {
	case OutcomeWritten:
		r.Phase, r.FailReason = Written, ""
		if v.Basis == ByLog {
			// A proof stored by an earlier look may be of a later load: cards
			// differ in the sequence they keep it under. The log needs no other
			// witness, and a wrong one has the report refused for ever.
			r.Observed.TAC = ""
		}
	case OutcomeNotWritten:
		r.Phase = NotWritten
		if r.Reason == "" {
			r.Reason = ReasonNotWritten
		}
		if before == Unknown && r.AckState == GivenBack {
			// The platform gave the order back on our "unknown" and the card
			// agrees: nothing is left to say.
			r.Phase = Closed
			return r, true
		}
	default:
		r.Phase = Unknown
	}
	r.Rev++
	return r, true
}

// Drop closes an attempt that the platform cannot be holding: its 4006 was
// never sent, or the only one ever sent under its number was definitely
// refused. Nothing is reported; the audit log has the story.
func Drop(r Record, code, why string) Record {
	r.Phase, r.Outcome, r.Basis, r.NoAttempt = Closed, OutcomeNotWritten, ByJournal, true
	r.FailCode, r.FailReason = code, why
	return r
}

// Settle tells what the platform's reply to message m, sent for revision rev
// of r, means. r must be the record as stored in the same transaction; a
// reply to an older revision settles nothing and must not be passed in.
func Settle(r Record, m Message, rev int, a Reply) Next {
	switch m {
	case Report:
		r.AckRev, r.AckState = rev, a.State
		return settleReport(r, rev, a)
	case Reverse:
		return settleReverse(r, rev, a)
	default:
		return settleQuery(r, rev, a)
	}
}

func settleReport(r Record, rev int, a Reply) Next {
	switch r.Outcome {
	case OutcomeWritten:
		switch a.State {
		case SettledState:
			return closed(r)
		case GivenBack:
			return conflict(r, Report, rev, a, 5)
		case Pending:
			return await(r)
		}
	case OutcomeNotWritten:
		switch a.State {
		case SettledState:
			return conflict(r, Report, rev, a, 2)
		case GivenBack:
			return closed(r)
		case Pending:
			if r.GiveBack() {
				return Next{Record: r, Send: []Send{{Message: Reverse}}}
			}
			// A memory card's word: the same count may be loaded again on this
			// card, money does not move.
			return await(r)
		case UnknownOrder:
			return askLater(r)
		}
	case OutcomeUnknown:
		switch a.State {
		case SettledState:
			n := closed(r)
			n.Lazy = false
			if r.Basis != ByProof && r.Basis != ByLog {
				n.Alarms = []Alarm{AlarmUnproven}
			}
			return n
		case GivenBack:
			return Next{Record: r} // open until its card has been read once
		case Pending:
			return Next{Record: r, Send: []Send{{Query, QueryDaily}}}
		}
	}
	return park(r, "platform does not know the order", AlarmUnknownOrder)
}

func settleReverse(r Record, rev int, a Reply) Next {
	switch a.State {
	case SettledState:
		return conflict(r, Reverse, rev, a, 2)
	case GivenBack:
		return closed(r)
	case Pending:
		return await(r)
	default:
		return askLater(r)
	}
}

func settleQuery(r Record, rev int, a Reply) Next {
	oursOpen := a.Ours && (a.State == Authorised || a.State == Pending)
	switch {
	case r.Phase == Unknown:
		return queryUnknown(r, a)
	case r.Outcome == OutcomeWritten && r.Awaiting:
		switch a.State {
		case SettledState:
			r.Awaiting = false
			return Next{Record: r}
		case GivenBack:
			return conflict(r, Query, rev, a, 5)
		}
		return Next{Record: r, Send: []Send{{Query, QueryDaily}}}
	case r.Outcome == OutcomeNotWritten && r.Phase == NotWritten:
		// The platform did not know the number when it was told "not written".
		switch {
		case a.State == SettledState && a.Ours:
			return conflict(r, Query, rev, a, 2)
		case oursOpen:
			return Next{Record: r, Send: []Send{{Message: Report}}}
		}
		return closed(r)
	case r.Outcome == OutcomeNotWritten && r.Awaiting:
		switch {
		case a.State == SettledState && a.Ours:
			return conflict(r, Query, rev, a, 2)
		case oursOpen:
			return Next{Record: r, Send: []Send{{Query, QueryDaily}}}
		}
		r.Awaiting = false
		return Next{Record: r}
	}
	return Next{Record: r, Lazy: true} // an answer nobody waits for any more
}

// queryUnknown: 6006 may settle an Unknown without its card.
func queryUnknown(r Record, a Reply) Next {
	switch {
	case a.State == SettledState && a.Ours:
		n := closed(r)
		n.Lazy = false
		if r.Basis != ByProof && r.Basis != ByLog {
			n.Alarms = []Alarm{AlarmUnproven}
		}
		return n
	case a.State == SettledState, a.State == GivenBack:
		r.AckState = GivenBack // not under our number: the card will tell the rest
		return Next{Record: r}
	}
	return Next{Record: r, Send: []Send{{Query, QueryDaily}}}
}

func closed(r Record) Next {
	r.Phase, r.Awaiting, r.Parked = Closed, false, ""
	return Next{Record: r, Lazy: true}
}

func await(r Record) Next {
	r.Phase, r.Awaiting = Closed, true
	return Next{Record: r, Send: []Send{{Query, QueryDaily}}}
}

// askLater: a platform without fences may still execute our 4006 after its
// answer to the report, so the order stays open until that can no longer be.
func askLater(r Record) Next {
	if r.Asked {
		return closed(r)
	}
	r.Asked = true
	return Next{Record: r, Send: []Send{{Query, max(QueryMinimum, r.AuthExpire)}}}
}

func conflict(r Record, m Message, rev int, a Reply, clause int) Next {
	r.Conflict = &Conflict{Message: m, Rev: rev, Said: r.ResultCode(), State: a.State, Clause: clause}
	return park(r, "platform contradicts the card", AlarmConflict)
}

func park(r Record, reason string, alarm Alarm) Next {
	r.Parked = reason
	return Next{Record: r, Park: reason, Alarms: []Alarm{alarm}}
}
