package journal_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"vcckiosk/agent/journal"
	"vcckiosk/agent/topup"
	"vcckiosk/queue"
)

// steps are the versions of one purse top-up as the money path stores them.
func steps(i int) (intent, writing, written, closed topup.Record) {
	card := fmt.Sprintf("%032X", 7000+i%5)
	intent = topup.Record{
		Version: 1, TransNo: topup.NewTransNo(), Phase: topup.Intent, Kind: topup.Load,
		OrderNo: fmt.Sprintf("DD202611240000%06d", i), SubsCode: "3301001234", MeterCode: "M00012345678", Amount: 5000, Volume: 1724,
		Card:  topup.Card{Type: "CPU", No: "6217001234567890", Hash: card},
		Begun: topup.Millis(1795478400000 + i*60000), PowerSession: "1F2E3D4C5B6A7988",
		Load: &topup.LoadPlan{
			Type: 2, KeyIndex: 1, Terminal: "313131313131", Amount: 5000, Balance: 1200,
			Newest:  &topup.LogRecord{Seq: 40, Amount: 5000, Type: 2, Terminal: "313131313131", Date: "20261101", Time: "101112"},
			LogSeen: true,
		},
	}
	writing = intent
	load := *intent.Load
	writing.Load = &load
	writing.Phase, writing.AuthExpire = topup.Writing, 300
	load.Seq, load.KeyVersion, load.AlgID, load.Random, load.HostDate, load.HostTime, load.MAC2 = 41, 1, 1, "A1B2C3D4", "20261124", "101112", "AABBCCDD"
	written = writing
	seq, balance := uint16(42), uint32(6200)
	written.Phase, written.Outcome, written.Basis, written.Decided = topup.Written, topup.OutcomeWritten, topup.ByAnswer, intent.Begun+9000
	written.ReconDay, written.Rev = "20261124", 1
	written.Observed = topup.Observed{SeqAfter: &seq, BalanceAfter: &balance, TAC: "01020304"}
	closed = written
	closed.Phase, closed.AckRev, closed.AckState = topup.Closed, 1, topup.SettledState
	return intent, writing, written, closed
}

type books struct {
	db      *bbolt.DB
	writer  *queue.Writer
	outbox  *queue.Outbox
	journal *journal.Journal
}

func openBooks(t testing.TB, path string) *books {
	t.Helper()
	b := &books{}
	var err error
	if b.db, err = queue.OpenFile(context.Background(), path, queue.FileOptions{NoSync: true, Reserve: -1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.db.Close() })
	b.writer = queue.NewWriter(b.db, queue.WriterOptions{Reserve: -1})
	if b.outbox, err = queue.NewOutbox(b.writer, queue.Options{}); err != nil {
		t.Fatal(err)
	}
	if b.journal, err = journal.Open(b.writer); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *books) do(t testing.TB, fns ...func(*bbolt.Tx) error) {
	t.Helper()
	err := b.writer.Do(context.Background(), func(tx *bbolt.Tx) error {
		for _, fn := range fns {
			if err := fn(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (b *books) put(r topup.Record) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error { return b.journal.Put(tx, r) }
}

func (b *books) topUp(t testing.TB, i int) topup.Record {
	t.Helper()
	intent, writing, written, closed := steps(i)
	b.do(t, b.put(intent))
	b.do(t, b.put(writing))
	var id uint64
	b.do(t, b.put(written), func(tx *bbolt.Tx) (err error) {
		id, err = b.outbox.Put(tx, queue.Item{Kind: "report", Ref: string(written.TransNo), Rev: 1, Lane: written.Card.Hash, Created: time.UnixMilli(1795478400000)})
		return err
	})
	b.writer.Later(func(tx *bbolt.Tx) error {
		if err := b.outbox.Remove(tx, id); err != nil {
			return err
		}
		return b.journal.Put(tx, closed)
	})
	return closed
}

// A kiosk's flash memory wears out by bytes, so the cost is a promise: three
// commits and at most 54 KB for a top-up, the acknowledgement included.
func TestTopUpsCostThreeCommitsAndFiftyFourKilobytes(t *testing.T) {
	t.Parallel()
	b := openBooks(t, filepath.Join(t.TempDir(), "agent.db"))
	b.topUp(t, 0)
	const n = 100
	before, stats := b.db.Stats(), b.writer.Stats()
	for i := range n {
		b.topUp(t, i+1)
	}
	after := b.db.Stats()
	d := after.Sub(&before)
	commits := int(b.writer.Stats().Commits - stats.Commits)
	bytes := int(d.TxStats.GetPageAlloc()) + commits*4096 // bbolt does not count the meta page
	t.Logf("per top-up: commits %.2f, writes %.2f, %.1f KB", float64(commits)/n, float64(d.TxStats.GetWrite())/n, float64(bytes)/n/1024)
	if commits != 3*n {
		t.Errorf("%d top-ups took %d commits", n, commits)
	}
	if bytes > n*54<<10 {
		t.Errorf("a top-up writes %d bytes", bytes/n)
	}
}

// BenchmarkOpen reads a journal of 10,000 closed records with four versions
// each, as at every start of the daemon.
func BenchmarkOpen(b *testing.B) {
	k := openBooks(b, filepath.Join(b.TempDir(), "agent.db"))
	for at := 0; at < 10_000; at += 500 {
		var puts []func(*bbolt.Tx) error
		for i := at; i < at+500; i++ {
			intent, writing, written, closed := steps(i)
			puts = append(puts, k.put(intent), k.put(writing), k.put(written), k.put(closed))
		}
		k.do(b, puts...)
	}
	for b.Loop() {
		if _, err := journal.Open(k.writer); err != nil {
			b.Fatal(err)
		}
	}
}
