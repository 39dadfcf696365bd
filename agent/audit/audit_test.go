package audit

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"go.etcd.io/bbolt"

	"vcckiosk/agent/topup"
)

func openDB(t testing.TB) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "x.db"), 0o600, &bbolt.Options{NoSync: true, NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func update(t testing.TB, db *bbolt.DB, f func(tx *bbolt.Tx) error) {
	t.Helper()
	if err := db.Update(f); err != nil {
		t.Fatal(err)
	}
}

func list(t testing.TB, db *bbolt.DB, n int) (out []Entry) {
	t.Helper()
	if err := db.View(func(tx *bbolt.Tx) (err error) { out, err = List(tx, n); return err }); err != nil {
		t.Fatal(err)
	}
	return out
}

var noon = time.UnixMilli(1795478400000)

func TestEntriesComeBackInOrder(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	if got := list(t, db, 5); len(got) != 0 {
		t.Errorf("in nothing there is %v", got)
	}
	for i := range 5 {
		update(t, db, func(tx *bbolt.Tx) error {
			// The clock goes back; the order stays.
			return Append(tx, noon.Add(-time.Duration(i)*time.Hour), DaemonStart, map[string]string{"i": strconv.Itoa(i)})
		})
	}
	got := list(t, db, 3)
	if len(got) != 3 || got[0].N != 3 || got[0].Attrs["i"] != "2" || got[2].Attrs["i"] != "4" || got[2].Event != DaemonStart || got[2].At != noon.Add(-4*time.Hour).UnixMilli() {
		t.Errorf("got %+v", got)
	}
	if got := list(t, db, 0); got != nil {
		t.Errorf("none were asked for: %v", got)
	}
	if err := db.View(Verify); err != nil {
		t.Error(err)
	}
}

func TestEntryIsBounded(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	attrs := map[string]string{}
	for i := range 100 {
		attrs[fmt.Sprintf("%03d", i)] = strings.Repeat("漢", 1000)
	}
	update(t, db, func(tx *bbolt.Tx) error { return Append(tx, noon, TopupRefused, attrs) })
	e := list(t, db, 1)[0]
	if len(e.Attrs) != maxAttrs {
		t.Errorf("%d attributes", len(e.Attrs))
	}
	for k, v := range e.Attrs {
		if k > "011" || len(v) > maxValue || !utf8.ValidString(v) || strings.ContainsRune(v, utf8.RuneError) {
			t.Errorf("%s: %d bytes %q", k, len(v), v[len(v)-4:])
		}
	}
}

func TestAlteredAndRemovedEntriesAreNoticed(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(b *bbolt.Bucket, k, v []byte) error{
		"altered": func(b *bbolt.Bucket, k, v []byte) error {
			return b.Put(k, bytes.Replace(v, []byte(`"i":"2"`), []byte(`"i":"9"`), 1))
		},
		"removed": func(b *bbolt.Bucket, k, _ []byte) error { return b.Delete(k) },
	} {
		db := openDB(t)
		for i := range 5 {
			update(t, db, func(tx *bbolt.Tx) error {
				return Append(tx, noon, KeyPromoted, map[string]string{"i": strconv.Itoa(i)})
			})
		}
		update(t, db, func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte("audit"))
			c := b.Cursor()
			c.First()
			c.Next()
			k, v := c.Next()
			return spoil(b, bytes.Clone(k), bytes.Clone(v))
		})
		if err := db.View(Verify); !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "entry 3") {
			t.Errorf("%s: %v", name, err)
		}
		if got := list(t, db, 9); len(got) != 4 {
			t.Errorf("%s: %d entries are left", name, len(got))
		}
	}
}

func TestOldEntriesAreTrimmed(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	update(t, db, func(tx *bbolt.Tx) error {
		for i := range Keep + 500 {
			if err := Append(tx, noon, DaemonStart, map[string]string{"i": strconv.Itoa(i)}); err != nil {
				return err
			}
		}
		return nil
	})
	got := list(t, db, 2*Keep)
	if len(got) != Keep || got[0].N != 501 || got[Keep-1].N != Keep+500 {
		t.Errorf("%d entries", len(got))
	}
	if err := db.View(Verify); err != nil {
		t.Error(err)
	}
}

// constants reads the events from the source: a constant that nobody put into
// the catalogue would alarm without words.
func constants(t *testing.T) (out []Event) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "events.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := v.Type.(*ast.Ident); !ok || id.Name != "Event" {
			return true
		}
		s, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, Event(s))
		return true
	})
	return out
}

func TestCatalogueHasEveryEventOnceInBothLanguages(t *testing.T) {
	t.Parallel()
	seen := map[Event]bool{}
	for _, d := range Catalogue {
		if seen[d.Event] {
			t.Errorf("%s is there twice", d.Event)
		}
		seen[d.Event] = true
		area, what, ok := strings.Cut(string(d.Event), ".")
		if !ok || area == "" || what == "" || strings.ToLower(string(d.Event)) != string(d.Event) {
			t.Errorf("%q is no name for an event", d.Event)
		}
		if !strings.ContainsFunc(d.ZH, func(r rune) bool { return unicode.Is(unicode.Han, r) }) || d.EN == "" || d.Next == "" {
			t.Errorf("%s has no words: %+v", d.Event, d)
		}
		if d.Severity != Info && d.Severity != Warning && d.Severity != Critical {
			t.Errorf("%s: severity %q", d.Event, d.Severity)
		}
		if d.Alarm && d.Severity == Info {
			t.Errorf("%s: an alarm nobody need look at", d.Event)
		}
		if got, ok := Lookup(d.Event); !ok || got != d {
			t.Errorf("%s is not found", d.Event)
		}
	}
	all := constants(t)
	if len(all) < 20 {
		t.Errorf("found only %d constants", len(all))
	}
	for _, e := range all {
		if !seen[e] {
			t.Errorf("%s is not in the catalogue", e)
		}
	}
	for _, a := range []topup.Alarm{topup.AlarmConflict, topup.AlarmUnknownOrder, topup.AlarmUnproven, topup.AlarmOverdue} {
		if d, ok := Lookup(Event(a)); !ok || !d.Alarm {
			t.Errorf("alarm %s of a top-up is not an alarm here", a)
		}
	}
	if _, ok := Lookup("no.such"); ok {
		t.Error("found what is not there")
	}
}

func FuzzEntry(f *testing.F) {
	f.Add([]byte(`{"at":1,"event":"daemon.start","attrs":{"a":"b"}}`))
	f.Add([]byte(`{"attrs":null}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) == 0 {
			return
		}
		db := openDB(t)
		update(t, db, func(tx *bbolt.Tx) error {
			if _, err := lines.Append(tx, body); err != nil {
				return err
			}
			return Append(tx, noon, DaemonStart, nil)
		})
		got := list(t, db, 9)
		if n := len(got); n < 1 || got[n-1].Event != DaemonStart || got[n-1].N != 2 {
			t.Errorf("%q hides its successor: %+v", body, got)
		}
		if err := db.View(Verify); err != nil {
			t.Error(err)
		}
	})
}
