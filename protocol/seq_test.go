package protocol

import (
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

func openDB(t *testing.T) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "agent.db"), 0o600, &bbolt.Options{NoSync: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func reserveIn(db *bbolt.DB, commits *int) func(context.Context, func(*bbolt.Tx) error) error {
	return func(_ context.Context, fn func(*bbolt.Tx) error) error {
		*commits++
		return db.Update(fn)
	}
}

// setSerial stores what is reserved next.
func setSerial(t *testing.T, db *bbolt.DB, v []byte) {
	t.Helper()
	if err := db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("seq"))
		if err != nil {
			return err
		}
		return b.Put([]byte("next"), v)
	}); err != nil {
		t.Fatal(err)
	}
}

func TestNewKiosksInTheSameSecondSendDifferentNumbers(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	for _, q := range []SeqConfig{{CodeWidth: 4, SerialWidth: 14}, {CodeWidth: 4, SerialWidth: 10}} {
		seen := map[string]bool{}
		for range 20 {
			commits := 0
			n, err := (&SeqBlocks{Reserve: reserveIn(openDB(t), &commits)}).Next(t.Context())
			if err != nil || n < 1 || n > maxSerial {
				t.Fatalf("%d, %v", n, err)
			}
			seen[q.format("1002", now, n)] = true
		}
		if len(seen) != 20 {
			t.Errorf("%+v: 20 kiosks sent %d numbers", q, len(seen))
		}
	}
}

func TestSerialsAreReservedByTheThousandAndNeverRepeat(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	commits := 0
	s := &SeqBlocks{Reserve: reserveIn(db, &commits)}
	setSerial(t, db, binary.BigEndian.AppendUint64(nil, 1))
	for want := uint64(1); want <= 1500; want++ {
		if n, err := s.Next(t.Context()); err != nil || n != want {
			t.Fatalf("got %d, %v; want %d", n, err, want)
		}
	}
	if commits != 2 {
		t.Errorf("%d commits for 1500 serials", commits)
	}
	s = &SeqBlocks{Reserve: reserveIn(db, &commits)} // after a power cut
	if n, err := s.Next(t.Context()); err != nil || n != 2001 {
		t.Errorf("after a restart %d, %v; want 2001", n, err)
	}
}

func TestAFailedReservationUsesNothing(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	setSerial(t, db, binary.BigEndian.AppendUint64(nil, 7))
	full := errors.New("disk full")
	fail := true
	commits := 0
	s := &SeqBlocks{Reserve: func(ctx context.Context, fn func(*bbolt.Tx) error) error {
		if fail {
			_ = db.Update(func(tx *bbolt.Tx) error { _ = fn(tx); return full })
			return full
		}
		return reserveIn(db, &commits)(ctx, fn)
	}}
	if _, err := s.Next(t.Context()); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	fail = false
	if n, err := s.Next(t.Context()); err != nil || n != 7 {
		t.Errorf("got %d, %v", n, err)
	}
	p := settledPlatform()
	c := newTestClient(t, p, func(_ *Config, d *Deps) { d.Seq = &counter{err: full} })
	is(t, askOrder(t.Context(), c), []error{ErrNotSent, full}, []error{ErrBusiness, ErrAuth})
	if len(p.requests) != 0 {
		t.Error("a request without a serial left")
	}
}

func TestSerialsWrapAndADamagedCounterRestarts(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	set := func(v []byte) { setSerial(t, db, v) }
	commits := 0
	set(binary.BigEndian.AppendUint64(nil, maxSerial-1))
	s := &SeqBlocks{Reserve: reserveIn(db, &commits)}
	for _, want := range []uint64{maxSerial - 1, maxSerial, 1, 2} {
		if n, err := s.Next(t.Context()); err != nil || n != want {
			t.Errorf("got %d, %v; want %d", n, err, want)
		}
	}
	for _, bad := range [][]byte{{}, {1}, make([]byte, 8), binary.BigEndian.AppendUint64(nil, maxSerial+1), make([]byte, 9)} {
		set(bad)
		s := &SeqBlocks{Reserve: reserveIn(db, &commits)}
		if n, err := s.Next(t.Context()); err != nil || n < 1 || n > maxSerial {
			t.Errorf("%x: %d, %v", bad, n, err)
		}
	}
}

func TestSerialsAreUniqueAcrossGoroutines(t *testing.T) {
	t.Parallel()
	commits := 0
	s := &SeqBlocks{Reserve: reserveIn(openDB(t), &commits)}
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 700 {
				n, err := s.Next(t.Context())
				mu.Lock()
				if err != nil || seen[n] {
					t.Errorf("%d again, %v", n, err)
				}
				seen[n] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestSequenceNumberInEveryShape(t *testing.T) {
	t.Parallel()
	at := time.Date(2017, 7, 31, 16, 30, 1, 0, time.UTC) // next day in Shanghai
	for _, x := range []struct {
		q      SeqConfig
		serial uint64
		want   string
	}{
		{SeqConfig{}, 1, "6002" + "20170801003001" + "00000000000001"},
		{SeqConfig{}, maxSerial, "6002" + "20170801003001" + "99999999999999"},
		{SeqConfig{SerialWidth: 10, CodeMode: "fixed:1001"}, 1, "1001" + "20170801003001" + "0000000001"},
		{SeqConfig{SerialWidth: 10}, 9999999999, "6002" + "20170801003001" + "9999999999"},
		{SeqConfig{SerialWidth: 10}, 10000000000, "6002" + "20170801003001" + "0000000001"},
		{SeqConfig{CodeWidth: 5, SerialWidth: 13}, 42, "06002" + "20170801003001" + "0000000000042"},
		{SeqConfig{Partition: 12}, 42, "6002" + "20170801003001" + "0012" + "0000000042"},
	} {
		s := settings{Config: Config{Seq: x.q}}
		if err := s.checkSeq(); err != nil {
			t.Fatal(err)
		}
		if got := s.Seq.format("6002", at, x.serial); got != x.want {
			t.Errorf("%+v: %s, want %s", x.q, got, x.want)
		}
	}
}
