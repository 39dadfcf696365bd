package reconcile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func ptr(n int) *int { return &n }

func no(c string) string { return strings.Repeat(c, 32) }

// day has one row of each kind.
func day() []Row {
	base := Row{
		DeviceID: "QC0001", OrgCode: "SU0105", SubsCode: "1400123456", CardNo: "8600000012345601",
		Amount: 5000, Volume: 1666, Count: ptr(7), Result: ptr(0), State: Settled, WriteTime: "20260801093000",
	}
	row := func(c, order string, f func(*Row)) Row {
		r := base
		r.TransNo, r.OrderNo = no(c), order
		f(&r)
		return r
	}
	return []Row{
		row("B", "O2", func(r *Row) {
			r.Result, r.State, r.Reversed, r.WriteTime = ptr(1), GivenBack, true, "20260801120000"
		}),
		row("A", "O1", func(*Row) {}),
		row("C", "订单|3%\x01", func(r *Row) { r.Result, r.State, r.Count, r.PayType = ptr(2), Waiting, nil, "WX" }),
		row("D", "O4", func(r *Row) { r.Result, r.State = ptr(3), Pending }),
	}
}

// golden compares with a file of testdata; UPDATE_GOLDEN=1 writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func TestDayFileIsTheGoldenOne(t *testing.T) {
	t.Parallel()
	body, totals, bad := Write(day())
	if len(bad) != 0 {
		t.Fatalf("left out: %v", bad)
	}
	golden(t, "QC_QC0001_20260801.txt", body)
	golden(t, "QC_QC0001_20260801.sum", totals.Line())
	back, err := Read(body)
	if err != nil || back.Bad != 0 {
		t.Fatalf("read back: %v, %v", err, back)
	}
	if err := back.Check(totals.Line()); err != nil {
		t.Error(err)
	}
	again, _, _ := Write(back.Rows)
	if !bytes.Equal(again, body) {
		t.Errorf("read and written again it is another file:\n%s", again)
	}
	if want := day()[2]; !reflect.DeepEqual(back.Rows[1], want) {
		t.Errorf("row of special characters: %+v, want %+v", back.Rows[1], want)
	}
}

func TestRowsThatCannotBeWrittenAreNamedAndHideNoOther(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		f    func(*Row)
		want string
	}{
		{"number of another form", func(r *Row) { r.TransNo = strings.ToLower(r.TransNo) }, "终端流水号"},
		{"no order", func(r *Row) { r.OrderNo = "" }, "订单号"},
		{"order too long", func(r *Row) { r.OrderNo = strings.Repeat("x", 65) }, "订单号: 65 bytes, at most 64"},
		{"not UTF-8", func(r *Row) { r.CardNo = "\xff" }, "卡号"},
		{"negative amount", func(r *Row) { r.Amount = -1 }, "金额(分)"},
		{"no such result", func(r *Row) { r.Result = ptr(4) }, "写卡结果"},
		{"no such time", func(r *Row) { r.WriteTime = "20260230000000" }, "写卡时间"},
		{"no state", func(r *Row) { r.State = "" }, "上报状态"},
		{"twice", func(r *Row) { r.TransNo = no("B") }, "twice"},
	} {
		rows := day()
		c.f(&rows[1])
		body, totals, bad := Write(rows)
		if len(bad) != 1 || !strings.Contains(bad[0].What, c.want) || totals.Rows != 3 || bytes.Count(body, []byte("\n")) != 4 {
			t.Errorf("%s: %v, %d rows", c.name, bad, totals.Rows)
		}
	}
}

func TestAnswersAreReadWhateverTheOrderOfTheirColumns(t *testing.T) {
	t.Parallel()
	body := "\xEF\xBB\xBF订单状态|金额|extra|气量|订单号|终端流水号|对账结果\r\n" +
		"S|100|x|33|O1|" + no("A") + "|0\r\n" +
		"R|100||33|O2|" + no("B") + "|4009\r\n"
	tab, err := Read([]byte(body))
	if err != nil || tab.Bad != 0 {
		t.Fatalf("%v, %v", err, tab.Faults)
	}
	want := []Row{
		{TransNo: no("A"), OrderNo: "O1", Amount: 100, Volume: 33, State: Settled, Verdict: "0"},
		{TransNo: no("B"), OrderNo: "O2", Amount: 100, Volume: 33, State: GivenBack, Verdict: "4009"},
	}
	if !reflect.DeepEqual(tab.Rows, want) {
		t.Errorf("got %+v", tab.Rows)
	}
	if tab.Totals.Amount != 200 || tab.Totals.Volume != 66 {
		t.Errorf("totals %+v", tab.Totals)
	}
}

func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	const header = "终端流水号|订单号|金额(分)|气量|上报状态\n"
	good := no("A") + "|O1|100|33|S\n"
	for _, c := range []struct {
		name, body string
		err        error
		faults     []string // one per bad row
	}{
		{"empty", "", ErrForm, nil},
		{"header alone", header, nil, nil},
		{"cut in a row", header + good[:20], ErrCut, nil},
		{"web page", "<html>login</html>\n", ErrForm, nil},
		{"column missing", "终端流水号|订单号|金额(分)|气量\n", ErrForm, nil},
		{"column twice", "订单号|" + header, ErrForm, nil},
		{"sixty-five columns", strings.Repeat("x|", 60) + header, ErrForm, nil},
		{"too many rows", header + strings.Repeat("\n", maxRows+1), ErrForm, nil},
		{"too large", strings.Repeat("x", MaxFile+1), ErrForm, nil},
		{"too few cells", header + good + no("B") + "|O1\n", nil, []string{"2 cells"}},
		{"too many cells", header + strings.Replace(good, "|S", "|S|S", 1), nil, []string{"6 cells"}},
		{"number twice", header + good + good, nil, []string{"twice"}},
		{"amount in yuan", header + strings.Replace(good, "|100|", "|1.00|", 1), nil, []string{"金额(分)"}},
		{"amount with a sign", header + strings.Replace(good, "|100|", "|-100|", 1), nil, []string{"金额(分)"}},
		{"amount of twenty digits", header + strings.Replace(good, "|100|", "|99999999999999999999|", 1), nil, []string{"金额(分)"}},
		{"state is a word", header + strings.Replace(good, "|S", "|OK", 1), nil, []string{"上报状态"}},
		{"no state", header + strings.Replace(good, "|S", "|", 1), nil, []string{"上报状态"}},
		{"half an escape", header + strings.Replace(good, "O1", "O%4", 1), nil, []string{"订单号"}},
		{"escape of no text", header + strings.Replace(good, "O1", "%FF", 1), nil, []string{"订单号"}},
		{"control character", header + strings.Replace(good, "O1", "O\x1b[2J", 1), nil, []string{"订单号"}},
		{"NUL", header + strings.Replace(good, "O1", "O\x00", 1), nil, []string{"订单号"}},
		{"not UTF-8", header + strings.Replace(good, "O1", "\xd5\xc5", 1), nil, []string{"UTF-8"}},
		{"line of 5000 bytes", header + strings.Repeat("x", 5000) + "\n" + good, nil, []string{"5000 bytes"}},
		{"empty line", header + "\n" + good, nil, []string{"1 cells"}},
	} {
		tab, err := Read([]byte(c.body))
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
			continue
		}
		if err != nil {
			continue
		}
		if tab.Bad != len(c.faults) {
			t.Errorf("%s: set aside %v", c.name, tab.Faults)
			continue
		}
		for i, want := range c.faults {
			if !strings.Contains(tab.Faults[i].What, want) || tab.Faults[i].Line == 0 || strings.Contains(tab.Faults[i].What, "O1") {
				t.Errorf("%s: %+v, want %q", c.name, tab.Faults[i], want)
			}
		}
	}
}

func TestASumThatDoesNotFit(t *testing.T) {
	t.Parallel()
	body, totals, _ := Write(day())
	tab, err := Read(body)
	if err != nil {
		t.Fatal(err)
	}
	good := string(totals.Line())
	if err := tab.Check([]byte(strings.ToUpper(strings.Replace(good, "\n", "\r\n", 1)))); err != nil {
		t.Errorf("upper case and CRLF: %v", err)
	}
	for name, line := range map[string]string{
		"empty": "", "words": "all is well", "one row less": "3" + good[1:], "another amount": strings.Replace(good, "|20000|", "|20001|", 1),
		"another volume": strings.Replace(good, "|6664|", "|6665|", 1), "another hash": good[:len(good)-3] + "zz\n", "endless": strings.Repeat("1", 1000),
	} {
		if line == good {
			t.Fatalf("%s is the good sum", name)
		}
		if err := tab.Check([]byte(line)); !errors.Is(err, ErrSum) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A file of which a part has arrived.
	for _, cut := range []int{len(body) - 1, bytes.LastIndexByte(body[:len(body)-1], '\n') + 1} {
		part, err := Read(body[:cut])
		if err == nil {
			err = part.Check(totals.Line())
		}
		if err == nil {
			t.Errorf("the first %d of %d bytes pass", cut, len(body))
		}
	}
}

func TestDaysAndNames(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "2026-08-01", "20260230", "202608011", "20261301", "19700101", "２０２６０８０１"} {
		if _, err := ParseDay(bad); !errors.Is(err, ErrDay) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	d, err := ParseDay("20261231")
	if err != nil || d.Add(1) != "20270101" || d.Add(-365) != "20251231" || DayOf(d.Start()) != d || d.Start().UTC().Format("15:04") != "16:00" {
		t.Errorf("%v %v %v", d, d.Add(1), err)
	}
	if n := NamesOf("QC0001", d); n != (Names{"QC_QC0001_20261231.txt", "QC_QC0001_20261231.sum", "QR_QC0001_20261231.txt", "QR_QC0001_20261231.sum"}) {
		t.Error(n)
	}
	if f := Folder(DefaultFolder, "SU0105", "QC0001", d); f != "/recon/SU0105/20261231" {
		t.Error(f)
	}
	for pattern, want := range map[string]error{
		DefaultFolder: nil, "in/{deviceId}": nil, "/a/../b": ErrFolder, "/a/{month}": ErrFolder, "": ErrFolder, "/": ErrFolder, "/a b": ErrFolder, "//a": ErrFolder,
	} {
		if err := CheckNames(pattern, "SU0105", "QC0001"); !errors.Is(err, want) {
			t.Errorf("%q: %v", pattern, err)
		}
	}
	if err := CheckNames(DefaultFolder, "SU0105", "../x"); !errors.Is(err, ErrName) {
		t.Errorf("device ../x: %v", err)
	}
}

// FuzzRead: whatever is read is within the limits, and what was read can be
// written and read again without a change.
func FuzzRead(f *testing.F) {
	body, _, _ := Write(day())
	f.Add(body)
	f.Add([]byte("终端流水号|订单号|金额(分)|气量|上报状态\n" + no("A") + "|O1|100|33|S\n"))
	f.Add([]byte("\xEF\xBB\xBF订单状态|金额|气量|订单号|终端流水号|对账结果\r\nS|1|1|%7C%25|" + no("B") + "|4005\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tab, err := Read(b)
		if err != nil {
			if tab != nil {
				t.Error("an error and a table")
			}
			return
		}
		if len(tab.Rows)+tab.Bad != tab.lines || len(tab.Faults) > maxFaults {
			t.Errorf("%d rows and %d faults of %d lines", len(tab.Rows), tab.Bad, tab.lines)
		}
		out, totals, bad := Write(tab.Rows)
		if len(bad) != 0 {
			t.Fatalf("read, but not written: %v", bad)
		}
		again, err := Read(out)
		if err != nil || again.Bad != 0 || again.Check(totals.Line()) != nil {
			t.Fatalf("not read again: %v", err)
		}
		second, _, _ := Write(again.Rows)
		if !bytes.Equal(out, second) {
			t.Errorf("got\n%q\nthen\n%q", out, second)
		}
		res := Compare("20260801", tab.Rows, again.Rows, nil)
		if res.OnlyOurs != nil && len(res.OnlyOurs)+len(res.OnlyTheirs) != 0 {
			t.Errorf("one list against itself: %+v", res)
		}
	})
}

// TestColumnsPage writes the columns and cases of docs/reconciliation.md.
func TestColumnsPage(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("| column | field | form | at most | an answer needs it | meaning |\n|---|---|---|---|---|---|\n")
	for _, c := range Columns {
		needed := ""
		if c.Needed {
			needed = "yes"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %d bytes | %s | %s |\n", strings.Join(append([]string{c.Name}, c.Aliases...), ", "), c.Field, c.Form, c.Max, needed, c.Means)
	}
	page(t, "columns", b.String())
	b.Reset()
	b.WriteString("| class | case | alarm | meaning | next |\n|---|---|---|---|---|\n")
	for _, c := range Cases {
		alarm := ""
		if c.Alarm {
			alarm = "yes"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s; %s | %s; %s |\n", c.Code, c.Name, alarm, c.ZH, c.EN, c.NextZH, c.NextEN)
	}
	page(t, "cases", b.String())
}

// page holds a part of the page against what it must be.
func page(t *testing.T, part, want string) {
	t.Helper()
	path := filepath.Join("..", "..", "docs", "reconciliation.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+part+": written by a test -->\n", "<!-- end of "+part+" -->"
	head, rest, ok := strings.Cut(string(text), begin)
	got, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no part %s", path, part)
	}
	if got == want {
		return
	}
	if os.Getenv("UPDATE_GOLDEN") == "" {
		t.Errorf("%s: part %s is stale: UPDATE_GOLDEN=1 go test ./protocol/reconcile", path, part)
		return
	}
	if err := os.WriteFile(path, []byte(head+begin+want+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}
