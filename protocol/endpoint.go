package protocol

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"vcckiosk/protocol/catalogue"
)

// Endpoint replaces what the catalogue says of one interface; empty fields
// keep it.
type Endpoint struct {
	// Code leads the sequence number instead of the catalogue's: 4 or 5 digits.
	Code string
	// Method is GET, POST (a JSON body) or FORM (a form body, signed as the
	// query is).
	Method string
	// Path follows the base address; Fallback is tried once when it is answered
	// 404.
	Path, Fallback string
	// Names gives the platform's name of a field, by ours ("load.mac1":
	// "MAC_1"; of a field inside another its last part is meant).
	Names map[string]string
	// Units gives the platform's unit of an amount: fen or yuan for money, cl
	// (0.01 m³) or m3 for gas.
	Units map[string]string
}

// Envelope is how the platform wraps an answer; the zero value is the
// document's: resultCode and resultMsg beside the fields, 0 is success.
type Envelope struct {
	Code, Msg string // names of result code and text
	// Data is the member the fields of a success are in; empty: beside Code.
	Data string
	// Success are texts of Code that mean success besides an absent one and 0.
	Success []string
	// Codes translates the platform's result codes, by its text, into those of
	// the catalogue.
	Codes map[string]string
	// Seq, Token and Sign are names of the common parameters.
	Seq, Token, Sign string
}

// Codes of the interfaces this program calls.
const (
	codeDeviceToken = "1001"
	codeToken       = "1002"
	codeUpload      = "2001"
	codeFetch       = "2002"
	codeCardInfo    = "3010"
	codeCardPrice   = "3019"
	codeAuthorize   = "4006"
	codeRegister    = "6001"
	codeReport      = "6002"
	codeReverse     = "6003"
	codeHeartbeat   = "6004"
	codeTime        = "6005"
	codeQueryOrder  = "6006"
)

// endpoint is an interface as this client calls it.
type endpoint struct {
	catalogue.Interface
	own      string // method of the catalogue: what calls are built for
	out      *names // of the request
	in       *names // of the answer
	fields   map[string]catalogue.Field
	envelope *Envelope
}

var (
	codeForm = regexp.MustCompile(`^[0-9]{4,5}$`)
	pathForm = regexp.MustCompile(`^(/[A-Za-z0-9_.-]+)+$`)
	nameForm = regexp.MustCompile(`^[\p{Han}A-Za-z_][\p{Han}A-Za-z0-9_.-]{0,63}$`)
)

func (e *Envelope) defaults() error {
	for _, f := range []struct {
		field string
		v     *string
		def   string
	}{
		{"code", &e.Code, "resultCode"},
		{"msg", &e.Msg, "resultMsg"},
		{"data", &e.Data, ""},
		{"seq", &e.Seq, "seq"},
		{"token", &e.Token, "token"},
		{"sign", &e.Sign, "sign"},
	} {
		if *f.v == "" {
			*f.v = f.def
		}
		if *f.v != "" && !nameForm.MatchString(*f.v) {
			return fmt.Errorf("envelope.%s: %q is not a name", f.field, *f.v)
		}
	}
	for _, apart := range [][]struct{ field, v string }{
		{{"seq", e.Seq}, {"token", e.Token}, {"sign", e.Sign}},
		{{"code", e.Code}, {"msg", e.Msg}, {"data", e.Data}},
	} {
		for i, a := range apart {
			for _, b := range apart[:i] {
				if a.v != "" && a.v == b.v {
					return fmt.Errorf("envelope.%s and envelope.%s are both called %q", b.field, a.field, a.v)
				}
			}
		}
	}
	if strings.Contains(e.Data, ".") {
		return fmt.Errorf("envelope.data: %q: want one member of the answer, not a path", e.Data)
	}
	known := map[string]bool{}
	for _, r := range catalogue.Results() {
		known[r.Code] = true
	}
	for _, s := range e.Success {
		if known[s] && s != "0" {
			return fmt.Errorf("envelope.success: %q is a code of the catalogue that means something else", s)
		}
	}
	for from, to := range e.Codes {
		switch {
		case !known[to] || to == "0":
			return fmt.Errorf("envelope.codes: %q: %q is not a result code of the catalogue (docs/protocol-coverage.md, A)", from, to)
		case from == "0" || slices.Contains(e.Success, from):
			return fmt.Errorf("envelope.codes: %q is a success, it cannot be an error too", from)
		}
	}
	return nil
}

var resultForm = regexp.MustCompile(`^(?:0|[1-9][0-9]{0,8})$`)

// override lays the configured rows over the table. An override of a code
// the table does not have is an error: it would never be called.
func override(table []catalogue.Interface, rows map[string]Endpoint, env *Envelope) (map[string]*endpoint, error) {
	all := map[string]*endpoint{}
	for _, i := range table {
		all[i.Code] = &endpoint{Interface: i, own: i.Method, envelope: env}
	}
	for _, code := range slices.Sorted(maps.Keys(rows)) {
		e, known := all[code]
		if !known {
			return nil, fmt.Errorf("endpoints: no interface %q", code)
		}
		if e.Method == catalogue.Push {
			return nil, fmt.Errorf("endpoints: interface %s is called by the platform", code)
		}
		if err := e.replace(rows[code]); err != nil {
			return nil, fmt.Errorf("endpoints: interface %s: %w", code, err)
		}
	}
	seen := map[string]string{}
	for _, code := range slices.Sorted(maps.Keys(all)) {
		e := all[code]
		var err error
		row := rows[code]
		if e.out, err = newNames(e.Request, row, false); err == nil {
			e.in, err = newNames(e.Answer, row, true)
		}
		if err == nil {
			err = row.used(e)
		}
		if err == nil && row.Code != "" && row.Code != code && slices.ContainsFunc(table, func(i catalogue.Interface) bool { return i.Code == row.Code }) {
			err = fmt.Errorf("code: %s is another interface's", row.Code)
		}
		if err == nil && e.Method != catalogue.Post && e.Method != catalogue.Push {
			for _, common := range []string{env.Seq, env.Token, env.Sign} {
				if r := e.out.wireName(common); r != "" {
					err = fmt.Errorf("names: %s is called %q, as every call's own parameter is", r, common)
				}
			}
		}
		if err != nil {
			return nil, fmt.Errorf("endpoints: interface %s: %w", code, err)
		}
		e.fields = map[string]catalogue.Field{}
		for _, f := range e.Request {
			e.fields[f.Name] = f
		}
		if e.Method == catalogue.Push {
			continue
		}
		k := e.Method + " " + e.Path
		if other, dup := seen[k]; dup {
			return nil, fmt.Errorf("endpoints: interfaces %s and %s share the path %s", other, code, e.Path)
		}
		seen[k] = code
	}
	return all, nil
}

// replace takes the parts of a row that are not names or units.
func (e *endpoint) replace(r Endpoint) error {
	set := func(to *string, v string) {
		if v != "" {
			*to = v
		}
	}
	set(&e.Code, r.Code)
	set(&e.Method, strings.ToUpper(r.Method))
	set(&e.Path, r.Path)
	set(&e.Fallback, r.Fallback)
	if !codeForm.MatchString(e.Code) {
		return errors.New("code must be 4 or 5 digits")
	}
	if e.Method != e.own {
		if !slices.Contains([]string{catalogue.Get, catalogue.Post, catalogue.Form}, e.Method) || e.own == catalogue.Multipart ||
			e.Shape == catalogue.Table || e.Shape == catalogue.File {
			return fmt.Errorf("method must be %s", e.own)
		}
		if e.Method != catalogue.Post {
			for _, f := range e.Request {
				if f.Type == catalogue.Objects || f.Type == catalogue.Nested || f.Type == catalogue.Strings {
					return fmt.Errorf("method must be %s: field %s does not fit into %s", e.own, f.Name, e.Method)
				}
			}
		}
	}
	for _, p := range []string{e.Path, e.Fallback} {
		if p != "" && (!pathForm.MatchString(p) || strings.Contains(p, "/.")) {
			return fmt.Errorf("%q is not a path", p)
		}
	}
	return nil
}

// used demands that each name and unit of a row belongs to a field.
func (r Endpoint) used(e *endpoint) error {
	has := func(name string) bool {
		return slices.ContainsFunc(slices.Concat(e.Request, e.Answer), func(f catalogue.Field) bool { return f.Name == name })
	}
	for _, m := range []map[string]string{r.Names, r.Units} {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			if !has(name) {
				return fmt.Errorf("no field %q", name)
			}
		}
	}
	return nil
}
