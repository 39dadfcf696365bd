// Package mirror keeps a copy of what a kiosk may want to know of subscribers
// and meters when the platform cannot be asked: the incremental tables 3001 to
// 3004, pulled into a file of their own. It is off by default and nothing
// depends on it: no order is authorised, refused or written by its word.
//
// # What it keeps
//
// As little as a kiosk has a use for. Telephone numbers are dropped, names and
// the last part of an address are masked before they are stored. The file is
// disposable: damaged, it is deleted and pulled again; it is not backed up.
//
// # What it can know
//
// The platform gives changes of the last month only. A new mirror therefore
// holds what has changed since a month before its first pull (Since), and "not
// held" never means "does not exist". A kiosk that was away for more than a
// month has missed changes for good: what it holds may be out of date, and
// "full resync needed" stands until a person has the rows dropped (Resync).
//
// # How it pulls
//
// A window begins five minutes before the watermark and is at most 31 days
// long. Rows are stored in batches of one transaction each; the watermark moves
// in the transaction of the last batch, after the whole answer has been read. A
// cut or a crash anywhere repeats that window and nothing else: a row stored
// twice is the same row. After a failure the window is halved, so that a thin
// line gets on; after a success it grows again.
//
// It pulls when its time has come (phase and jitter by kiosk), when it is woken,
// never in the platform's maintenance window, one request at a time, and gives
// way to whatever else waits for the backlog lane.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"vcckiosk/protocol"
	"vcckiosk/protocol/table"
)

// Config is how a mirror is kept; zero values are the defaults.
type Config struct {
	// Path is the file. It holds no more than can be pulled again.
	Path string
	// DeviceID phases the pulls of a fleet.
	DeviceID string
	// Tables are interface codes; default 3003 and 3004.
	Tables []string
	// Interval is the time between two pulls, 15 minutes to 24 hours; default
	// one hour.
	Interval time.Duration
	// MinDisk is how many bytes must stay free for the files that matter;
	// default 64 MB.
	MinDisk int64
}

// Bounds of Interval.
const (
	MinInterval = 15 * time.Minute
	MaxInterval = 24 * time.Hour
)

// Source is where the tables come from; *protocol.Client.
type Source interface {
	// Token makes sure of a session, and so of the platform's time.
	Token(ctx context.Context) error
	Download(ctx context.Context, code string, w protocol.Window, use func(*table.Reader) error) (table.Summary, error)
}

// Deps is what a mirror needs from its surroundings. All but Source may be nil.
type Deps struct {
	Source Source
	// Now is the platform's time; false: it cannot be believed, nothing is
	// pulled.
	Now func() (time.Time, bool)
	// Lane waits for the backlog lane. The context it returns is cancelled with
	// ErrYield when somebody else waits for it; not if firm.
	Lane func(ctx context.Context, firm bool) (context.Context, func(), error)
	// Disk tells the bytes free where the file lies.
	Disk func() (int64, error)
	Log  *slog.Logger
}

// Errors.
var (
	// ErrYield is the cause of a lane's context when others wait for the lane.
	ErrYield = errors.New("gave way to other messages")
	// ErrNotHeld: the mirror does not have it. That says nothing about whether
	// it exists.
	ErrNotHeld = errors.New("not held by the mirror")
	// ErrOff: there is no mirror, or its file is not open now.
	ErrOff = errors.New("the mirror is off: [mirror] in the configuration switches it on")

	errDamaged = errors.New("mirror is damaged")
	errQuiet   = errors.New("the platform's maintenance window")
	errClock   = errors.New("the clock cannot be right")
	errDisk    = errors.New("too little space is left for the mirror")
	errNoRow   = errors.New("no row of the table fits")
	errDropped = errors.New("the mirror was dropped")
)

// Mirror is one kiosk's copy. Its methods may be called at any time from any
// goroutine.
type Mirror struct {
	cfg Config
	d   Deps

	woken chan struct{} // capacity 1; pending is the truth

	mu      sync.Mutex
	db      *bbolt.DB // nil: not open; changed by the goroutine that runs alone
	pending map[string]bool
	tables  map[string]*tableState
	dropped *Dropped
	fault   string                  // why the file is not open
	unwant  string                  // why the file is to be dropped
	stop    context.CancelCauseFunc // of the window in flight

	batch batch // of the goroutine that runs
}

// tableState is a table as Run knows it; used with mu held.
type tableState struct {
	mark   mark
	slice  time.Duration // longest window asked for
	yields int           // in a row
	last   table.Summary
	aside  []table.Bad // of the last window that had some
	pulled time.Time   // end of the last whole pull
	err    error
}

// New checks the configuration; nothing is opened or asked before Run.
func New(c Config, d Deps) (*Mirror, error) {
	if len(c.Tables) == 0 {
		c.Tables = []string{subscribers, meters}
	}
	if c.Interval == 0 {
		c.Interval = time.Hour
	}
	if c.MinDisk == 0 {
		c.MinDisk = 64 << 20
	}
	switch {
	case c.Path == "" || d.Source == nil:
		return nil, errors.New("mirror: no file or no source")
	case c.Interval < MinInterval || c.Interval > MaxInterval:
		return nil, fmt.Errorf("mirror: interval %v is not from 15m to 24h", c.Interval)
	}
	c.Tables = slices.Clone(c.Tables)
	slices.Sort(c.Tables)
	m := &Mirror{cfg: c, d: d, woken: make(chan struct{}, 1), pending: map[string]bool{}, tables: map[string]*tableState{}}
	for _, code := range c.Tables {
		if _, known := rows[code]; !known || m.tables[code] != nil {
			return nil, fmt.Errorf("mirror: table %q: want 3001, 3002, 3003 or 3004, each once", code)
		}
		m.tables[code] = &tableState{slice: protocol.MaxWindow}
	}
	if m.d.Log == nil {
		m.d.Log = slog.New(slog.DiscardHandler)
	}
	if m.d.Now == nil {
		m.d.Now = func() (time.Time, bool) { return time.Now(), true }
	}
	if m.d.Lane == nil {
		m.d.Lane = func(ctx context.Context, _ bool) (context.Context, func(), error) { return ctx, func() {}, nil }
	}
	return m, nil
}

// Wake asks for a pull of these tables soon, of all without any; codes that
// are not mirrored are ignored. It says "now", not "at once": a fleet that is
// woken by one message still spreads over half a minute, a table is pulled once
// a minute at most, and a back-off is not cut short. A nil Mirror sleeps on.
func (m *Mirror) Wake(codes ...string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	for _, code := range m.cfg.Tables {
		if len(codes) == 0 || slices.Contains(codes, code) {
			m.pending[code] = true
		}
	}
	wanted := len(m.pending) > 0
	m.mu.Unlock()
	if wanted {
		select {
		case m.woken <- struct{}{}:
		default:
		}
	}
}

const (
	wakeSpread = 30 * time.Second
	wakePause  = time.Minute // between two pulls
	quietAfter = 10 * time.Minute
	clockPause = 5 * time.Minute
	backoffCap = 300 * time.Second
	startSpan  = 15 * time.Minute // over which a fleet's first pulls after a start spread
)

// phase is this kiosk's place in a span of time.
func (m *Mirror) phase(span time.Duration) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(m.cfg.DeviceID))
	return time.Duration(h.Sum64() % uint64(span))
}

// regular is how long it is until the next pull by schedule: the kiosk's phase
// of the interval by the wall clock, so that a fleet that gets its power back at
// one moment does not pull at one moment.
func (m *Mirror) regular(now time.Time, jitter float64) time.Duration {
	into := (time.Duration(now.UnixNano()) - m.phase(m.cfg.Interval)) % m.cfg.Interval
	if into < 0 {
		into += m.cfg.Interval
	}
	return m.cfg.Interval - into + time.Duration(jitter*float64(m.cfg.Interval/10))
}

// backoff is how long to wait after a number of failures: full jitter.
func backoff(fails int, jitter float64, asked time.Duration) time.Duration {
	limit := min(time.Second<<min(fails, 20), backoffCap)
	return max(time.Duration(jitter*float64(limit)), asked, time.Second)
}

// Run keeps the mirror until ctx ends. It owns the file meanwhile.
func (m *Mirror) Run(ctx context.Context) error {
	m.open(ctx)
	defer m.close()
	var early, ended time.Time // zero: none
	schedule := time.Now().Add(m.regular(time.Now(), rand.Float64()))
	if m.stale() {
		early = time.Now().Add(m.phase(startSpan))
		m.Wake()
	}
	fails := 0
	for {
		next := schedule
		if !early.IsZero() && early.Before(next) {
			next = early
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-m.woken:
			timer.Stop()
			m.dropUnwanted(ctx)
			if early.IsZero() && m.due() {
				early = time.Now().Add(m.phase(wakeSpread))
				if rest := ended.Add(wakePause); !ended.IsZero() && early.Before(rest) {
					early = rest
				}
			}
			continue
		case <-timer.C:
		}
		if !time.Now().Before(schedule) {
			schedule = time.Now().Add(m.regular(time.Now(), rand.Float64()))
			m.Wake()
		}
		early = time.Time{}
		err := m.turn(ctx)
		ended = time.Now()
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			fails = max(fails-1, 0)
			continue
		case errors.Is(err, errQuiet):
			now, _ := m.d.Now()
			early = time.Now().Add(untilOpen(now) + m.phase(quietAfter))
		case errors.Is(err, errClock), errors.Is(err, errDisk):
			early = time.Now().Add(clockPause)
		case errors.Is(err, ErrYield), errors.Is(err, errDropped):
			early = time.Now().Add(time.Second)
		default:
			fails++
			early = time.Now().Add(backoff(fails, rand.Float64(), protocol.RetryAfter(err)))
		}
	}
}

// turn pulls every table that is due. It returns the error after which the
// rest has to wait.
func (m *Mirror) turn(ctx context.Context) error {
	if m.file() == nil {
		m.open(ctx)
	}
	for _, code := range m.cfg.Tables {
		m.mu.Lock()
		due, s := m.pending[code], m.tables[code]
		m.mu.Unlock()
		if !due {
			continue
		}
		err := m.pull(ctx, code)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, errDamaged) {
			m.discard(err.Error())
		}
		if m.dropUnwanted(ctx) {
			return errDropped
		}
		refused := errors.Is(err, protocol.ErrBusiness) || errors.Is(err, protocol.ErrPermanent)
		m.mu.Lock()
		if s.err = err; errors.Is(err, ErrYield) {
			s.err = nil
		}
		if err == nil || refused {
			delete(m.pending, code)
		}
		m.mu.Unlock()
		switch {
		case refused: // asking again changes nothing; its time comes with the schedule
			m.d.Log.Warn("table not mirrored", "interface", code, "err", err)
		case err != nil:
			if !errors.Is(err, ErrYield) {
				m.d.Log.Info("table not pulled", "interface", code, "err", err)
			}
			return err
		}
	}
	if err := m.refresh(ctx); err != nil && ctx.Err() == nil {
		if errors.Is(err, ErrYield) || errors.Is(err, errDamaged) {
			return err
		}
		m.d.Log.Info("dictionary not refreshed", "err", err) // its time comes with the next pull
	}
	return nil
}

// stale reports whether a table has not been pulled for an interval.
func (m *Mirror) stale() bool {
	now, _ := m.d.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.tables {
		if now.Sub(s.mark.At) > m.cfg.Interval {
			return true
		}
	}
	return false
}

// due reports whether a pull is asked for.
func (m *Mirror) due() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.pending) > 0
}

// Resync has every row dropped and the last month pulled: what a person does
// about "full resync needed". It only asks: Run does it within a minute.
func (m *Mirror) Resync() { m.discard("a person asked for it") }

// discard asks Run to drop the file.
func (m *Mirror) discard(why string) {
	m.mu.Lock()
	if m.unwant == "" {
		m.unwant = why
	}
	if m.stop != nil {
		m.stop(errDropped)
	}
	m.mu.Unlock()
	m.Wake()
}

// dropUnwanted drops the file if somebody asked for it.
func (m *Mirror) dropUnwanted(ctx context.Context) bool {
	m.mu.Lock()
	why := m.unwant
	m.unwant = ""
	m.mu.Unlock()
	if why == "" {
		return false
	}
	m.close()
	m.forget(why)
	m.open(ctx)
	m.Wake()
	return true
}
