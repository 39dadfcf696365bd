package catalogue_test

import (
	_ "embed"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"vcckiosk/protocol/catalogue"
)

//go:embed testdata/tables.md
var tables string

// row is one row of a table of the document.
type row struct {
	line          int
	code          string // of the interface, "" for the error answer
	answer        bool
	name, kind    string
	length        int // 0: not said
	required      bool
	requiredKnown bool
}

// documentRows reads the document's tables. A row with a shifted column keeps
// what can be told from it.
func documentRows(text string) (rows []row, appendix map[string]string) {
	heading := regexp.MustCompile(`^## (\d{4})`)
	appendix = map[string]string{}
	code, answer, inAppendix := "", true, ""
	for n, l := range strings.Split(text, "\n") {
		switch {
		case heading.MatchString(l):
			code, inAppendix = heading.FindStringSubmatch(l)[1], ""
		case strings.HasPrefix(l, "### 请求参数"):
			answer = false
		case strings.HasPrefix(l, "### 返回参数"), strings.HasPrefix(l, "#### 错误情况下返回参数"):
			answer = true
		case strings.HasPrefix(l, "# ") && len(l) > 3:
			inAppendix = l[2:3]
		case !strings.Contains(l, "|") || strings.HasPrefix(l, "参数名称") || strings.HasPrefix(l, "--") || strings.HasPrefix(l, "地址类型 | 说明"):
		case inAppendix != "":
			cells := strings.SplitN(l, "|", 2)
			appendix[inAppendix+strings.TrimSpace(cells[0])] = strings.TrimSpace(cells[1])
		default:
			cells := strings.Split(l, "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			r := row{line: n + 1, code: code, answer: answer, name: cells[0], kind: cells[1]}
			r.length, _ = strconv.Atoi(cells[2])
			last := cells[len(cells)-1]
			r.required, r.requiredKnown = last == "Y", last == "Y" || last == "N"
			rows = append(rows, r)
		}
	}
	return rows, appendix
}

// look finds a row's field in the catalogue.
func look(r row) (catalogue.Field, bool) {
	fields := catalogue.Outcome()
	if r.code != "" {
		i, known := catalogue.Find(r.code)
		if !known {
			return catalogue.Field{}, false
		}
		fields = append(i.Request, catalogue.Common()...)
		if r.answer {
			fields = i.Answer
		}
	}
	for _, f := range fields {
		if f.Name == r.name || f.Doc == r.name {
			return f, true
		}
	}
	return catalogue.Field{}, false
}

// differs tells how a field differs from the document's row.
func differs(r row, f catalogue.Field) string {
	kind := string(f.Type)
	if f.Type == catalogue.Bytes {
		kind = "string" // the document's word for the part of a form
	}
	switch {
	case kind != r.kind:
		return fmt.Sprintf("type %s, the document says %s", kind, r.kind)
	case r.length != 0 && f.Len != r.length:
		return fmt.Sprintf("length %d, the document says %d", f.Len, r.length)
	case r.requiredKnown && f.Required != r.required:
		return fmt.Sprintf("required %t, the document says %t", f.Required, r.required)
	case f.Evidence != catalogue.Documented:
		return "stands in the document and is marked " + string(f.Evidence)
	}
	return ""
}

// TestEveryRowOfTheDocumentIsInTheCatalogue.
func TestEveryRowOfTheDocumentIsInTheCatalogue(t *testing.T) {
	t.Parallel()
	rows, appendix := documentRows(tables)
	interfaces := map[string]bool{}
	for _, r := range rows {
		interfaces[r.code] = true
		f, known := look(r)
		if !known {
			t.Errorf("line %d: %s %s is not in the catalogue", r.line, r.code, r.name)
			continue
		}
		if why := differs(r, f); why != "" {
			t.Errorf("line %d: %s %s: %s", r.line, r.code, r.name, why)
		}
	}
	if len(rows) < 90 || len(interfaces) != 10 {
		t.Errorf("%d rows of %d interfaces: the tables were not read", len(rows), len(interfaces))
	}
	for code, zh := range appendix {
		found := false
		for _, e := range catalogue.Appendix(code[:1]) {
			found = found || e.Code == code[1:] && e.ZH == zh && e.Evidence == catalogue.Documented
		}
		if !found {
			t.Errorf("appendix %s, %s: not in the catalogue", code, zh)
		}
	}
	if len(appendix) != 7 {
		t.Errorf("%d rows of appendices, want 7", len(appendix))
	}
	t.Logf("rows=%d interfaces=%d appendix=%d", len(rows), len(interfaces)-1, len(appendix))
}
