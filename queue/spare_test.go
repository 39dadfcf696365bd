package queue

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func spare(ref string) Item { return Item{Kind: "media", Ref: ref, Lane: "media", Spare: true} }

// A spare item waits for all others, is broken off for one that becomes due,
// and goes on afterwards; none of this counts as a failure of it.
func TestASpareItemGivesWay(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, db)
		o.put(spare("photo"))
		o.put(report("a", "x", 1))
		later := report("c", "z", 1)
		later.Created = time.Now()
		later.NotBefore = later.Created.Add(30 * time.Minute)
		o.put(later)
		var g guarded
		var said []string
		begun := time.Now()
		say := func(it Item, what string) {
			g.do(func() { said = append(said, fmt.Sprintf("%v %s %s", time.Since(begun), it.Ref, what)) })
		}
		stop := o.run(func(ctx context.Context, it Item) Outcome {
			if !it.Spare {
				say(it, "sent")
				return o.removed()
			}
			select {
			case <-ctx.Done():
				say(it, "broken off")
				return failed(ctx.Err())
			case <-time.After(20 * time.Minute):
				say(it, "sent")
				return o.removed()
			}
		})
		time.Sleep(15 * time.Minute)
		o.put(report("b", "y", 1))
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		want := []string{
			"0s a sent", "15m0s photo broken off", "15m0s b sent", "30m0s photo broken off", "30m0s c sent", "50m0s photo sent",
		}
		g.do(func() {
			if !slices.Equal(said, want) {
				t.Errorf("%q, want %q", said, want)
			}
		})
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// However often it fails, the next report is not one second late; after a
// restart neither.
func TestAFailingSpareItemSlowsNobodyDown(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, db)
		o.put(spare("photo"))
		var g guarded
		tries := 0
		var late time.Duration
		var put time.Time
		d := func(_ context.Context, it Item) Outcome {
			if it.Spare {
				g.do(func() { tries++ })
				return failed(errDown)
			}
			g.do(func() { late = time.Since(put) })
			return o.removed()
		}
		for i, ref := range []string{"a", "b"} {
			stop := o.run(d)
			if i == 0 {
				time.Sleep(time.Hour)
			}
			g.do(func() { put = time.Now() })
			o.put(report(ref, "x", 1))
			time.Sleep(time.Second)
			synctest.Wait()
			g.do(func() {
				if late != 0 || i == 0 && tries < 10 {
					t.Errorf("%s delivered after %v, %d tries", ref, late, tries)
				}
				late = -1
			})
			if s := o.Stats(); s.Depth != 0 || s.Parked != 0 || s.Spare != 1 || !s.Oldest.IsZero() {
				t.Errorf("%+v", s)
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			o = newOffice(t, db)
		}
	})
}
