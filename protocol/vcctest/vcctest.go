package vcctest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Platform is the VCC platform. All methods may be called at any time from any
// goroutine. It starts none: a late request is executed, at its time, by the
// next call or the next look into the books.
type Platform struct {
	endpoints []endpoint

	mu            sync.Mutex
	b             *books
	hook          func(Call) Action
	accounts      []Account // [0] is Options' own
	tokens        map[string]*token
	seqs, oldSeqs map[string]bool
	calls         map[string]int
	beats         map[string]json.RawMessage
	media         []MediaBook
	seqSeen       map[string]int
	late          []lateCall // by due time
	tables        map[string][]Row
	deeds         int // what was done by interfaces without books
	commands      commands
	registry      registry
	rows          map[string]*tableRows // of the downloads, by code
}

type lateCall struct {
	due     time.Time // wall clock
	forever bool
	q       *request
}

// New makes a Platform with empty books. It needs no Close. A Layout that does
// not fit on a card panics: it is a mistake in the program.
func New(o Options) *Platform {
	if !o.Good && o.Lapses == (Lapses{}) {
		o.Lapses = WorstLapses()
	}
	if o.AuthExpire <= 0 {
		o.AuthExpire = 300 * time.Second
	}
	if o.Layout == (Layout{}) {
		o.Layout = DefaultLayout()
	}
	if err := o.Layout.valid(); err != nil {
		panic("vcctest: " + err.Error())
	}
	paths := endpoints(o.Endpoints)
	if o.Dialect == Selfservice {
		paths = selfserviceEndpoints(paths)
	}
	return &Platform{
		endpoints: paths,
		b: &books{
			o: o, lapses: o.Lapses,
			rng:   rand.New(rand.NewPCG(o.Seed, 0x5643430a)), //nolint:gosec // repeatable worlds need a seed; nothing here is secret
			cards: map[string]*card{}, orders: map[string]*order{}, trans: map[string]*trans{}, unseen: map[string]bool{},
		},
		hook:     o.Hook,
		accounts: []Account{{AppID: o.AppID, DeviceID: o.DeviceID, BaseKey: o.BaseKey}},
		tokens:   map[string]*token{}, seqs: map[string]bool{}, oldSeqs: map[string]bool{},
		calls: map[string]int{}, beats: map[string]json.RawMessage{}, tables: map[string][]Row{}, rows: map[string]*tableRows{}, seqSeen: map[string]int{},
		commands: commands{counters: map[string]uint64{}, queues: map[string][]queued{}},
		registry: registry{codes: map[string]string{}, known: map[string]*Registration{}},
	}
}

// ServeHTTP answers one call. A dropped answer or request ends in
// panic(http.ErrAbortHandler), which net/http turns into a closed connection.
func (p *Platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out := p.exchange(r.Context(), r)
	if out.broken != nil {
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), out.header)
	if out.table != nil {
		out.table.serve(w, out.status)
		return
	}
	w.WriteHeader(out.status)
	_, _ = w.Write(out.body) // a caller that hung up is its own trouble
}

// RoundTripper is the Platform without a network: calls run in the caller's
// goroutine and delays use time.Timer, so it works in testing/synctest bubbles.
// A broken connection is an error that wraps io.ErrUnexpectedEOF, or the cause
// of the request's context when that ended first.
func (p *Platform) RoundTripper() http.RoundTripper { return roundTripper{p} }

type roundTripper struct{ p *Platform }

func (t roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	out := t.p.exchange(r.Context(), r)
	if r.Body != nil {
		_ = r.Body.Close() // read to its end already
	}
	if out.broken != nil {
		return nil, out.broken
	}
	if out.table != nil {
		return out.table.response(r, out), nil
	}
	length := int64(len(out.body))
	if out.header.Get("Connection") == "close" {
		length = -1
	} else {
		out.header.Set("Content-Length", strconv.FormatInt(length, 10))
	}
	return &http.Response{
		Status: strconv.Itoa(out.status) + " " + http.StatusText(out.status), StatusCode: out.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: out.header,
		Body: io.NopCloser(bytes.NewReader(out.body)), ContentLength: length, Request: r,
	}, nil
}

// advance brings the books to a wall-clock time: late requests that are due
// are executed, each at its own time.
func (p *Platform) advance(wall time.Time) {
	for len(p.late) > 0 && !p.late[0].forever && !p.late[0].due.After(wall) {
		c := p.late[0]
		p.late = p.late[1:]
		p.setNow(c.due)
		p.execute(c.q, false)
	}
	p.setNow(wall)
}

func (p *Platform) setNow(wall time.Time) {
	if p.b.lapses.ClockOff {
		wall = wall.Add(24 * time.Hour)
	}
	p.b.now = wall
	p.b.forgetDue()
}

func (p *Platform) hold(q *request, d time.Duration) {
	c := lateCall{q: q, forever: d == Forever}
	if !c.forever {
		c.due = time.Now().Add(d)
	}
	i := len(p.late)
	for i > 0 && !c.forever && (p.late[i-1].forever || p.late[i-1].due.After(c.due)) {
		i--
	}
	p.late = slices.Insert(p.late, i, c)
}

// open locks the books, brought to the present, and returns what closes them.
func (p *Platform) open() func() {
	p.mu.Lock()
	p.advance(time.Now())
	return p.mu.Unlock
}

// AddCard adds a card or replaces its description; what was seen of it stays.
func (p *Platform) AddCard(c CardBook) error {
	if !nameForm.MatchString(c.CardNo) || !oneOf(c.Kind, KindLoad, KindImage) || !oneOf(c.Unit, "", "fen", "cl") {
		return errors.New("add card: number, kind or unit invalid")
	}
	defer p.open()()
	if old := p.b.cards[c.CardNo]; old != nil {
		if old.Kind != c.Kind {
			return fmt.Errorf("add card %s: known with another kind", c.CardNo)
		}
		old.CardBook, old.changed = c, false
		return nil
	}
	p.b.cards[c.CardNo] = &card{CardBook: c}
	return nil
}

// AddOrder adds a paid order. The card must be known, the number new.
func (p *Platform) AddOrder(o OrderBook) error {
	if !nameForm.MatchString(o.OrderNo) || o.Amount <= 0 || o.Volume < 0 {
		return errors.New("add order: number, amount or volume invalid")
	}
	defer p.open()()
	c := p.b.cards[o.CardNo]
	if c == nil || p.b.orders[o.OrderNo] != nil {
		return fmt.Errorf("add order %s: card unknown or number taken", o.OrderNo)
	}
	if o.PayTime.IsZero() {
		o.PayTime = p.b.now
	}
	if o.Source == "" {
		o.Source = "web"
	}
	p.b.orders[o.OrderNo] = &order{OrderBook: o, state: StatePaid}
	c.own(o.OrderNo)
	return nil
}

// AddAccount adds a holder of a base key, or replaces its key and ends its tokens.
func (p *Platform) AddAccount(a Account) {
	defer p.open()()
	for i := 1; i < len(p.accounts); i++ {
		if p.accounts[i].AppID == a.AppID && p.accounts[i].DeviceID == a.DeviceID {
			p.setKey(i, a.BaseKey)
			return
		}
	}
	p.accounts = append(p.accounts, a)
}

// SetBaseKey replaces the base key of Options and invalidates every token made with it.
func (p *Platform) SetBaseKey(key string) {
	defer p.open()()
	p.setKey(0, key)
}

func (p *Platform) setKey(i int, key string) {
	p.accounts[i].BaseKey = key
	for v, t := range p.tokens {
		if t.account == i {
			delete(p.tokens, v)
		}
	}
}

// SetLapses changes the lapses from now on: SetLapses(Lapses{}) ends all
// faults. Requests already on their way still arrive.
func (p *Platform) SetLapses(l Lapses) {
	defer p.open()()
	p.b.lapses = l
}

// SetHook replaces Options.Hook; nil removes it.
func (p *Platform) SetHook(h func(Call) Action) {
	defer p.open()()
	p.hook = h
}

// ReleaseLate executes now every request that is still on its way, in order,
// and returns how many.
func (p *Platform) ReleaseLate() int {
	defer p.open()()
	late := p.late
	p.late = nil
	for _, c := range late {
		p.execute(c.q, false)
	}
	return len(late)
}

// Late returns how many requests are still on their way.
func (p *Platform) Late() int {
	defer p.open()()
	return len(p.late)
}

// Forget makes the platform forget the open authorisation of this number.
func (p *Platform) Forget(transNo string) {
	defer p.open()()
	if t := p.b.trans[transNo]; t != nil {
		p.b.forget(t)
	}
}

// Evict makes every token given so far invalid, as another holder of the appId would.
func (p *Platform) Evict() {
	defer p.open()()
	clear(p.tokens)
}

// Order returns a copy of one order's books.
func (p *Platform) Order(orderNo string) (OrderView, bool) {
	defer p.open()()
	o := p.b.orders[orderNo]
	if o == nil {
		return OrderView{}, false
	}
	return p.b.view(o), true
}

// Orders returns copies of all orders, by number.
func (p *Platform) Orders() []OrderView {
	defer p.open()()
	return p.orders()
}

func (p *Platform) orders() []OrderView {
	out := make([]OrderView, 0, len(p.b.orders))
	for _, no := range slices.Sorted(maps.Keys(p.b.orders)) {
		out = append(out, p.b.view(p.b.orders[no]))
	}
	return out
}

// Trans returns what is known of a number, fences included.
func (p *Platform) Trans(transNo string) (TransView, bool) {
	defer p.open()()
	t := p.b.trans[transNo]
	if t == nil {
		return TransView{}, false
	}
	return viewTrans(t), true
}

// Calls returns how many calls of each interface arrived, lost ones included;
// "" counts unknown paths.
func (p *Platform) Calls() map[string]int {
	defer p.open()()
	return maps.Clone(p.calls)
}

// Conflicts returns what went against the contract, oldest first.
func (p *Platform) Conflicts() []Conflict {
	defer p.open()()
	return slices.Clone(p.b.conflicts)
}

// Books returns a copy of everything.
func (p *Platform) Books() Snapshot {
	defer p.open()()
	s := Snapshot{At: p.b.now, Orders: p.orders(), Conflicts: slices.Clone(p.b.conflicts), Calls: maps.Clone(p.calls)}
	for _, no := range slices.Sorted(maps.Keys(p.b.cards)) {
		c := p.b.cards[no]
		_, next := c.psc()
		s.Cards = append(s.Cards, CardView{
			CardNo: no, Kind: c.Kind, SubsCode: c.SubsCode, Count: c.count, LastSeen: c.seen,
			LastLog: slices.Clone(c.log), CodeChange: c.Kind == KindImage && next != "",
		})
	}
	return s
}

// LastHeartbeat returns the body of the last 6004 of a device.
func (p *Platform) LastHeartbeat(deviceID string) (json.RawMessage, bool) {
	defer p.open()()
	b, ok := p.beats[deviceID]
	return slices.Clone(b), ok
}
