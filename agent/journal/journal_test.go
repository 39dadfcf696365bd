package journal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"go.etcd.io/bbolt"

	"vcckiosk/agent/journal"
	"vcckiosk/agent/topup"
)

var errOwn = errors.New("own")

func (b *books) reopen(t testing.TB) *books {
	t.Helper()
	path := b.db.Path()
	if err := errors.Join(b.writer.Flush(context.Background()), b.db.Close()); err != nil {
		t.Fatal(err)
	}
	return openBooks(t, path)
}

func phases(rs []topup.Record) (out []string) {
	for _, r := range rs {
		out = append(out, r.OrderNo[len(r.OrderNo)-3:]+" "+string(r.Phase))
	}
	return out
}

func wantPhases(t testing.TB, what string, rs []topup.Record, want ...string) {
	t.Helper()
	if got := phases(rs); !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestRecordsAreFoundByEveryKey(t *testing.T) {
	t.Parallel()
	b := openBooks(t, filepath.Join(t.TempDir(), "agent.db"))
	done := b.topUp(t, 1)
	_, writing, unknown, _ := steps(2)
	unknown.Phase, unknown.Outcome = topup.Unknown, topup.OutcomeUnknown
	b.do(t, b.put(writing))
	b.do(t, b.put(unknown))
	again, _, _, _ := steps(1) // the same order, a new number
	again.Card.Hash = done.Card.Hash
	b.do(t, b.put(again))
	owed, _, _, awaiting := steps(3)
	awaiting.Awaiting = true
	b.do(t, b.put(owed))
	b.do(t, b.put(awaiting))
	for i := range 2 {
		if i == 1 {
			b = b.reopen(t)
		}
		if d := b.journal.Damage(); len(d) != 0 {
			t.Errorf("%d: damage %v", i, d)
		}
		wantPhases(t, "by order", b.journal.ByOrder(done.OrderNo), "001 closed", "001 intent")
		wantPhases(t, "by card", b.journal.ByCard(done.Card.Hash), "001 intent")
		wantPhases(t, "unsettled", b.journal.Unsettled(), "002 unknown", "001 intent", "003 closed")
		wantPhases(t, "last", b.journal.Last(2), "003 closed", "001 intent")
		wantPhases(t, "all", b.journal.Last(99), "003 closed", "001 intent", "002 unknown", "001 closed")
		if r, ok := b.journal.Get(done.TransNo); !ok || !reflect.DeepEqual(r, done) {
			t.Errorf("%d: a settled record came back as %+v", i, r)
		}
		if r, ok := b.journal.Get(unknown.TransNo); !ok || !reflect.DeepEqual(r, unknown) {
			t.Errorf("%d: an unsettled record came back as %+v", i, r)
		}
		if _, ok := b.journal.Get(topup.NewTransNo()); ok {
			t.Errorf("%d: found what is not there", i)
		}
		versions, err := b.journal.Versions(done.TransNo)
		if err != nil {
			t.Fatal(err)
		}
		var rs []topup.Record
		for _, v := range versions {
			rs = append(rs, v.Record)
		}
		wantPhases(t, "versions", rs, "001 intent", "001 writing", "001 written", "001 closed")
		if v, err := b.journal.Versions("X"); v != nil || err != nil {
			t.Errorf("%d: versions of nothing: %v, %v", i, v, err)
		}
	}
}

func TestTransactionSeesItsOwnRecords(t *testing.T) {
	t.Parallel()
	b := openBooks(t, filepath.Join(t.TempDir(), "agent.db"))
	intent, writing, written, _ := steps(1)
	other, _, _, _ := steps(2)
	see := func(tx *bbolt.Tx, want topup.Phase) {
		t.Helper()
		r, ok, err := b.journal.GetTx(tx, intent.TransNo)
		if ok != (want != "") || err != nil || r.Phase != want {
			t.Errorf("saw %q, %v, %v; want %q", r.Phase, ok, err, want)
		}
	}
	err := b.writer.Do(t.Context(), func(tx *bbolt.Tx) error {
		see(tx, "")
		err := errors.Join(b.journal.Put(tx, intent), b.journal.Put(tx, other))
		see(tx, topup.Intent)
		return errors.Join(err, errOwn)
	})
	if !errors.Is(err, errOwn) {
		t.Fatal(err)
	}
	b.do(t, b.put(other)) // on the line that was rolled back
	b.do(t, func(tx *bbolt.Tx) error { see(tx, ""); return nil })
	if _, ok := b.journal.Get(intent.TransNo); ok {
		t.Error("a rolled-back record is in memory")
	}
	b.do(t, b.put(intent))
	b.do(t, func(tx *bbolt.Tx) error {
		see(tx, topup.Intent)
		err := b.journal.Put(tx, writing)
		see(tx, topup.Writing)
		err = errors.Join(err, b.journal.Put(tx, other), b.journal.Put(tx, written))
		see(tx, topup.Written)
		return err
	})
	if r, _ := b.journal.Get(intent.TransNo); r.Phase != topup.Written {
		t.Errorf("memory has %q", r.Phase)
	}
}

func TestRecordsThatCannotBeReadBackAreRefused(t *testing.T) {
	t.Parallel()
	b := openBooks(t, filepath.Join(t.TempDir(), "agent.db"))
	good, _, _, _ := steps(1)
	for name, spoil := range map[string]func(*topup.Record){
		"no number":       func(r *topup.Record) { r.TransNo = "" },
		"lower case":      func(r *topup.Record) { r.TransNo = "abcdefabcdefabcdefabcdefabcdefab" },
		"unknown version": func(r *topup.Record) { r.Version = 2 },
	} {
		r := good
		spoil(&r)
		if err := b.writer.Do(t.Context(), b.put(r)); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
}

// A plan holds the card's content. It is sealed on disk, and memory has nothing
// the disk has not.
func TestOpenPlanIsNeitherStoredNorKept(t *testing.T) {
	t.Parallel()
	b := openBooks(t, filepath.Join(t.TempDir(), "agent.db"))
	r, _, _, _ := steps(1)
	r.Load, r.Kind = nil, topup.Image
	secret := bytes.Repeat([]byte("PSC!"), 64)
	r.Image = &topup.ImagePlan{Count: 3, Sealed: []byte("sealed"), Plan: &topup.Plan{Before: secret, Target: secret}}
	b.do(t, b.put(r))
	got, _ := b.journal.Get(r.TransNo)
	if got.Image == nil || got.Image.Plan != nil || got.Image.Count != 3 {
		t.Errorf("in memory: %+v", got.Image)
	}
	r.Image.Count = 9 // the caller's record is the caller's
	if got, _ := b.journal.Get(r.TransNo); got.Image.Count != 3 {
		t.Error("memory follows the caller's record")
	}
	v, err := b.journal.Versions(r.TransNo)
	if err != nil || len(v) != 1 || v[0].Record.Image.Plan != nil {
		t.Errorf("on disk: %+v, %v", v, err)
	}
}

// spoil changes a stored line as a bad disk would.
func (b *books) spoil(t testing.TB, line uint64, f func(v []byte)) {
	t.Helper()
	b.do(t, func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte("journal"))
		c := bucket.Cursor()
		k, v := c.First()
		for n := uint64(1); n < line; n++ {
			k, v = c.Next()
		}
		k, v = bytes.Clone(k), bytes.Clone(v)
		f(v)
		return bucket.Put(k, v)
	})
}

func TestDamageIsNamedHidesNobodyAndProvesNothing(t *testing.T) {
	t.Parallel()
	for line := uint64(1); line <= 6; line++ {
		t.Run(fmt.Sprint("line ", line), func(t *testing.T) {
			t.Parallel()
			b := openBooks(t, filepath.Join(t.TempDir(), "agent.db"))
			i1, w1, _, c1 := steps(1)
			i2, w2, _, _ := steps(2)
			i3, _, _, _ := steps(3)
			for _, r := range []topup.Record{i1, i2, w1, c1, w2, i3} { // lines 1 to 6
				b.do(t, b.put(r))
			}
			b.spoil(t, line, func(v []byte) { v[60] ^= 4 })
			b = b.reopen(t)
			d := b.journal.Damage()
			if len(d) != 1 || d[0].N != line {
				t.Errorf("damage %v", d)
			}
			// What each record is without that line, and whether a lost line may
			// have been newer than what is left of it ("*").
			want := map[uint64][]string{
				1: {"002 writing", "003 intent"},
				2: {"002 writing", "003 intent"},
				3: {"002 writing", "003 intent"},
				4: {"001 writing*", "002 writing", "003 intent"},
				5: {"002 intent*", "003 intent"},
				6: {"002 writing*"},
			}[line]
			var got []string
			for _, r := range b.journal.Unsettled() {
				s := r.OrderNo[len(r.OrderNo)-3:] + " " + string(r.Phase)
				if r.Salvaged {
					s += "*"
				}
				got = append(got, s)
				b.do(t, func(tx *bbolt.Tx) error {
					seen, ok, err := b.journal.GetTx(tx, r.TransNo)
					if !ok || seen.Salvaged != r.Salvaged {
						t.Errorf("the transaction sees %+v, %v", seen, err)
					}
					return nil
				})
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("left: %q, want %q", got, want)
			}
			// It goes on.
			again := b.topUp(t, 4)
			b = b.reopen(t)
			if r, ok := b.journal.Get(again.TransNo); !ok || r.Phase != topup.Closed || r.Salvaged {
				t.Errorf("a top-up after the damage: %+v", r)
			}
			if len(b.journal.Damage()) != 1 {
				t.Errorf("damage after another top-up: %v", b.journal.Damage())
			}
		})
	}
}

func TestALineThatIsNoRecordIsDamage(t *testing.T) {
	t.Parallel()
	b := openBooks(t, filepath.Join(t.TempDir(), "agent.db"))
	b.topUp(t, 1)
	before := len(b.journal.Unsettled())
	b.do(t, func(tx *bbolt.Tx) error { _, err := journal.AppendLine(tx, []byte(`{"v":99}`)); return err })
	b = b.reopen(t)
	if d := b.journal.Damage(); len(d) != 1 || d[0].What != "not a record" {
		t.Errorf("damage %v", d)
	}
	if got := b.journal.Unsettled(); len(got) > before {
		t.Errorf("unsettled %v", phases(got))
	}
}

func TestTrimKeepsWhatIsOpenAndTheRestVerifies(t *testing.T) {
	t.Parallel()
	b := openBooks(t, filepath.Join(t.TempDir(), "agent.db"))
	for i := range 10 {
		b.topUp(t, i)
	}
	open, _, _, _ := steps(77)
	b.do(t, b.put(open))
	for i := range 5 {
		b.topUp(t, 100+i)
	}
	trim := func(keep, limit int) (n int) {
		b.do(t, func(tx *bbolt.Tx) (err error) { n, err = b.journal.Trim(tx, keep, limit); return err })
		return n
	}
	if n := trim(99, 100); n != 0 {
		t.Errorf("trimmed %d of what is to be kept", n)
	}
	if n := trim(12, 100); n == 0 || len(b.journal.Last(99)) != 12 {
		t.Errorf("trimmed %d lines, %d records are left", n, len(b.journal.Last(99)))
	}
	for trim(0, 3) > 0 {
	}
	left := b.journal.Last(99)
	wantPhases(t, "left", left[len(left)-1:], "077 intent")
	if len(left) != 6 {
		t.Errorf("left %q", phases(left))
	}
	gone, _, _, _ := steps(3)
	if got := b.journal.ByOrder(gone.OrderNo); len(got) != 0 {
		t.Errorf("a trimmed order is still there: %v", phases(got))
	}
	b = b.reopen(t)
	if d := b.journal.Damage(); len(d) != 0 {
		t.Errorf("damage after trimming: %v", d)
	}
	if got := b.journal.Last(99); !slices.Equal(phases(got), phases(left)) {
		t.Errorf("after a new start %q, before %q", phases(got), phases(left))
	}
}

// Ten thousand records: what a kiosk keeps.
func TestTenThousandRecordsAreSmallInMemory(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 1000
	}
	b := openBooks(t, filepath.Join(t.TempDir(), "agent.db"))
	for batch := range n / 500 {
		var fns []func(*bbolt.Tx) error
		for i := range 500 {
			intent, writing, written, closed := steps(batch*500 + i)
			fns = append(fns, b.put(intent), b.put(writing), b.put(written))
			if i%250 != 0 {
				fns = append(fns, b.put(closed))
			}
		}
		b.do(t, fns...)
	}
	b = b.reopen(t)
	b.journal = nil
	used := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := used()
	j, err := journal.Open(b.writer)
	if err != nil {
		t.Fatal(err)
	}
	after := used()
	t.Logf("%d records: %.1f MB in memory, file %.1f MB", n, float64(after-before)/(1<<20), float64(size(t, b.db))/(1<<20))
	if after > before && after-before > 8<<20 {
		t.Errorf("%d bytes in memory", after-before)
	}
	if got := len(j.Unsettled()); got != n/250 {
		t.Errorf("%d unsettled", got)
	}
	if got := len(j.Last(n + 1)); got != n || len(j.Damage()) != 0 {
		t.Errorf("%d records, damage %v", got, j.Damage())
	}
	runtime.KeepAlive(j)
	// What a top-up costs on a journal of that size.
	b.journal = j
	was := b.db.Stats()
	for i := range 50 {
		b.topUp(t, n+i)
	}
	is := b.db.Stats()
	d := is.Sub(&was)
	t.Logf("a top-up then writes %.1f KB", float64(d.TxStats.GetPageAlloc()+150*4096)/50/1024)
}

func size(t testing.TB, db *bbolt.DB) (n int64) {
	t.Helper()
	if err := db.View(func(tx *bbolt.Tx) error { n = tx.Size(); return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

func FuzzRecord(f *testing.F) {
	for i, r := range func() []topup.Record { a, b, c, d := steps(1); return []topup.Record{a, b, c, d} }() {
		r.TransNo = topup.TransNo(fmt.Sprintf("%032X", i))
		body, _ := json.Marshal(r)
		f.Add(body)
	}
	f.Add([]byte(`{"v":1,"termTransNo":"00000000000000000000000000000000","phase":"nonsense","load":{}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := journal.Decode(body)
		if err != nil {
			return
		}
		// Whatever is read as a record can be judged and stored again.
		topup.Decide(r, topup.Evidence{})
		_ = journal.Settled(r)
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		back, err := journal.Decode(again)
		if err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		twice, err := json.Marshal(back)
		if err != nil || !bytes.Equal(again, twice) {
			t.Errorf("%s became %s, %v", again, twice, err)
		}
	})
}
