package reconcile

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// TestEveryCase has one comparison for each line of Cases and for what is in no
// list.
func TestEveryCase(t *testing.T) {
	t.Parallel()
	mine := func(f func(*Row)) *Row {
		r := day()[1]
		if f != nil {
			f(&r)
		}
		return &r
	}
	theirs := func(f func(*Row)) *Row {
		r := mine(f)
		r.DeviceID, r.OrgCode = "", "" // a platform may leave cells empty
		return r
	}
	as := func(result int, s State) func(*Row) { return func(r *Row) { r.Result, r.State = ptr(result), s } }
	other := mine(nil)
	other.WriteTime = "20260802000500"
	unfinished := mine(as(2, Waiting))
	reached := map[string]bool{}
	for _, c := range []struct {
		name         string
		ours, theirs *Row
		elsewhere    *Row
		list         string // ours, theirs, differ; "" agreed, "pending"
		want         string // case
		fields       []string
	}{
		{"alike", mine(nil), theirs(nil), nil, "", "", nil},
		{"code change failed, settled", mine(as(3, Settled)), theirs(nil), nil, "", "", nil},
		{"not written, given back", mine(as(1, GivenBack)), theirs(as(1, GivenBack)), nil, "", "", nil},
		{"not written, not listed", mine(as(1, GivenBack)), nil, nil, "", "", nil},
		{"given back, never ours", nil, theirs(as(1, GivenBack)), nil, "", "", nil},
		{"not written, undecided", mine(as(1, Pending)), theirs(as(1, Pending)), nil, "pending", "", nil},
		{"unknown, undecided", mine(as(2, Pending)), theirs(as(2, Pending)), nil, "pending", "", nil},
		{"amount", mine(nil), theirs(func(r *Row) { r.Amount++ }), nil, "differ", "amount", []string{"amount"}},
		{"gas", mine(nil), theirs(func(r *Row) { r.Volume-- }), nil, "differ", "amount", []string{"gasVolume"}},
		{"count", mine(nil), theirs(func(r *Row) { r.Count = ptr(8) }), nil, "differ", "count", []string{"count"}},
		{"count on one side", mine(nil), theirs(func(r *Row) { r.Count = nil }), nil, "", "", nil},
		{"amount and count", mine(nil), theirs(func(r *Row) { r.Amount, r.Count = 1, ptr(8) }), nil, "differ", "amountAndCount", []string{"amount", "count"}},
		{"order", mine(nil), theirs(func(r *Row) { r.OrderNo = "O9" }), nil, "differ", "identity", []string{"orderNo"}},
		{"card and amount", mine(nil), theirs(func(r *Row) { r.CardNo, r.Amount = "1", 1 }), nil, "differ", "identity", []string{"cardNo"}},
		{"unknown, not listed", mine(as(2, Pending)), nil, nil, "ours", "unknownNotListed", nil},
		{"written, not listed", mine(nil), nil, nil, "ours", "writtenNotListed", nil},
		{"not delivered, not listed", mine(as(0, Waiting)), nil, nil, "ours", "reportWaiting", nil},
		{"not delivered, listed as open", mine(as(0, Waiting)), theirs(as(2, Pending)), nil, "differ", "reportWaiting", nil},
		{"authorised, not ours", nil, theirs(as(2, Pending)), nil, "theirs", "openNotHere", nil},
		{"settled, not ours", nil, theirs(nil), nil, "theirs", "settledNotHere", nil},
		{"written, given back", mine(nil), theirs(as(1, GivenBack)), nil, "differ", "writtenGivenBack", nil},
		{"written, undecided", mine(as(0, Pending)), theirs(as(0, Pending)), nil, "differ", "writtenPending", nil},
		{"not written, settled", mine(as(1, Pending)), theirs(nil), nil, "differ", "notWrittenSettled", nil},
		{"unknown, settled", mine(as(2, Pending)), theirs(nil), nil, "differ", "unknownSettled", nil},
		{"unknown, given back", mine(as(2, Pending)), theirs(as(1, GivenBack)), nil, "differ", "unknownGivenBack", nil},
		{"ours of the next day", nil, theirs(nil), other, "differ", "otherDay", []string{"writeTime"}},
		{"theirs of the next day", mine(nil), theirs(func(r *Row) { r.WriteTime = "20260802000000" }), nil, "differ", "otherDay", []string{"writeTime"}},
		{"ours still under way", nil, theirs(as(2, Pending)), unfinished, "pending", "", nil},
		{"another day and another amount", nil, theirs(func(r *Row) { r.Amount = 1 }), other, "differ", "amount", []string{"amount"}},
		{"platform sees more", mine(nil), theirs(func(r *Row) { r.Verdict = "4006" }), nil, "differ", "platformSays", nil},
		{"platform sees nothing", mine(nil), theirs(func(r *Row) { r.Verdict = "0" }), nil, "", "", nil},
	} {
		var o, th []Row
		if c.ours != nil {
			o = []Row{*c.ours}
		}
		if c.theirs != nil {
			th = []Row{*c.theirs}
		}
		res := Compare("20260801", o, th, func(no string) (Row, bool) {
			if c.elsewhere != nil && c.elsewhere.TransNo == no {
				return *c.elsewhere, true
			}
			return Row{}, false
		})
		lists := map[string][]Difference{"ours": res.OnlyOurs, "theirs": res.OnlyTheirs, "differ": res.Differ}
		total := len(res.OnlyOurs) + len(res.OnlyTheirs) + len(res.Differ) + res.Agreed + res.Pending
		if total != 1 {
			t.Errorf("%s: stands in %d places: %+v", c.name, total, res)
			continue
		}
		switch c.list {
		case "":
			if res.Agreed != 1 {
				t.Errorf("%s: %+v", c.name, res)
			}
			continue
		case "pending":
			if res.Pending != 1 {
				t.Errorf("%s: %+v", c.name, res)
			}
			continue
		}
		l := lists[c.list]
		if len(l) != 1 || l[0].Name != c.want || !slices.Equal(l[0].Fields, c.fields) {
			t.Errorf("%s: %+v, want %s in %s", c.name, res, c.want, c.list)
			continue
		}
		d := l[0]
		reached[d.Name] = true
		if (d.Ours == nil) != (c.list == "theirs") || (d.Theirs == nil) != (c.list == "ours") {
			t.Errorf("%s: evidence %v %v", c.name, d.Ours, d.Theirs)
		}
		if wantAlarm := d.Alarm; (res.Alarms() == 1) != wantAlarm {
			t.Errorf("%s: %d alarms", c.name, res.Alarms())
		}
		if c.name == "platform sees more" && d.Code != "4006" {
			t.Errorf("%s: class %s", c.name, d.Code)
		}
	}
	codes := map[string]bool{}
	for _, c := range Cases {
		codes[c.Code] = true
		if !reached[c.Name] {
			t.Errorf("no comparison ends in case %s", c.Name)
		}
		if c.ZH == "" || c.EN == "" || c.NextZH == "" || c.NextEN == "" {
			t.Errorf("case %s: a person is told nothing", c.Name)
		}
	}
	for _, c := range strings.Fields("4005 4006 4007 4008 4009 4010 4011") {
		if !codes[c] {
			t.Errorf("no case of class %s", c)
		}
	}
}

func TestResultIsTheGoldenOne(t *testing.T) {
	t.Parallel()
	ours := day()
	theirs := day()
	theirs[1].Amount = 4000     // A
	theirs[2].State = Settled   // C: unknown here
	theirs[3].TransNo = no("E") // D only ours, E only theirs
	theirs[3].State = Settled
	res := Compare("20260801", ours, theirs, nil)
	b, err := json.MarshalIndent(res, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "result.json", append(b, '\n'))
	if res.Match[no("C")] != Settled || res.Match[no("A")] != "" || res.Match[no("E")] != "" || res.Match[no("B")] != GivenBack {
		t.Errorf("match %v", res.Match)
	}
}
