package simtest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"vcckiosk/agent"
	"vcckiosk/agent/topup"
	"vcckiosk/cardreader/simcard"
	"vcckiosk/protocol/vcctest"
)

// count is what a kiosk has done to the world so far.
type count struct {
	commits, http, apdus int
	bytes                int64
}

func (k *Kiosk) count() (c count) {
	k.p.mu.Lock()
	defer k.p.mu.Unlock()
	for _, e := range k.p.seen {
		switch {
		case e.kind == "commit":
			c.commits++
		case strings.HasPrefix(e.kind, "card"):
			c.apdus++
		default:
			c.http++
		}
	}
	st := k.db.Stats().TxStats
	c.bytes = st.GetPageAlloc() + int64(c.commits)*4096 // pages, and the meta page of each commit
	return c
}

// quick is a customer who never hesitates: card in, first order, card out. It
// returns once the report is delivered, with the time from card in to "done".
func (k *Kiosk) quick(tb testing.TB, c *Card) time.Duration {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	seen := k.Agent.Screen.View().Serial
	from := time.Now()
	k.Slot.Insert(c.sim())
	for {
		v, err := k.Agent.Screen.Wait(ctx, seen)
		if err != nil {
			tb.Fatalf("screen: %v", err)
		}
		seen = v.Serial
		switch v.Stage {
		case agent.StageChoose:
			_ = k.Agent.Screen.Choose(v.Offers[0].OrderNo)
		case agent.StageConfirm:
			_ = k.Agent.Screen.Confirm()
		case agent.StageRemove:
			took := time.Since(from)
			if v.Note == nil || v.Note.Code != "written" {
				tb.Fatalf("not written: %+v", v.Note)
			}
			k.Slot.Remove()
			for v.Stage != agent.StageIdle {
				if v, err = k.Agent.Screen.Wait(ctx, seen); err != nil {
					tb.Fatalf("screen: %v", err)
				}
				seen = v.Serial
			}
			for k.outbox.Stats().Depth > 0 {
				runtime.Gosched()
			}
			return took
		}
	}
}

// cost is one top-up.
type cost struct {
	commits, http, waited, apdus int // waited: calls that were over before "done"
	bytes                        int64
	own                          time.Duration // from card in to "done" without card and network; a commit's work counts, its fsyncs do not
}

// till plays one kiosk's customers one after the other.
type till struct {
	tb     testing.TB
	w      *World
	c      *Card
	orders int
}

func openTill(tb testing.TB, kind string, flush time.Duration) *till {
	tb.Helper()
	w := NewWorld(tb, vcctest.Options{Good: true}, nil)
	w.flush = flush
	s := &till{tb: tb, w: w}
	if kind == purse {
		s.c = w.AddPurse(1)
	} else {
		s.c = w.AddImage(1, simcard.Strict, 0)
	}
	w.A.On()
	return s
}

// serve is one top-up. commits is how many it must come to before it returns:
// an acknowledgement that rides on nobody's is written a little later.
func (s *till) serve(commits int) (c cost) {
	s.tb.Helper()
	k := s.w.A
	s.orders++
	s.w.Pay(s.c, fmt.Sprintf("O%06d", s.orders), 300)
	from, want := k.count(), k.writer.Stats().Commits+uint64(commits)
	c.own = k.quick(s.tb, s.c)
	for deadline := time.Now().Add(2 * time.Minute); k.writer.Stats().Commits < want; {
		if time.Now().After(deadline) {
			s.tb.Fatalf("%d commits too few", want-k.writer.Stats().Commits)
		}
		if s.w.flush == 0 {
			time.Sleep(time.Second) // virtual
		} else {
			runtime.Gosched()
		}
	}
	if s.c.Meter != nil {
		s.c.Meter.Insert(s.c.Image)
	}
	to := k.count()
	c.commits, c.http, c.apdus, c.bytes = to.commits-from.commits, to.http-from.http, to.apdus-from.apdus, to.bytes-from.bytes
	k.p.mu.Lock()
	defer k.p.mu.Unlock()
	mine := k.p.seen[from.commits+from.http+from.apdus:]
	for n, i := 0, 0; i < len(mine) && n < 3; i++ { // the third commit has outcome and report; then the screen says so
		switch e := mine[i]; {
		case e.kind == "commit":
			n++
		case strings.HasPrefix(e.kind, "http"):
			c.waited++
			c.own -= e.took
		default:
			c.own -= e.took
		}
	}
	return c
}

// age fills the journal with closed records.
func (k *Kiosk) age(tb testing.TB, records int) {
	tb.Helper()
	for at := 0; at < records; at += 500 {
		if err := k.db.Update(func(tx *bbolt.Tx) error {
			for i := at; i < at+500; i++ {
				r := topup.Record{
					Version: 1, TransNo: topup.NewTransNo(), Phase: topup.Intent, Kind: topup.Load, OrderNo: fmt.Sprintf("F%08d", i),
					Amount: 5000, Volume: 1666, Card: topup.Card{Type: "CPU", No: fmt.Sprintf("86%014d", i%300), Hash: fmt.Sprintf("%032X", i%300)},
					Load: &topup.LoadPlan{Type: 2, Terminal: k.terminal, Amount: 5000, Seq: uint16(i), HostDate: "20261124", HostTime: "101112"},
				}
				for _, p := range []topup.Phase{topup.Intent, topup.Writing, topup.Written, topup.Closed} {
					r.Phase = p
					if err := k.journal.Put(tx, r); err != nil {
						return err
					}
				}
			}
			return nil
		}); err != nil {
			tb.Fatal(err)
		}
	}
}

// TestWhatATopUpCosts holds what DESIGN promises of one: commits, bytes, and
// how often a customer waits for the network.
func TestWhatATopUpCosts(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{purse, image} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := openTill(t, kind, 0)
				defer s.w.Close()
				s.serve(3) // token, first block of sequence numbers
				var sum cost
				for range 100 {
					c := s.serve(3)
					sum.commits, sum.bytes, sum.waited = sum.commits+c.commits, sum.bytes+c.bytes, max(sum.waited, c.waited)
				}
				if sum.commits != 300 {
					t.Errorf("100 top-ups back to back: %d commits, want 300", sum.commits)
				}
				if sum.waited > 2 {
					t.Errorf("a customer waited for %d calls, may for 2", sum.waited)
				}
				if mean := sum.bytes / 100; mean > 54_000 {
					t.Errorf("%d bytes written for one, may be 54,000", mean)
				}
				time.Sleep(2 * time.Minute) // the last one's acknowledgement
				c := s.serve(4)
				time.Sleep(time.Hour)
				if n := s.w.A.writer.Stats(); c.commits != 4 || n.Flushes != 2 {
					t.Errorf("alone: %d commits, want 4; %d for acknowledgements alone, want 2", c.commits, n.Flushes)
				}
			})
		})
	}
}

// BenchmarkTopUp counts what one top-up costs. Back to back, the
// acknowledgement of one rides on a commit of the next; alone, it gets a
// commit of its own. A new kiosk comes after each hundred, except where the
// journal is full of old records, which makes its tree a page deeper. bbolt
// syncs the file twice a commit. own-p99-ms is from card in to "done" without
// card and network: nothing waits for a disk here.
func BenchmarkTopUp(b *testing.B) {
	for _, kind := range []string{purse, image} {
		b.Run(kind+"/backToBack", func(b *testing.B) { benchTopUp(b, kind, 3, 0, 0) })
		b.Run(kind+"/alone", func(b *testing.B) { benchTopUp(b, kind, 4, time.Millisecond, 0) })
		b.Run(kind+"/full", func(b *testing.B) { benchTopUp(b, kind, 3, 0, 10_000) })
	}
}

func benchTopUp(b *testing.B, kind string, commits int, flush time.Duration, old int) {
	var s *till
	var sum cost
	var own []time.Duration
	var mallocs uint64
	fresh := func() {
		if s != nil {
			s.w.Close()
		}
		s = openTill(b, kind, flush)
		s.w.A.age(b, old)
		s.serve(commits) // token, first block of sequence numbers
		runtime.GC()
	}
	defer func() { s.w.Close() }()
	var m0, m1 runtime.MemStats
	for i := 0; b.Loop(); i++ {
		if i%100 == 0 && (i == 0 || old == 0) {
			b.StopTimer()
			fresh()
			b.StartTimer()
		}
		runtime.ReadMemStats(&m0)
		c := s.serve(commits)
		runtime.ReadMemStats(&m1)
		mallocs += m1.Mallocs - m0.Mallocs
		sum.commits, sum.http, sum.apdus, sum.bytes = sum.commits+c.commits, sum.http+c.http, sum.apdus+c.apdus, sum.bytes+c.bytes
		sum.waited += c.waited
		own = append(own, c.own)
	}
	n := float64(b.N)
	slices.Sort(own)
	ms := func(q int) float64 { return float64(own[(len(own)*q+99)/100-1].Microseconds()) / 1000 }
	b.ReportMetric(float64(sum.commits)/n, "commits/op")
	b.ReportMetric(2*float64(sum.commits)/n, "fsyncs/op")
	b.ReportMetric(float64(sum.bytes)/n, "diskB/op")
	b.ReportMetric(float64(sum.http)/n, "http/op")
	b.ReportMetric(float64(sum.waited)/n, "http-before-done/op")
	b.ReportMetric(float64(sum.apdus)/n, "apdus/op")
	b.ReportMetric(float64(mallocs)/n, "mallocs/op")
	b.ReportMetric(ms(50), "own-p50-ms")
	b.ReportMetric(ms(99), "own-p99-ms")
}
