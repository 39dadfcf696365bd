package vcctest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

var zone = time.FixedZone("CST", 8*3600) // Asia/Shanghai has no summer time

// card is a card's books. log is what the newest 3010 of this card carried.
type card struct {
	CardBook
	challenge string
	calc      string // dialect selfservice: the newest calculation's number
	log       []LogEntry
	seen      time.Time
	count     int  // image: highest count settled
	changed   bool // image: the change to NextPSC is done
	orders    []string
	live      []*trans // numbers that may be open, oldest first
}

// own adds an order to the card's list, which is sorted by number.
func (c *card) own(orderNo string) {
	i, found := slices.BinarySearch(c.orders, orderNo)
	if !found {
		c.orders = slices.Insert(c.orders, i, orderNo)
	}
}

// psc returns the code the card has now and the one to change it to, or "".
func (c *card) psc() (old, next string) {
	var none [3]byte
	if c.PSC == none {
		c.PSC = [3]byte{0xFF, 0xFF, 0xFF}
	}
	if c.changed {
		return upperHex(c.NextPSC[:]), ""
	}
	if c.NextPSC != none && c.NextPSC != c.PSC {
		next = upperHex(c.NextPSC[:])
	}
	return upperHex(c.PSC[:]), next
}

// order is an order's books. At most one number is open for it at any time:
// the holder.
type order struct {
	OrderBook
	state     string
	holder    *trans
	atKiosk   bool // paid at the kiosk (loadMode 2): a give-back is a refund
	by        string
	settledAt time.Time
	trans     []string
	issued    []Issue
	reports   []Report
}

// trans is what is known of one termTransNo.
type trans struct {
	no, orderNo, cardNo, kind string
	terminal, device          string
	amount, volume            int64
	load                      load   // kind load, as first issued
	before, target            []byte // kind image
	count                     int
	content                   string // clause 1: what a repeat must repeat
	answer                    *authAnswer
	state, why                string
	fence, forgotten          bool
	result, rev               int // of the highest revision; result -1 none
	evidence, digest          string
	written                   string // writeTime of the highest revision
	at, expire, forgetAt      time.Time
}

func (t *trans) open() bool { return t != nil && t.state == TransOpen && !t.forgotten }

// letter is the state as 6002, 6003 and 6006 tell it.
func (t *trans) letter() string {
	switch t.state {
	case TransSettled:
		return "S"
	case TransReturned:
		return "R"
	}
	return "P"
}

// books are the platform's memory. Everything is used with Platform.mu held.
type books struct {
	o         Options
	lapses    Lapses
	rng       *rand.Rand
	now       time.Time // of the call being executed, platform clock
	cards     map[string]*card
	orders    map[string]*order
	trans     map[string]*trans
	doomed    []*trans        // authorisations to forget at forgetAt
	unseen    map[string]bool // numbers given back before they were seen and not fenced
	conflicts []Conflict
	issuedNo  int // orders made for loadMode 2
}

func (b *books) odds() float64 {
	if b.o.Odds > 0 {
		return b.o.Odds
	}
	return 0.2
}

func (b *books) chance(on bool) bool { return on && b.rng.Float64() < b.odds() }

func (b *books) conflict(clause int, orderNo, transNo, what string) {
	b.conflicts = append(b.conflicts, Conflict{Clause: clause, OrderNo: orderNo, TransNo: transNo, What: what, At: b.now})
}

// known returns a number the platform remembers.
func (b *books) known(transNo string) *trans {
	if t := b.trans[transNo]; t != nil && !t.forgotten {
		return t
	}
	return nil
}

// openFor returns the open numbers of a card, oldest first.
func (b *books) openFor(c *card) []*trans {
	c.live = slices.DeleteFunc(c.live, func(t *trans) bool { return !t.open() })
	return slices.Clone(c.live)
}

// settle marks the order loaded under t. Nothing settles an order twice: every
// other number of it is then returned, and a "written" under it is a conflict.
func (b *books) settle(t *trans, by string) {
	o := b.orders[t.orderNo]
	if o == nil || t.state != TransOpen || o.state == StateSettled {
		return
	}
	t.state, t.why = TransSettled, by
	o.state, o.by, o.holder, o.settledAt = StateSettled, by, t, b.now
	if c := b.cards[t.cardNo]; c != nil && t.kind == KindImage {
		c.count = max(c.count, t.count)
		if t.result == 0 && t.answer.Image.PSCNew != "" {
			c.changed = true
		}
	}
	for _, no := range o.trans {
		if other := b.trans[no]; other.open() {
			other.state, other.why = TransReturned, "settled under another number"
		}
	}
}

// giveBack ends the hold of t; a later "written" under it is a conflict.
func (b *books) giveBack(t *trans, why string) {
	t.state, t.why = TransReturned, why
	o := b.orders[t.orderNo]
	if o == nil || o.holder != t || o.state != StateAuthorised {
		return
	}
	o.holder, o.state = nil, StatePaid
	if o.atKiosk {
		o.state = StateReturned
	}
}

// forget loses the authorisation t, as if it had never been.
func (b *books) forget(t *trans) {
	o := b.orders[t.orderNo]
	if !t.open() || o == nil {
		return
	}
	t.forgotten = true
	b.conflict(2, t.orderNo, t.no, "authorisation forgotten")
	if o.holder == t {
		o.holder, o.state = nil, StatePaid
	}
}

// forgetDue forgets what its lapse has doomed, while the lapse lasts.
func (b *books) forgetDue() {
	rest := b.doomed[:0]
	for _, t := range b.doomed {
		switch {
		case !b.lapses.ForgetAuth || !t.open() || t.result >= 0: // a report is never forgotten
		case b.now.Before(t.forgetAt):
			rest = append(rest, t)
		default:
			b.forget(t)
		}
	}
	b.doomed = rest
}

// record finds in a log the record of a load issued under t: our terminal,
// amount, date and time as issued, at the attempt's sequence before or after +1.
func (b *books) record(t *trans, log []LogEntry) bool {
	o := b.orders[t.orderNo]
	if o == nil || t.kind != KindLoad {
		return false
	}
	for _, is := range o.issued {
		if is.TransNo != t.no {
			continue
		}
		for _, e := range log {
			if (e.Seq == is.Seq || e.Seq == is.Seq+1) && e.Amount == int64(t.load.Amount) &&
				strings.EqualFold(e.Terminal, is.TerminalNo) && e.Date == is.HostDate && e.Time == is.HostTime {
				return true
			}
		}
	}
	return false
}

// reaches reports whether a log, newest record first, must contain the load
// that used sequence seq, when the card's next sequence is cur. Cards label a
// record with the sequence before or after the load; both are allowed for.
func reaches(log []LogEntry, seq, cur int) bool {
	for i := 1; i < len(log); i++ {
		if log[i].Seq >= log[i-1].Seq {
			return false // not a log
		}
	}
	if n := len(log); n > 0 && log[n-1].Seq <= seq {
		return log[0].Seq >= seq
	}
	return len(log) > 0 && (log[0].Seq == cur || log[0].Seq == cur-1) && cur > seq && len(log) >= cur-seq
}

// keys returns the load and TAC keys of a purse card.
func (b *books) keys(c *card) (dlk, dtk [16]byte, ok bool) {
	var none [16]byte
	if c.DLK != none {
		return c.DLK, c.DTK, true
	}
	if b.o.PurseKeys != nil {
		return b.o.PurseKeys(c.CardNo)
	}
	return none, none, false
}

// hex16 makes a challenge.
func (b *books) hex16() string { return fmt.Sprintf("%016X", b.rng.Uint64()) }

func (b *books) stamp() string { return b.now.In(zone).Format("20060102150405") }

func (b *books) addReport(orderNo string, r Report) {
	r.At = b.now
	if o := b.orders[orderNo]; o != nil {
		o.reports = append(o.reports, r)
	}
}

func (b *books) view(o *order) OrderView {
	v := OrderView{
		OrderNo: o.OrderNo, CardNo: o.CardNo, Amount: o.Amount, Volume: o.Volume, PayTime: o.PayTime,
		State: o.state, SettledBy: o.by, Issued: slices.Clone(o.issued), Reports: slices.Clone(o.reports),
	}
	if o.holder != nil {
		v.Holder = o.holder.no
	}
	for i := range v.Issued {
		v.Issued[i].Target = slices.Clone(v.Issued[i].Target)
	}
	for _, no := range o.trans {
		v.Trans = append(v.Trans, viewTrans(b.trans[no]))
	}
	for _, c := range b.conflicts {
		if c.OrderNo == o.OrderNo {
			v.Conflicts = append(v.Conflicts, c)
		}
	}
	return v
}

func viewTrans(t *trans) TransView {
	return TransView{
		TransNo: t.no, OrderNo: t.orderNo, State: t.state, Fence: t.fence, Forgotten: t.forgotten,
		Why: t.why, Reported: t.result, Rev: t.rev,
	}
}
