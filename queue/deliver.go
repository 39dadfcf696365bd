package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// Run delivers the backlog, one request in flight, until ctx ends. It sleeps
// while nothing is due.
func (q *Outbox) Run(ctx context.Context, d Deliver) error {
	for {
		q.mu.Lock()
		q.rounds++
		q.mu.Unlock()
		it, wait, ok := q.pick()
		if !ok {
			var timer <-chan time.Time // nil when nothing will come due by itself
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
		this, done := ctx, func() {}
		if it.Spare {
			this, done = q.givingWay(ctx)
		}
		why, err := q.one(this, it, d, true)
		done()
		q.land(it.Lane)
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return nil //nolint:nilerr // stopped: the item is still there
		case why == nil && !it.Spare:
			q.relax()
		}
	}
}

// givingWay is the context of a spare item on its way: it ends when another
// item is due. done must be called, and waits for what it started.
func (q *Outbox) givingWay(ctx context.Context) (this context.Context, done func()) {
	this, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			q.mu.Lock()
			best, wait := q.next(false)
			q.mu.Unlock()
			if best != nil {
				cancel()
				return
			}
			var timer <-chan time.Time
			if wait >= 0 {
				timer = time.After(wait)
			}
			select {
			case <-this.Done():
				return
			case <-q.wake: // Run picks anew when the item has landed: no poke is lost
			case <-timer:
			}
		}
	})
	return this, func() { cancel(); wg.Wait() }
}

// pick takes the item that has been due for longest and whose lane is on the
// ground, a spare one only when there is no other. ok false: wait is the time
// until one may be due, negative for until somebody pokes.
func (q *Outbox) pick() (it Item, wait time.Duration, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	best, wait := q.next(false)
	if best == nil {
		best, wait = q.next(true)
	}
	if best == nil {
		return Item{}, wait, false
	}
	q.flying[best.Lane] = make(chan struct{})
	return best.Item, 0, true
}

// next needs q.mu. Only the first live item of a lane may go; one whose day has
// not come is not in line yet. A failing item waits for its own next try, so
// that the others of the backlog come before it.
func (q *Outbox) next(spare bool) (best *entry, wait time.Duration) {
	now := time.Now()
	wait = -1
	paused := q.until.Sub(now)
	seen := map[string]bool{}
	for _, id := range q.order {
		e := q.items[id]
		if e.settled || e.Parked != "" || seen[e.Lane] || e.Spare && !spare {
			continue
		}
		in := e.start.Sub(now)
		if in <= 0 {
			seen[e.Lane] = true
			if _, up := q.flying[e.Lane]; up || (q.busy && q.lane == e.Lane) {
				continue // its landing pokes
			}
			in = e.due.Sub(now)
		}
		if in = max(in, paused); in > 0 {
			if wait < 0 || in < wait {
				wait = in
			}
			continue
		}
		// What has failed falls behind what has not been tried.
		if best == nil || e.due.Before(best.due) {
			best = e
		}
	}
	return best, wait
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
		q.holdLane(lane, true)
		defer func() { q.holdLane(lane, false); <-q.live }()
	case <-ctx.Done():
		return ctx.Err()
	}
	tried := map[uint64]int{} // item -> revision
	for {
		q.mu.Lock()
		up := q.flying[lane]
		var next *Item
		if up == nil {
			for _, id := range q.order {
				e := q.items[id]
				if e.Lane != lane || e.settled || e.Parked != "" || time.Until(e.start) > 0 {
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
		why, err := q.one(ctx, *next, d, false)
		q.land(lane)
		if err != nil {
			return err
		}
		if why != nil {
			return fmt.Errorf("deliver item %d: %w", next.ID, why)
		}
	}
}

// holdLane keeps the backlog from a lane while somebody stands before the
// machine for it.
func (q *Outbox) holdLane(lane string, on bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lane, q.busy = lane, on
	q.poke()
}

// one delivers one item whose lane the caller holds. why is nil when it was
// settled; err is the end of everything.
func (q *Outbox) one(ctx context.Context, it Item, d Deliver, backlog bool) (why, err error) {
	out := d(ctx, it)
	if out.Settle == nil {
		r := Retry{}
		if out.Retry != nil {
			r = *out.Retry
		}
		if r.Err == nil {
			r.Err = errors.New("not delivered")
		}
		if ctx.Err() == nil || !backlog { // to be told to stop is no failure
			q.failed(it, r, backlog)
		}
		return r.Err, nil
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
		// The answer is here: it is stored even if nobody waits for it any more.
		err := q.w.Do(context.WithoutCancel(ctx), settle)
		switch {
		case errors.Is(err, ErrInDoubt):
			return nil, fmt.Errorf("settle item %d: %w", it.ID, err)
		case err != nil:
			// One item that cannot be settled must not end the process again and
			// again.
			q.failed(it, Retry{Err: err}, backlog)
			return err, nil
		}
		return q.gone(it, backlog), nil
	}
	q.setSettled(it, true)
	q.w.Later(func(tx *bbolt.Tx) (err error) {
		done := false
		defer func() {
			if !done { // an error or a panic: the Writer drops it, we try again
				q.setSettled(it, false)
				q.failed(it, Retry{Err: errors.Join(errors.New("not settled"), err)}, false)
			}
		}()
		if err = settle(tx); err != nil {
			return err
		}
		done = true
		tx.OnCommit(func() {
			q.setSettled(it, false) // in case it is still there
			_ = q.gone(it, false)
		})
		return nil
	})
	return nil, nil
}

var errIdle = errors.New("settled without consequence")

// gone makes sure that a settlement has done something about its item. One that
// left it as it was would have it sent again at once, and for ever.
func (q *Outbox) gone(it Item, backlog bool) error {
	q.mu.Lock()
	e := q.items[it.ID]
	same := e != nil && e.Rev == it.Rev && e.Parked == "" && e.Attempts == it.Attempts && !e.start.After(time.Now()) && e.Created.Equal(it.Created)
	q.mu.Unlock()
	if !same {
		return nil
	}
	q.failed(it, Retry{Err: errIdle}, backlog)
	return errIdle
}

func (q *Outbox) setSettled(it Item, on bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.items[it.ID]; e != nil && e.Rev == it.Rev {
		e.settled = on
	}
	q.poke()
}

// failed schedules another try of an item, in which its lane waits. Without
// word from the platform the whole backlog also slows down: it may be the
// endpoint that fails.
func (q *Outbox) failed(it Item, r Retry, backlog bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	after := min(r.After, maxAfter)
	after += time.Duration(q.o.Rand() * 0.05 * float64(after)) // not all kiosks in the same second
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
		e.due = now.Add(after)
		if after <= 0 {
			e.due = now.Add(q.jitter(e.Attempts))
		}
		if n := e.Attempts; n&(n-1) == 0 { // stored at 1, 2, 4, 8 ...: a restart need not know more
			q.w.Later(q.storeAttempts(e.Item))
		}
	}
	switch {
	case after > 0 && r.All:
		q.pause(after)
	case after <= 0 && backlog && !it.Spare: // what is long fails more often than the endpoint
		q.level = min(q.level+1, q.topLevel())
		q.pause(q.jitter(q.level))
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
	if q.level > 0 {
		q.pause(q.jitter(q.level))
	}
}

// pause needs q.mu. It never shortens what the platform has asked for.
func (q *Outbox) pause(d time.Duration) {
	if until := time.Now().Add(d); until.After(q.until) {
		q.until = until
	}
}
