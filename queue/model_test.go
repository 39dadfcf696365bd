package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
)

// matter is one thing the model knows should be told to the platform.
type matter struct {
	rev, settled int // newest revision put; newest one settled on disk
	lane         string
	parked       bool
	there        bool
}

// model watches an outbox from outside while everything happens to it at once.
type model struct {
	t   *testing.T
	rnd *rand.Rand

	mu      sync.Mutex
	matters map[string]*matter
	flying  map[string]int
	calm    bool // no more faults
	sent    int
	box     *Outbox
}

func (m *model) fail(format string, args ...any) { m.t.Errorf(format, args...) }

// n draws a number; m.mu must be held.
func (m *model) n(n int) int { return m.rnd.IntN(n) }

// deliver checks the rules a delivery must keep and answers at random.
func (m *model) deliver(live bool) Deliver {
	return func(ctx context.Context, it Item) Outcome {
		m.mu.Lock()
		m.sent++
		if m.flying[it.Lane]++; m.flying[it.Lane] > 1 {
			m.fail("lane %s is in flight twice", it.Lane)
		}
		if all := len(m.flying); all > 2 {
			m.fail("%d lanes are in flight", all)
		}
		takes := time.Duration(m.n(20_000)) * time.Millisecond
		dice, lazy, calm, box := m.n(10), m.n(2) == 0, m.calm, m.box
		m.mu.Unlock()
		for _, other := range box.Pending(it.Lane) {
			if other.ID < it.ID && !live && !other.NotBefore.After(time.Now()) {
				m.fail("item %d goes before item %d of its lane", it.ID, other.ID)
			}
		}
		select {
		case <-time.After(takes):
		case <-ctx.Done():
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.flying[it.Lane]--; m.flying[it.Lane] == 0 {
			delete(m.flying, it.Lane)
		}
		if !calm && dice < 4 || ctx.Err() != nil {
			r := &Retry{Err: errDown, All: dice == 0}
			if dice < 2 {
				r.After = time.Minute
			}
			return Outcome{Retry: r}
		}
		sentRev := it.Rev
		return Outcome{Lazy: lazy, Settle: func(tx *bbolt.Tx, it Item) error {
			if it.Rev != sentRev {
				m.fail("%s: the answer to revision %d settles revision %d", it.Ref, sentRev, it.Rev)
			}
			if !calm && dice == 4 {
				return errOwn
			}
			if !calm && dice == 5 {
				tx.OnCommit(func() { m.change(it.Ref, func(x *matter) { x.parked = true }) })
				return box.Park(tx, it.ID, "model")
			}
			tx.OnCommit(func() {
				m.change(it.Ref, func(x *matter) { x.settled, x.there = max(x.settled, it.Rev), false })
			})
			return box.Remove(tx, it.ID)
		}}
	}
}

func (m *model) change(ref string, f func(*matter)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.matters[ref] == nil {
		m.matters[ref] = &matter{}
	}
	f(m.matters[ref])
}

// check compares what the outbox holds with what it should.
func (m *model) check(when string, box *Outbox) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	have := map[string]Item{}
	for _, it := range box.List() {
		if _, twice := have[it.Ref]; twice {
			m.fail("%s: two items about %s", when, it.Ref)
		}
		have[it.Ref] = it
	}
	for ref, x := range m.matters {
		it, ok := have[ref]
		switch {
		case x.there && !ok && m.stored(box, ref) == 0:
			m.fail("%s: %s is lost, revision %d, settled %d", when, ref, x.rev, x.settled)
		case !x.there && ok:
			m.fail("%s: %s is back", when, ref)
		case ok && (it.Rev != x.rev || (it.Parked != "") != x.parked):
			m.fail("%s: %s is %+v, should be %+v", when, ref, it, *x)
		}
	}
}

// stored is the revision on disk of a matter whose settlement waits for a
// commit.
func (m *model) stored(box *Outbox, ref string) (rev int) {
	err := box.w.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketOutbox).ForEach(func(k, v []byte) error {
			if it, err := decodeItem(0, v); err == nil && it.Ref == ref {
				rev = it.Rev
			}
			return nil
		})
	})
	if err != nil {
		m.fail("read: %v", err)
	}
	return rev
}

// TestModel lets puts, revisions, parking, requeueing, live visits, full disks,
// answers of every kind and new starts happen at random, then lets it calm down.
func TestModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "agent.db")
			synctest.Test(t, func(t *testing.T) { runModel(t, path, seed) })
		})
	}
}

func runModel(t *testing.T, path string, seed uint64) {
	m := &model{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), matters: map[string]*matter{}, flying: map[string]int{}}
	for session := range 6 {
		m.calm = session == 5
		m.session(path)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for ref, x := range m.matters {
		if !x.parked && (x.there || x.settled != x.rev) {
			t.Errorf("seed %d: at the end %s is %+v", seed, ref, *x)
		}
	}
	if m.sent == 0 || len(m.matters) == 0 {
		t.Errorf("seed %d: nothing happened", seed)
	}
}

// session is one run of the process.
func (m *model) session(path string) {
	t := m.t
	db, err := OpenFile(t.Context(), path, plain)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s := &faulty{Store: db}
	w := newWriter(t, s)
	m.mu.Lock()
	calm := m.calm
	box, err := NewOutbox(w, Options{Rand: func() float64 { return 0.5 }})
	m.box = box
	m.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	m.check("at start", box)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := box.Run(ctx, m.deliver(false)); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	flush, stopFlush := context.WithCancel(t.Context())
	wg.Go(func() {
		if err := w.Run(flush); err != nil {
			t.Errorf("Writer.Run: %v", err)
		}
	})
	for range 60 {
		if calm {
			break
		}
		m.step(ctx, w, box, s, &wg)
		m.check("during", box)
	}
	s.set(nil, nil)
	if calm {
		time.Sleep(48 * time.Hour)
	}
	stop()
	stopFlush()
	if m.draw(2) == 0 && !calm {
		s.set(syscall.ENOSPC, nil) // the last flush is lost: a cut
	}
	wg.Wait()
}

func (m *model) draw(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.n(n)
}

// step does one thing an agent may do.
func (m *model) step(ctx context.Context, w *Writer, box *Outbox, s *faulty, wg *sync.WaitGroup) {
	ref := fmt.Sprint("matter ", m.draw(12))
	lane := fmt.Sprint("card ", len(ref)+int(ref[len(ref)-1])%4)
	it, there := box.Find("report", ref)
	do := func(f func(tx *bbolt.Tx) error) {
		if err := w.Do(ctx, f); err != nil && !errors.Is(err, ErrFull) && !errors.Is(err, ErrNoItem) {
			m.fail("commit: %v", err)
		}
	}
	switch m.draw(9) {
	case 0, 1, 2: // the next revision
		do(func(tx *bbolt.Tx) error {
			m.mu.Lock()
			rev := 1
			if x := m.matters[ref]; x != nil {
				rev = x.rev + 1
			}
			m.mu.Unlock()
			put := Item{Kind: "report", Ref: ref, Rev: rev, Lane: lane}
			if m.draw(4) == 0 {
				put.NotBefore = time.Now().Add(time.Duration(m.draw(7200)) * time.Second)
			}
			_, err := box.Put(tx, put)
			tx.OnCommit(func() {
				m.change(ref, func(x *matter) { x.rev, x.lane, x.parked, x.there = rev, lane, false, true })
			})
			return err
		})
	case 3, 4:
		if there {
			do(func(tx *bbolt.Tx) error {
				park := m.draw(2) == 0
				f := func() error { return box.Requeue(tx, it.ID) }
				if park {
					f = func() error { return box.Park(tx, it.ID, "by hand") }
				}
				if err := f(); err != nil {
					return err
				}
				tx.OnCommit(func() { m.change(ref, func(x *matter) { x.parked = park }) })
				return nil
			})
		}
	case 5:
		wg.Go(func() {
			visit, end := context.WithTimeout(ctx, time.Minute)
			defer end()
			_ = box.Now(visit, lane, m.deliver(true))
		})
	case 6:
		s.set(syscall.ENOSPC, nil)
	case 7:
		s.set(nil, nil)
	case 8:
		time.Sleep(time.Duration(m.draw(600)) * time.Second)
	}
	time.Sleep(time.Duration(m.draw(5000)) * time.Millisecond)
	synctest.Wait()
}
