// Package catalogue is the table of the platform's interfaces as data: code,
// method, path, every field with type, length and unit, and how sure each of
// them is. Client, simulator, documentation and the description a platform is
// built from (OpenAPI) read the same table. It imports nothing of this module
// and does nothing.
package catalogue

import (
	"slices"
	"strings"
)

// Evidence tells how sure a name is.
type Evidence string

// Grades of evidence.
const (
	Documented Evidence = "documented" // in the platform's document, or read in a client of it
	Inferred   Evidence = "inferred"   // observed on a sister gateway, or built after its pattern
	Ours       Evidence = "ours"       // proposed here: expect the real one to differ
)

// Methods of an interface.
const (
	Get       = "GET"       // fields in the query
	Post      = "POST"      // fields in a JSON body
	Form      = "FORM"      // fields in a form body; they are signed as the query's are
	Multipart = "MULTIPART" // fields in the query, a file in the body
	Push      = "PUSH"      // the platform calls
)

// Shape is what a successful answer looks like.
type Shape string

// Shapes of an answer.
const (
	Object Shape = "object" // the fields themselves
	List   Shape = "list"   // pageIndex, pageSize, total and datas[]
	Array  Shape = "array"  // a bare array of objects
	Table  Shape = "table"  // text: a header line, then a line a row, fields separated by |
	File   Shape = "file"   // bytes
)

// Type is how a value is written.
type Type string

// Types. The document's own words, and what JSON adds to them.
const (
	String    Type = "string"
	Integer   Type = "int"
	Char      Type = "char"
	Timestamp Type = "timestamp" // yyyyMMddHHmmss, Asia/Shanghai
	DateTime  Type = "datetime"  // yyyy-MM-dd HH:mm:ss, Asia/Shanghai
	Hex       Type = "hex"       // digits, upper case
	Objects   Type = "objects"   // a list of objects, whose fields follow with this name and a dot
	Nested    Type = "nested"    // one object, likewise
	Strings   Type = "strings"   // a list of texts
	Bytes     Type = "file"      // the part of a form that is a file
)

// Unit of a number. Money and gas differ from gateway to gateway, so that the
// unit belongs to the field and can be replaced by configuration.
type Unit string

// Units.
const (
	Fen     Unit = "fen"  // 1/100 yuan, an integer
	Yuan    Unit = "yuan" // decimal, at most two places
	CL      Unit = "cl"   // 0.01 m³, an integer
	M3      Unit = "m3"   // decimal, at most two places
	Seconds Unit = "s"
)

// Field is one field of a request or an answer, or a column of a table.
type Field struct {
	Name     string `json:"name"` // on the wire
	Type     Type   `json:"type"`
	Len      int    `json:"len,omitempty"` // characters at most; 0: the document does not say
	Required bool   `json:"required"`
	Unit     Unit   `json:"unit,omitempty"`
	// Aliases are other names the same field is known under; an answer may use
	// any of them.
	Aliases  []string `json:"aliases,omitempty"`
	Evidence Evidence `json:"evidence"`
	ZH       string   `json:"zh"`
	EN       string   `json:"en"`
	// Doc is what the document's table calls it, where that is an error there.
	Doc string `json:"doc,omitempty"`
}

// Interface is one interface of the platform.
type Interface struct {
	// Code leads the sequence number of its calls.
	Code   string `json:"code"`
	ZH     string `json:"zh"`
	EN     string `json:"en"`
	Method string `json:"method"`
	// Path follows the base address; Fallback is tried once when Path is
	// answered 404.
	Path     string   `json:"path,omitempty"`
	Fallback string   `json:"fallback,omitempty"`
	Evidence Evidence `json:"evidence"`
	// Kiosk says that a load kiosk has a use for it.
	Kiosk bool `json:"kiosk"`
	// Read says that a call changes nothing at the platform.
	Read  bool  `json:"read"`
	Shape Shape `json:"shape"`
	// Request has the fields besides seq, token and sign; Answer those of a
	// success besides resultCode and resultMsg. A table's Answer are its
	// columns, in order; of a List those of datas.
	Request []Field `json:"request"`
	Answer  []Field `json:"answer"`
	// Note is what an implementer must know, in English.
	Note string `json:"note,omitempty"`
}

// All returns the table, ordered by code. The caller may change it.
func All() []Interface {
	var all []Interface
	for _, part := range [][]Interface{session(), media(), downloads(), subscribers(), bills(), cards(), business(), work(), kiosk(), pushes()} {
		all = append(all, part...)
	}
	slices.SortFunc(all, func(a, b Interface) int { return strings.Compare(a.Code, b.Code) })
	for i := range all {
		for _, fs := range [][]Field{all[i].Request, all[i].Answer} {
			for j := range fs {
				if fs[j].Evidence == "" {
					fs[j].Evidence = all[i].Evidence
				}
			}
		}
	}
	return all
}

// Find returns the interface of a code.
func Find(code string) (Interface, bool) {
	for _, i := range All() {
		if i.Code == code {
			return i, true
		}
	}
	return Interface{}, false
}

// Session reports whether a call needs a token: all but those that give one,
// and registration.
func (i Interface) Session() bool {
	return i.Code != "1001" && i.Code != "1002" && i.Code != "6001" && i.Method != Push
}

// Common are the fields every call carries in its query. The document lists
// them with each interface, always under code 1001 (a copying error: an
// interface sends its own code), and names the sign only with the first.
func Common() []Field {
	return []Field{
		{Name: "seq", Type: String, Len: 32, Required: true, Evidence: Documented, ZH: "消息序列号", EN: "message number: interface code, time, serial; new for every request"},
		{Name: "token", Type: String, Len: 20, Required: true, Evidence: Documented, ZH: "接入令牌", EN: "session token"},
		{Name: "sign", Type: String, Len: 32, Required: true, Evidence: Documented, ZH: "签名", EN: "upper-case MD5 over parameters, body and access password"},
	}
}

// Outcome are the fields an error answer has; a success may have them.
func Outcome() []Field {
	return []Field{
		{Name: "resultCode", Type: String, Required: true, Evidence: Documented, ZH: "结果码", EN: "0 or absent: success"},
		{Name: "resultMsg", Type: String, Len: 256, Required: true, Evidence: Documented, ZH: "错误消息", EN: "text of an error"},
	}
}

// need is a required field, may an optional one.
func need(name string, t Type, n int, zh, en string, more ...func(*Field)) Field {
	f := may(name, t, n, zh, en, more...)
	f.Required = true
	return f
}

func may(name string, t Type, n int, zh, en string, more ...func(*Field)) Field {
	f := Field{Name: name, Type: t, Len: n, ZH: zh, EN: en}
	for _, m := range more {
		m(&f)
	}
	return f
}

func alias(names ...string) func(*Field) { return func(f *Field) { f.Aliases = names } }
func in(u Unit) func(*Field)             { return func(f *Field) { f.Unit = u } }
func grade(e Evidence) func(*Field)      { return func(f *Field) { f.Evidence = e } }
func doc(name string) func(*Field)       { return func(f *Field) { f.Doc = name } }

// orgCode and subsCode stand in most requests.
func orgCode() Field {
	return need("orgCode", String, 20, "组织机构编码", "organisation code, appendix B")
}

func subsCode() Field {
	return need("subsCode", String, 20, "气户户号", "number of the gas account")
}

// page are the fields of a request for one page.
func page() []Field {
	return []Field{
		need("pageIndex", Integer, 0, "页码", "page, from 1"),
		need("pageSize", Integer, 0, "每页条数", "rows a page, 1 to 100; the platform takes 10 for anything else"),
	}
}
