package topup

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// cell is one meeting of a phase with an evidence, named by what Decide makes
// of it.
type cell struct {
	phase     Phase
	judgement Judgement
	why       string
}

func (c cell) String() string {
	return strings.TrimSpace(fmt.Sprintf("%-10s %-13s %s", c.phase, c.judgement, c.why))
}

var (
	openPhases    = []Phase{Writing, Unknown}
	settledPhases = []Phase{Written, NotWritten, Closed, Paying, Paid, Refunding, Refunded}
)

// verdicts are all verdicts decide.go can give, with the phases they belong
// to. The test holds this table against the source: a new verdict must be
// entered here, and then be reached.
var verdicts = []struct {
	judgement Judgement
	why       string
	phases    []Phase
}{
	{IsNotWritten, "no changing command was sent", []Phase{Intent}},
	{IsUnknown, "salvaged record proves nothing", []Phase{Intent}},
	{Settled, "", settledPhases},
	{IsUnknown, "card not read", openPhases},
	{IsUnknown, "plan is sealed", openPhases},
	{IsUnknown, "record without a plan", openPhases},

	{IsWritten, "card confirmed the load", openPhases},
	{IsWritten, "own record in the card's log", openPhases},
	{NeedsSequence, "sequence not read", openPhases},
	{IsNotWritten, "online sequence unchanged", openPhases},
	{IsUnknown, "online sequence went back", openPhases},
	{IsUnknown, "sequence used, log not read", openPhases},
	{IsUnknown, "sequence used, log does not reach back", openPhases},
	{IsNotWritten, "sequence used by another terminal", openPhases},
	{IsUnknown, "sequence used, no record of it", openPhases},

	{IsUnknown, "content of another size", openPhases},
	{IsUnknown, "stored plan is damaged", openPhases},
	{IsWritten, "count is the order's", openPhases},
	{IsNotWritten, "content unchanged", openPhases},
	{IsUnknown, "content is neither before, target nor our prefix", openPhases},
	{RollForward, "torn inside our own plan", []Phase{Writing}},
	{RollForward, "torn inside our own plan, order still ours", openPhases},
	{IsUnknown, "torn inside our own plan, order no longer ours", openPhases},
	{NeedsHolder, "torn inside our own plan", openPhases},
}

// damagedOnly reports whether no sound record in right hands meets c; the
// sweep must show it.
func damagedOnly(c cell) bool {
	switch c.why {
	case "salvaged record proves nothing", "record without a plan", "stored plan is damaged", "content of another size",
		"online sequence went back":
		return true
	case "": // a settled record is not asked about
		return true
	case "card confirmed the load": // 80 52 is sent in Writing and never again
		return c.phase == Unknown
	}
	return false
}

// inSource reads every Verdict of decide.go.
func inSource(t *testing.T) map[cell]bool {
	t.Helper()
	names := map[string]Judgement{
		"Settled": Settled, "IsWritten": IsWritten, "IsNotWritten": IsNotWritten, "IsUnknown": IsUnknown,
		"NeedsSequence": NeedsSequence, "NeedsHolder": NeedsHolder, "RollForward": RollForward,
	}
	file, err := parser.ParseFile(token.NewFileSet(), "decide.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[cell]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		lit, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		if name, is := lit.Type.(*ast.Ident); !is || name.Name != "Verdict" {
			return true
		}
		var c cell
		for _, e := range lit.Elts {
			kv, keyed := e.(*ast.KeyValueExpr)
			if !keyed {
				t.Fatal("a Verdict without field names")
			}
			switch v := kv.Value.(type) {
			case *ast.Ident:
				if kv.Key.(*ast.Ident).Name == "Judgement" {
					c.judgement = names[v.Name]
				}
			case *ast.BasicLit:
				if kv.Key.(*ast.Ident).Name == "Why" {
					c.why, _ = strconv.Unquote(v.Value)
				}
			}
		}
		if c.judgement == "" || c.why == "" && c.judgement != Settled {
			t.Fatalf("a Verdict whose judgement or reason is not written out: %+v", c)
		}
		found[c] = true
		return true
	})
	return found
}

// judgeCells holds table, source and what was reached against each other, and
// prints how often each cell was.
func judgeCells(t *testing.T, reached map[cell]map[string]int) {
	t.Helper()
	source := inSource(t)
	all := map[cell]bool{}
	for _, v := range verdicts {
		if !source[cell{"", v.judgement, v.why}] {
			t.Errorf("not in decide.go: %s %q", v.judgement, v.why)
		}
		delete(source, cell{"", v.judgement, v.why})
		for _, p := range v.phases {
			all[cell{p, v.judgement, v.why}] = true
		}
	}
	for c := range source {
		t.Errorf("not in the table of verdicts: %v", c)
	}
	hit := 0
	for _, c := range slices.SortedFunc(maps.Keys(all), func(a, b cell) int { return cmp.Compare(a.String(), b.String()) }) {
		n := reached[c]
		delete(reached, c)
		t.Logf("purse %8d  card %8d  damaged %5d  %v", n["purse"], n["card"], n["damaged"], c)
		if n["purse"]+n["card"] == 0 && (!damagedOnly(c) || n["damaged"] == 0) {
			t.Errorf("never reached: %v", c)
			continue
		}
		hit++
	}
	for c := range reached {
		t.Errorf("reached, and not in the table of verdicts: %v", c)
	}
	fmt.Printf("cells=%d hit=%d\n", len(all), hit)
}

// sweep shows Decide what only a damaged or salvaged journal, a foreign card
// or a wrong call can: every phase, kind and plan with every evidence. Nothing
// damaged may move gas or money.
func sweep(t *testing.T) map[cell]int {
	t.Helper()
	cells := map[cell]int{}
	before := content{1, 0, 0, 0xFF, 0, 0}
	good, err := planFrom(before)
	if err != nil {
		t.Fatal(err)
	}
	spoilt := good
	spoilt.Order = slices.Clone(good.Order[1:])
	short := good
	short.Before = good.Before[:2]
	newest := LogRecord{Seq: 4, Type: 2}
	records := []Record{{}, {Kind: Script}, {Kind: Load}, {Kind: Image}, {Kind: "other", Load: &LoadPlan{}, Image: &ImagePlan{}}}
	sound := map[int]bool{}
	for _, p := range []*Plan{nil, &spoilt, &short, {}} {
		records = append(records, Record{Kind: Image, Image: &ImagePlan{Plan: p}})
	}
	for _, n := range []*LogRecord{nil, &newest} {
		for _, seen := range []bool{false, true} {
			sound[len(records)] = true
			records = append(records, Record{Kind: Load, Load: &LoadPlan{Type: 2, Seq: 5, Newest: n, LogSeen: seen}})
		}
	}
	sound[len(records)] = true
	records = append(records, Record{Kind: Image, Image: &ImagePlan{Plan: &good}})

	evidence := []Evidence{{}, {Image: &ImageEvidence{}}}
	for _, c := range [][]byte{{}, before[:3], before[:], good.Target, bytes.Repeat([]byte{0xFF}, len(before))} {
		for _, h := range []Holder{HolderUnasked, HolderOurs, HolderNotOurs} {
			for _, here := range []bool{false, true} {
				evidence = append(evidence, Evidence{Image: &ImageEvidence{Content: c, Here: here, Holder: h}})
			}
		}
	}
	for _, s := range []LogState{LogUnread, LogRefused, LogFull, LogRoom} {
		for _, log := range [][]LogRecord{nil, {newest}, {{Seq: 5, Type: 2}, newest}} {
			for _, a := range []Answer{NoAnswer, Committed, Refused} {
				for seq := range uint16(8) {
					evidence = append(evidence,
						Evidence{Purse: &PurseEvidence{Answer: a, Log: log, State: s, Seq: seq, SeqRead: true}},
						Evidence{Purse: &PurseEvidence{Answer: a, Log: log, State: s}})
				}
			}
		}
	}
	for i, r := range records {
		for _, r.Phase = range slices.Concat([]Phase{Intent}, openPhases, settledPhases) {
			for _, r.Salvaged = range []bool{false, true} {
				for _, e := range evidence {
					v := Decide(r, e)
					cells[cell{r.Phase, v.Judgement, v.Why}]++
					if !sound[i] && slices.Contains(openPhases, r.Phase) && v.Judgement != IsUnknown {
						t.Errorf("a damaged record, and yet %+v", v)
					}
					if r.Salvaged && r.Phase == Intent && v.Judgement != IsUnknown {
						t.Errorf("a salvaged record, and yet %+v", v)
					}
				}
			}
		}
	}
	return cells
}
