package protocol

import (
	"reflect"
	"strings"
	"unicode/utf8"

	"vcckiosk/protocol/catalogue"
)

// fill reads an answer's object into a struct: each field by the name of its
// json tag, with type and length of the catalogue's row. Texts are kept as the
// platform wrote them, a number where a text is due included; lengths are
// bounded generously, because platforms grow their fields. Only a field tagged
// need:"true" must be there: an answer is not thrown away for what nobody asks.
func (e *endpoint) fill(in reader, prefix string, dst reflect.Value) {
	t := dst.Type()
	for i := range t.NumField() {
		sf := t.Field(i)
		tag, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		row, known := e.answer(prefix + tag)
		if !known {
			panic("protocol: " + e.Interface.Code + " has no field " + prefix + tag) // a test covers every call
		}
		need := sf.Tag.Get("need") == "true"
		f := dst.Field(i)
		switch f.Kind() {
		case reflect.String:
			f.SetString(in.lenient(tag, row, need))
		case reflect.Int, reflect.Int64:
			f.SetInt(in.integer(tag, -1<<53, 1<<53, need))
		case reflect.Slice:
			objects := in.list(tag, maxRows, need)
			list := reflect.MakeSlice(f.Type(), len(objects), len(objects))
			for n, o := range objects {
				e.fill(o, prefix+tag+".", list.Index(n))
			}
			f.Set(list)
		}
	}
}

// maxRows bounds the rows of one answer.
const maxRows = 1000

func (e *endpoint) answer(name string) (catalogue.Field, bool) {
	for _, f := range e.Answer {
		if f.Name == name {
			return f, true
		}
	}
	return catalogue.Field{}, false
}

// lenient reads a text whose length is at most four times what the catalogue
// says, or 1024 characters.
func (r reader) lenient(name string, row catalogue.Field, need bool) string {
	s := r.literal(name, max(4*row.Len, 1024))
	if s == "" && need {
		r.fail(name, "missing")
	}
	if !utf8.ValidString(s) {
		r.fail(name, "not UTF-8")
		return ""
	}
	return s
}

// rows reads a List or Array answer.
func rows[T any](c *Client, code string, v *value) ([]T, reader, error) {
	e := c.catalogue[code]
	in := newReader(v)
	var objects []reader
	if e.Shape == catalogue.Array {
		if v.kind != kindArray {
			in.fail("(answer)", "not a list")
		}
		for _, item := range v.items {
			if item.kind != kindObject || len(v.items) > maxRows {
				in.fail("(answer)", "not a list of objects, or too long")
				break
			}
			objects = append(objects, reader{v: item, fault: in.fault})
		}
	} else {
		objects = in.list("datas", maxRows, true)
	}
	list := make([]T, len(objects))
	for i := range objects {
		e.fill(objects[i], "", reflect.ValueOf(&list[i]).Elem())
	}
	return list, in, c.closed(code, in)
}

// object reads an Object answer.
func object[T any](c *Client, code string, v *value) (T, error) {
	var out T
	in := newReader(v)
	c.catalogue[code].fill(in, "", reflect.ValueOf(&out).Elem())
	return out, c.closed(code, in)
}
