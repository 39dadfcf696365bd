package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
)

func newDB(t testing.TB) *bbolt.DB {
	t.Helper()
	db, err := OpenFile(t.Context(), filepath.Join(t.TempDir(), "agent.db"), FileOptions{NoSync: true, Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func newWriter(t testing.TB, s Store) *Writer {
	t.Helper()
	return NewWriter(s, WriterOptions{Reserve: -1})
}

// note puts a word into a bucket; notes reads them all.
func note(word string) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("notes"))
		if err != nil {
			return err
		}
		n, err := b.NextSequence()
		if err != nil {
			return err
		}
		return b.Put(key(n), []byte(word))
	}
}

func notes(t testing.TB, s Store) (out []string) {
	t.Helper()
	err := s.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("notes"))
		if b == nil {
			return nil
		}
		return b.ForEach(func(_, v []byte) error { out = append(out, string(v)); return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func wantNotes(t testing.TB, s Store, want ...string) {
	t.Helper()
	if got := notes(t, s); !slices.Equal(got, want) {
		t.Errorf("on disk: %q, want %q", got, want)
	}
}

var errOwn = errors.New("own")

func failing(first func(*bbolt.Tx) error, err error) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error { return errors.Join(first(tx), err) }
}

func TestDoCommitsOrRollsBack(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	w := newWriter(t, db)
	if err := w.Do(t.Context(), note("a")); err != nil {
		t.Fatal(err)
	}
	if err := w.Do(t.Context(), func(tx *bbolt.Tx) error { _ = note("b")(tx); return errOwn }); err != errOwn { //nolint:errorlint // it is returned as it is
		t.Errorf("a function's error came back as %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	during := func(tx *bbolt.Tx) error { end(); return note("c")(tx) }
	if err := w.Do(ended, during); err != nil {
		t.Errorf("a context that ended during the commit: %v", err)
	}
	if err := w.Do(ended, note("d")); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that ended before: %v", err)
	}
	wantNotes(t, db, "a", "c")
	if got := w.Stats(); got.Commits != 2 {
		t.Errorf("stats %+v", got)
	}
}

func TestAcknowledgementsRideOnTheNextCommit(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	var log strings.Builder
	w := NewWriter(db, WriterOptions{Reserve: -1, Log: slog.New(slog.NewTextHandler(&log, nil))})
	runs := 0
	w.Later(note("ack 1"))
	w.Later(failing(note("ack 2"), errOwn))
	w.Later(func(tx *bbolt.Tx) error { _ = note("ack 3")(tx); panic("ack 3") })
	w.Later(note("ack 4"))
	if err := w.Do(t.Context(), func(tx *bbolt.Tx) error { runs++; return note("own")(tx) }); err != nil {
		t.Fatal(err)
	}
	wantNotes(t, db, "ack 1", "ack 4", "own")
	if runs != 1 {
		t.Errorf("the caller's function ran %d times", runs)
	}
	if n := strings.Count(log.String(), "acknowledgement not stored"); n != 2 {
		t.Errorf("%d lines in the log: %s", n, log.String())
	}
	if got := w.Stats(); got.Commits != 1 || got.Rode != 2 || got.Dropped != 2 {
		t.Errorf("stats %+v", got)
	}
}

func TestAcknowledgementsOutliveACommitThatDidNotHappen(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	w := newWriter(t, db)
	w.Later(note("ack 1"))
	_ = w.Do(t.Context(), failing(note("x"), errOwn))
	w.Later(note("ack 2"))
	func() {
		defer func() {
			if p := recover(); p != "stop" {
				t.Errorf("recovered %v", p)
			}
		}()
		_ = w.Do(t.Context(), func(tx *bbolt.Tx) error { _ = note("y")(tx); panic("stop") })
	}()
	wantNotes(t, db)
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantNotes(t, db, "ack 1", "ack 2")
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.Stats(); got.Commits != 1 || got.Flushes != 1 {
		t.Errorf("stats %+v", got)
	}
}

// faulty fails one Update, before or after it has happened.
type faulty struct {
	Store
	mu            sync.Mutex
	before, after error
	calls         int
}

// set changes what goes wrong and returns how many calls there were.
func (f *faulty) set(before, after error) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after = before, after
	return f.calls
}

func (f *faulty) Update(fn func(*bbolt.Tx) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.before != nil {
		// As bbolt does: the function runs, the commit fails.
		err := f.Store.Update(func(tx *bbolt.Tx) error {
			if err := fn(tx); err != nil {
				return err
			}
			return errRollback
		})
		if errors.Is(err, errRollback) {
			return f.before
		}
		return err
	}
	if err := f.Store.Update(fn); err != nil {
		return err
	}
	return f.after
}

var errRollback = errors.New("rolled back")

func TestFailedCommitIsFullOrInDoubt(t *testing.T) {
	t.Parallel()
	path := &os.PathError{Op: "write", Path: "agent.db", Err: syscall.ENOSPC}
	for _, c := range []struct {
		name          string
		before, after error
		full          bool
	}{
		{"no space, did not happen", path, nil, true},
		{"no space while growing, told in text only", fmt.Errorf("file resize error: %s", syscall.ENOSPC), nil, true}, //nolint:errorlint // bbolt tells it so
		{"quota, did not happen", syscall.EDQUOT, nil, true},
		{"no space, but it did happen", nil, path, false},
		{"device error, did not happen", syscall.EIO, nil, false},
		{"device error, but it did happen", nil, syscall.EIO, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := newDB(t)
			s := &faulty{Store: db, before: c.before, after: c.after}
			w := newWriter(t, s)
			w.Later(note("ack"))
			err := w.Do(t.Context(), note("a"))
			if errors.Is(err, ErrFull) != c.full || errors.Is(err, ErrInDoubt) == c.full {
				t.Fatalf("got %v", err)
			}
			poisoned := false
			select {
			case <-w.Poisoned():
				poisoned = true
			default:
			}
			if poisoned == c.full {
				t.Errorf("poisoned: %v", poisoned)
			}
			calls := s.set(nil, nil)
			if c.full {
				if err := w.Do(t.Context(), note("b")); err != nil {
					t.Errorf("after a full disk: %v", err)
				}
				wantNotes(t, db, "ack", "b")
				return
			}
			if err := w.Do(t.Context(), note("b")); !errors.Is(err, ErrInDoubt) || s.set(nil, nil) != calls {
				t.Errorf("a poisoned writer went on: %v", err)
			}
		})
	}
}

func TestBoltsOwnLimitIsACleanFailure(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	w := newWriter(t, db)
	if err := w.Do(t.Context(), note("a")); err != nil {
		t.Fatal(err)
	}
	db.MaxSize = 64 << 10
	big := strings.Repeat("x", 8<<10)
	var err error
	kept := 1
	for ; kept < 20; kept++ {
		if err = w.Do(t.Context(), note(big)); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("a full file: %v", err)
	}
	if n := len(notes(t, db)); n != kept {
		t.Errorf("%d notes, %d were promised", n, kept)
	}
	db.MaxSize = 0
	if err := w.Do(t.Context(), note("b")); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

func TestLonelyAcknowledgementIsFlushedAfterAMinute(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWriter(t, db)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		time.Sleep(24 * time.Hour)
		if got := w.Stats(); got.Commits != 0 {
			t.Errorf("an idle writer committed: %+v", got)
		}
		w.Later(note("a"))
		time.Sleep(30 * time.Second)
		w.Later(note("b"))
		time.Sleep(29 * time.Second)
		synctest.Wait()
		wantNotes(t, db)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wantNotes(t, db, "a", "b")
		w.Later(note("c"))
		stop()
		if err := <-done; err != nil {
			t.Errorf("stopped: %v", err)
		}
		wantNotes(t, db, "a", "b", "c")
	})
}

func TestFlushIsRepeatedWhileTheDiskIsFull(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	synctest.Test(t, func(t *testing.T) {
		s := &faulty{Store: db, before: syscall.ENOSPC}
		w := newWriter(t, s)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		w.Later(note("a"))
		time.Sleep(200 * time.Second)
		synctest.Wait()
		if n := s.set(nil, nil); n != 3 {
			t.Errorf("tried %d times in 200 s", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		wantNotes(t, db, "a")
		s.set(nil, syscall.EIO)
		w.Later(note("b"))
		time.Sleep(2 * time.Minute)
		if err := <-done; !errors.Is(err, ErrInDoubt) {
			t.Errorf("a flush in doubt ended Run with %v", err)
		}
		stop()
	})
}

func TestReserveIsAllocatedAheadOfTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	blocks := func() int64 {
		var st syscall.Stat_t
		if err := syscall.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		if st.Size != 8192 {
			t.Fatalf("length changed to %d", st.Size)
		}
		return st.Blocks * 512
	}
	r := &reserve{path: path, want: 2 << 20}
	if err := r.ensure(8192); err != nil {
		t.Fatal(err)
	}
	if r.off {
		t.Skip("this file system has no fallocate; run the tests with TMPDIR on ext4, xfs or tmpfs")
	}
	if got := blocks(); got < 8192+2<<20 {
		t.Errorf("%d bytes are allocated", got)
	}
	// No disk has room for this reserve: what there is must do, until it is used up.
	greedy := &reserve{path: path, want: 1 << 62}
	if err := greedy.ensure(8192); err != nil {
		t.Errorf("with room for a commit: %v", err)
	}
	if got := blocks(); got > 64<<20 {
		t.Errorf("a reserve that cannot be had left %d bytes allocated", got)
	}
	if err := greedy.ensure(1 << 61); !errors.Is(err, ErrFull) {
		t.Errorf("with no room for a commit: %v", err)
	}
	var none *reserve
	if err := none.ensure(1 << 61); err != nil {
		t.Errorf("without a reserve: %v", err)
	}
}
