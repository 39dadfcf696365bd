package conform

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"vcckiosk/protocol/catalogue"
)

//go:embed cases/*.toml
var builtIn embed.FS

// Case is one demand, as steps. docs/conformance.md explains each field.
type Case struct {
	ID     string `toml:"id"`     // unique, words with dots
	Title  string `toml:"title"`  // the demand, as a sentence
	Clause string `toml:"clause"` // of docs/contract.md, or of the document
	Orders int    `toml:"orders"` // test orders it uses up; above 0 a test card is needed
	Card   string `toml:"card"`   // memory, purse, or "" for either; with Orders only
	Steps  []Step `toml:"step"`
}

// Step is one call and what may be answered.
type Step struct {
	Call    string `toml:"call"`    // interface code
	Method  string `toml:"method"`  // instead of the catalogue's: GET or POST
	Path    string `toml:"path"`    // instead of the catalogue's
	Session string `toml:"session"` // "" the present one, none, wrong
	Sign    string `toml:"sign"`    // "" right, none, wrong
	Seq     string `toml:"seq"`     // "" new, used (that of the step before), or text

	Number string         `toml:"number"` // letter of the top-up; default A
	Order  int            `toml:"order"`  // which of the case's orders; default 1
	Fields map[string]any `toml:"fields"` // over the defaults; texts beginning with $ are looked up
	Drop   []string       `toml:"drop"`   // fields left out
	Body   string         `toml:"body"`   // instead of a JSON object of the fields
	Repeat bool           `toml:"repeat"` // the same content as the step before, under a new sequence number
	Wait   string         `toml:"wait"`   // authExpire: wait until the last authorisation is over

	As         string         `toml:"as"`          // name of the answer
	Expect     []string       `toml:"expect"`      // outcomes that are right: ok, a result code, http404, page, table
	Answer     map[string]any `toml:"answer"`      // what the answer must say besides
	Same       string         `toml:"same"`        // the answer must be that of the step of this name
	SameFields []string       `toml:"same_fields"` // only in these fields
	Unsafe     []string       `toml:"unsafe"`      // outcomes that lose money, gas or secrets
	UnsafeIf   map[string]any `toml:"unsafe_if"`   // an answer that does
	Cleanup    bool           `toml:"cleanup"`     // done whatever came before, not judged
	Loads      bool           `toml:"loads"`       // the test card is taken to hold what this answer gives
}

type caseFile struct {
	Cases []Case `toml:"case"`
}

var (
	idForm      = regexp.MustCompile(`^[a-z0-9]+([.-][a-z0-9]+)*$`)
	outcomeForm = regexp.MustCompile(`^(?:ok|page|table|lost|http[1-5][0-9]{2}|[1-9][0-9]{0,8})$`)
	pathForm    = regexp.MustCompile(`^(?:/[A-Za-z0-9_.-]+)+$`)
)

// BuiltIn returns the cases that come with the program.
func BuiltIn() ([]Case, error) {
	names, err := fs.Glob(builtIn, "cases/*.toml")
	if err != nil {
		return nil, err
	}
	var all []Case
	for _, n := range names {
		b, err := builtIn.ReadFile(n)
		if err != nil {
			return nil, err
		}
		cs, err := ParseCases(n, b)
		if err != nil {
			return nil, err
		}
		all = append(all, cs...)
	}
	return all, unique(all)
}

// ReadCases reads a file of the user's.
func ReadCases(path string) ([]Case, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read cases: %w", err)
	}
	return ParseCases(path, b)
}

// ParseCases reads cases strictly: unknown keys are errors, each names its
// place.
func ParseCases(name string, b []byte) ([]Case, error) {
	if len(b) > 1<<20 {
		return nil, fmt.Errorf("%s: longer than 1 MB", name)
	}
	var f caseFile
	if err := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(&f); err != nil {
		if strict, is := errors.AsType[*toml.StrictMissingError](err); is {
			row, col := strict.Errors[0].Position()
			return nil, fmt.Errorf("%s:%d:%d: unknown key %q", name, row, col, strings.Join(strict.Errors[0].Key(), "."))
		}
		if at, is := errors.AsType[*toml.DecodeError](err); is {
			row, col := at.Position()
			return nil, fmt.Errorf("%s:%d:%d: %w", name, row, col, err)
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for i, c := range f.Cases {
		if err := c.check(); err != nil {
			return nil, fmt.Errorf("%s: case %d %q: %w", name, i+1, c.ID, err)
		}
	}
	return f.Cases, unique(f.Cases)
}

func unique(all []Case) error {
	seen := map[string]bool{}
	for _, c := range all {
		if seen[c.ID] {
			return fmt.Errorf("two cases are called %q", c.ID)
		}
		seen[c.ID] = true
	}
	return nil
}

func (c Case) check() error {
	switch {
	case !idForm.MatchString(c.ID):
		return errors.New("id: want words of small letters and digits, with dots or dashes")
	case c.Title == "" || len(c.Steps) == 0:
		return errors.New("no title, or no step")
	case c.Orders < 0 || c.Orders > 4 || !oneOf(c.Card, "", "memory", "purse"):
		return errors.New("orders: 0 to 4; card: memory or purse")
	}
	names := map[string]bool{}
	judged := false
	for i, s := range c.Steps {
		if err := s.check(c, names); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
		names[s.As] = true
		judged = judged || !s.Cleanup
	}
	if !judged {
		return errors.New("no step is judged")
	}
	return nil
}

// moves reports whether a call can move money.
func (s Step) moves() bool {
	i, known := catalogue.Find(s.Call)
	return known && !i.Read && i.Session() && i.Code != "6004"
}

func (s Step) check(c Case, names map[string]bool) error {
	i, known := catalogue.Find(s.Call)
	switch {
	case !known || i.Method == catalogue.Push || i.Method == catalogue.Multipart:
		return fmt.Errorf("call %q: no interface that can be called here", s.Call)
	case s.moves() && c.Orders == 0:
		// Even a refused one: a platform in error might take it.
		return fmt.Errorf("call %s moves money or books: the case must name its test orders", s.Call)
	case i.Code == "1001" || i.Code == "1002":
		return errors.New("sessions are opened by the program itself")
	case s.Method != "" && !oneOf(s.Method, "GET", "POST"):
		return fmt.Errorf("method %q: want GET or POST", s.Method)
	case s.Path != "" && !pathForm.MatchString(s.Path):
		return fmt.Errorf("path %q: not a path", s.Path)
	case !oneOf(s.Session, "", "none", "wrong") || !oneOf(s.Sign, "", "none", "wrong"):
		return errors.New("session and sign: none, wrong, or nothing")
	case s.Order < 0 || s.Order > max(c.Orders, 1):
		return fmt.Errorf("order %d: the case has %d", s.Order, c.Orders)
	case s.Same != "" && !names[s.Same]:
		return fmt.Errorf("same %q: no earlier step of this name", s.Same)
	case s.Wait != "" && s.Wait != "authExpire":
		return errors.New("wait: authExpire")
	case !s.Cleanup && len(s.Expect) == 0:
		return errors.New("expect: missing")
	}
	for _, o := range slices.Concat(s.Expect, s.Unsafe) {
		if !outcomeForm.MatchString(o) {
			return fmt.Errorf("outcome %q: want ok, page, table, lost, http and a status, or a result code", o)
		}
	}
	return nil
}
