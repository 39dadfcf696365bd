package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of an answer. Nothing of the platform's contract comes near them.
const (
	maxAnswer = 1 << 20 // bytes
	maxDepth  = 12
	maxValues = 16384
)

type valueKind int

const (
	kindNull valueKind = iota
	kindBool
	kindNumber
	kindString
	kindObject
	kindArray
)

// value is one JSON value. Text is the decoded text of a string and the
// literal of a number or bool: a number is never formatted again, because the
// sign of an answer is over its literal text.
type value struct {
	kind  valueKind
	text  string
	names []string // of an object, in order
	items []*value // of an object or array
}

// parseAnswer reads a JSON document strictly: UTF-8, one value, no duplicate
// names, bounded depth and size.
func parseAnswer(raw []byte) (*value, string) {
	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
	switch {
	case len(bytes.TrimSpace(raw)) == 0:
		return nil, "answer is empty"
	case !utf8.Valid(raw):
		return nil, "answer is not UTF-8"
	case !json.Valid(raw):
		return nil, "answer is not JSON"
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	count := 0
	v, err := parseValue(d, 0, &count)
	if err != nil {
		if e, ok := errors.AsType[answerFault](err); ok {
			return nil, string(e)
		}
		return nil, "answer is not JSON"
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, "answer has something after its end"
	}
	return v, ""
}

type answerFault string

func (e answerFault) Error() string { return string(e) }

func parseValue(d *json.Decoder, depth int, count *int) (*value, error) {
	if *count++; *count > maxValues {
		return nil, answerFault("answer has too many values")
	}
	tok, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := tok.(type) {
	case nil:
		return &value{}, nil
	case bool:
		return &value{kind: kindBool, text: strconv.FormatBool(t)}, nil
	case json.Number:
		return &value{kind: kindNumber, text: t.String()}, nil
	case string:
		return &value{kind: kindString, text: t}, nil
	case json.Delim:
		if depth >= maxDepth {
			return nil, answerFault("answer is nested too deep")
		}
		v := &value{kind: kindArray}
		if t == '{' {
			v.kind = kindObject
		}
		seen := map[string]bool{}
		for d.More() {
			if v.kind == kindObject {
				k, err := d.Token()
				if err != nil {
					return nil, err
				}
				name, _ := k.(string)
				if seen[name] {
					return nil, answerFault("answer has the field " + safeName(name) + " twice")
				}
				seen[name] = true
				v.names = append(v.names, name)
			}
			item, err := parseValue(d, depth+1, count)
			if err != nil {
				return nil, err
			}
			v.items = append(v.items, item)
		}
		_, err := d.Token()
		return v, err
	}
	return nil, answerFault("answer is not JSON")
}

// safeName is a name from outside, fit for an error: a name of the contract. A
// platform that echoes a token as a name must not get it into a log.
func safeName(s string) string {
	if _, ok := formats[s]; ok || slices.Contains([]string{
		"resultCode", "resultMsg", "expireTime", "sessionKey", "timestamp", "authExpire", "holder", "duplicate",
		"load", "image", "script", "receipt", "pendingOrders", "commands",
	}, s) {
		return s
	}
	return "(unnamed)"
}

func (v *value) member(name string) *value {
	if v == nil || v.kind != kindObject {
		return nil
	}
	for i, n := range v.names {
		if n == name {
			return v.items[i]
		}
	}
	return nil
}

// set puts a member at the end of an object, or replaces the one of its name.
func (v *value) set(name string, m *value) {
	for i, n := range v.names {
		if n == name {
			v.items[i] = m
			return
		}
	}
	v.names, v.items = append(v.names, name), append(v.items, m)
}

// take removes a member and returns it, nil when there is none.
func (v *value) take(name string) *value {
	for i, n := range v.names {
		if n == name {
			m := v.items[i]
			v.names, v.items = slices.Delete(v.names, i, i+1), slices.Delete(v.items, i, i+1)
			return m
		}
	}
	return nil
}

// rename gives a member another name, if there is one.
func (v *value) rename(from, to string) {
	if i := slices.Index(v.names, from); i >= 0 {
		v.names[i] = to
	}
}

// given is v, or JSON's null when there is none.
func (v *value) given() *value {
	if v == nil {
		return &value{}
	}
	return v
}

// same compares two texts or numbers.
func (v *value) same(o *value) bool {
	return v != nil && o != nil && (v.kind == kindString || v.kind == kindNumber) && v.kind == o.kind && v.text == o.text
}

func numeral(n int) *value { return &value{kind: kindNumber, text: strconv.Itoa(n)} }

// scalars returns the top-level members that have a text, for the sign, which
// is none of them.
func (v *value) scalars(signName string) (params map[string]string, nested bool) {
	params = map[string]string{}
	for i, n := range v.names {
		switch m := v.items[i]; m.kind {
		case kindObject, kindArray:
			nested = true
		case kindNull:
		default:
			if n != signName {
				params[n] = m.text
			}
		}
	}
	return params, nested
}

// reader takes typed fields out of an object. The first fault sticks; the
// fields read after it are zero.
type reader struct {
	v      *value
	prefix string
	fault  *string
}

func newReader(v *value) reader { return reader{v: v, fault: new(string)} }

func (r reader) fail(name, why string) {
	if *r.fault == "" {
		*r.fault = "answer field " + r.prefix + name + ": " + why
	}
}

func (r reader) get(name string, required bool) *value {
	m := r.v.member(name)
	if m == nil || m.kind == kindNull {
		if required {
			r.fail(name, "missing")
		}
		return nil
	}
	return m
}

// text reads a printable string of at most limit characters.
func (r reader) text(name string, limit int, required bool) string {
	m := r.get(name, required)
	if m == nil {
		return ""
	}
	if m.kind != kindString {
		r.fail(name, "not a string")
		return ""
	}
	return r.bounded(name, m.text, limit, required)
}

func (r reader) bounded(name, s string, limit int, required bool) string {
	switch {
	case s == "" && required:
		r.fail(name, "empty")
	case utf8.RuneCountInString(s) > limit:
		r.fail(name, "too long")
	case strings.ContainsFunc(s, unicode.IsControl):
		r.fail(name, "control characters")
	default:
		return s
	}
	return ""
}

// literal reads a string or a number as text; for values that are only shown
// or passed on.
func (r reader) literal(name string, limit int) string {
	m := r.get(name, false)
	if m == nil {
		return ""
	}
	if m.kind != kindString && m.kind != kindNumber {
		r.fail(name, "not a string or number")
		return ""
	}
	return r.bounded(name, m.text, limit, false)
}

// form reads a string by a rule. Hex is accepted in either case and given in
// upper case.
func (r reader) form(name string, f format, required bool) string {
	m := r.get(name, required)
	if m == nil {
		return ""
	}
	if m.kind != kindString {
		r.fail(name, "not a string")
		return ""
	}
	s := m.text
	if s == "" && !required {
		return ""
	}
	if f.hex {
		s = strings.ToUpper(s)
	}
	if why := f.check(s); why != "" {
		r.fail(name, why)
		return ""
	}
	return s
}

// integer reads a JSON integer within low..high. Strings and fractions are
// wrong types: money is told as an integer.
func (r reader) integer(name string, low, high int64, required bool) int64 {
	m := r.get(name, required)
	if m == nil {
		return 0
	}
	if m.kind != kindNumber {
		r.fail(name, "not a number")
		return 0
	}
	n, err := strconv.ParseInt(m.text, 10, 64)
	if err != nil {
		r.fail(name, "not an integer in range")
		return 0
	}
	if n < low || n > high {
		r.fail(name, "out of range")
		return 0
	}
	return n
}

func (r reader) boolean(name string) bool {
	m := r.get(name, false)
	if m == nil {
		return false
	}
	if m.kind != kindBool {
		r.fail(name, "not true or false")
	}
	return m.text == "true"
}

// object enters a member; ok is false when it is absent or no object.
func (r reader) object(name string, required bool) (reader, bool) {
	m := r.get(name, required)
	if m == nil {
		return reader{}, false
	}
	if m.kind != kindObject {
		r.fail(name, "not an object")
		return reader{}, false
	}
	return reader{v: m, prefix: r.prefix + name + ".", fault: r.fault}, true
}

// list enters a member that is an array of objects.
func (r reader) list(name string, limit int, required bool) []reader {
	m := r.get(name, required)
	if m == nil {
		return nil
	}
	if m.kind != kindArray || len(m.items) > limit {
		r.fail(name, "not an array, or too long")
		return nil
	}
	var out []reader
	for _, i := range m.items {
		if i.kind != kindObject {
			r.fail(name, "an entry is not an object")
			return nil
		}
		out = append(out, reader{v: i, prefix: r.prefix + name + ".", fault: r.fault})
	}
	return out
}

// dict reads an object of scalars, as text.
func (r reader) dict(name string, entries, limit int) map[string]string {
	o, ok := r.object(name, false)
	if !ok {
		return nil
	}
	if len(o.v.names) > entries {
		r.fail(name, "too many entries")
		return nil
	}
	out := map[string]string{}
	for i, n := range o.v.names {
		m := o.v.items[i]
		if m.kind == kindObject || m.kind == kindArray {
			o.fail(safeName(n), "not a scalar")
			return nil
		}
		if utf8.RuneCountInString(n) > 64 || strings.ContainsFunc(n, unicode.IsControl) {
			o.fail(safeName(n), "not a name")
			return nil
		}
		out[n] = o.bounded(safeName(n), m.text, limit, false)
	}
	return out
}
