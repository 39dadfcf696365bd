package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
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
}

// NewWriter makes the writer of s.
func NewWriter(s Store, o WriterOptions) *Writer {
	if o.Flush == 0 {
		o.Flush = 60 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Writer{store: s, flush: o.Flush, log: o.Log, wake: make(chan struct{}, 1), poisoned: make(chan struct{})}
}

// Do runs fn in a transaction, after the acknowledgements that are waiting,
// and returns when it is committed. fn may be run again after a roll-back, so
// what it does outside the transaction belongs into tx.OnCommit. An error of
// fn rolls back and is returned as it is. A ctx that has ended keeps fn from
// starting and never interrupts it.
func (w *Writer) Do(ctx context.Context, fn func(*bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
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
	for {
		before, err := w.txid()
		if err != nil {
			return w.poison(fmt.Errorf("read: %w", err))
		}
		var own error // fn's word, or a late one's: roll-back, not a failed commit
		bad := -1
		err = w.store.Update(func(tx *bbolt.Tx) error {
			for i, l := range late {
				if own = l(tx); own != nil {
					bad = i
					return own
				}
			}
			if fn != nil {
				own = fn(tx)
			}
			return own
		})
		switch {
		case err == nil:
			w.stats.Commits++
			w.stats.Rode += uint64(len(late))
			if fn == nil {
				w.stats.Flushes++
			}
			return nil
		case own != nil && bad >= 0:
			// bbolt has no save points: without the bad one, once more.
			w.log.Error("acknowledgement not stored, it will be repeated", "err", own)
			late = append(late[:bad:bad], late[bad+1:]...)
			continue
		case own != nil:
			w.giveBack(late)
			return own
		case errors.Is(err, syscall.ENOSPC):
			if after, verr := w.txid(); verr == nil && after == before {
				w.giveBack(late)
				return fmt.Errorf("%w: %w", ErrFull, err)
			}
		}
		return w.poison(err)
	}
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
	w.lateMu.Lock()
	defer w.lateMu.Unlock()
	w.late = append(late, w.late...)
}

// View runs a read-only transaction.
func (w *Writer) View(fn func(*bbolt.Tx) error) error { return w.store.View(fn) }

// Later lets fn ride on the next commit, or on one of its own after the flush
// time. A crash before then loses it. One that fails is dropped with a line in
// the log; the transaction goes on without it.
func (w *Writer) Later(fn func(*bbolt.Tx) error) {
	w.lateMu.Lock()
	w.late = append(w.late, fn)
	w.lateMu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
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
	last := func() error { return w.Flush(context.WithoutCancel(ctx)) }
	for {
		select {
		case <-ctx.Done():
			return last()
		case <-w.wake:
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
