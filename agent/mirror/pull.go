package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vcckiosk/protocol"
	"vcckiosk/protocol/table"
)

const (
	// overlap is asked for twice: whether the ends of a window belong to it is
	// not documented, and a change can become visible later than it is dated.
	overlap = 5 * time.Minute
	// reach is how far back changes can be had (3001 to 3004: "within a month").
	reach = protocol.MaxWindow
	// minSlice is the shortest window a failure leads to.
	minSlice = time.Hour
	// patience is how often a pull gives way before it does not.
	patience = 3
	// longest is how long one window may take: an answer that drips must not keep
	// the lane.
	longest = time.Hour
	// allBad is how many rows without a good one are no accident.
	allBad = 20
)

// china is the zone of the maintenance window.
var china = time.FixedZone("CST", 8*3600)

// mark is how far a table has been pulled. It is stored in the transaction of
// the rows it stands for.
type mark struct {
	At    time.Time `json:"at"`            // every change before it has been asked for
	Since time.Time `json:"since"`         // and none before that
	Gap   *Gap      `json:"gap,omitempty"` // nor in here
	Rows  uint64    `json:"rows"`          // taken in all, each time one came
	Bad   uint64    `json:"bad,omitempty"` // set aside in all
}

// Gap is a time whose changes can no longer be had.
type Gap struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// plan is the next window after a mark and the mark once it has been read. last:
// it reaches the present.
func plan(m mark, now time.Time, slice time.Duration) (w protocol.Window, next mark, last bool) {
	now = now.Truncate(time.Second)
	floor := now.Add(-reach)
	next = m
	from := m.At.Add(-overlap)
	switch {
	case m.At.IsZero():
		from, next.Since = floor, floor
	case m.At.After(now.Add(time.Hour)):
		// It was written under a clock that was ahead: nobody knows what was
		// really asked for. A month covers it.
		from = floor
	case m.At.Before(floor):
		from = floor
		next.Gap = &Gap{From: m.At, To: floor}
		if m.Gap != nil {
			next.Gap.From = m.Gap.From
		}
	case from.Before(floor):
		from = floor
	}
	to := from.Add(max(slice, minSlice))
	if last = !to.Before(now); last {
		to = now
	}
	next.At = to
	return protocol.Window{From: from, To: to}, next, last
}

// quiet is the platform's maintenance window, 23:30 to 00:30 China time.
func quiet(now time.Time) bool { return untilOpen(now) > 0 }

func untilOpen(now time.Time) time.Duration {
	t := now.In(china)
	of := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second
	switch {
	case of >= 23*time.Hour+30*time.Minute:
		return 24*time.Hour + 30*time.Minute - of
	case of < 30*time.Minute:
		return 30*time.Minute - of
	}
	return 0
}

// pull asks for all windows up to the present, each in its turn of the lane.
func (m *Mirror) pull(ctx context.Context, code string) error {
	for {
		last, err := m.window(ctx, code)
		if err != nil || last {
			return err
		}
	}
}

// window asks for one.
func (m *Mirror) window(ctx context.Context, code string) (last bool, err error) {
	if m.file() == nil {
		return false, ErrOff
	}
	m.mu.Lock()
	s := m.tables[code]
	firm := s.yields >= patience
	m.mu.Unlock()
	lctx, release, err := m.d.Lane(ctx, firm)
	if err != nil {
		return false, fmt.Errorf("wait for the lane: %w", err)
	}
	defer release()
	lctx, timeout := context.WithTimeout(protocol.Backlog(lctx), longest)
	defer timeout()
	lctx, cancel := context.WithCancelCause(lctx)
	defer cancel(nil)
	m.mu.Lock()
	m.stop = cancel
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.stop = nil
		m.mu.Unlock()
	}()
	now, sane := m.d.Now()
	switch {
	case !sane:
		return false, errClock
	case quiet(now):
		return false, errQuiet
	}
	if err := m.room(); err != nil {
		return false, err
	}
	// An answer, of whatever, tells the platform's time.
	if err := m.d.Source.Token(lctx); err != nil {
		return false, m.failed(lctx, s, err)
	}
	if now, sane = m.d.Now(); !sane {
		return false, errClock
	}
	m.mu.Lock()
	at, slice := s.mark, s.slice
	m.mu.Unlock()
	w, next, last := plan(at, now, slice)
	sum, err := m.fetch(lctx, code, w, next)
	if err != nil {
		return false, m.failed(lctx, s, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if sum.Bad > 0 {
		s.aside = sum.List
		m.d.Log.Warn("rows set aside", "interface", code, "rows", sum.Bad, "first", sum.List)
	}
	s.last, s.yields, s.slice = sum, 0, min(2*s.slice, reach)
	if last {
		s.pulled = time.Now()
	}
	return last, nil
}

// failed notes a window that was not read to its end.
func (m *Mirror) failed(lane context.Context, s *tableState, err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if errors.Is(context.Cause(lane), ErrYield) {
		s.yields++
		return ErrYield
	}
	if !errors.Is(err, protocol.ErrNotSent) { // a thin line; or a platform whose month is shorter than ours
		s.slice = max(s.slice/2, minSlice)
	}
	return err
}

// room reports whether the disk has room for more rows.
func (m *Mirror) room() error {
	if m.d.Disk == nil {
		return nil
	}
	if free, err := m.d.Disk(); err != nil || free < m.cfg.MinDisk {
		return errDisk
	}
	return nil
}

// fetch reads one window into the file, batch by batch.
func (m *Mirror) fetch(ctx context.Context, code string, w protocol.Window, next mark) (table.Summary, error) {
	b := &m.batch
	b.begin(code)
	sum, err := m.d.Source.Download(ctx, code, w, func(row *table.Reader) error {
		if why := b.take(row); why != "" {
			row.SetAside(why)
			return nil
		}
		if !b.full() {
			return nil
		}
		// Commit point: these rows are there, the watermark has not moved. A
		// crash from here to the end of the window repeats the window, and the
		// same rows are stored over themselves.
		return m.store(b, nil)
	})
	if err != nil {
		return sum, err
	}
	if sum.Rows == 0 && sum.Bad >= allBad {
		return sum, errNoRow // no bad rows but another table; moving on would lose what is in it
	}
	next.Rows += uint64(sum.Rows)
	next.Bad += uint64(sum.Bad)
	// Commit point: the rest of the window and its watermark, together. A crash
	// before it repeats the window, a crash after it goes on behind it.
	return sum, m.store(b, &next)
}
