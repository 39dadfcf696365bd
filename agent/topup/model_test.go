package topup

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The model: two kiosks, one card, two orders, a platform that keeps the
// contract, cuts and lost answers at every step. Every world that can be
// reached is visited once, judged, and asked whether it can still come to a
// good end. The rules asked are the real ones. This file has what the purse's
// world and the memory card's world share.

// modelMost is the room for attempts in a world; how many are used is size.
const modelMost = 3

// size bounds a run.
type size struct {
	tries  int8 // attempts at both kiosks together
	moves  int8 // of the card from one kiosk to the other
	visits int8 // of the card to the meter
	swaps  int8 // of the card for its copy
}

// Places in these lists make a world a small value without pointers.
var (
	phaseList   = []Phase{"", Intent, Writing, Written, NotWritten, Unknown, Closed}
	outcomeList = []Outcome{NoOutcome, OutcomeWritten, OutcomeNotWritten, OutcomeUnknown}
	basisList   = []Basis{"", ByAnswer, ByProof, ByLog, ByImage, ByJournal}
	stateList   = []State{"", SettledState, GivenBack, Pending, Authorised, UnknownOrder}
	messageList = []Message{"", Report, Reverse, Query}
)

func place[T comparable](list []T, v T) int8 { return int8(slices.Index(list, v)) }

const (
	mNone int8 = iota
	mReport
	mReverse
	mQuery
)

// attempt is a Record without what the rules do not look at, and the place
// its messages have reached.
type attempt struct {
	used                                bool
	noAttempt, manual, awaiting, asked  bool
	conflict, parked                    bool
	kiosk, order                        int8
	phase, outcome, basis, ack, message int8
	sent, reply                         int8 // interface 4006; reply: 1 granted, 2 refused
	// The platform's memory: this number was given back; it has reported "not
	// written" by the card's content.
	fenced, heard bool

	// Purse: the sequence of 80 50, the newest log record then, and the stored
	// TAC: 1 of this very load, 2 of somebody else's.
	seq, newest, tac, balance int8
	logSeen                   bool
	// Memory card: its content when it was authorised.
	before content
}

// common is the half of a world both kinds of card share. Holder and settled
// are attempt+1, 0 for none.
type common struct {
	tries [modelMost]attempt
	live  [2]int8 // attempt+1 a kiosk is going on with
	where int8    // the kiosk that has the card
	moves int8

	holder, settled [2]int8
	// doubted: a number of the order has reported "not written" by a memory
	// card's content, so no journal of a later one gives it back.
	doubted   [2]bool
	challenge int8 // attempt+1 that has the newest one

	// Ghosts, which nobody in the world can see: how often an order got onto
	// the card, and by whom.
	loaded, by [2]int8
}

func (a *attempt) keep(r Record) {
	a.phase, a.outcome, a.basis = place(phaseList, r.Phase), place(outcomeList, r.Outcome), place(basisList, r.Basis)
	a.noAttempt, a.manual, a.awaiting, a.asked = r.NoAttempt, r.Manual, r.Awaiting, r.Asked
	a.ack, a.conflict = place(stateList, r.AckState), r.Conflict != nil
	if r.Observed.TAC == "" {
		a.tac = 0
	}
}

func (a *attempt) is(p Phase) bool { return phaseList[a.phase] == p }

// record is the attempt as the journal would show it, without its plan.
func (a *attempt) record(cardType string) Record {
	r := Record{
		Phase: phaseList[a.phase], Card: Card{Type: cardType}, Outcome: outcomeList[a.outcome], Basis: basisList[a.basis],
		NoAttempt: a.noAttempt, Manual: a.manual, Awaiting: a.awaiting, Asked: a.asked, AckState: stateList[a.ack],
	}
	if a.conflict {
		r.Conflict = &Conflict{}
	}
	if a.tac != 0 {
		r.Observed.TAC = [...]string{"", "OURS", "THEIRS"}[a.tac]
	}
	return r
}

// open reports whether the attempt waits for its journal or its card.
func (a *attempt) open() bool {
	return a.used && (a.is(Intent) || a.record("").NeedsCard() && !a.manual)
}

// conclude stores what a verdict makes of an attempt, and its report.
func (c *common) conclude(i int8, r Record, v Verdict) {
	next, changed := Conclude(r, v)
	if !changed {
		return
	}
	a := &c.tries[i]
	a.keep(next)
	a.message = mReport
	if next.Phase == Closed {
		a.message = mNone
	}
	if c.live[a.kiosk] == i+1 {
		c.live[a.kiosk] = 0
	}
}

func (c *common) drop(i int8, r Record) {
	c.tries[i].keep(Drop(r, "46003", "refused"))
	c.live[c.tries[i].kiosk] = 0
}

// answered carries out what a reply to the waiting message means.
func (c *common) answered(i int8, r Record, reply Reply) {
	a := &c.tries[i]
	sent := a.message
	n := Settle(r, messageList[sent], 1, reply)
	a.keep(n.Record)
	a.parked, a.message = n.Park != "", mNone
	if a.parked {
		a.message = sent
	} else if len(n.Send) > 0 {
		a.message = place(messageList, n.Send[0].Message)
	}
}

// free is the first unused attempt, -1 if order o may not be begun at kiosk k.
func (c *common) free(s size, k, o int8, cardType string) int8 {
	n := int8(-1)
	for i := s.tries - 1; i >= 0; i-- {
		a := &c.tries[i]
		if !a.used {
			n = i
			continue
		}
		if r := a.record(cardType); a.kiosk == k && (r.BlocksCard() || a.order == o && r.BlocksOrder()) {
			return -1
		}
	}
	return n
}

// hear is the platform receiving the waiting message of attempt i. Firm: it
// gives an order back at once where it may also wait for 6003.
func (c *common) hear(i int8, firm bool) Reply {
	a := &c.tries[i]
	o, me := a.order, i+1
	mine := c.settled[o] == me
	switch a.message {
	case mReport:
		switch {
		case mine:
			return Reply{State: SettledState}
		case a.fenced:
			return Reply{State: GivenBack}
		case outcomeList[a.outcome] == OutcomeWritten:
			if c.holder[o] != me {
				return Reply{State: UnknownOrder}
			}
			c.settled[o] = me
			return Reply{State: SettledState}
		case outcomeList[a.outcome] == OutcomeUnknown && a.tac == 1 && c.holder[o] == me:
			c.settled[o] = me // the TAC is right
			return Reply{State: SettledState}
		case c.holder[o] == me:
			if outcomeList[a.outcome] == OutcomeNotWritten {
				a.heard = basisList[a.basis] == ByImage // clause 6: never R
				if firm && !a.heard && !c.doubted[o] {
					c.giveBack(i)
					return Reply{State: GivenBack}
				}
			}
			return Reply{State: Pending}
		case outcomeList[a.outcome] == OutcomeNotWritten:
			a.fenced = true // clause 3
			return Reply{State: GivenBack}
		}
	case mReverse:
		if mine {
			return Reply{State: SettledState}
		}
		if c.doubted[o] {
			return Reply{State: Pending}
		}
		c.giveBack(i)
		return Reply{State: GivenBack}
	case mQuery:
		switch {
		case c.settled[o] != 0:
			return Reply{State: SettledState, Ours: mine}
		case a.fenced:
			return Reply{State: GivenBack}
		case c.holder[o] != 0:
			return Reply{State: Authorised, Ours: c.holder[o] == me}
		}
	}
	return Reply{State: UnknownOrder}
}

// day is the platform's day file telling of attempt i, false if it has nothing
// to say. Gone: the kiosk no longer waits for the card.
func (c *common) day(i int8, r Record, gone bool) bool {
	a := &c.tries[i]
	if a.message == mReport || a.parked || a.is(Intent) || a.is(Writing) {
		return false
	}
	w := DayWord{State: Pending, Gone: gone}
	switch o := a.order; {
	case c.settled[o] == i+1:
		w.State = SettledState
	case a.fenced, c.settled[o] != 0:
		w.State = GivenBack
	case c.holder[o] != i+1:
		return false
	}
	r.Rev, r.AckRev = 1, 1
	n, changed := SettleDay(r, w)
	if !changed {
		return false
	}
	a.keep(n.Record)
	if a.message == mQuery && a.is(Closed) && !a.awaiting {
		a.message = mNone
	}
	return true
}

func (c *common) giveBack(i int8) {
	a := &c.tries[i]
	a.fenced = true
	if c.holder[a.order] == i+1 {
		c.holder[a.order] = 0
	}
}

// forget drops of the attempts what nothing can depend on any more.
func (c *common) forget() (challenged bool) {
	for i := range c.tries {
		a := &c.tries[i]
		live, newest := c.live[a.kiosk] == int8(i)+1, c.challenge == int8(i)+1
		if a.sent == 1 && !live && (a.reply != 0 || !newest) {
			a.reply = 2
		}
		challenged = challenged || newest && a.reply == 0 && (live || a.sent == 1)
		if ended := a.is(Closed) && a.message == mNone && !a.awaiting; ended || outcomeList[a.outcome] != OutcomeNotWritten {
			a.basis, a.asked, a.noAttempt, a.heard = 0, false, false, false
		}
		if !a.is(Unknown) || stateList[a.ack] != GivenBack {
			a.ack = 0
		}
		if !a.is(Intent) && !a.is(Writing) && !a.is(Unknown) {
			a.newest, a.logSeen, a.balance = 0, false, 0
			if !a.is(Written) {
				a.tac = 0
			}
		}
	}
	if !challenged {
		c.challenge = 0
	}
	return challenged
}

// judge holds money's invariants.
func (c *common) judge() string {
	for o := range c.loaded {
		if c.loaded[o] > 1 {
			return fmt.Sprintf("order %d is on the card twice", o)
		}
		if by := c.by[o]; by != 0 {
			a := &c.tries[by-1]
			switch {
			case a.fenced:
				return fmt.Sprintf("order %d was given back and is on the card", o)
			case c.settled[o] == 0 && a.message == mNone && !a.awaiting && !a.parked && !a.is(Writing) && !a.is(Unknown):
				return fmt.Sprintf("order %d is loaded and nobody will say so", o)
			}
		}
		if s := c.settled[o]; s != 0 && c.by[o] != s {
			return fmt.Sprintf("order %d is settled and not on the card", o)
		}
	}
	return c.contradiction()
}

func (c *common) contradiction() string {
	for i := range c.tries {
		if c.tries[i].conflict {
			return fmt.Sprintf("attempt %d contradicts a platform that keeps the contract", i)
		}
		if c.tries[i].is(Written) && c.tries[i].tac == 2 {
			return fmt.Sprintf("attempt %d is reported written with the proof of another load", i)
		}
	}
	return ""
}

// person reports whether somebody has been told to look at order o.
func (c *common) person(o int8) bool {
	return slices.ContainsFunc(c.tries[:], func(a attempt) bool {
		return a.used && a.order == o && (a.manual || a.parked) && a.is(Unknown)
	})
}

// unfinished tells what is left undone in a world that has come to rest.
func (c *common) unfinished() string {
	for i := range c.tries {
		a := &c.tries[i]
		switch {
		case !a.used || a.manual || a.parked:
		case !a.is(Closed):
			return fmt.Sprintf("attempt %d is neither closed nor with a person", i)
		case a.message == mReport || a.message == mReverse:
			return fmt.Sprintf("attempt %d is never acknowledged", i)
		}
	}
	return ""
}

// search visits every world that can be reached from the first ones.
type search[W comparable] struct {
	normal func(*W)       // drops what nothing can depend on any more
	judge  func(W) string // what is wrong with a world, "" if nothing
	step   func(W)        // visits every successor
	// onward is the next move of a world without faults, false at rest; rest
	// tells what such a world has left undone. Both nil: not asked.
	onward func(W) (W, bool)
	rest   func(W) string

	seen  map[W]struct{}
	good  map[W]struct{}
	todo  []W
	now   W
	wrong string
	short bool // no story of a violation
	// from is the way to each world, kept only to tell a violation's story.
	from  map[W]origin[W]
	found W
}

type origin[W comparable] struct {
	before W
	what   string
}

func (s *search[W]) visit(what string, w W) {
	if s.wrong != "" {
		return
	}
	s.normal(&w)
	if _, was := s.seen[w]; was {
		return
	}
	s.seen[w] = struct{}{}
	if s.from != nil {
		s.from[w] = origin[W]{s.now, what}
	}
	s.todo = append(s.todo, w)
	if s.wrong = s.judge(w); s.wrong == "" && s.onward != nil {
		s.wrong = s.ends(w)
	}
	s.found = w
}

// ends plays w on without faults until nothing moves any more.
func (s *search[W]) ends(w W) string {
	var way []W
	for range 100 {
		if _, known := s.good[w]; known {
			for _, v := range way {
				s.good[v] = struct{}{}
			}
			return ""
		}
		way = append(way, w)
		next, moved := s.onward(w)
		if !moved {
			if why := s.rest(w); why != "" {
				return "without faults too: " + why
			}
			s.good[w] = struct{}{}
			continue
		}
		s.normal(&next)
		if why := s.judge(next); why != "" {
			return "without faults: " + why
		}
		w = next
	}
	return "without faults too it never ends"
}

// say writes out what a step is; only a story wants it.
func (s *search[W]) say(format string, args ...any) string {
	if s.from == nil {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

func (s *search[W]) run(start ...W) {
	s.seen, s.good, s.todo, s.wrong = map[W]struct{}{}, map[W]struct{}{}, nil, ""
	for _, w := range start {
		s.visit("", w)
	}
	for len(s.todo) > 0 && s.wrong == "" {
		if s.from != nil { // breadth first: the shortest story
			s.now, s.todo = s.todo[0], s.todo[1:]
		} else {
			s.now = s.todo[len(s.todo)-1]
			s.todo = s.todo[:len(s.todo)-1]
		}
		s.step(s.now)
	}
}

// story is the shortest way to the violation found.
func (s *search[W]) story() string {
	var steps []string
	for w := s.found; ; {
		o, ok := s.from[w]
		if !ok || o.what == "" {
			break
		}
		steps = append(steps, o.what)
		w = o.before
	}
	slices.Reverse(steps)
	return strings.Join(steps, "; ")
}

// result is what one exploration found.
type result struct {
	name      string
	states    int
	ends      int // worlds played to their end without faults
	cells     map[cell]int
	violation string
}

// explore runs a model; a violation is told with its shortest story.
func explore[W comparable](name string, s *search[W], cells map[cell]int, start ...W) result {
	s.run(start...)
	r := result{name: name, states: len(s.seen), ends: len(s.good), cells: maps.Clone(cells)}
	if s.wrong == "" {
		return r
	}
	if os.Getenv("MUTANT") == "" && s.from == nil && !s.short {
		s.from = map[W]origin[W]{}
		s.run(start...)
	}
	r.violation = fmt.Sprintf("violation: %s: %s: %s", name, s.wrong, s.story())
	return r
}

// modelSize: three attempts take minutes and gigabytes, more than a test may;
// FULL=1 asks for them.
func modelSize() size {
	switch {
	case os.Getenv("FULL") != "":
		return size{tries: 3, moves: 2, visits: 1, swaps: 1}
	case testing.Short():
		return size{tries: 1, moves: 1, visits: 1, swaps: 1}
	}
	return size{tries: 2, moves: 3, visits: 1, swaps: 1}
}

// TestModel visits every state and holds money's invariants in each.
func TestModel(t *testing.T) {
	if os.Getenv("MUTANT") == "rules" {
		t.Skip("the rules' own tests come first, they are faster")
	}
	t.Parallel()
	s := modelSize()
	t.Logf("%d attempts, %d moves, %d visits to the meter; FULL=1 explores 3 attempts", s.tries, s.moves, s.visits)
	worlds := []func() result{
		func() result { return explorePurse(s, rightKiosk) },
		func() result { return exploreImage(s, strictMeter) },
		func() result { return exploreImage(s, laxMeter) },
		func() result { return exploreImage(s, copiedCard) },
	}
	switch os.Getenv("MODEL") { // a mutant's run
	case "purse":
		worlds = worlds[:1]
	case "card":
		worlds = worlds[1:]
	case "copied card":
		worlds = worlds[3:]
	}
	results := make([]result, len(worlds), len(worlds)+1)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 2)
	for i, w := range worlds {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] = w()
		})
	}
	wg.Wait()
	results = append(results, result{name: "damaged", cells: sweep(t)})
	cells, states := map[cell]map[string]int{}, 0
	for _, r := range results {
		t.Logf("%9d states %9d played to the end: %s", r.states, r.ends, r.name)
		if r.violation != "" {
			t.Fatal(r.violation)
		}
		for c, n := range r.cells {
			if cells[c] == nil {
				cells[c] = map[string]int{}
			}
			kind, _, _ := strings.Cut(r.name, ",")
			cells[c][kind] += n
		}
		states += r.states
	}
	if len(worlds) == 4 && s.tries > 1 {
		judgeCells(t, cells)
	}
	fmt.Printf("states=%d violations=0\n", states)
}

// TestModelKnowsItsLimits: what the rules cannot decide, the model must find.
// Whoever makes one of these worlds safe has to say so here.
func TestModelKnowsItsLimits(t *testing.T) {
	if os.Getenv("MUTANT") != "" {
		t.Skip("a mutant's run asks the model itself")
	}
	if testing.Short() {
		t.Skip("-short: two models to their end")
	}
	t.Parallel()
	s := size{tries: 2, visits: 1, swaps: 1}
	for _, outside := range []surroundings{tracelessMeter, letterOfSix} {
		r := exploreImage(s, outside)
		if r.violation == "" {
			t.Errorf("nothing found: %s", outside)
		}
		t.Log(r.violation)
	}
}
