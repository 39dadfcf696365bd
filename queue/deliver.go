package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// Run delivers the backlog, one request in flight, until ctx ends. It sleeps
// while nothing is due.
func (q *Outbox) Run(ctx context.Context, d Deliver) error {
	for {
		it, wait, ok := q.pick()
		if !ok {
			var timer <-chan time.Time
			if wait >= 0 {
				timer = time.After(wait)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-q.wake:
			case <-timer:
			}
			continue
		}
		settled, err := q.one(ctx, it, d, true)
		q.land(it.Lane)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // stopped: the item is still there
		case err != nil:
			return err
		case settled:
			q.relax()
		}
	}
}

// pick takes the oldest item that is due and whose lane is on the ground. Only
// the first live item of a lane may go. ok false: wait is the time until one
// may be due, negative for until somebody pokes.
func (q *Outbox) pick() (it Item, wait time.Duration, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	wait = -1
	sooner := func(d time.Duration) {
		if wait < 0 || d < wait {
			wait = d
		}
	}
	paused := q.until.Sub(now)
	seen := map[string]bool{}
	for _, id := range q.order {
		e := q.items[id]
		if e.settled || e.Parked != "" || seen[e.Lane] {
			continue
		}
		seen[e.Lane] = true
		if _, up := q.flying[e.Lane]; up {
			continue // its landing pokes
		}
		if d := max(e.due.Sub(now), paused); d > 0 {
			sooner(d)
			if paused > 0 {
				sooner(paused)
			}
			continue
		}
		q.flying[e.Lane] = make(chan struct{})
		return e.Item, 0, true
	}
	return Item{}, wait, false
}

func (q *Outbox) land(lane string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	close(q.flying[lane])
	delete(q.flying, lane)
	q.poke()
}

// Now tries each live item of one lane once, in order, whatever the back-off,
// and stops at the first that is not settled. It waits for a request of that
// lane already in flight, and may run beside the backlog of other lanes. One
// call at a time; further ones wait. The error is ctx's, the writer's, or that
// of the delivery that stopped it.
func (q *Outbox) Now(ctx context.Context, lane string, d Deliver) error {
	select {
	case q.live <- struct{}{}:
		defer func() { <-q.live }()
	case <-ctx.Done():
		return ctx.Err()
	}
	tried := map[uint64]int{}
	for {
		q.mu.Lock()
		up := q.flying[lane]
		var next *Item
		if up == nil {
			for _, id := range q.order {
				e := q.items[id]
				if e.Lane != lane || e.settled || e.Parked != "" || e.NotBefore.After(time.Now()) {
					continue
				}
				if rev, done := tried[id]; done && rev == e.Rev {
					continue
				}
				it := e.Item
				next = &it
				q.flying[lane] = make(chan struct{})
				break
			}
		}
		q.mu.Unlock()
		if up != nil {
			select {
			case <-up:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if next == nil {
			return nil
		}
		tried[next.ID] = next.Rev
		settled, err := q.one(ctx, *next, d, false)
		q.land(lane)
		if err != nil {
			return err
		}
		if !settled {
			return fmt.Errorf("item %d: not delivered", next.ID)
		}
	}
}

// one delivers one item whose lane the caller holds.
func (q *Outbox) one(ctx context.Context, it Item, d Deliver, backlog bool) (settled bool, err error) {
	out := d(ctx, it)
	if out.Settle == nil {
		if ctx.Err() == nil || !backlog {
			q.failed(it, out.Retry, backlog)
		}
		return false, nil
	}
	settle := func(tx *bbolt.Tx) error {
		cur, ok, err := q.Get(tx, it.ID)
		if err != nil {
			return err
		}
		// An answer to revision n never settles revision n+1.
		if !ok || cur.Rev != it.Rev || cur.Kind != it.Kind || cur.Ref != it.Ref {
			return nil
		}
		return out.Settle(tx, cur)
	}
	if !out.Lazy {
		if err := q.w.Do(context.WithoutCancel(ctx), settle); err != nil {
			if errors.Is(err, ErrFull) {
				q.failed(it, &Retry{Err: err}, backlog)
				return false, nil
			}
			return false, fmt.Errorf("settle item %d: %w", it.ID, err)
		}
		return true, nil
	}
	q.setSettled(it, true)
	q.w.Later(func(tx *bbolt.Tx) error {
		if err := settle(tx); err != nil {
			q.setSettled(it, false)
			return err
		}
		return nil
	})
	return true, nil
}

func (q *Outbox) setSettled(it Item, on bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.items[it.ID]; e != nil && e.Rev == it.Rev {
		e.settled = on
	}
	q.poke()
}

// failed schedules another try. A failure of the endpoint backs the whole
// backlog off (full jitter, slow reset); one that concerns the item alone
// delays nothing else.
func (q *Outbox) failed(it Item, r *Retry, backlog bool) {
	if r == nil {
		r = &Retry{}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	after := min(r.After, maxAfter)
	e := q.items[it.ID]
	if e != nil && e.Rev == it.Rev {
		e.Attempts++
		e.LastTry = now
		if e.FirstTry.IsZero() {
			e.FirstTry = now
		}
		if r.Err != nil {
			e.LastError = clip(r.Err.Error())
		}
		if after > 0 && !r.All {
			e.due = now.Add(after)
		}
		if n := e.Attempts; n&(n-1) == 0 { // stored at 1, 2, 4, 8 ...: a restart need not know more
			q.w.Later(q.storeAttempts(e.Item))
		}
	}
	switch {
	case after > 0 && r.All:
		q.until = now.Add(after + time.Duration(q.o.Rand()*0.05*float64(after)))
	case after == 0 && backlog:
		q.level = min(q.level+1, 16)
		pause := min(q.o.Cap, q.o.Base<<q.level)
		q.until = now.Add(time.Duration(q.o.Rand() * float64(pause)))
	}
	q.poke()
}

func (q *Outbox) storeAttempts(it Item) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		cur, ok, err := q.Get(tx, it.ID)
		if err != nil {
			return err
		}
		if !ok || cur.Rev != it.Rev || cur.Kind != it.Kind {
			return nil
		}
		cur.Attempts, cur.FirstTry, cur.LastError = it.Attempts, it.FirstTry, it.LastError
		v, err := encodeItem(cur)
		if err != nil {
			return err
		}
		return tx.Bucket(bucketOutbox).Put(key(it.ID), v)
	}
}

// relax is the slow reset: one success does not mean that a fleet may run.
func (q *Outbox) relax() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.level = max(0, q.level-2)
	q.until = time.Time{}
	if q.level > 0 {
		q.until = time.Now().Add(time.Duration(q.o.Rand() * float64(min(q.o.Cap, q.o.Base<<q.level)) / 4))
	}
}
