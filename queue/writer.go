package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Store is the file a Writer writes; *bbolt.DB is one.
type Store interface {
	Update(fn func(*bbolt.Tx) error) error
	View(fn func(*bbolt.Tx) error) error
}

var (
	// ErrFull: the commit failed cleanly for want of space. Nothing happened;
	// the same may be tried again when there is room.
	ErrFull = errors.New("no space left for agent.db")
	// ErrInDoubt: a commit failed and nobody knows whether it happened. The
	// Writer takes nothing more; the process must end and read the file again.
	ErrInDoubt = errors.New("commit in doubt")
)

// WriterOptions may be zero.
type WriterOptions struct {
	// Reserve is the space in bytes that is kept allocated beyond what the file
	// uses, so that a full disk cannot keep an open record from its outcome.
	// Default 16 MB, negative: none. It needs a Store that is a *bbolt.DB.
	Reserve int64
	// Flush is how long an acknowledgement waits for a commit to ride on before
	// it gets one of its own; default 60 s.
	Flush time.Duration
	Log   *slog.Logger
}

// Writer is the only caller of Update on its store. All methods may be called
// from any goroutine.
type Writer struct {
	store Store
	flush time.Duration
	log   *slog.Logger

	mu       sync.Mutex // held for a whole commit
	room     *reserve   // nil: none
	known    string     // bucket names as the file's own list has them
	lateMu   sync.Mutex
	late     []func(*bbolt.Tx) error
	wake     chan struct{}
	poisoned chan struct{}
	stats    WriterStats
}

// WriterStats counts since the start of the process.
type WriterStats struct {
	Commits uint64 // transactions that reached the disk
	Rode    uint64 // acknowledgements that rode on another's commit
	Flushes uint64 // commits made for acknowledgements alone
	Dropped uint64 // acknowledgements that failed and were left out
}

// NewWriter makes the writer of s.
func NewWriter(s Store, o WriterOptions) *Writer {
	if o.Flush == 0 {
		o.Flush = 60 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	w := &Writer{store: s, flush: o.Flush, log: o.Log, wake: make(chan struct{}, 1), poisoned: make(chan struct{})}
	if db, ok := s.(*bbolt.DB); ok && o.Reserve >= 0 {
		w.room = &reserve{path: db.Path(), want: o.Reserve}
		if o.Reserve == 0 {
			w.room.want = defaultReserve
		}
	}
	return w
}

// Do runs fn once, in a transaction, after the acknowledgements that are
// waiting, and returns when it is committed. An error of fn rolls back and is
// returned as it is; so does a panic, which then goes on: nothing happened and
// the Writer stays usable. A ctx that has ended keeps fn from starting and
// never interrupts it. Neither fn nor an OnCommit function may call Do.
//
// ErrFull means that nothing happened, ErrInDoubt that nobody knows.
func (w *Writer) Do(ctx context.Context, fn func(*bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.commit(fn)
}

// commit needs w.mu.
func (w *Writer) commit(fn func(*bbolt.Tx) error) error {
	select {
	case <-w.poisoned:
		return ErrInDoubt
	default:
	}
	late := w.takeLate()
	defer func() { w.giveBack(late) }() // unless they were committed or lost with the process
	for {
		before, err := w.txid()
		if err != nil {
			return w.poison(fmt.Errorf("read: %w", err))
		}
		var own error // fn's word, or a late one's: roll-back, not a failed commit
		bad := -1
		err = w.store.Update(func(tx *bbolt.Tx) error {
			if own = w.room.ensure(tx.Size()); own != nil {
				return own
			}
			for i, l := range late {
				if own = guard(l, tx); own != nil {
					bad = i
					return own
				}
			}
			if fn != nil {
				if own = fn(tx); own != nil {
					return own
				}
			}
			own = w.listBuckets(tx)
			return own
		})
		switch {
		case err == nil:
			w.stats.Commits++
			w.stats.Rode += uint64(len(late))
			if fn == nil {
				w.stats.Flushes++
			}
			late = nil
			return nil
		case own != nil && bad >= 0:
			// bbolt has no save points: roll back and begin again without it. fn
			// has not run yet.
			w.stats.Dropped++
			w.log.Error("acknowledgement not stored, it will be repeated", "err", own)
			late = append(late[:bad:bad], late[bad+1:]...)
			continue
		case own != nil:
			return own
		case noSpace(err):
			// The file still ends its history where it did: no meta page was
			// written, and what was written elsewhere is free space.
			if after, verr := w.txid(); verr == nil && after == before {
				return fmt.Errorf("%w: %w", ErrFull, err)
			}
		}
		return w.poison(err)
	}
}

// guard runs an acknowledgement. One that panics would do so again at every
// commit, so it counts as failed.
func guard(fn func(*bbolt.Tx) error, tx *bbolt.Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return fn(tx)
}

// noSpace: bbolt v1.5.0 wraps what goes wrong while it grows the file without
// keeping the error itself, hence the look at the text.
func noSpace(err error) bool {
	if errors.Is(err, berrors.ErrMaxSizeReached) {
		return true
	}
	for _, e := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, e) || strings.Contains(err.Error(), e.Error()) {
			return true
		}
	}
	return false
}

func (w *Writer) txid() (id int, err error) {
	err = w.store.View(func(tx *bbolt.Tx) error { id = tx.ID(); return nil })
	return id, err
}

func (w *Writer) poison(cause error) error {
	close(w.poisoned)
	return fmt.Errorf("%w: %w", ErrInDoubt, cause)
}

func (w *Writer) takeLate() []func(*bbolt.Tx) error {
	w.lateMu.Lock()
	defer w.lateMu.Unlock()
	late := w.late
	w.late = nil
	return late
}

func (w *Writer) giveBack(late []func(*bbolt.Tx) error) {
	if len(late) == 0 {
		return
	}
	w.lateMu.Lock()
	defer w.lateMu.Unlock()
	w.late = append(late, w.late...)
	w.poke() // they may need a commit of their own
}

func (w *Writer) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// View runs a read-only transaction.
func (w *Writer) View(fn func(*bbolt.Tx) error) error { return w.store.View(fn) }

// Later lets fn ride on the next commit, or on one of its own after the flush
// time. A crash before then loses it. It may run more than once, each time
// after a roll-back of the time before, so what it does outside the transaction
// belongs into tx.OnCommit. One that fails or panics is dropped with a line in
// the log; the commit it was to ride on goes on without it.
func (w *Writer) Later(fn func(*bbolt.Tx) error) {
	w.lateMu.Lock()
	w.late = append(w.late, fn)
	w.lateMu.Unlock()
	w.poke()
}

// Flush commits what waits, if anything does.
func (w *Writer) Flush(ctx context.Context) error {
	if w.waiting() == 0 {
		return nil
	}
	return w.Do(ctx, nil)
}

func (w *Writer) waiting() int {
	w.lateMu.Lock()
	defer w.lateMu.Unlock()
	return len(w.late)
}

// Run gives waiting acknowledgements a commit of their own when none came
// along in time, and a last one when ctx ends. It sleeps while nothing waits.
func (w *Writer) Run(ctx context.Context) error {
	last := func() error {
		err := w.Flush(context.WithoutCancel(ctx))
		if errors.Is(err, ErrFull) { // costs a repetition of what waited, nothing else
			w.log.Warn("acknowledgements not stored, they will be repeated", "err", err)
			return nil
		}
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return last()
		case <-w.wake:
		}
		if w.waiting() == 0 {
			continue // it has ridden already
		}
		select {
		case <-ctx.Done():
			return last()
		case <-time.After(w.flush):
		}
		if err := w.Flush(ctx); err != nil && !errors.Is(err, ErrFull) && ctx.Err() == nil {
			return err
		}
	}
}

// Poisoned is closed once a commit is in doubt.
func (w *Writer) Poisoned() <-chan struct{} { return w.poisoned }

// Stats counts what was committed.
func (w *Writer) Stats() WriterStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}
