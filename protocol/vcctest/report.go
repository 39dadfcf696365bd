package vcctest

import (
	"fmt"
	"strings"
)

// content is what a report of the same revision must repeat. Times of delivery
// may differ.
func (q *reportRequest) content() string {
	return fmt.Sprintf("%s|%s|%s|%s|%d|%d|%d|%s|%s|%s", q.OrderNo, q.TerminalNo, q.CardNo, q.Kind, q.Amount, q.GasVolume,
		*q.Result, q.Evidence, q.NoAttempt, strings.ToUpper(q.TAC))
}

func (q *reportRequest) check() *refusal {
	var four [4]byte
	return check(
		field{"termTransNo", transForm.MatchString(q.TransNo)},
		field{"rev", q.Rev >= 1},
		field{"orderNo", nameForm.MatchString(q.OrderNo)},
		field{"deviceId", nameForm.MatchString(q.DeviceID)},
		field{"terminalNo", terminalForm.MatchString(q.TerminalNo)},
		field{"cardNo", nameForm.MatchString(q.CardNo)},
		field{"kind", oneOf(q.Kind, KindLoad, KindImage)},
		field{"result", q.Result != nil && *q.Result >= 0 && *q.Result <= 3},
		field{"evidence", oneOf(q.Evidence, "answer", "proof", "log", "image", "journal", "operator")},
		field{"noAttempt", oneOf(q.NoAttempt, "Y", "N")},
		field{"tac", q.TAC == "" || unhex(four[:], q.TAC)},
		field{"writeTime", q.WriteTime == "" || stampForm.MatchString(q.WriteTime)},
	)
}

// report is 6002.
func (b *books) report(q *reportRequest) (any, *refusal) {
	if r := q.check(); r != nil {
		return nil, r
	}
	rep := Report{TransNo: q.TransNo, TerminalNo: q.TerminalNo, DeviceID: q.DeviceID, Rev: q.Rev, Result: *q.Result, Evidence: q.Evidence}
	state, r := b.decide(q, &rep)
	rep.Answer = state
	if r != nil {
		rep.Answer = r.code
	}
	b.addReport(q.OrderNo, rep)
	if r != nil {
		return nil, r
	}
	dup := "N"
	if rep.Duplicate {
		dup = "Y"
	}
	return &reportAnswer{q.TransNo, q.OrderNo, q.Rev, state, dup}, nil
}

func (b *books) decide(q *reportRequest, rep *Report) (string, *refusal) {
	t := b.known(q.TransNo)
	if t == nil {
		if *q.Result != 1 {
			return "", refuse(codeOrder, "number unknown")
		}
		if r := b.fence(q.TransNo, q.OrderNo, q.CardNo); r != nil {
			return "", r
		}
		if t = b.known(q.TransNo); t == nil {
			return "R", nil // answered, and forgotten
		}
	}
	if !t.fence && (t.orderNo != q.OrderNo || t.cardNo != q.CardNo || t.kind != q.Kind || t.amount != q.Amount || t.volume != q.GasVolume) ||
		t.fence && t.orderNo != q.OrderNo {
		return "", refuse(codeContent, "number was used with other content")
	}
	if q.Rev <= t.rev {
		if q.Rev == t.rev && q.content() != t.digest {
			return "", refuse(codeContent, "revision was reported with other content")
		}
		rep.Duplicate = true
		return t.letter(), nil
	}
	written := *q.Result == 0 || *q.Result == 3
	proven := b.proves(t, q)
	if written && q.TAC != "" && !b.tacRight(t, q) {
		return "", refuse(codeTAC, "TAC wrong") // not taken into the books: the same revision may come again
	}
	if was := t.result; t.state == TransOpen && (written && was == 1 || *q.Result == 1 && (was == 0 || was == 3)) {
		b.conflict(0, t.orderNo, t.no, fmt.Sprintf("kiosk reported %d, then %d", was, *q.Result))
	}
	t.rev, t.result, t.evidence, t.digest = q.Rev, *q.Result, q.Evidence, q.content()
	t.written = q.WriteTime

	switch {
	case t.state == TransReturned:
		if written {
			b.conflict(0, t.orderNo, t.no, "reported written after it was given back: "+t.why)
		}
	case t.state == TransSettled:
		if *q.Result == 1 {
			b.conflict(0, t.orderNo, t.no, "reported not written after it was settled by "+t.why)
		}
		if c := b.cards[t.cardNo]; *q.Result == 0 && t.kind == KindImage && t.answer.Image.PSCNew != "" && c != nil {
			c.changed = true
		}
	case written:
		if b.believes(t, q) {
			b.settle(t, q.Evidence)
		}
	case *q.Result == 2:
		if proven != "" {
			b.settle(t, proven)
		}
	case b.o.PendNotWritten && q.Evidence != "operator":
	case t.kind == KindImage && q.Evidence != "journal" && q.Evidence != "operator":
		// Clause 6: a memory card's own word never gives an order back.
	default:
		b.giveBack(t, "reported not written by "+q.Evidence)
	}
	return t.letter(), nil
}

// proves names the card evidence in a report that shows the load, or "".
func (b *books) proves(t *trans, q *reportRequest) string {
	if t.fence || t.kind != KindLoad {
		return ""
	}
	if q.TAC != "" && b.tacRight(t, q) {
		return "tac"
	}
	if q.LogRecord != nil && b.record(t, []LogEntry{*q.LogRecord}) {
		return "log"
	}
	return ""
}

// believes: a "written" settles unless the evidence it brings speaks against it.
func (b *books) believes(t *trans, q *reportRequest) bool {
	if t.kind == KindLoad {
		return q.TAC != "" || q.LogRecord == nil || b.record(t, []LogEntry{*q.LogRecord})
	}
	if q.CardDataAfter == "" {
		return true
	}
	content, ok := image(q.CardDataAfter)
	return ok && int(b.o.Layout.Count.get(content)) == t.count
}

// tacRight checks a TAC against every content given out under this number.
func (b *books) tacRight(t *trans, q *reportRequest) bool {
	c, o := b.cards[t.cardNo], b.orders[t.orderNo]
	if t.fence || t.kind != KindLoad || c == nil || o == nil {
		return t.fence // nothing to check it against
	}
	_, dtk, ok := b.keys(c)
	if !ok {
		return false
	}
	for _, is := range o.issued {
		l := t.load
		if is.TransNo != t.no || !unhex(l.Date[:], is.HostDate) || !unhex(l.Time[:], is.HostTime) {
			continue
		}
		tac := l.tac(dtk)
		if strings.EqualFold(upperHex(tac[:]), q.TAC) {
			return true
		}
	}
	return false
}

// fence remembers a number given back before it was seen (contract clause 3).
func (b *books) fence(transNo, orderNo, cardNo string) *refusal {
	if b.lapses.NoFences || b.lapses.ForgetFences {
		b.unseen[transNo] = true
		if b.lapses.NoFences {
			return refuse(codeOrder, "number unknown")
		}
		return nil
	}
	t := &trans{
		no: transNo, orderNo: orderNo, cardNo: cardNo, state: TransReturned, fence: true,
		why: "given back before it was seen", result: -1, at: b.now,
	}
	if old := b.trans[transNo]; old == nil || old.orderNo != orderNo {
		if o := b.orders[orderNo]; o != nil {
			o.trans = append(o.trans, transNo)
		}
	}
	b.trans[transNo] = t
	return nil
}

// reverse is 6003.
func (b *books) reverse(q *reverseRequest) (any, *refusal) {
	if r := check(
		field{"termTransNo", transForm.MatchString(q.TransNo)},
		field{"orderNo", nameForm.MatchString(q.OrderNo)},
		field{"deviceId", nameForm.MatchString(q.DeviceID)},
		field{"reason", oneOf(q.Reason, "01", "02", "03", "04", "05", "06")},
		field{"time", stampForm.MatchString(q.Time)},
	); r != nil {
		return nil, r
	}
	rep := Report{TransNo: q.TransNo, DeviceID: q.DeviceID, Result: -1, Reason: q.Reason}
	state, r := b.reversed(q)
	rep.Answer = state
	if r != nil {
		rep.Answer = r.code
	}
	b.addReport(q.OrderNo, rep)
	if r != nil {
		return nil, r
	}
	return &reverseAnswer{q.TransNo, q.OrderNo, state}, nil
}

func (b *books) reversed(q *reverseRequest) (string, *refusal) {
	t := b.known(q.TransNo)
	if t == nil {
		if r := b.fence(q.TransNo, q.OrderNo, ""); r != nil {
			return "", r
		}
		return "R", nil
	}
	if t.orderNo != q.OrderNo {
		return "", refuse(codeContent, "number was used with another order")
	}
	operator := q.Reason == "06"
	switch {
	case t.state == TransReturned:
	case t.state == TransSettled:
		b.conflict(0, t.orderNo, t.no, "give-back asked for after it was settled by "+t.why)
	case t.result == 0 || t.result == 3 || t.result == 2 && !operator:
		// Reported written or unknown: no proof that it may go back.
	case t.kind == KindImage && !operator && t.evidence != "journal" && (q.Reason == "01" || t.result == 1):
		// Clause 6: a memory card proves nothing.
	default:
		b.giveBack(t, "reversed, reason "+q.Reason)
	}
	return t.letter(), nil
}
