package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
)

// office is an outbox with its writer, as one power session of a kiosk has it.
type office struct {
	t  testing.TB
	db *bbolt.DB
	w  *Writer
	*Outbox
}

func newOffice(t testing.TB, db *bbolt.DB) *office {
	t.Helper()
	w := newWriter(t, db)
	q, err := NewOutbox(w, Options{Rand: func() float64 { return 1 }}) // every pause is the longest
	if err != nil {
		t.Fatal(err)
	}
	return &office{t, db, w, q}
}

func (o *office) do(f func(tx *bbolt.Tx) error) {
	o.t.Helper()
	if err := o.w.Do(context.Background(), f); err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) put(it Item) (id uint64) {
	o.t.Helper()
	o.do(func(tx *bbolt.Tx) (err error) { id, err = o.Put(tx, it); return err })
	return id
}

// woke is how often the backlog has looked for something to do.
func (o *office) woke() int {
	o.Outbox.mu.Lock()
	defer o.Outbox.mu.Unlock()
	return o.rounds
}

// guarded is what a test and the deliveries it watches both touch.
type guarded struct{ mu sync.Mutex }

func (g *guarded) do(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

// run starts the backlog and returns what ends it.
func (o *office) run(d Deliver) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx, d) }()
	return func() error { cancel(); return <-done }
}

func (o *office) removed() Outcome {
	return Outcome{Settle: func(tx *bbolt.Tx, it Item) error { return o.Remove(tx, it.ID) }}
}

func failed(err error) Outcome { return Outcome{Retry: &Retry{Err: err}} }

var errDown = errors.New("down")

func report(ref, lane string, rev int) Item {
	return Item{Kind: "report", Ref: ref, Lane: lane, Rev: rev}
}

func refs(its []Item) (out []string) {
	for _, it := range its {
		out = append(out, fmt.Sprintf("%s/%d", it.Ref, it.Rev))
	}
	return out
}

func wantRefs(t testing.TB, what string, its []Item, want ...string) {
	t.Helper()
	if got := refs(its); !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestOneItemForOneMatter(t *testing.T) {
	t.Parallel()
	o := newOffice(t, newDB(t))
	a := o.put(report("a", "card", 1))
	o.put(report("b", "card", 1))
	o.do(func(tx *bbolt.Tx) error { return o.Park(tx, a, "no reason") })
	wantRefs(t, "pending", o.Pending("card"), "b/1")
	// A new revision takes the place of the old one, parked or not.
	if id := o.put(report("a", "card", 2)); id != a {
		t.Errorf("item %d became %d", a, id)
	}
	wantRefs(t, "pending", o.Pending("card"), "a/2", "b/1")
	// Twice in one transaction is once.
	o.do(func(tx *bbolt.Tx) error {
		_, err1 := o.Put(tx, report("c", "card", 1))
		_, err2 := o.Put(tx, report("c", "card", 2))
		return errors.Join(err1, err2)
	})
	// Removed and put again in one transaction is there.
	o.do(func(tx *bbolt.Tx) error {
		err := o.Remove(tx, a)
		_, err2 := o.Put(tx, report("a", "card", 3))
		return errors.Join(err, err2)
	})
	for _, o := range []*office{o, newOffice(t, o.db)} {
		wantRefs(t, "list", o.List(), "b/1", "c/2", "a/3")
		if it, ok := o.Find("report", "a"); !ok || it.Rev != 3 {
			t.Errorf("found %+v, %v", it, ok)
		}
		if _, ok := o.Find("report", "z"); ok {
			t.Error("found what is not there")
		}
	}
	if err := o.w.Do(t.Context(), func(tx *bbolt.Tx) error { _, err := o.Put(tx, Item{Kind: "report"}); return err }); err == nil {
		t.Error("an item without a reference was taken")
	}
}

func TestARolledBackChangeLeavesNoTrace(t *testing.T) {
	t.Parallel()
	o := newOffice(t, newDB(t))
	a := o.put(report("a", "card", 1))
	_ = o.w.Do(t.Context(), func(tx *bbolt.Tx) error {
		_, err := o.Put(tx, report("b", "card", 1))
		return errors.Join(err, o.Park(tx, a, "x"), errOwn)
	})
	_ = o.w.Do(t.Context(), func(tx *bbolt.Tx) error { return errors.Join(o.Remove(tx, a), errOwn) })
	for _, o := range []*office{o, newOffice(t, o.db)} {
		wantRefs(t, "pending", o.Pending("card"), "a/1")
	}
}

func TestParkAndRequeue(t *testing.T) {
	t.Parallel()
	o := newOffice(t, newDB(t))
	a := o.put(report("a", "card", 1))
	o.do(func(tx *bbolt.Tx) error { return o.Park(tx, a, strings.Repeat("漢", 300)) })
	o = newOffice(t, o.db)
	if s := o.Stats(); s.Depth != 0 || s.Parked != 1 || !s.Oldest.IsZero() {
		t.Errorf("stats %+v", s)
	}
	if p := o.List()[0].Parked; len(p) > maxText || !strings.HasPrefix(p, "漢") || strings.ContainsRune(p, '\ufffd') {
		t.Errorf("reason of %d bytes: %q", len(p), p)
	}
	o.do(func(tx *bbolt.Tx) error { return o.Requeue(tx, a) })
	wantRefs(t, "pending", o.Pending("card"), "a/1")
	for _, f := range []func(*bbolt.Tx) error{
		func(tx *bbolt.Tx) error { return o.Requeue(tx, 99) },
		func(tx *bbolt.Tx) error { return o.Park(tx, 99, "x") },
	} {
		if err := o.w.Do(t.Context(), f); !errors.Is(err, ErrNoItem) {
			t.Errorf("of an item that is not there: %v", err)
		}
	}
	o.do(func(tx *bbolt.Tx) error { return o.Remove(tx, 99) }) // is no mistake: it is gone
}

func TestDamagedItemIsSetAside(t *testing.T) {
	t.Parallel()
	o := newOffice(t, newDB(t))
	o.put(report("a", "card", 1))
	bad := o.put(report("b", "card", 1))
	o.put(report("c", "card", 1))
	o.do(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketOutbox)
		v := slices.Clone(b.Get(key(bad)))
		v[20] ^= 1
		return b.Put(key(bad), v)
	})
	o = newOffice(t, o.db)
	wantRefs(t, "pending", o.Pending("card"), "a/1", "c/1")
	if s := o.Stats(); s.Depth != 2 || s.Parked != 1 {
		t.Errorf("stats %+v", s)
	}
	// It cannot be sent, and whoever knows what it was may put it again.
	if err := o.w.Do(t.Context(), func(tx *bbolt.Tx) error { return o.Requeue(tx, bad) }); !errors.Is(err, ErrNoItem) {
		t.Errorf("a damaged item was requeued: %v", err)
	}
	if id := o.put(report("b", "card", 1)); id == bad {
		t.Error("the evidence was overwritten")
	}
	o.do(func(tx *bbolt.Tx) error { return o.Remove(tx, bad) })
	wantRefs(t, "pending", newOffice(t, o.db).List(), "a/1", "c/1", "b/1")
}

func TestACounterThatRottedNeverOverwritesAnItem(t *testing.T) {
	t.Parallel()
	o := newOffice(t, newDB(t))
	o.put(report("a", "card", 1))
	o.put(report("b", "card", 1))
	o.do(func(tx *bbolt.Tx) error { return tx.Bucket(bucketOutbox).SetSequence(0) })
	o.put(report("c", "card", 1))
	wantRefs(t, "list", newOffice(t, o.db).List(), "a/1", "b/1", "c/1")
}

func TestBacklogKeepsOrderInALane(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, db)
		for i := range 3 {
			for _, card := range []string{"x", "y"} {
				o.put(report(fmt.Sprintf("%s%d", card, i), card, 1))
			}
		}
		parked := o.put(report("y0", "y", 2))
		o.do(func(tx *bbolt.Tx) error { return o.Park(tx, parked, "x") })
		var sent []string
		stop := o.run(func(_ context.Context, it Item) Outcome {
			time.Sleep(time.Second)
			sent = append(sent, it.Ref)
			return o.removed()
		})
		time.Sleep(time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if want := []string{"x0", "x1", "y1", "x2", "y2"}; !slices.Equal(sent, want) {
			t.Errorf("sent %q, want %q", sent, want)
		}
		wantRefs(t, "left", newOffice(t, db).List(), "y0/2")
	})
}

// The failing item is the oldest: it must not keep the others.
func TestOneItemThatNeverGoesDelaysNoOtherCard(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, db)
		begun := time.Now()
		o.put(report("bad", "bad card", 1))
		o.put(report("behind", "bad card", 1))
		for i := range 5 {
			o.put(report(fmt.Sprint(i), fmt.Sprint("card ", i), 1))
		}
		var g guarded
		var tries []time.Duration
		stop := o.run(func(_ context.Context, it Item) Outcome {
			switch it.Ref {
			case "bad":
				g.do(func() { tries = append(tries, time.Since(begun)) })
				return failed(errDown)
			case "behind":
				t.Error("overtaken inside its lane")
			}
			return o.removed()
		})
		time.Sleep(30 * time.Second)
		synctest.Wait()
		wantRefs(t, "after half a minute", o.List(), "bad/1", "behind/1")
		time.Sleep(time.Hour)
		_ = stop()
		// Full jitter at its longest: 2, 4, 8 ... 300 s.
		last := tries[len(tries)-1] - tries[len(tries)-2]
		if len(tries) < 15 || len(tries) > 25 || last < 299*time.Second || last > 310*time.Second {
			t.Errorf("%d tries, the last pause %v", len(tries), last)
		}
		it, _ := o.Find("report", "bad")
		if it.Attempts != len(tries) || it.LastError != "down" || it.FirstTry.IsZero() {
			t.Errorf("item %+v after %d tries", it, len(tries))
		}
	})
}

func TestOutageEndsInASlowDrain(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, db)
		const n = 20
		for i := range n {
			o.put(report(fmt.Sprint(i), fmt.Sprint("card ", i), 1))
		}
		var g guarded
		up := false
		var requests, flying, most int
		var drained []time.Time
		stop := o.run(func(context.Context, Item) (out Outcome) {
			g.do(func() {
				requests++
				flying++
				most = max(most, flying)
			})
			time.Sleep(100 * time.Millisecond)
			g.do(func() {
				flying--
				if out = o.removed(); !up {
					out = failed(errDown)
					return
				}
				drained = append(drained, time.Now())
			})
			return out
		})
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		g.do(func() {
			if requests < 20 || requests > 40 {
				t.Errorf("%d requests in two hours of outage", requests)
			}
			up, requests = true, 0
		})
		if got := o.w.Stats(); got.Commits > 0+60+n { // items were put by n commits
			t.Errorf("%d commits in two hours of outage", got.Commits)
		}
		time.Sleep(30 * time.Minute)
		_ = stop()
		if left := o.Stats().Depth; left != 0 || requests != n {
			t.Errorf("half an hour after the outage: %d left, %d requests", left, requests)
		}
		if most != 1 {
			t.Errorf("%d requests at once", most)
		}
		// A hundred thousand kiosks do not all run at the first success.
		if gap := drained[1].Sub(drained[0]); gap < 100*time.Second || gap > 150*time.Second {
			t.Errorf("the second success came %v after the first", gap)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		r           Retry
		first, next time.Duration // of the item's second try, and of the other lane's first
	}{
		{"for the item", Retry{Err: errDown, After: 10 * time.Minute}, 10 * time.Minute, 0},
		{"for all", Retry{Err: errDown, After: 10 * time.Minute, All: true}, 10 * time.Minute, 10 * time.Minute},
		{"longer than an hour", Retry{Err: errDown, After: 48 * time.Hour, All: true}, time.Hour, time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := newDB(t)
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t, db)
				begun := time.Now()
				o.put(report("a", "x", 1))
				o.put(report("b", "y", 1))
				var a []time.Duration
				var b time.Duration
				stop := o.run(func(_ context.Context, it Item) Outcome {
					if it.Ref == "b" {
						b = time.Since(begun)
						return o.removed()
					}
					if a = append(a, time.Since(begun)); len(a) == 1 {
						return Outcome{Retry: &c.r}
					}
					return o.removed()
				})
				time.Sleep(2 * time.Hour)
				_ = stop()
				about := func(got, want time.Duration) bool { return got >= want && got <= want+want/20+2*time.Second }
				if len(a) != 2 || !about(a[1], c.first) || !about(b, c.next) {
					t.Errorf("the item at %v, the other at %v", a, b)
				}
			})
		})
	}
}

func TestItemForTomorrowWaitsAndHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, db)
		begun := time.Now()
		o.put(Item{Kind: "query", Ref: "q", Lane: "card", Rev: 1, NotBefore: begun.Add(24 * time.Hour)})
		o.put(report("r", "card", 1))
		if s := o.Stats(); s.Depth != 1 || s.Scheduled != 1 || !s.Oldest.Equal(begun) {
			t.Errorf("stats %+v", s)
		}
		at := map[string]time.Duration{}
		d := func(_ context.Context, it Item) Outcome {
			at[it.Ref] = time.Since(begun)
			return o.removed()
		}
		if err := o.Now(t.Context(), "card", d); err != nil {
			t.Fatal(err)
		}
		wantRefs(t, "after the live lane", o.List(), "q/1")
		time.Sleep(12 * time.Hour)
		// A new start in between, and another with a clock that went back ten years.
		o = newOffice(t, db)
		stop := o.run(d)
		time.Sleep(11 * time.Hour)
		synctest.Wait()
		wantRefs(t, "an hour before", o.List(), "q/1")
		rounds := o.woke()
		time.Sleep(2 * time.Hour)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if at["q"] != 24*time.Hour || at["r"] != 0 {
			t.Errorf("delivered at %v", at)
		}
		if o.woke() > rounds+3 {
			t.Errorf("woke up %d times for one item", o.woke()-rounds)
		}
	})
}
