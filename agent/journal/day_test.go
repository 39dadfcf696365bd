package journal_test

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"go.etcd.io/bbolt"

	"vcckiosk/agent/topup"
)

// TestADayHasTheVersionsOfThatDay: an outcome that became another one later
// belongs to both days, each time as it stood last on that day.
func TestADayHasTheVersionsOfThatDay(t *testing.T) {
	t.Parallel()
	b := openBooks(t, filepath.Join(t.TempDir(), "agent.db"))
	on := func(r topup.Record, day string, p topup.Phase, rev int) topup.Record {
		r.ReconDay, r.Phase, r.Rev = day, p, rev
		return r
	}
	_, one, _, _ := steps(1)
	_, two, _, _ := steps(2)
	two.FailReason = `"reconDay":"20260103"` // a word of a later field in somebody's text
	b.do(t, b.put(one))
	b.do(t, b.put(on(one, "20260101", topup.Unknown, 1)))
	b.do(t, b.put(on(two, "20260101", topup.Written, 1)))
	b.do(t, b.put(on(two, "20260101", topup.Closed, 1)))
	b.do(t, b.put(on(one, "20260102", topup.Written, 2)))
	for _, reopened := range []bool{false, true} {
		if reopened {
			b = b.reopen(t)
		}
		first, high, err := b.journal.Day("20260101")
		if err != nil {
			t.Fatal(err)
		}
		wantPhases(t, "first day", first, one.OrderNo[len(one.OrderNo)-3:]+" unknown", two.OrderNo[len(two.OrderNo)-3:]+" closed")
		second, _, err := b.journal.Day("20260102")
		if err != nil {
			t.Fatal(err)
		}
		wantPhases(t, "second day", second, one.OrderNo[len(one.OrderNo)-3:]+" written")
		if none, _, err := b.journal.Day("20260103"); err != nil || len(none) != 0 {
			t.Errorf("third day: %v %v", none, err)
		}
		for from, want := range map[string]string{"": "20260101", "20260102": "20260102"} {
			if got, err := b.journal.FirstDay(from); err != nil || got != want {
				t.Errorf("first day from %q on: %q %v", from, got, err)
			}
		}
		if reopened {
			continue
		}
		_, late, _, _ := steps(3)
		err = b.writer.Do(t.Context(), func(tx *bbolt.Tx) error {
			if err := b.journal.Put(tx, on(late, "20260101", topup.Written, 1)); err != nil {
				return err
			}
			nos, err := b.journal.DaySince(tx, high, "20260101")
			if err != nil || !slices.Equal(nos, []topup.TransNo{late.TransNo}) {
				t.Errorf("since: %v %v", nos, err)
			}
			return errOwn
		})
		if !errors.Is(err, errOwn) {
			t.Fatal(err)
		}
	}
}
