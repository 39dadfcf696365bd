package topup

import (
	"bytes"
	"slices"
)

// Answer is what 80 52 said in this very card session.
type Answer int

// The answers. NoAnswer covers not sent, lost, empty and unknown status.
const (
	NoAnswer  Answer = iota
	Committed        // 9000 or 61xx
	Refused          // 9302, 6985, 6901, 6988: still to be confirmed by 80 50
)

// LogState says how far a purse's log was read.
type LogState int

// The states of a log reading. LogUnread: the transport broke, the card may
// yet tell. LogRefused: the card itself will not give its log. LogFull: every
// place is used. LogRoom: a free place was seen.
const (
	LogUnread LogState = iota
	LogRefused
	LogFull
	LogRoom
)

// PurseEvidence is what a purse told, in the order it must be asked: log and
// proof first (reading them changes nothing), the sequence last, since 80 50
// erases the proof.
type PurseEvidence struct {
	Answer  Answer
	Log     []LogRecord // newest first
	State   LogState
	Seq     uint16 // online sequence as 80 50 tells it
	SeqRead bool
	// TAC is what 80 5A gave for the attempt's sequence, upper hex. Another
	// terminal's load at the same sequence has one too, so only the platform,
	// which can check it, may conclude from it.
	TAC string
}

// ImageEvidence is what a memory card told. Content nil: it could not be read.
type ImageEvidence struct {
	Content []byte
	// Here: the record's first changing command was sent in this very card
	// session, so nobody else can have had the card or the order since.
	Here bool
	// Holder says what 6006 told about the order: still ours or not. It is
	// asked only after a NeedsHolder verdict.
	Holder Holder
}

// Holder is the answer of 6006 to "is the order still ours to write".
type Holder int

// The holders.
const (
	HolderUnasked Holder = iota
	HolderOurs
	HolderNotOurs
)

// Evidence is what one observation of the card gave; exactly the half of the
// record's kind is set. None set means that nothing could be read.
type Evidence struct {
	Purse *PurseEvidence
	Image *ImageEvidence
}

// Judgement is what an observation amounts to.
type Judgement string

// The judgements. Settled: the record has its outcome, nothing to decide.
// NeedsSequence: ask 80 50 and decide again. NeedsHolder: ask 6006 and decide
// again. RollForward: write the rest of the stored plan, read back, decide.
const (
	Settled       Judgement = "settled"
	IsWritten     Judgement = "written"
	IsNotWritten  Judgement = "notWritten"
	IsUnknown     Judgement = "unknown"
	NeedsSequence Judgement = "needsSequence"
	NeedsHolder   Judgement = "needsHolder"
	RollForward   Judgement = "rollForward"
)

// Verdict is the decision over a record and an observation.
type Verdict struct {
	Judgement Judgement
	Basis     Basis
	// Manual: the card has spoken and reading it again would not help.
	Manual bool
	// Done is the number of plan bytes already on the card (RollForward).
	Done int
	// Record is our own log record, when it was found.
	Record *LogRecord
	Why    string // for people and field failReason; ASCII, no card data
}

// Decide tells what an observation of its own card means for r. It never
// looks at the balance. It is total and pure; it does not change r.
func Decide(r Record, e Evidence) Verdict {
	switch r.Phase {
	case Intent:
		if r.Salvaged {
			return Verdict{Judgement: IsUnknown, Manual: true, Basis: ByJournal, Why: "salvaged record proves nothing"}
		}
		return Verdict{Judgement: IsNotWritten, Basis: ByJournal, Why: "no changing command was sent"}
	case Writing, Unknown:
	default:
		return Verdict{Judgement: Settled}
	}
	switch {
	case r.Kind == Load && r.Load != nil:
		if e.Purse == nil {
			return Verdict{Judgement: IsUnknown, Why: "card not read"}
		}
		return decidePurse(*r.Load, *e.Purse)
	case r.Kind == Image && r.Image != nil:
		if e.Image == nil || e.Image.Content == nil {
			return Verdict{Judgement: IsUnknown, Why: "card not read"}
		}
		if r.Image.Plan == nil {
			return Verdict{Judgement: IsUnknown, Why: "plan is sealed"}
		}
		return decideImage(r, *r.Image.Plan, *e.Image)
	default:
		return Verdict{Judgement: IsUnknown, Manual: true, Why: "record without a plan"}
	}
}

// decidePurse: a card commits at most one load per online sequence.
func decidePurse(p LoadPlan, e PurseEvidence) Verdict {
	if e.Answer == Committed {
		return Verdict{Judgement: IsWritten, Basis: ByAnswer, Why: "card confirmed the load"}
	}
	newer, reaches := newerThan(e, p)
	for i := range newer {
		if p.wrote(newer[i]) {
			return Verdict{Judgement: IsWritten, Basis: ByLog, Record: &newer[i], Why: "own record in the card's log"}
		}
	}
	if !e.SeqRead {
		return Verdict{Judgement: NeedsSequence, Why: "sequence not read"}
	}
	switch ahead := e.Seq - p.Seq; { // modulo 65536, as the card counts
	case ahead == 0:
		return Verdict{Judgement: IsNotWritten, Basis: ByAnswer, Why: "online sequence unchanged"}
	case ahead >= 1<<15:
		return Verdict{Judgement: IsUnknown, Manual: true, Why: "online sequence went back"}
	}
	basis := ByLog
	if e.TAC != "" {
		basis = ByProof
	}
	switch {
	case e.State == LogUnread:
		return Verdict{Judgement: IsUnknown, Basis: basis, Why: "sequence used, log not read"}
	case !reaches:
		return Verdict{Judgement: IsUnknown, Manual: true, Basis: basis, Why: "sequence used, log does not reach back"}
	}
	if usedByAnother(newer, e.Seq, p) {
		return Verdict{Judgement: IsNotWritten, Basis: ByLog, Why: "sequence used by another terminal"}
	}
	// The sequence is gone and no record owns it: the card did not keep its
	// books, so it cannot clear us either.
	return Verdict{Judgement: IsUnknown, Manual: true, Basis: basis, Why: "sequence used, no record of it"}
}

// newerThan returns the log records written after the attempt began, and
// whether the log is certain to show all of them: it still holds the record
// that was newest then, or it was empty then and still has a free place.
func newerThan(e PurseEvidence, p LoadPlan) (newer []LogRecord, reaches bool) {
	if p.Newest != nil {
		for i, l := range e.Log {
			if l == *p.Newest {
				return e.Log[:i], true
			}
		}
		return e.Log, false
	}
	return e.Log, p.LogSeen && e.State == LogRoom
}

// usedByAnother reports whether newer, none of it ours, shows the load that
// used the attempt's sequence. Cards differ in whether they log the sequence
// before or after it was counted up; which this one does is seen from its
// newest load, whose successor seq is. Without that a later load could pass for
// the one at our sequence, and ours, made but never logged, for not written.
func usedByAnother(newer []LogRecord, seq uint16, p LoadPlan) bool {
	loads := slices.DeleteFunc(slices.Clone(newer), func(l LogRecord) bool { return l.Type != p.Type })
	if len(loads) == 0 {
		return false
	}
	at := p.Seq
	switch loads[0].Seq {
	case seq - 1: // logged before it is counted up
	case seq: // after
		at++
	default: // the newest load was not logged
		return false
	}
	return slices.ContainsFunc(loads, func(l LogRecord) bool { return l.Seq == at })
}

// wrote reports whether l is the record of this very load: our terminal,
// amount, date and time, and the attempt's sequence. Cards differ in whether
// they log the sequence before or after it was counted up.
func (p LoadPlan) wrote(l LogRecord) bool {
	return l.Type == p.Type && l.Terminal == p.Terminal &&
		l.Date == p.HostDate && l.Time == p.HostTime && l.Amount == p.Amount &&
		(l.Seq == p.Seq || l.Seq == p.Seq+1)
}

func decideImage(r Record, p Plan, e ImageEvidence) Verdict {
	if len(e.Content) != len(p.Target) {
		return Verdict{Judgement: IsUnknown, Manual: true, Why: "content of another size"}
	}
	if !p.Valid() {
		return Verdict{Judgement: IsUnknown, Manual: true, Why: "stored plan is damaged"}
	}
	commit := p.Commit
	// The commit field is written last, so its target value means that all the
	// rest was written; the meter may since have taken the gas.
	if bytes.Equal(commit.of(e.Content), commit.of(p.Target)) {
		return Verdict{Judgement: IsWritten, Basis: ByImage, Why: "count is the order's"}
	}
	if bytes.Equal(e.Content, p.Before) {
		return Verdict{Judgement: IsNotWritten, Basis: ByImage, Why: "content unchanged"}
	}
	done, ok := p.prefix(e.Content)
	if !ok {
		return Verdict{Judgement: IsUnknown, Manual: true, Basis: ByImage, Why: "content is neither before, target nor our prefix"}
	}
	// Once Unknown is on record the platform may have given the order to
	// somebody else: ask before a byte is added.
	if r.Phase == Writing && e.Here {
		return Verdict{Judgement: RollForward, Basis: ByImage, Done: done, Why: "torn inside our own plan"}
	}
	switch e.Holder {
	case HolderOurs:
		return Verdict{Judgement: RollForward, Basis: ByImage, Done: done, Why: "torn inside our own plan, order still ours"}
	case HolderNotOurs:
		return Verdict{Judgement: IsUnknown, Manual: true, Basis: ByImage, Why: "torn inside our own plan, order no longer ours"}
	default:
		return Verdict{Judgement: NeedsHolder, Basis: ByImage, Done: done, Why: "torn inside our own plan"}
	}
}
