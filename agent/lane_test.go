package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/agent/mirror"
)

func TestTheLaneHasOneAndMessagesComeFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLane()
		lent, giveBack, err := l.lend(t.Context(), false)
		if err != nil || lent.Err() != nil {
			t.Fatal(err, lent.Err())
		}
		took := make(chan func())
		go func() {
			release, err := l.take(t.Context())
			if err != nil {
				t.Error(err)
			}
			took <- release
		}()
		synctest.Wait()
		if !errors.Is(context.Cause(lent), mirror.ErrYield) {
			t.Errorf("a message waits, and the mirror was told %v", context.Cause(lent))
		}
		select {
		case <-took:
			t.Fatal("two in the lane")
		default:
		}
		giveBack()
		release := <-took
		// What is lent while another message waits gives way at once; what is
		// firm does not.
		for _, firm := range []bool{false, true} {
			got := make(chan context.Context)
			var back func()
			go func() {
				ctx, b, err := l.lend(t.Context(), firm)
				if err != nil {
					t.Error(err)
				}
				back = b
				got <- ctx
			}()
			synctest.Wait()
			go func() {
				r, err := l.take(t.Context())
				if err != nil {
					t.Error(err)
				}
				took <- r
			}()
			synctest.Wait()
			release()
			ctx := <-got
			if gaveWay := errors.Is(context.Cause(ctx), mirror.ErrYield); gaveWay == firm {
				t.Errorf("firm %v: told %v", firm, context.Cause(ctx))
			}
			back()
			release = <-took
		}
		release()
		// Nobody waits for ever.
		hold, err := l.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.take(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if _, _, err := l.lend(ctx, true); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		hold()
		lent, giveBack, err = l.lend(t.Context(), false)
		if err != nil || lent.Err() != nil {
			t.Errorf("nobody waits any more, and the mirror was told %v", context.Cause(lent))
		}
		giveBack()
	})
}
