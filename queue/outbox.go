package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

var bucketOutbox = []byte("outbox")

// Options of an Outbox; zero values are the defaults.
type Options struct {
	Base time.Duration // of the back-off, default 1 s
	Cap  time.Duration // of the back-off, default 300 s
	// Rand draws the jitter from [0,1); default math/rand.
	Rand func() float64
}

// Outbox holds messages until they are acknowledged. The truth is on disk;
// memory holds a copy that follows each commit, and the schedule.
type Outbox struct {
	w *Writer
	o Options

	mu     sync.Mutex
	items  map[uint64]*entry
	refs   map[string]uint64
	order  []uint64                 // ascending
	flying map[string]chan struct{} // lane -> closed when it has landed
	live   chan struct{}            // one live request at a time
	lane   string                   // the live one, while busy
	busy   bool
	level  int           // of the back-off of the whole endpoint
	until  time.Time     // nothing of the backlog before
	wake   chan struct{} // capacity 1; the truth is in items
	rounds int           // of Run, for tests: an idle outbox makes none
}

type entry struct {
	Item
	start time.Time // NotBefore on the monotonic clock; before it the item holds nobody up
	due   time.Time // of the next try; the lane waits for it
	// settled: acknowledged, the removal rides on a coming commit.
	settled bool
}

// Outcome is what became of one delivery; exactly one field of Settle and
// Retry is set.
type Outcome struct {
	// Settle carries out what the answer means, in one transaction, and itself
	// removes, parks or replaces the item it is given (as stored now).
	Settle func(tx *bbolt.Tx, it Item) error
	// Lazy: losing the settlement in a crash costs one repeated message.
	Lazy  bool
	Retry *Retry
}

// Retry asks for another try.
type Retry struct {
	Err error
	// After is what the answer asked for, 0 for the outbox's own back-off, which
	// slows the whole endpoint down. It is taken up to one hour.
	After time.Duration
	// All: After concerns the whole endpoint, not only this item's lane.
	All bool
}

// Deliver sends one item and tells what became of it.
type Deliver func(ctx context.Context, it Item) Outcome

const maxAfter = time.Hour

// NewOutbox reads what is pending. An item that does not verify is kept aside
// as parked; it is never sent and never hides another.
func NewOutbox(w *Writer, o Options) (*Outbox, error) {
	if o.Base == 0 {
		o.Base = time.Second
	}
	if o.Cap == 0 {
		o.Cap = 300 * time.Second
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	q := &Outbox{
		w: w, o: o, items: map[uint64]*entry{}, refs: map[string]uint64{}, flying: map[string]chan struct{}{},
		live: make(chan struct{}, 1), wake: make(chan struct{}, 1),
	}
	err := w.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketOutbox)
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			if len(k) != 8 {
				return nil
			}
			id := binary.BigEndian.Uint64(k)
			it, err := decodeItem(id, v)
			if err != nil {
				it = Item{ID: id, Kind: "damaged", Ref: fmt.Sprintf("%016x", id), Parked: "damaged on disk"}
			}
			q.insert(it)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	q.resume()
	return q, nil
}

// resume goes on where the last run left off: kiosks that all come back with
// the mains must not all call at once. No wait is longer than Cap from now,
// whatever the clock says.
func (q *Outbox) resume() {
	now := time.Now()
	for _, e := range q.items {
		if e.Parked != "" || e.Attempts == 0 {
			continue
		}
		e.due = now.Add(q.jitter(e.Attempts))
		if !e.Spare {
			q.level = max(q.level, min(e.Attempts, q.topLevel()))
		}
	}
	if q.level > 0 {
		q.until = now.Add(q.jitter(q.level))
	}
}

// topLevel is the first level whose pause is the longest.
func (q *Outbox) topLevel() int {
	n := 0
	for n < 62 && q.o.Base<<n < q.o.Cap && q.o.Base<<n > 0 {
		n++
	}
	return n
}

// jitter is the pause after the n-th failure: anything up to Base<<n or Cap.
func (q *Outbox) jitter(n int) time.Duration {
	pause := q.o.Cap
	if n < q.topLevel() {
		pause = q.o.Base << n
	}
	return time.Duration(q.o.Rand() * float64(pause))
}

func ref(kind, r string) string { return kind + "\x00" + r }

func key(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }

// insert needs q.mu, or nobody else around.
func (q *Outbox) insert(it Item) {
	now := time.Now()
	start := now
	if wait := it.NotBefore.Sub(now); !it.NotBefore.IsZero() && wait > 0 {
		// The clock may have jumped while we were off: no date is waited for
		// longer than it was meant to be.
		if meant := it.NotBefore.Sub(it.Created); !it.Created.IsZero() && meant > 0 {
			wait = min(wait, meant)
		}
		start = now.Add(min(wait, 48*time.Hour))
	}
	if _, known := q.items[it.ID]; !known {
		i, _ := slices.BinarySearch(q.order, it.ID)
		q.order = slices.Insert(q.order, i, it.ID)
	}
	if old := q.items[it.ID]; old != nil && q.refs[ref(old.Kind, old.Ref)] == it.ID {
		delete(q.refs, ref(old.Kind, old.Ref))
	}
	q.items[it.ID] = &entry{Item: it, start: start, due: now}
	q.refs[ref(it.Kind, it.Ref)] = it.ID
	q.poke()
}

func (q *Outbox) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Put stores it. An item of the same Kind and Ref is replaced in its place,
// sent or not, parked or not: its Rev, schedule and attempts start anew. What
// Put sets itself: ID, and Created when it is zero.
func (q *Outbox) Put(tx *bbolt.Tx, it Item) (uint64, error) {
	b, err := tx.CreateBucketIfNotExists(bucketOutbox)
	if err != nil {
		return 0, fmt.Errorf("put item: %w", err)
	}
	if it.Kind == "" || it.Ref == "" {
		return 0, errors.New("put item: no kind or reference")
	}
	if it.Created.IsZero() {
		it.Created = time.Now()
	}
	id, known := q.stored(b, it.Kind, it.Ref)
	if !known {
		if id, err = nextID(b); err != nil {
			return 0, fmt.Errorf("put item: %w", err)
		}
	}
	it.ID = id
	v, err := encodeItem(it)
	if err != nil {
		return 0, err
	}
	if err := b.Put(key(id), v); err != nil {
		return 0, fmt.Errorf("put item: %w", err)
	}
	tx.OnCommit(func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.insert(it)
	})
	return id, nil
}

// stored finds an item by what it is about, as this transaction sees it: in
// memory when it was committed, behind the newest committed one when this
// transaction has put it.
func (q *Outbox) stored(b *bbolt.Bucket, kind, r string) (uint64, bool) {
	q.mu.Lock()
	id, known := q.refs[ref(kind, r)]
	var newest uint64
	if n := len(q.order); n > 0 {
		newest = q.order[n-1]
	}
	q.mu.Unlock()
	is := func(id uint64, v []byte) bool {
		it, err := decodeItem(id, v)
		return err == nil && it.Kind == kind && it.Ref == r
	}
	if known && is(id, b.Get(key(id))) {
		return id, true
	}
	c := b.Cursor()
	for k, v := c.Seek(key(newest + 1)); len(k) == 8; k, v = c.Next() {
		if id := binary.BigEndian.Uint64(k); is(id, v) {
			return id, true
		}
	}
	return 0, false
}

// nextID never gives the number of an item that exists: the bucket's counter
// has no checksum.
func nextID(b *bbolt.Bucket) (uint64, error) {
	n := b.Sequence()
	if k, _ := b.Cursor().Last(); len(k) == 8 {
		n = max(n, binary.BigEndian.Uint64(k))
	}
	if n == math.MaxUint64 {
		return 0, errors.New("numbers used up")
	}
	return n + 1, b.SetSequence(n + 1)
}

// Remove forgets an item; it belongs into the transaction that settles it.
func (q *Outbox) Remove(tx *bbolt.Tx, id uint64) error {
	b := tx.Bucket(bucketOutbox)
	if b == nil {
		return nil
	}
	if err := b.Delete(key(id)); err != nil {
		return fmt.Errorf("remove item: %w", err)
	}
	tx.OnCommit(func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		e := q.items[id]
		if e == nil {
			return
		}
		delete(q.items, id)
		if q.refs[ref(e.Kind, e.Ref)] == id {
			delete(q.refs, ref(e.Kind, e.Ref))
		}
		if i, ok := slices.BinarySearch(q.order, id); ok {
			q.order = slices.Delete(q.order, i, i+1)
		}
		q.poke() // the next of its lane may go
	})
	return nil
}

// Park keeps an item and its reason and sends it no more until Requeue or Put.
func (q *Outbox) Park(tx *bbolt.Tx, id uint64, reason string) error {
	return q.change(tx, id, func(it *Item) { it.Parked = reason })
}

// Requeue makes a parked item live again, with its attempts forgotten.
func (q *Outbox) Requeue(tx *bbolt.Tx, id uint64) error {
	return q.change(tx, id, func(it *Item) {
		it.Parked, it.Attempts, it.FirstTry, it.NotBefore, it.LastError = "", 0, time.Time{}, time.Time{}, ""
	})
}

// ErrNoItem: there is no such item, or it cannot be read.
var ErrNoItem = errors.New("no such item in the outbox")

func (q *Outbox) change(tx *bbolt.Tx, id uint64, f func(*Item)) error {
	it, ok, err := q.Get(tx, id)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("item %d: %w", id, ErrNoItem)
	}
	f(&it)
	v, err := encodeItem(it)
	if err != nil {
		return err
	}
	if err := tx.Bucket(bucketOutbox).Put(key(id), v); err != nil {
		return fmt.Errorf("change item: %w", err)
	}
	tx.OnCommit(func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.insert(it)
	})
	return nil
}

// Get reads an item as this transaction sees it.
func (q *Outbox) Get(tx *bbolt.Tx, id uint64) (Item, bool, error) {
	b := tx.Bucket(bucketOutbox)
	if b == nil {
		return Item{}, false, nil
	}
	v := b.Get(key(id))
	if v == nil {
		return Item{}, false, nil
	}
	it, err := decodeItem(id, v)
	if err != nil {
		return Item{}, false, fmt.Errorf("item %d: %w: %w", id, ErrNoItem, err)
	}
	return it, true, nil
}

// List is a copy of everything, parked items included, oldest first.
func (q *Outbox) List() []Item {
	return q.filter(func(e *entry) bool { return true })
}

// Pending is a lane's live items, oldest first.
func (q *Outbox) Pending(lane string) []Item {
	return q.filter(func(e *entry) bool { return e.Lane == lane && e.Parked == "" })
}

func (q *Outbox) filter(want func(*entry) bool) []Item {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []Item
	for _, id := range q.order {
		if e := q.items[id]; !e.settled && want(e) {
			out = append(out, e.Item)
		}
	}
	return out
}

// Find looks an item up by what it is about.
func (q *Outbox) Find(kind, r string) (Item, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.items[q.refs[ref(kind, r)]]
	if e == nil || e.settled {
		return Item{}, false
	}
	return e.Item, true
}

// Stats is the outbox in numbers: Depth waits for delivery, Scheduled for its
// day, Parked for a person. Oldest is the creation of the oldest of Depth, zero
// when there is none. Spare items are counted by themselves.
type Stats struct {
	Depth, Scheduled, Parked int
	Oldest                   time.Time
	Spare, SpareParked       int
}

// Stats counts.
func (q *Outbox) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	var s Stats
	now := time.Now()
	for _, id := range q.order {
		e := q.items[id]
		switch {
		case e.settled:
		case e.Spare && e.Parked != "":
			s.SpareParked++
		case e.Spare:
			s.Spare++
		case e.Parked != "":
			s.Parked++
		case e.NotBefore.After(now):
			s.Scheduled++
		default:
			s.Depth++
			if s.Oldest.IsZero() || e.Created.Before(s.Oldest) {
				s.Oldest = e.Created
			}
		}
	}
	return s
}
