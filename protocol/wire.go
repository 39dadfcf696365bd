package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"

	"vcckiosk/protocol/catalogue"
)

// names translates between the catalogue's names and units and the platform's.
// Calls are built and read with the catalogue's; only what travels, and
// therefore the sign, has the platform's.
type names struct {
	fields map[string]*nameRule // by the name of the side that is read
	plain  bool                 // nothing to translate below here
}

type nameRule struct {
	to       string
	alias    bool // only when the field's own name is absent
	from, as catalogue.Unit
	inner    *names
}

// newNames makes the translation of a request (answer false) or an answer.
func newNames(fields []catalogue.Field, row Endpoint, answer bool) (*names, error) {
	root := &names{fields: map[string]*nameRule{}, plain: true}
	at := map[string]*names{"": root}
	for _, f := range fields {
		parent, last := "", f.Name
		if i := strings.LastIndex(f.Name, "."); i >= 0 {
			parent, last = f.Name[:i], f.Name[i+1:]
		}
		n := at[parent]
		wire := last
		if w, has := row.Names[f.Name]; has {
			wire = w
			if !nameForm.MatchString(w) {
				return nil, fmt.Errorf("names: %s: %q is not a name", f.Name, w)
			}
		}
		r := &nameRule{}
		if u := row.Units[f.Name]; u != "" {
			if !slices.Contains(unitsOf[f.Unit], catalogue.Unit(u)) {
				if len(unitsOf[f.Unit]) == 0 {
					return nil, fmt.Errorf("units: %s: it has no unit that could be another", f.Name)
				}
				return nil, fmt.Errorf("units: %s: %q: want one of %v", f.Name, u, unitsOf[f.Unit])
			}
			r.from, r.as = f.Unit, catalogue.Unit(u)
		}
		if f.Type == catalogue.Objects || f.Type == catalogue.Nested {
			r.inner = &names{fields: map[string]*nameRule{}, plain: true}
			at[f.Name] = r.inner
		}
		from := last
		r.to = wire
		if answer {
			from, r.to = wire, last
			r.from, r.as = r.as, r.from
		}
		if n.fields[from] != nil && !n.fields[from].alias {
			return nil, fmt.Errorf("names: two fields are called %q", from)
		}
		n.fields[from] = r
		if from != r.to || r.from != r.as {
			plain(at, parent)
		}
		if answer {
			for _, a := range f.Aliases {
				if n.fields[a] == nil {
					n.fields[a] = &nameRule{to: last, alias: true, from: r.from, as: r.as, inner: r.inner}
					plain(at, parent)
				}
			}
		}
	}
	return root, nil
}

// wireName is our name of the top-level field that travels under a name, ""
// for none.
func (n *names) wireName(wire string) string {
	for name, r := range n.fields {
		if r.to == wire {
			return name
		}
	}
	return ""
}

// plain notes that something is translated below parent.
func plain(at map[string]*names, parent string) {
	for {
		at[parent].plain = false
		if parent == "" {
			return
		}
		parent = parent[:max(strings.LastIndex(parent, "."), 0)]
	}
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

var unitsOf = map[catalogue.Unit][]catalogue.Unit{
	catalogue.Fen: {catalogue.Fen, catalogue.Yuan},
	catalogue.CL:  {catalogue.CL, catalogue.M3},
}

// apply translates an object, or each object of an array, in place.
func (n *names) apply(v *value) error {
	if n == nil || n.plain || v == nil {
		return nil
	}
	if v.kind == kindArray {
		for _, item := range v.items {
			if err := n.apply(item); err != nil {
				return err
			}
		}
		return nil
	}
	for i, name := range v.names {
		r := n.fields[name]
		if r == nil || r.alias && v.member(r.to) != nil {
			continue
		}
		m := v.items[i]
		if r.from != r.as && (m.kind == kindNumber || m.kind == kindString) {
			text, err := convert(m.text, r.from, r.as)
			if err != nil {
				return fmt.Errorf("%s: %w", safeName(r.to), err)
			}
			// A decimal travels as the platform writes it; an integer of ours is
			// a number.
			m = &value{kind: kindNumber, text: text}
			v.items[i] = m
		}
		if err := r.inner.apply(m); err != nil {
			return err
		}
		if name != r.to {
			v.names[i] = r.to
		}
	}
	return nil
}

var errUnit = errors.New("not an amount with at most two places")

// convert turns an amount with at most two places into hundredths or back,
// exactly.
func convert(text string, from, to catalogue.Unit) (string, error) {
	if len(text) == 0 || len(text) > 20 || strings.Trim(text, "-.0123456789") != "" {
		return "", errUnit
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return "", errUnit
	}
	if from == catalogue.Yuan || from == catalogue.M3 {
		r.Mul(r, big.NewRat(100, 1))
		if !r.IsInt() {
			return "", errUnit
		}
		return r.Num().String(), nil
	}
	if !r.IsInt() {
		return "", errUnit
	}
	return r.Quo(r, big.NewRat(100, 1)).FloatString(2), nil
}

// appendJSON writes a value as it was read: numbers in their literal text,
// names in their order.
func (v *value) appendJSON(b []byte) []byte {
	switch v.kind {
	case kindBool, kindNumber:
		return append(b, v.text...)
	case kindString:
		return appendText(b, v.text)
	case kindObject, kindArray:
		open, end := byte('{'), byte('}')
		if v.kind == kindArray {
			open, end = '[', ']'
		}
		b = append(b, open)
		for i, item := range v.items {
			if i > 0 {
				b = append(b, ',')
			}
			if v.kind == kindObject {
				b = append(appendText(b, v.names[i]), ':')
			}
			b = item.appendJSON(b)
		}
		return append(b, end)
	}
	return append(b, "null"...)
}

func appendText(b []byte, s string) []byte {
	t, err := json.Marshal(s)
	if err != nil {
		return append(b, `""`...) // a string always marshals
	}
	return append(b, t...)
}

// travel is a request as it leaves: what goes into the query, what is signed
// as parameters, the body and its type.
type travel struct {
	query, signed map[string]string
	body, inSign  []byte
	contentType   string
	sign          string // when it goes into a header
	seq           string
}

// wire turns a call, built for the catalogue's method and names, into what the
// configured platform expects. seq and token are still to come.
func (e *endpoint) wire(params map[string]string, body []byte) (travel, error) {
	if e.Method == e.own && e.out.plain {
		t := travel{query: params, signed: params, body: body, inSign: body}
		if body != nil {
			t.contentType = "application/json; charset=utf-8"
		}
		return t, nil
	}
	bare := body == nil
	if bare {
		body = []byte("{}")
	}
	v, why := parseAnswer(body)
	if why != "" {
		return travel{}, errors.New("body: " + why)
	}
	if bare { // parameters, in a fixed order
		for _, f := range e.Request {
			if s, has := params[f.Name]; has {
				v.names, v.items = append(v.names, f.Name), append(v.items, &value{kind: kindString, text: s})
			}
		}
	}
	if err := e.out.apply(v); err != nil {
		return travel{}, err
	}
	flat := map[string]string{}
	for i, n := range v.names {
		if m := v.items[i]; m.kind != kindNull {
			flat[n] = m.text
		}
	}
	t := travel{query: map[string]string{}, signed: map[string]string{}}
	switch e.Method {
	case catalogue.Post:
		t.body = v.appendJSON(nil)
		t.inSign, t.contentType = t.body, "application/json; charset=utf-8"
	case catalogue.Form:
		form := url.Values{}
		for n, s := range flat {
			form.Set(n, s)
		}
		t.signed, t.body, t.contentType = flat, []byte(form.Encode()), "application/x-www-form-urlencoded"
	default:
		t.query, t.signed, t.body, t.inSign = flat, flat, nil, nil
	}
	return t, nil
}
