package simtest

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"vcckiosk/agent"
	"vcckiosk/cardreader/simcard"
	"vcckiosk/protocol/vcctest"
)

// count is what a kiosk has done to the world so far.
type count struct {
	commits, http, apdus int
	bytes, writes        int64
	mallocs              uint64
}

func (k *Kiosk) count() (c count) {
	k.p.mu.Lock()
	defer k.p.mu.Unlock()
	for _, kind := range k.p.kinds {
		switch {
		case kind == "commit":
			c.commits++
		case strings.HasPrefix(kind, "card"):
			c.apdus++
		default:
			c.http++
		}
	}
	st := k.db.Stats().TxStats
	c.bytes, c.writes = st.GetPageAlloc()+int64(c.commits)*4096, st.GetWrite() // pages, and the meta page of each commit
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	c.mallocs = m.Mallocs
	return c
}

// quick is a customer who never hesitates: card in, first order, card out.
func (k *Kiosk) quick(tb testing.TB, c *Card) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	seen := k.Agent.Screen.View().Serial
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
			for k.Agent.Status().Outbox.Depth > 0 {
				runtime.Gosched()
			}
			return
		}
	}
}

// BenchmarkTopUp counts what one top-up costs, back to back: the
// acknowledgement of one rides on a commit of the next. bbolt syncs the file
// twice a commit. ns/op is the agent's own time and the simulators': nothing
// waits for a disk or a network here.
func BenchmarkTopUp(b *testing.B) {
	for _, kind := range []string{purse, image} {
		b.Run(kind, func(b *testing.B) {
			w := NewWorld(b, vcctest.Options{Good: true}, nil)
			defer w.Close()
			var c *Card
			if kind == purse {
				c = w.AddPurse(1)
			} else {
				c = w.AddImage(1, simcard.Strict, 0)
			}
			w.A.On()
			order := 0
			next := func() {
				order++
				w.Pay(c, fmt.Sprintf("O%06d", order), 300)
				w.A.quick(b, c)
				if c.Meter != nil {
					c.Meter.Insert(c.Image)
				}
			}
			next() // token, first block of sequence numbers
			from := w.A.count()
			for b.Loop() {
				next()
			}
			to := w.A.count()
			n := float64(b.N)
			b.ReportMetric(float64(to.commits-from.commits)/n, "commits/op")
			b.ReportMetric(2*float64(to.commits-from.commits)/n, "fsyncs/op")
			b.ReportMetric(float64(to.bytes-from.bytes)/n, "diskB/op")
			b.ReportMetric(float64(to.http-from.http)/n, "http/op")
			b.ReportMetric(float64(to.apdus-from.apdus)/n, "apdus/op")
			b.ReportMetric(float64(to.mallocs-from.mallocs)/n, "mallocs/op")
		})
	}
}
