package catalogue_test

import (
	"slices"
	"strings"
	"testing"

	"vcckiosk/protocol/catalogue"
)

// fault tells what is wrong with an interface, "" for nothing.
func fault(i catalogue.Interface) string {
	switch {
	case i.ZH == "" || i.EN == "" || i.Evidence == "" || i.Shape == "":
		return "name, evidence or shape missing"
	case (i.Method == catalogue.Push) != (i.Path == ""):
		return "path and method do not fit"
	}
	for _, fs := range [][]catalogue.Field{i.Request, i.Answer} {
		seen := map[string]catalogue.Type{}
		for _, f := range fs {
			if f.Name == "" || f.Type == "" || f.ZH == "" || f.EN == "" || f.Evidence == "" {
				return "field " + f.Name + ": incomplete"
			}
			if at := strings.LastIndex(f.Name, "."); at > 0 {
				if p := seen[f.Name[:at]]; p != catalogue.Objects && p != catalogue.Nested {
					return "field " + f.Name + ": no object it lies in"
				}
			}
			for _, n := range append([]string{f.Name}, f.Aliases...) {
				if seen[n] != "" {
					return "field " + n + ": twice"
				}
				seen[n] = f.Type
			}
		}
	}
	return ""
}

func TestTheTableIsWhole(t *testing.T) {
	t.Parallel()
	codes, places := map[string]bool{}, map[string]string{}
	for _, i := range catalogue.All() {
		if why := fault(i); why != "" {
			t.Errorf("%s: %s", i.Code, why)
		}
		if codes[i.Code] {
			t.Errorf("%s: twice", i.Code)
		}
		codes[i.Code] = true
		for _, p := range []string{i.Path, i.Fallback} {
			if p == "" {
				continue
			}
			if other := places[p]; other != "" {
				t.Errorf("%s and %s share %s", i.Code, other, p)
			}
			places[p] = i.Code
		}
	}
	var want []string
	for _, r := range [][2]int{{1001, 1002}, {2001, 2004}, {3001, 3025}, {4001, 4009}, {5001, 5005}, {6001, 6006}, {7001, 7005}} {
		for n := r[0]; n <= r[1]; n++ {
			want = append(want, itoa(n))
		}
	}
	for _, c := range want {
		if !codes[c] {
			t.Errorf("interface %s is missing", c)
		}
	}
	if len(codes) != len(want) {
		t.Errorf("%d interfaces, want %d", len(codes), len(want))
	}
}

func itoa(n int) string {
	return string([]byte{byte('0' + n/1000), byte('0' + n/100%10), byte('0' + n/10%10), byte('0' + n%10)})
}

// TestFaultsOfATableAreFound feeds the check what it must not let pass.
func TestFaultsOfATableAreFound(t *testing.T) {
	t.Parallel()
	good := catalogue.All()[0]
	if fault(good) != "" {
		t.Fatal(fault(good))
	}
	for name, spoil := range map[string]func(*catalogue.Interface){
		"no name":     func(i *catalogue.Interface) { i.ZH = "" },
		"no path":     func(i *catalogue.Interface) { i.Path = "" },
		"field twice": func(i *catalogue.Interface) { i.Request = append(i.Request, i.Request[0]) },
		"orphan":      func(i *catalogue.Interface) { f := i.Request[0]; f.Name = "no.such"; i.Request = append(i.Request, f) },
		"no type":     func(i *catalogue.Interface) { i.Request[0].Type = "" },
		"alias taken": func(i *catalogue.Interface) { i.Request[0].Aliases = []string{i.Request[1].Name} },
	} {
		bad := good
		bad.Request = slices.Clone(good.Request)
		spoil(&bad)
		if fault(bad) == "" {
			t.Errorf("%s: not found", name)
		}
	}
}

func TestAppendicesAndResultsAreInOrder(t *testing.T) {
	t.Parallel()
	for _, l := range []string{"B", "C", "D", "E", "F"} {
		if len(catalogue.Appendix(l)) == 0 || catalogue.DictType(l) == "" {
			t.Errorf("appendix %s is empty", l)
		}
	}
	if catalogue.Appendix("A") != nil {
		t.Error("appendix A is Results")
	}
	last := ""
	for _, r := range catalogue.Results() {
		if len(r.Code) < len(last) || len(r.Code) == len(last) && r.Code <= last || r.ZH == "" || r.EN == "" || r.Class == "" {
			t.Errorf("result %s: out of order or incomplete", r.Code)
		}
		last = r.Code
	}
}

// TestTheCallerMayChangeWhatItGot.
func TestTheCallerMayChangeWhatItGot(t *testing.T) {
	t.Parallel()
	a := catalogue.All()
	for i := range a {
		for j := range a[i].Request {
			a[i].Request[j].Name = "spoiled"
		}
	}
	if i, _ := catalogue.Find("3005"); i.Request[0].Name != "subsCode" {
		t.Error("one caller's change reached another")
	}
}

// TestExamplesFitTheirFields.
func TestExamplesFitTheirFields(t *testing.T) {
	t.Parallel()
	for _, i := range catalogue.All() {
		for _, f := range slices.Concat(i.Request, i.Answer) {
			switch v := catalogue.Example(f).(type) {
			case string:
				if f.Type == catalogue.Integer || f.Len > 0 && len([]rune(v)) > f.Len {
					t.Errorf("%s %s: %q", i.Code, f.Name, v)
				}
			case int:
				if f.Type != catalogue.Integer {
					t.Errorf("%s %s: %d", i.Code, f.Name, v)
				}
			}
		}
		if got := catalogue.Row(i.Answer); len(i.Answer) > 0 && len(got) == 0 {
			t.Errorf("%s: empty example", i.Code)
		}
	}
}
