package mirror

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/protocol"
	"vcckiosk/protocol/table"
	"vcckiosk/protocol/vcctest"
)

// recorder notes when each table was asked for, and what.
type recorder struct {
	Source
	mu    sync.Mutex
	calls []asked
}

type asked struct {
	code string
	at   time.Time
	w    protocol.Window
}

func (r *recorder) Download(ctx context.Context, code string, w protocol.Window, use func(*table.Reader) error) (table.Summary, error) {
	r.mu.Lock()
	r.calls = append(r.calls, asked{code, time.Now(), w})
	r.mu.Unlock()
	return r.Source.Download(ctx, code, w, use)
}

func (r *recorder) take() []asked {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.calls
	r.calls = nil
	return c
}

func recorded(w *world, edit ...func(*Config, *Deps)) *recorder {
	r := &recorder{Source: w.client}
	w.start(append([]func(*Config, *Deps){func(_ *Config, d *Deps) { d.Source = r }}, edit...)...)
	return r
}

func only(code string) func(*Config, *Deps) {
	return func(c *Config, _ *Deps) { c.Tables = []string{code} }
}

func TestAConfigurationThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	src := text(nil)
	for _, c := range []Config{
		{}, {Path: "x", Interval: time.Minute}, {Path: "x", Interval: 25 * time.Hour}, {Path: "x", Tables: []string{"3005"}}, {Path: "x", Tables: []string{"3003", "3003"}},
	} {
		if _, err := New(c, Deps{Source: src}); err == nil {
			t.Errorf("%+v accepted", c)
		}
	}
	if _, err := New(Config{Path: "x"}, Deps{}); err == nil {
		t.Error("a mirror of nothing accepted")
	}
}

// A fleet that gets its power back at one moment does not ask at one moment,
// and each kiosk keeps to its own minute afterwards.
func TestAFleetIsSpreadOverTheInterval(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	var tenths [10]int
	for i := range 1000 {
		m := &Mirror{cfg: Config{DeviceID: fmt.Sprintf("K%05d", i), Interval: time.Hour}}
		wait := m.regular(now, 0)
		if wait <= 0 || wait > time.Hour {
			t.Fatalf("%v", wait)
		}
		tenths[int(wait-1)*10/int(time.Hour)]++
		// Whenever it starts, its minute is the same.
		for range 5 {
			later := now.Add(time.Duration(rand.Int64N(int64(48 * time.Hour))))
			at := later.Add(m.regular(later, 0))
			if off := at.Sub(now.Add(wait)) % time.Hour; off != 0 {
				t.Fatalf("%s is %v off its phase", m.cfg.DeviceID, off)
			}
		}
		if j := m.regular(now, 0.999) - wait; j < 5*time.Minute || j > 6*time.Minute {
			t.Fatalf("jitter %v", j)
		}
	}
	for i, n := range tenths {
		if n < 60 || n > 140 {
			t.Errorf("tenth %d of the interval has %d of 1000 kiosks", i, n)
		}
	}
}

func TestBackoffIsFullJitterWithACap(t *testing.T) {
	t.Parallel()
	for fails := 1; fails < 100; fails++ {
		limit := min(time.Second<<min(fails, 20), 300*time.Second)
		if d := backoff(fails, 0.999999, 0); d > limit || d < limit*9/10 {
			t.Errorf("after %d: %v of %v", fails, d, limit)
		}
		if d := backoff(fails, 0, 0); d != time.Second {
			t.Errorf("after %d, at best: %v", fails, d)
		}
	}
	if d := backoff(1, 0.5, time.Hour); d != time.Hour {
		t.Errorf("Retry-After: %v", d)
	}
}

func TestItPullsOnScheduleAndNotBetween(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vcctest.Options{})
		r := recorded(w, only("3003"))
		w.pass(16 * time.Minute)
		r.take()
		w.pass(10 * time.Hour)
		calls := r.take()
		if len(calls) < 9 || len(calls) > 11 {
			t.Errorf("%d pulls in ten hours", len(calls))
		}
		for i := 1; i < len(calls); i++ {
			if d := calls[i].at.Sub(calls[i-1].at); d < 50*time.Minute || d > 70*time.Minute {
				t.Errorf("pull %d comes %v after the one before", i, d)
			}
			if o := calls[i-1].w.To.Sub(calls[i].w.From); o < overlap || o > overlap+time.Second {
				t.Errorf("pull %d overlaps by %v", i, o)
			}
		}
	})
}

func TestWakePullsWhatItNamesOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vcctest.Options{})
		r := recorded(w, func(c *Config, _ *Deps) { c.Interval = MaxInterval })
		w.pass(16 * time.Minute)
		r.take()
		w.m.Wake("3004", "7001", "nonsense")
		w.pass(wakeSpread)
		if c := r.take(); len(c) != 1 || c[0].code != "3004" {
			t.Errorf("woken for one: %+v", c)
		}
		for range 600 { // a storm of pushes
			w.m.Wake()
			w.pass(time.Second)
		}
		if n := len(r.take()); n < 2*7 || n > 2*11 {
			t.Errorf("%d requests of a storm of ten minutes", n)
		}
		w.m.Wake("7001")
		w.pass(10 * time.Minute)
		if c := r.take(); len(c) > 2 {
			t.Errorf("woken for nothing: %+v", c)
		}
	})
}

func TestTheMaintenanceWindowIsLeftAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vcctest.Options{})
		r := recorded(w, only("3003"))
		w.pass(11*time.Hour + 25*time.Minute) // 23:25 in China
		r.take()
		for range 70 {
			w.m.Wake()
			w.pass(time.Minute)
		}
		var inside, after int
		for _, c := range r.take() {
			at := c.at.In(china)
			switch minute := at.Hour()*60 + at.Minute(); {
			case minute >= 23*60+30 || minute < 30:
				inside++
			case minute < 60:
				after++
			}
		}
		if inside != 0 || after == 0 {
			t.Errorf("%d pulls inside the window, %d after it", inside, after)
		}
	})
	for _, x := range []struct {
		at   string
		want time.Duration
	}{{"23:29:59", 0}, {"23:30:00", time.Hour}, {"00:00:00", 30 * time.Minute}, {"00:29:59", time.Second}, {"00:30:00", 0}, {"12:00:00", 0}} {
		at, err := time.ParseInLocation(time.TimeOnly, x.at, china)
		if err != nil || untilOpen(at) != x.want {
			t.Errorf("%s: %v %v", x.at, untilOpen(at), err)
		}
	}
}

func TestAFailureIsRetriedARefusalWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		down := true
		var mu sync.Mutex
		w := newWorld(t, vcctest.Options{Hook: func(c vcctest.Call) vcctest.Action {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case down && c.Code == "3003":
				return vcctest.Action{Status: 503, Body: "busy"}
			case c.Code == "3004":
				return vcctest.Action{Code: "20031"}
			}
			return vcctest.Action{}
		}})
		w.platform.AddEntries(subscriber(1, "张三", "A"))
		w.pass(time.Minute)
		r := recorded(w)
		w.pass(16 * time.Minute)
		n := len(r.take())
		if n < 4 || n > 400 {
			t.Errorf("%d tries of a platform that is down", n)
		}
		if st := w.m.Status(); st.State != Empty || !strings.Contains(st.Tables[0].Error, "503") {
			t.Errorf("%+v", st)
		}
		mu.Lock()
		down = false
		mu.Unlock()
		w.pass(6 * time.Minute)
		calls := r.take()
		if n := slices.IndexFunc(calls, func(a asked) bool { return a.code == "3004" }); n < 0 {
			t.Error("the other table was not asked for")
		}
		st := w.m.Status()
		if st.Tables[0].State != Current || st.Tables[0].Error != "" || !strings.Contains(st.Tables[1].Error, "20031") {
			t.Errorf("%+v", st)
		}
		w.pass(20 * time.Minute)
		again := 0
		for _, c := range r.take() {
			if c.code == "3004" {
				again++
			}
		}
		if again > 1 { // its regular time may have come
			t.Errorf("a refusal was repeated %d times", again)
		}
	})
}

// An answer that is cut again and again still ends: the window shrinks until it
// fits the line, and the rows that came are not lost.
func TestAThinLineGetsOnByShorterWindows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vcctest.Options{Hook: func(c vcctest.Call) vcctest.Action {
			if c.Code == "3003" {
				return vcctest.Action{Cut: 20 << 10}
			}
			return vcctest.Action{}
		}})
		for i := range 2000 { // 160 KB over twenty days
			s := subscriber(i, "张三", "A")
			s.Changed = time.Now().Add(-time.Duration(i) * 15 * time.Minute)
			w.platform.AddEntries(s)
		}
		r := recorded(w, only("3003"))
		w.pass(3 * time.Hour)
		for _, c := range r.take() {
			if c.w.To.Sub(c.w.From) > protocol.MaxWindow {
				t.Errorf("window %+v", c.w)
			}
		}
		if st := w.m.Status(); st.State != Current {
			t.Errorf("%+v", st)
		}
		w.compare()
	})
}

// A cut answer moves no watermark.
func TestACutAnswerMovesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cut := int64(0)
		var mu sync.Mutex
		w := newWorld(t, vcctest.Options{Hook: func(c vcctest.Call) vcctest.Action {
			mu.Lock()
			defer mu.Unlock()
			if c.Code == "3003" {
				return vcctest.Action{Cut: cut}
			}
			return vcctest.Action{}
		}})
		w.platform.AddEntries(subscriber(1, "张三", "A"))
		w.pass(time.Minute)
		w.start(only("3003"))
		w.pass(20 * time.Minute)
		before := w.m.Status().Tables[0]
		mu.Lock()
		cut = 170 // in the row
		mu.Unlock()
		w.platform.AddEntries(subscriber(2, "李四", "A"))
		w.pass(90 * time.Minute)
		after := w.m.Status().Tables[0]
		if !after.Watermark.Equal(before.Watermark) || after.Rows != before.Rows || !strings.Contains(after.Error, "truncated") {
			t.Errorf("before %+v, after %+v", before, after)
		}
		mu.Lock()
		cut = 0
		mu.Unlock()
		w.pass(10 * time.Minute)
		w.compare()
	})
}

func TestRowsThatDoNotFitAreCountedAndTheRestIsTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vcctest.Options{Download: vcctest.DownloadOptions{Short: 2, GB18030: true, CRLF: true}})
		odd := subscriber(7, "张三", "A")
		odd.Code = "14/7"
		for i := range 6 {
			w.platform.AddEntries(subscriber(i, "张三", "A"))
		}
		w.platform.AddEntries(odd)
		w.pass(time.Minute)
		w.start(only("3003"))
		w.pass(20 * time.Minute)
		s := w.m.Status().Tables[0]
		if s.Rows != 6 || s.Bad != 4 || s.Last.Charset != table.GB18030 || s.State != Current {
			t.Errorf("%+v", s)
		}
		if l := s.Aside; !slices.ContainsFunc(l, func(b table.Bad) bool { return strings.Contains(b.Why, "letters and digits") }) {
			t.Errorf("%+v", l)
		}
	})
}

func TestATableOfNothingButBadRowsIsNotPassedOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vcctest.Options{})
		for i := range allBad {
			s := subscriber(i, "张三", "A")
			s.Code = "14/" + fmt.Sprint(i)
			w.platform.AddEntries(s)
		}
		there := time.Now()
		w.pass(time.Minute)
		w.start(only("3003"))
		w.pass(5 * time.Hour)
		if st := w.m.Status(); st.State != Behind || st.Tables[0].Watermark.After(there) || !strings.Contains(st.Tables[0].Error, "no row") {
			t.Errorf("%+v", st)
		}
	})
}

func TestWithoutRoomOrTimeNothingIsPulled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		free, sane := int64(0), true
		w := newWorld(t, vcctest.Options{})
		w.platform.AddEntries(subscriber(1, "张三", "A"))
		w.pass(time.Minute)
		r := recorded(w, func(_ *Config, d *Deps) {
			d.Disk = func() (int64, error) { mu.Lock(); defer mu.Unlock(); return free, nil }
			d.Now = func() (time.Time, bool) { mu.Lock(); defer mu.Unlock(); return time.Now(), sane }
		})
		w.pass(30 * time.Minute)
		if c, st := r.take(), w.m.Status(); len(c) != 0 || !strings.Contains(st.Tables[0].Error, "space") {
			t.Errorf("%d calls, %+v", len(c), st)
		}
		mu.Lock()
		free, sane = 1<<30, false
		mu.Unlock()
		w.pass(30 * time.Minute)
		if c, st := r.take(), w.m.Status(); len(c) != 0 || !strings.Contains(st.Tables[0].Error, "clock") {
			t.Errorf("%d calls, %+v", len(c), st)
		}
		mu.Lock()
		sane = true
		mu.Unlock()
		w.pass(10 * time.Minute)
		if st := w.m.Status(); st.State != Current {
			t.Errorf("%+v", st)
		}
	})
}

// TestItGivesWay: whoever waits for the lane gets it, and a table that is
// always interrupted is read to its end at last.
func TestItGivesWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vcctest.Options{Hook: func(c vcctest.Call) vcctest.Action {
			if c.Code == "3003" {
				return vcctest.Action{AnswerDelay: 20 * time.Second}
			}
			return vcctest.Action{}
		}})
		w.platform.AddEntries(subscriber(1, "张三", "A"))
		w.pass(time.Minute)
		lent, gaveWay := 0, 0
		r := recorded(w, only("3003"), func(_ *Config, d *Deps) {
			d.Lane = func(ctx context.Context, firm bool) (context.Context, func(), error) {
				lent++
				if firm {
					return ctx, func() {}, nil
				}
				ctx, yield := context.WithCancelCause(ctx)
				timer := time.AfterFunc(10*time.Second, func() { yield(ErrYield) })
				return ctx, func() {
					timer.Stop()
					if errors.Is(context.Cause(ctx), ErrYield) {
						gaveWay++
					}
				}, nil
			}
		})
		w.pass(20 * time.Minute)
		if st := w.m.Status(); st.Tables[0].Rows == 0 || st.Tables[0].Error != "" {
			t.Errorf("%+v", st)
		}
		if gaveWay < patience || len(r.take()) < patience+1 {
			t.Errorf("gave way %d times of %d", gaveWay, lent)
		}
	})
}

// dripping is an answer that never ends and never stands still.
type dripping struct {
	Source
	mu sync.Mutex
	n  int
}

func (d *dripping) Download(ctx context.Context, _ string, _ protocol.Window, _ func(*table.Reader) error) (table.Summary, error) {
	d.mu.Lock()
	d.n++
	d.mu.Unlock()
	<-ctx.Done()
	return table.Summary{}, ctx.Err()
}

func TestAnAnswerThatDripsIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vcctest.Options{})
		d := &dripping{Source: w.client}
		w.start(only("3003"), func(_ *Config, deps *Deps) { deps.Source = d })
		w.pass(140 * time.Minute)
		d.mu.Lock()
		defer d.mu.Unlock()
		if st := w.m.Status(); d.n < 2 || d.n > 3 || st.Tables[0].Error == "" {
			t.Errorf("asked %d times, %+v", d.n, st)
		}
	})
}
