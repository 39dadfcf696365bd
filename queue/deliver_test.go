package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
)

func TestClockThatWentBackDelaysNothingByMoreThanWasMeant(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, db)
		created := time.Now().AddDate(10, 0, 0) // the item is from the future
		o.put(Item{Kind: "query", Ref: "q", Lane: "x", Created: created, NotBefore: created.Add(time.Hour)})
		o = newOffice(t, db)
		var at time.Duration
		begun := time.Now()
		stop := o.run(func(context.Context, Item) Outcome { at = time.Since(begun); return o.removed() })
		time.Sleep(3 * time.Hour)
		_ = stop()
		if at != time.Hour {
			t.Errorf("delivered after %v", at)
		}
	})
}

func TestIdleOutboxDoesNotWakeUp(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, db)
		parked := o.put(report("a", "x", 1))
		o.do(func(tx *bbolt.Tx) error { return o.Park(tx, parked, "x") })
		o = newOffice(t, db)
		stop := o.run(func(context.Context, Item) Outcome { t.Error("a parked item was sent"); return o.removed() })
		time.Sleep(time.Second)
		before := o.woke()
		time.Sleep(240 * time.Hour)
		if n := o.woke() - before; n != 0 {
			t.Errorf("woke up %d times", n)
		}
		if got := o.w.Stats().Commits; got != 0 {
			t.Errorf("%d commits", got)
		}
		_ = stop()
	})
}

func TestRestartGoesOnWithTheBackOff(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, db)
		o.put(report("a", "x", 1))
		var g guarded
		tries := 0
		d := func(context.Context, Item) Outcome { g.do(func() { tries++ }); return failed(errDown) }
		wantTries := func(what string, want int) {
			t.Helper()
			synctest.Wait()
			g.do(func() {
				if tries != want {
					t.Errorf("%s: %d tries", what, tries)
				}
			})
		}
		flushing, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- o.w.Run(flushing) }()
		stop := o.run(d)
		time.Sleep(time.Hour)
		_ = stop()
		cancel()
		<-done
		it := newOffice(t, db).List()[0]
		if it.Attempts != 16 { // the last power of two
			t.Errorf("%d attempts are stored of %d", it.Attempts, tries)
		}
		o, tries = newOffice(t, db), 0
		stop = o.run(d)
		time.Sleep(299 * time.Second)
		wantTries("a new start goes on with the pause", 0)
		time.Sleep(2 * time.Second)
		wantTries("after the longest pause", 1)
		_ = stop()
	})
}

func TestLiveLaneGoesBesideTheBacklog(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, db)
		o.put(report("x0", "x", 1))
		begun := time.Now()
		var g guarded
		var log []string
		d := func(who string, takes time.Duration) Deliver {
			return func(_ context.Context, it Item) Outcome {
				g.do(func() { log = append(log, fmt.Sprintf("%v %s %s", time.Since(begun), who, it.Ref)) })
				time.Sleep(takes)
				return o.removed()
			}
		}
		stop := o.run(d("backlog", 10*time.Second))
		time.Sleep(time.Second)
		o.put(report("x1", "x", 1))
		o.put(report("y0", "y", 1))
		for _, lane := range []string{"x", "y"} {
			go func() {
				if err := o.Now(t.Context(), lane, d("live", time.Second)); err != nil {
					t.Error(err)
				}
			}()
			time.Sleep(time.Millisecond) // the order of the two
		}
		// x1 waits for its lane, y0 for the live lane; nobody waits for the backlog.
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := o.Now(short, "z", d("live", 0)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waited for the live lane until %v", err)
		}
		time.Sleep(time.Minute)
		_ = stop()
		g.mu.Lock()
		defer g.mu.Unlock()
		slices.Sort(log) // two happen in the same instant
		want := []string{"0s backlog x0", "10s backlog y0", "10s live x1"}
		if !slices.Equal(log, want) {
			t.Errorf("got %q", log)
		}
	})
}

func TestLiveLaneTriesOnceAndStopsAtTheFirstFailure(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, db)
		for _, ref := range []string{"a", "b", "c"} {
			o.put(report(ref, "x", 1))
		}
		var tried []string
		d := func(_ context.Context, it Item) Outcome {
			if tried = append(tried, it.Ref); it.Ref == "b" {
				return failed(errDown)
			}
			return o.removed()
		}
		for range 2 { // the back-off does not bind the live lane
			if err := o.Now(t.Context(), "x", d); !errors.Is(err, errDown) {
				t.Errorf("stopped by %v", err)
			}
		}
		if want := []string{"a", "b", "b"}; !slices.Equal(tried, want) {
			t.Errorf("tried %q", tried)
		}
	})
}

func TestAnswerToAnOldRevisionSettlesNothing(t *testing.T) {
	t.Parallel()
	for _, lazy := range []bool{false, true} {
		t.Run(fmt.Sprint("lazy ", lazy), func(t *testing.T) {
			t.Parallel()
			db := newDB(t)
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t, db)
				o.put(report("a", "x", 1))
				var sent []int
				stop := o.run(func(_ context.Context, it Item) Outcome {
					sent = append(sent, it.Rev)
					time.Sleep(10 * time.Second) // in the meantime revision 2 is made
					out := o.removed()
					out.Lazy = lazy
					return out
				})
				time.Sleep(5 * time.Second)
				o.put(report("a", "x", 2))
				time.Sleep(8 * time.Second)
				synctest.Wait()
				wantRefs(t, "after the first answer", o.List(), "a/2")
				time.Sleep(time.Minute)
				_ = stop()
				if err := o.w.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				wantRefs(t, "at the end", newOffice(t, db).List())
				if !slices.Equal(sent, []int{1, 2}) {
					t.Errorf("sent revisions %v", sent)
				}
			})
		})
	}
}

func TestLazySettlementIsSettledInMemoryAtOnce(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, db)
		o.put(report("a", "x", 1))
		sent := 0
		stop := o.run(func(context.Context, Item) Outcome {
			sent++
			out := o.removed()
			out.Lazy = true
			return out
		})
		time.Sleep(time.Hour)
		_ = stop()
		wantRefs(t, "list", o.List())
		wantRefs(t, "pending", o.Pending("x"))
		if got := o.w.Stats().Commits; sent != 1 || got != 1 {
			t.Errorf("sent %d times, %d commits", sent, got)
		}
		// The power goes before any commit: one repeated message, no loss.
		wantRefs(t, "after a cut", newOffice(t, db).List(), "a/1")
	})
}

func TestSettlementThatFailsIsTriedAgain(t *testing.T) {
	t.Parallel()
	nothing := func(*bbolt.Tx, Item) error { return nil }
	for name, out := range map[string]Outcome{
		"error":              {Settle: func(*bbolt.Tx, Item) error { return errOwn }},
		"lazy error":         {Lazy: true, Settle: func(*bbolt.Tx, Item) error { return errOwn }},
		"lazy panic":         {Lazy: true, Settle: func(*bbolt.Tx, Item) error { panic("x") }},
		"no consequence":     {Settle: nothing},
		"lazy, none":         {Lazy: true, Settle: nothing},
		"neither":            {},
		"retry without word": {Retry: &Retry{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := newDB(t)
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t, db)
				o.put(report("a", "x", 1))
				o.put(report("b", "y", 1))
				flushing, cancel := context.WithCancel(context.Background())
				done := make(chan error, 1)
				go func() { done <- o.w.Run(flushing) }()
				var g guarded
				a := 0
				stop := o.run(func(_ context.Context, it Item) Outcome {
					if it.Ref == "b" {
						return o.removed()
					}
					g.mu.Lock()
					defer g.mu.Unlock()
					if a++; a == 4 {
						return o.removed()
					}
					return out
				})
				time.Sleep(3 * time.Second)
				synctest.Wait()
				g.do(func() {
					if a > 2 {
						t.Errorf("sent %d times in three seconds", a)
					}
				})
				time.Sleep(10 * time.Minute)
				if err := stop(); err != nil {
					t.Error(err)
				}
				cancel()
				<-done
				wantRefs(t, "left", newOffice(t, db).List())
			})
		})
	}
}

func TestSettlementInDoubtEndsRun(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, db)
		o.put(report("a", "x", 1))
		s := &faulty{Store: db, after: errDown}
		w := newWriter(t, s)
		q, err := NewOutbox(w, Options{})
		if err != nil {
			t.Fatal(err)
		}
		settle := func(tx *bbolt.Tx, it Item) error { return q.Remove(tx, it.ID) }
		if err := q.Run(t.Context(), func(context.Context, Item) Outcome { return Outcome{Settle: settle} }); !errors.Is(err, ErrInDoubt) {
			t.Errorf("Run ended with %v", err)
		}
	})
}

func TestStoppingWhileARequestIsInFlight(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, db)
		o.put(report("a", "x", 1))
		stop := o.run(func(ctx context.Context, _ Item) Outcome {
			<-ctx.Done()
			return failed(ctx.Err())
		})
		time.Sleep(time.Second)
		if err := stop(); err != nil {
			t.Error(err)
		}
		if it := o.List()[0]; it.Attempts != 0 {
			t.Errorf("being stopped counts as a failure: %+v", it)
		}
		// An answer that came is kept, asked for or not.
		stop = o.run(func(ctx context.Context, _ Item) Outcome {
			<-ctx.Done()
			return o.removed()
		})
		time.Sleep(time.Second)
		_ = stop()
		wantRefs(t, "left", newOffice(t, db).List())
	})
}

// A few items must not cost a page of their own in each commit.
func TestAFewItemsStayInsideTheRootPage(t *testing.T) {
	t.Parallel()
	o := newOffice(t, newDB(t))
	for i := range 5 {
		o.put(Item{Kind: "report", Ref: fmt.Sprintf("%032X", i), Rev: 1, Lane: fmt.Sprintf("%032X", i), Created: time.Now()})
	}
	err := o.db.View(func(tx *bbolt.Tx) error {
		if s := tx.Bucket(bucketOutbox).Stats(); s.InlineBucketN != 1 {
			t.Errorf("the bucket has pages of its own: %+v", s)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func FuzzItem(f *testing.F) {
	now := time.UnixMilli(1795478400000)
	v, _ := encodeItem(Item{Kind: "report", Ref: "A1", Rev: 2, Lane: "B2", Created: now, NotBefore: now, Attempts: 3, FirstTry: now, Parked: "x", LastError: "漢"})
	f.Add(v)
	f.Add(sealLine([]byte(`{"k":"a","r":"b"}`)))
	f.Add(sealLine([]byte(`{}`)))
	f.Add([]byte(`00000000 {"k":"a","r":"b"}`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, v []byte) {
		for _, v := range [][]byte{v, sealLine(v)} {
			it, err := decodeItem(7, v)
			if err != nil {
				continue
			}
			again, err := encodeItem(it)
			if err != nil {
				t.Fatal(err)
			}
			back, err := decodeItem(7, again)
			if err != nil || back != it {
				t.Errorf("%+v came back as %+v, %v", it, back, err)
			}
		}
	})
}

func TestStoredItemIsReadable(t *testing.T) {
	t.Parallel()
	v, err := encodeItem(report("A1", "B2", 2))
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"k":"report","r":"A1","v":2,"l":"B2","c":0}`; string(v[9:]) != want {
		t.Errorf("stored as %s", v)
	}
	if binary.BigEndian.Uint64(key(258)) != 258 {
		t.Error("keys are not big endian")
	}
}
