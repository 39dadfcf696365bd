package protocol

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"vcckiosk/protocol/catalogue"
)

// Invoke calls any interface of the catalogue whose answer is JSON, but for
// those that open a session or move this kiosk's own money (4006, 6002, 6003),
// which have calls of their own. Each field is checked by its row: a
// FieldError (ErrNotSent, ErrPermanent) names the first that does not fit, and
// nothing was sent. Values of lists and objects are JSON text; a list of texts
// may be written with commas. An empty deviceId or orgCode is this kiosk's.
//
// The answer is the platform's JSON with the catalogue's names; fields it knows
// have the type the catalogue says, others are passed on as they are.
// ErrTransport: retry an interface that only reads; of another one the outcome
// is unknown.
func (c *Client) Invoke(ctx context.Context, code string, fields map[string]string) (json.RawMessage, error) {
	fields, body, err := c.built(code, fields)
	if err != nil {
		return nil, err
	}
	v, err := c.do(ctx, code, fields, body, false)
	if err != nil {
		return nil, err
	}
	e := c.catalogue[code]
	if why := e.typed(v); why != "" {
		return nil, &CallError{Interface: code, Method: e.Method, Path: e.Path, Reason: why, class: []error{ErrTransport}}
	}
	return v.appendJSON(nil), nil
}

// Check tells what Invoke would refuse before it sends anything.
func (c *Client) Check(code string, fields map[string]string) error {
	fields, _, err := c.built(code, fields)
	if err != nil {
		return err
	}
	return c.catalogue[code].checkParams(code, fields)
}

// built checks the fields of a call and puts them into a query or a body.
func (c *Client) built(code string, fields map[string]string) (map[string]string, []byte, error) {
	e := c.catalogue[code]
	switch {
	case e == nil, c.dialect.isStep(code):
		return nil, nil, &FieldError{Interface: code, Field: "code", Why: "no such interface"}
	case !e.Session() || slices.Contains([]string{codeAuthorize, codeReport, codeReverse}, code),
		e.Method == catalogue.Multipart, e.Shape == catalogue.Table, e.Shape == catalogue.File:
		return nil, nil, &FieldError{Interface: code, Field: "code", Why: "is not called with free fields"}
	}
	out := map[string]string{}
	for name, v := range fields {
		if v = strings.TrimSpace(v); v != "" {
			out[name] = v
		}
	}
	for name, own := range map[string]string{"deviceId": c.deviceID(), "orgCode": c.OrgCode} {
		if f, has := e.fields[name]; has && f.Required && out[name] == "" && own != "" {
			out[name] = own
		}
	}
	if err := e.complete(code, out); err != nil {
		return nil, nil, err
	}
	if e.own != catalogue.Post {
		return out, nil, nil
	}
	body, err := e.object(code, out)
	return nil, body, err
}

// complete wants every required field and no unknown one.
func (e *endpoint) complete(code string, fields map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if _, has := e.fields[name]; !has || strings.Contains(name, ".") {
			return &FieldError{Interface: code, Field: cleanName(name, "failCode"), Why: "no such field"}
		}
	}
	for _, f := range e.Request {
		if f.Required && !strings.Contains(f.Name, ".") && strings.TrimSpace(fields[f.Name]) == "" {
			return &FieldError{Interface: code, Field: f.Name, Why: "missing"}
		}
	}
	return nil
}

// object builds a JSON body out of checked fields, in the catalogue's order.
func (e *endpoint) object(code string, fields map[string]string) ([]byte, error) {
	v := &value{kind: kindObject}
	for _, f := range e.Request {
		text := strings.TrimSpace(fields[f.Name])
		if text == "" || strings.Contains(f.Name, ".") {
			continue
		}
		m, why := e.field(f, text)
		if why != "" {
			return nil, &FieldError{Interface: code, Field: f.Name, Why: why}
		}
		v.names, v.items = append(v.names, f.Name), append(v.items, m)
	}
	return v.appendJSON(nil), nil
}

func (e *endpoint) field(f catalogue.Field, text string) (*value, string) {
	switch f.Type {
	case catalogue.Integer:
		return &value{kind: kindNumber, text: text}, typeRule(f).check(text)
	case catalogue.Strings:
		list := &value{kind: kindArray}
		for s := range strings.SplitSeq(text, ",") {
			s = strings.TrimSpace(s)
			if why := typeRule(f).check(s); why != "" {
				return nil, why
			}
			list.items = append(list.items, &value{kind: kindString, text: s})
		}
		if len(list.items) > 100 {
			return nil, "more than 100 entries"
		}
		return list, ""
	case catalogue.Objects, catalogue.Nested:
		v, why := parseAnswer([]byte(text))
		if why != "" {
			return nil, "want JSON"
		}
		return v, e.inner(f, v)
	}
	return &value{kind: kindString, text: text}, e.rule(f.Name).check(text)
}

// inner checks an object, or each of a list, that lies in field f.
func (e *endpoint) inner(f catalogue.Field, v *value) string {
	if f.Type == catalogue.Objects {
		if v.kind != kindArray || len(v.items) > 100 {
			return "want a list of at most 100 objects"
		}
		one := f
		one.Type = catalogue.Nested
		for _, item := range v.items {
			if why := e.inner(one, item); why != "" {
				return why
			}
		}
		return ""
	}
	if v.kind != kindObject {
		return "want an object"
	}
	free := true
	for _, g := range e.Request {
		name, in := strings.CutPrefix(g.Name, f.Name+".")
		if !in || strings.Contains(name, ".") {
			continue
		}
		free = false
		m := v.member(name)
		if m == nil {
			if g.Required {
				return name + ": missing"
			}
			continue
		}
		if why := e.leaf(g, m); why != "" {
			return name + ": " + why
		}
	}
	for _, name := range v.names {
		if _, has := e.fields[f.Name+"."+name]; !has && !free {
			return "a field that is not in the catalogue"
		}
	}
	return ""
}

func (e *endpoint) leaf(g catalogue.Field, m *value) string {
	switch {
	case g.Type == catalogue.Objects || g.Type == catalogue.Nested:
		return e.inner(g, m)
	case g.Type == catalogue.Integer && m.kind == kindNumber:
		if f, has := formats[g.Name]; has && f.high != 0 {
			n, err := strconv.ParseInt(m.text, 10, 64)
			if err != nil {
				return f.text
			}
			return f.checkNumber(n)
		}
		return typeRule(g).check(m.text)
	case g.Type != catalogue.Integer && m.kind == kindString:
		return e.rule(g.Name).check(m.text)
	}
	return fmt.Sprintf("want %s", g.Type)
}

// typed tells which field of an answer is not what the catalogue says, "" for
// none. Texts may come as numbers and the other way round: platforms differ,
// and here nothing is computed with them.
func (e *endpoint) typed(v *value) string {
	rows := v
	switch e.Shape {
	case catalogue.List:
		if rows = v.member("datas"); rows == nil || rows.kind != kindArray {
			return "answer field datas: not a list"
		}
	case catalogue.Array:
		if v.kind != kindArray {
			return "answer is not a list"
		}
	}
	list := []*value{rows}
	if rows.kind == kindArray {
		list = rows.items
	}
	for _, o := range list {
		if o.kind != kindObject {
			return "answer has an entry that is no object"
		}
		for _, f := range e.Answer {
			if strings.Contains(f.Name, ".") {
				continue
			}
			m := o.member(f.Name)
			composed := f.Type == catalogue.Objects || f.Type == catalogue.Nested || f.Type == catalogue.Strings
			switch {
			case m == nil || m.kind == kindNull:
			case composed != (m.kind == kindArray || m.kind == kindObject):
				return "answer field " + f.Name + ": wrong type"
			}
		}
	}
	return ""
}
