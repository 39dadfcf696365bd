package protocol

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vcckiosk/protocol/catalogue"
)

var update = flag.Bool("update", false, "write docs/protocol-coverage.md")

// shapeOf lists the fields of a request struct as the catalogue names them.
func shapeOf(t reflect.Type, prefix string) map[string]bool {
	out := map[string]bool{}
	for i := range t.NumField() {
		tag, opts, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if tag == "-" {
			continue
		}
		out[prefix+tag] = !strings.Contains(opts, "omitempty")
		inner := t.Field(i).Type
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct {
			for k, v := range shapeOf(inner, prefix+tag+".") {
				out[k] = v
			}
		}
	}
	return out
}

// TestRequestsAreWhatTheCatalogueSays compares each typed request with its rows.
func TestRequestsAreWhatTheCatalogueSays(t *testing.T) {
	t.Parallel()
	for code, request := range map[string]any{
		"3010": CardInfoRequest{}, "4006": AuthorizeRequest{}, "6002": ReportRequest{}, "6001": RegisterRequest{}, "6003": ReverseRequest{}, "6004": HeartbeatRequest{}, "6006": QueryOrderRequest{},
	} {
		have := shapeOf(reflect.TypeOf(request), "")
		i, _ := catalogue.Find(code)
		for _, f := range i.Request {
			required, has := have[f.Name]
			switch {
			case !has:
				t.Errorf("%s: %s is in the catalogue and not in the request", code, f.Name)
			case required != f.Required:
				t.Errorf("%s: %s: required %t in the catalogue, %t in the request", code, f.Name, f.Required, required)
			}
			delete(have, f.Name)
		}
		for name := range have {
			t.Errorf("%s: %s is in the request and not in the catalogue", code, name)
		}
	}
}

// covered says by which call a kiosk reaches an interface, and which test
// plays it. Interfaces that are not here go through Invoke.
var covered = map[string]struct{ call, test string }{
	"1001": {"ProveKey", "TestClientAndSimulatedPlatformAgreeInEveryReading"},
	"1002": {"ProveKey", "TestClientAndSimulatedPlatformAgreeInEveryReading"},
	"2001": {"Upload", "TestFilesOfEveryTypeArriveWhole"},
	"2002": {"Fetch", "TestNeverHalfAFileUnderTheFinalName"},
	"3001": {"Download", "TestDownloadsInEveryForm"},
	"3002": {"Download", "TestDownloadsInEveryForm"},
	"3003": {"Download", "TestDownloadsInEveryForm"},
	"3004": {"Download", "TestDownloadsInEveryForm"},
	"3005": {"Subscriber", "TestQueriesOfAnAccount"},
	"3006": {"BoundSubscribers", "TestQueriesOfAnAccount"},
	"3007": {"Subscribers", "TestQueriesOfAnAccount"},
	"3009": {"Meters", "TestQueriesOfAnAccount"},
	"3010": {"CardInfo", "TestClientAndSimulatedPlatformAgreeInEveryReading"},
	"3011": {"GasPrice", "TestQueriesOfAnAccount"},
	"3012": {"UsedGas", "TestQueriesOfAnAccount"},
	"3013": {"Deposit", "TestQueriesOfAnAccount"},
	"3014": {"UnpaidBills", "TestQueriesOfAnAccount"},
	"3015": {"Bills", "TestQueriesOfAnAccount"},
	"3016": {"Recharges", "TestQueriesOfAnAccount"},
	"3019": {"CardPrice", "TestClientAndSimulatedPlatformAgreeInEveryReading"},
	"3025": {"Dictionary", "TestQueriesOfAnAccount"},
	"4006": {"Authorize", "TestClientAndSimulatedPlatformAgreeInEveryReading"},
	"6001": {"Register", "TestRegistrationAndClock"},
	"6002": {"Report", "TestClientAndSimulatedPlatformAgreeInEveryReading"},
	"6003": {"Reverse", "TestClientAndSimulatedPlatformAgreeInEveryReading"},
	"6004": {"Heartbeat", "TestClientAndSimulatedPlatformAgreeInEveryReading"},
	"6005": {"Time", "TestRegistrationAndClock"},
	"6006": {"QueryOrder", "TestClientAndSimulatedPlatformAgreeInEveryReading"},
}

// remarks are the contradictions of the document a program cannot meet: they
// are said here instead of tested.
var remarks = []struct {
	n          int
	what, says string
}{
	{9, "the introduction stands twice, once with ftps and once with sftp", "SFTP (SSH) is built; FTPS is not, see the decision records"},
	{10, "a notation with [] and {} is announced", "it is used nowhere"},
	{13, "the link to the sign's clause is misspelt", "cosmetic"},
	{30, "the notice of 3004 speaks of gas accounts", "copied from 3003; the table is of meters"},
	{35, "captions of 3005 and 3006 speak of uploading a file", "copied from 2001"},
	{37, "createTime of 3006 is called the time of an upload", "copied from 2001; it is the time of binding"},
	{40, "the document includes a page of errors", "it is the sample page of the documentation tool, with kittens; result codes here are appendix A of the catalogue"},
}

// coveragePage is docs/protocol-coverage.md.
func coveragePage() string {
	var b strings.Builder
	b.WriteString(`# Protocol coverage

Every interface of the platform's document, what is known of it and what plays it. **documented**: it stands in the document, or was read in a client of the platform. **inferred**: observed on a sister gateway, or built after its pattern. **ours**: the document has at most a title; name and shape are proposals, kept as data, and can be replaced in the configuration (` + "`[api.endpoints.CODE]`" + `: path, method, code, names, units). This page is written by a test.

| code | interface | method and path | evidence | reads | call | test |
|---|---|---|---|---|---|---|
`)
	for _, i := range catalogue.All() {
		path := "`" + i.Method + " " + i.Path + "`"
		if i.Method == catalogue.Push {
			path = "the platform calls"
		}
		if i.Fallback != "" {
			path += ", then `" + i.Fallback + "`"
		}
		var call, test string
		if i.Method == catalogue.Push {
			call, test = "`push.Decode`", "`TestPushesReachTheKiosksCode`"
		} else if c, has := covered[i.Code]; has {
			call, test = "`"+c.call+"`", "`"+c.test+"`"
		} else {
			call, test = "`Invoke`", "`TestEveryInterfaceWithFreeFieldsAnswers`"
		}
		reads := ""
		if i.Read {
			reads = "yes"
		}
		fmt.Fprintf(&b, "| %s | %s<br>%s | %s | %s | %s | %s | %s |\n", i.Code, i.ZH, i.EN, path, i.Evidence, reads, call, test)
	}
	b.WriteString("\n## Fields\n\nEvery call also has " + fieldNames(catalogue.Common()) + " in its query (1001, 1002 and 6001 no token); every answer may have " + fieldNames(catalogue.Outcome()) + ".\n")
	for _, i := range catalogue.All() {
		fmt.Fprintf(&b, "\n### %s %s, %s\n\n", i.Code, i.ZH, i.EN)
		if i.Note != "" {
			b.WriteString(i.Note + "\n\n")
		}
		b.WriteString("| | field | type | length | required | unit | also called | evidence | meaning |\n|---|---|---|---|---|---|---|---|---|\n")
		for n, fs := range [][]catalogue.Field{i.Request, i.Answer} {
			for _, f := range fs {
				length, required := "", ""
				if f.Len > 0 {
					length = fmt.Sprint(f.Len)
				}
				if f.Required {
					required = "Y"
				}
				also := f.Aliases
				if f.Doc != "" {
					also = append(slices.Clone(also), f.Doc+" (in the document's table)")
				}
				fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s | %s | %s | %s | %s, %s |\n", []string{"request", "answer"}[n], f.Name, f.Type, length, required, f.Unit, strings.Join(also, ", "), f.Evidence, f.ZH, f.EN)
			}
		}
	}
	b.WriteString("\n## A: result codes\n\n| code | meaning | what the kiosk does | evidence |\n|---|---|---|---|\n")
	for _, r := range catalogue.Results() {
		fmt.Fprintf(&b, "| %s | %s, %s | %s | %s |\n", r.Code, r.ZH, r.EN, r.Class, r.Evidence)
	}
	for _, l := range []string{"B", "C", "D", "E", "F"} {
		fmt.Fprintf(&b, "\n## %s: `%s`\n\n| code | meaning | evidence |\n|---|---|---|\n", l, catalogue.DictType(l))
		for _, e := range catalogue.Appendix(l) {
			fmt.Fprintf(&b, "| %s | %s, %s | %s |\n", e.Code, e.ZH, e.EN, e.Evidence)
		}
	}
	b.WriteString("\n## Contradictions of the document that no program meets\n\nThe others are played by `TestContradictions`.\n\n| | the document | here |\n|---|---|---|\n")
	for _, r := range remarks {
		fmt.Fprintf(&b, "| %d | %s | %s |\n", r.n, r.what, r.says)
	}
	return b.String()
}

func fieldNames(fs []catalogue.Field) string {
	var names []string
	for _, f := range fs {
		names = append(names, "`"+f.Name+"`")
	}
	return strings.Join(names, ", ")
}

// TestCoveragePageIsTrue fails when docs/protocol-coverage.md is stale, or
// names a call or a test that is not there.
func TestCoveragePageIsTrue(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "docs", "protocol-coverage.md")
	page := coveragePage()
	if *update {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil { //nolint:gosec // a page of the documentation
			t.Fatal(err)
		}
	}
	stored, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(stored) != page {
		t.Error("docs/protocol-coverage.md is stale: go test ./protocol -run TestCoveragePageIsTrue -update")
	}
	tests := ""
	for _, pattern := range []string{"*_test.go", filepath.Join("*", "*_test.go")} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			tests += string(b)
		}
	}
	client := reflect.TypeFor[*Client]()
	for code, c := range covered {
		if _, known := catalogue.Find(code); !known {
			t.Errorf("%s is not in the catalogue", code)
		}
		if _, has := client.MethodByName(c.call); !has {
			t.Errorf("%s: the client has no %s", code, c.call)
		}
		if !regexp.MustCompile(`(?m)^func ` + c.test + `\(`).MatchString(tests) {
			t.Errorf("%s: no test is called %s", code, c.test)
		}
	}
}
