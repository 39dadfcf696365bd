package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, payload string
		want          error
	}{
		{"the shortest", `{"cmdId":"C1","cmd":"keyCheck"}`, nil},
		{"no arguments", `{"cmdId":"C1","cmd":"reload","args":{}}`, nil},
		{"null for arguments", `{"cmdId":"C1","cmd":"reload","args":null}`, nil},
		{"a day", `{"cmdId":"C1","cmd":"reconcile","args":{"day":"20261124"}}`, nil},
		{"a reason in Chinese", `{"cmdId":"C1","cmd":"disable","args":{"reason":"年检，明日恢复"}}`, nil},
		{"which data", `{"cmd":"syncNow","args":{"code":"3003"},"cmdId":"C1"}`, nil},

		{"unknown", `{"cmdId":"C1","cmd":"format"}`, ErrUnknown},
		{"other case", `{"cmdId":"C1","cmd":"KeyCheck"}`, ErrUnknown},
		{"an argument it does not take", `{"cmdId":"C1","cmd":"keyCheck","args":{"day":"20261124"}}`, ErrArgs},
		{"a path for a day", `{"cmdId":"C1","cmd":"reconcile","args":{"day":"../../etc"}}`, ErrArgs},
		{"a month that is none", `{"cmdId":"C1","cmd":"reconcile","args":{"day":"20261324"}}`, ErrArgs},
		{"control characters", `{"cmdId":"C1","cmd":"disable","args":{"reason":"a\nb"}}`, ErrArgs},
		{"a long reason", `{"cmdId":"C1","cmd":"disable","args":{"reason":"` + strings.Repeat("a", 129) + `"}}`, ErrArgs},

		{"nothing", ``, ErrForm},
		{"a list", `[]`, ErrForm},
		{"text", `"C1"`, ErrForm},
		{"null", `null`, ErrForm},
		{"no id", `{"cmd":"keyCheck"}`, ErrForm},
		{"no command", `{"cmdId":"C1"}`, ErrForm},
		{"id with a blank", `{"cmdId":"C 1","cmd":"keyCheck"}`, ErrForm},
		{"id as a number", `{"cmdId":1,"cmd":"keyCheck"}`, ErrForm},
		{"command with a dash", `{"cmdId":"C1","cmd":"key-check"}`, ErrForm},
		{"a field too many", `{"cmdId":"C1","cmd":"keyCheck","expire":"20261124080000"}`, ErrForm},
		{"a name in other case", `{"cmdId":"C1","cmd":"keyCheck","CMD":"disable"}`, ErrForm},
		{"an argument as a number", `{"cmdId":"C1","cmd":"reconcile","args":{"day":20261124}}`, ErrForm},
		{"an argument as an object", `{"cmdId":"C1","cmd":"reconcile","args":{"day":{}}}`, ErrForm},
		{"arguments as a list", `{"cmdId":"C1","cmd":"reload","args":[]}`, ErrForm},
		{"a name twice", `{"cmdId":"C1","cmd":"disable","cmd":"enable"}`, ErrForm},
		{"an argument twice", `{"cmdId":"C1","cmd":"disable","args":{"reason":"a","reason":"b"}}`, ErrForm},
		{"two of them", `{"cmdId":"C1","cmd":"keyCheck"}{"cmdId":"C2","cmd":"disable"}`, ErrForm},
		{"cut short", `{"cmdId":"C1","cmd":"keyCheck"`, ErrForm},
		{"not UTF-8", "{\"cmdId\":\"C1\",\"cmd\":\"disable\",\"args\":{\"reason\":\"\xff\"}}", ErrForm},
		{"too long", `{"cmdId":"C1","cmd":"keyCheck"` + strings.Repeat(" ", maxPayload) + `}`, ErrForm},
		{"too many arguments", `{"cmdId":"C1","cmd":"reload","args":{"a":"","b":"","c":"","d":"","e":"","f":"","g":"","h":"","i":""}}`, ErrForm},
	} {
		got, err := Decode([]byte(c.payload))
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if (got.ID == "C1") != !errors.Is(c.want, ErrForm) {
			t.Errorf("%s: read as %+v", c.name, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"cmdId":"C1","cmd":"reconcile","args":{"day":"20261124"}}`))
	f.Add([]byte(`{"cmdId":"C1","cmd":"disable","args":{"reason":"年检"}}`))
	f.Add([]byte(`{"a":{"b":{}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Decode(b)
		if err != nil {
			return
		}
		again, merr := json.Marshal(c)
		d, derr := Decode(again)
		if merr != nil || derr != nil || d.ID != c.ID || d.Name != c.Name || len(d.Args) != len(c.Args) {
			t.Errorf("%q is read as %+v, and again as %+v: %v", b, c, d, errors.Join(merr, derr))
		}
	})
}

func openDB(t testing.TB) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "x.db"), 0o600, &bbolt.Options{NoSync: true, NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func openLedger(t testing.TB, db *bbolt.DB) *Ledger {
	t.Helper()
	l, err := Open(db.View)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func entry(n int) Entry {
	return Entry{ID: fmt.Sprint("C", n), Name: KeyCheck, Counter: uint64(n), Digest: fmt.Sprint("d", n)}
}

func done(n int) Entry { e := entry(n); e.Result = OK; return e }

func ids(es []Entry) (out []string) {
	for _, e := range es {
		out = append(out, e.ID)
	}
	return out
}

func update(t testing.TB, db *bbolt.DB, f func(*bbolt.Tx) error) {
	t.Helper()
	if err := db.Update(f); err != nil {
		t.Fatal(err)
	}
}

// TestLedgerOverRestarts reads the ledger anew after each step: what memory
// says must be what the file says.
func TestLedgerOverRestarts(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	l := openLedger(t, db)
	same := func(step string) {
		t.Helper()
		n := openLedger(t, db)
		a, ak := l.Counter()
		b, bk := n.Counter()
		if a != b || ak != bk || !slices.Equal(l.Acks(99), n.Acks(99)) || !slices.Equal(l.Begun(), n.Begun()) || (l.Out() == nil) != (n.Out() == nil) {
			t.Errorf("%s: memory %+v, file %+v", step, l.cur, n.cur)
		}
	}
	same("empty")
	update(t, db, func(tx *bbolt.Tx) error { return l.Take(tx, entry(1), "k1") })
	same("begun")
	if len(l.Begun()) != 1 || len(l.Acks(9)) != 0 {
		t.Errorf("begun %v, to tell %v", l.Begun(), l.Acks(9))
	}
	update(t, db, func(tx *bbolt.Tx) error { return l.Finish(tx, "C1", Failed, Interrupted) })
	same("finished")
	update(t, db, func(tx *bbolt.Tx) error {
		return errors.Join(l.Take(tx, done(5), "k2"), l.SetOut(tx, &Out{ID: "C5", Since: 7, Reason: "年检"}))
	})
	same("taken out of service")
	if o := l.Out(); o == nil || o.Reason != "年检" || !slices.Equal(ids(l.Acks(9)), []string{"C1", "C5"}) {
		t.Errorf("out %+v, to tell %v", o, l.Acks(9))
	}
	if n, k := l.Counter(); n != 5 || k != "k2" {
		t.Errorf("counter %d, key %s", n, k)
	}
	l.Hush([]string{"C1", "C5", "C9"})
	if len(l.Acks(9)) != 0 {
		t.Error("what was answered is told again")
	}
	if !slices.Equal(ids(openLedger(t, db).Acks(9)), []string{"C1", "C5"}) {
		t.Error("what was answered is forgotten before it is written down")
	}
	update(t, db, func(tx *bbolt.Tx) error { return l.MarkTold(tx, []string{"C1", "C5"}) })
	same("told")
	if len(l.Acks(9)) != 0 || len(l.hushed) != 0 {
		t.Errorf("to tell %v, %d hushed", l.Acks(9), len(l.hushed))
	}
	// The platform has lost the acknowledgement and sends the command again.
	if l.Again("C5", "other") || l.Again("C9", "d9") || !l.Again("C5", "d5") {
		t.Error("which command was taken before")
	}
	if !slices.Equal(ids(l.Acks(9)), []string{"C5"}) {
		t.Errorf("to tell %v", l.Acks(9))
	}
	l.Hush([]string{"C5"})
	if len(l.Acks(9)) != 0 {
		t.Error("told for ever")
	}
	update(t, db, func(tx *bbolt.Tx) error { return l.SetOut(tx, nil) })
	same("in service")
}

func TestLedgerRefuses(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	l := openLedger(t, db)
	update(t, db, func(tx *bbolt.Tx) error { return l.Take(tx, done(5), "k") })
	before := l.cur
	for name, c := range map[string]struct {
		f    func(*bbolt.Tx) error
		want error
	}{
		"the same counter":       {func(tx *bbolt.Tx) error { e := done(5); e.ID = "X"; return l.Take(tx, e, "k") }, ErrReplayed},
		"an earlier counter":     {func(tx *bbolt.Tx) error { return l.Take(tx, done(4), "k") }, ErrReplayed},
		"an id of before":        {func(tx *bbolt.Tx) error { e := done(9); e.ID = "C5"; return l.Take(tx, e, "k") }, ErrReplayed},
		"the end of what is not": {func(tx *bbolt.Tx) error { return l.Finish(tx, "C7", OK, "") }, ErrNoEntry},
		"a second end":           {func(tx *bbolt.Tx) error { return l.Finish(tx, "C5", Failed, "") }, ErrNoEntry},
	} {
		if err := db.Update(c.f); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if !slices.Equal(l.cur.Entries, before.Entries) || l.cur.Counter != before.Counter {
			t.Errorf("%s: memory changed without a commit", name)
		}
	}
}

func TestLedgerIsBounded(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	l := openLedger(t, db)
	take := func(n int) error { return db.Update(func(tx *bbolt.Tx) error { return l.Take(tx, done(n), "k") }) }
	for n := 1; n <= MaxUntold; n++ {
		if err := take(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := take(100); !errors.Is(err, ErrBusy) {
		t.Errorf("one too many: %v", err)
	}
	if n, _ := l.Counter(); n != MaxUntold {
		t.Errorf("a command that was not taken used counter %d", n)
	}
	if len(l.Acks(5)) != 5 || l.Acks(5)[0].ID != "C1" {
		t.Errorf("to tell first: %v", ids(l.Acks(5)))
	}
	for n := 101; n < 400; n++ {
		update(t, db, func(tx *bbolt.Tx) error {
			return l.MarkTold(tx, []string{fmt.Sprint("C", n-101+1), fmt.Sprint("C", n-1)})
		})
		if err := take(n); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.cur.Entries) != keep {
		t.Errorf("%d entries", len(l.cur.Entries))
	}
	_ = db.View(func(tx *bbolt.Tx) error {
		if n := len(tx.Bucket(bucket).Get(keyLedger)); n > 64<<10 {
			t.Errorf("%d bytes", n)
		}
		return nil
	})
}

func TestDamagedLedgerTakesNothing(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func([]byte) []byte{
		"a counter put back": func(v []byte) []byte {
			return bytes.Replace(v, []byte(`"counter":5`), []byte(`"counter":1`), 1)
		},
		"empty":     func([]byte) []byte { return []byte{} },
		"cut short": func(v []byte) []byte { return v[:len(v)/2] },
	} {
		db := openDB(t)
		l := openLedger(t, db)
		update(t, db, func(tx *bbolt.Tx) error { return l.Take(tx, done(5), "k") })
		update(t, db, func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucket)
			return b.Put(keyLedger, spoil(bytes.Clone(b.Get(keyLedger))))
		})
		l = openLedger(t, db)
		if !l.Damaged() {
			t.Errorf("%s: not noticed", name)
		}
		if err := db.Update(func(tx *bbolt.Tx) error { return l.Take(tx, done(6), "k") }); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
