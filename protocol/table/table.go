// Package table reads the text tables of the downloads 3001 to 3004: a header
// line, then a line a row, fields separated by "|". The document says nothing
// of charset, quoting or the end; this reader takes what platforms of this kind write.
//
//   - UTF-8 or GB18030, with or without a byte order mark, lines ended by LF or
//     CRLF. The first line that is not ASCII decides the charset, which is the
//     header: its names are Chinese.
//   - Columns are found by name or alias, in any order; columns that nobody
//     asked for are ignored. A missing required column is an error: the table is
//     another one, or the platform has changed it.
//   - A row that does not fit is set aside with its line number and a reason,
//     and the next one is read. No reason repeats a value: a value can name a
//     person.
//   - An empty body and a lone header are tables without rows.
//
// Whether the body came whole is not seen here: it has no end mark. The reader
// that is read from must tell.
//
// Memory is bounded by Options.MaxLine, whatever is read. Nothing panics.
package table

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"vcckiosk/protocol/catalogue"
)

// ErrHeader says that the first line is not the header of this table: never
// retry before platform or configuration has changed.
var ErrHeader = errors.New("not the header of this table")

// Charset is how a table is written.
type Charset string

// Charsets. Undecided: nothing but ASCII was seen.
const (
	Undecided Charset = "ascii"
	UTF8      Charset = "utf-8"
	GB18030   Charset = "gb18030"
)

// Options bound a Reader; zero values are the defaults.
type Options struct {
	MaxLine int // bytes of a line; longer rows are set aside; default 16 KB
	MaxBad  int // rows set aside that are remembered one by one; default 20
}

// Bad is a row that was set aside. Why repeats no value.
type Bad struct {
	Line int    `json:"line"` // the header is line 1
	Why  string `json:"why"`
}

// Summary is what a Reader has seen so far.
type Summary struct {
	Charset Charset `json:"charset"`
	Rows    int     `json:"rows"`           // good ones
	Bad     int     `json:"bad"`            // set aside
	List    []Bad   `json:"list,omitempty"` // the first of them
	Bytes   int64   `json:"bytes"`
	// Unknown is how many columns nobody asked for.
	Unknown int `json:"unknown"`
}

const (
	defaultMaxLine = 16 << 10
	defaultMaxBad  = 20
	maxColumns     = 256
	chunk          = 64 << 10
)

// Reader reads one table. It is used by one goroutine.
type Reader struct {
	in      io.Reader
	columns []catalogue.Field
	o       Options

	buf        []byte // what was read and not used is buf[start:end]
	start, end int
	ended      error // of in
	line       int   // number of the line last taken

	charset Charset
	gb      *gb18030 // nil until it is needed

	header bool
	width  int    // fields of a row
	seps   []int  // of the present line
	rules  []rule // by column
	sum    Summary
	err    error
}

// rule is a column and where the present row has it.
type rule struct {
	at       int // field, -1 when the table does not have it
	max      int // characters
	required bool
	field    []byte // of the row read last; valid until the next
}

// New makes a reader of a table with these columns, of which Name, Aliases,
// Len and Required are used.
func New(in io.Reader, columns []catalogue.Field, o Options) *Reader {
	if o.MaxLine <= 0 {
		o.MaxLine = defaultMaxLine
	}
	if o.MaxBad <= 0 {
		o.MaxBad = defaultMaxBad
	}
	r := &Reader{
		in: in, columns: columns, o: o, charset: Undecided,
		buf: make([]byte, max(chunk, o.MaxLine+2)), rules: make([]rule, len(columns)), seps: make([]int, 0, 32),
	}
	for i, c := range columns {
		r.rules[i] = rule{at: -1, max: c.Len, required: c.Required}
		if c.Len <= 0 {
			r.rules[i].max = o.MaxLine
		}
	}
	return r
}

// Next reads the next good row. False: the end, or Err.
func (r *Reader) Next() bool {
	for r.err == nil {
		line, long, ok := r.take()
		switch {
		case !ok:
			return false
		case len(line) == 0 && !long: // blank
		case !r.header:
			r.readHeader(line, long)
		case long:
			r.bad(tooLong, 0)
		default:
			if fault, column := r.split(line); fault != fits {
				r.bad(fault, column)
				continue
			}
			r.sum.Rows++
			return true
		}
	}
	return false
}

// Field is a column of the row read last, in UTF-8 and without blanks around
// it; empty when the table does not have the column. It is valid until Next.
func (r *Reader) Field(column int) []byte { return r.rules[column].field }

// Line is the number of the row read last; the header is line 1.
func (r *Reader) Line() int { return r.line }

// SetAside counts the row read last as bad, for a reason only the caller can
// see; why must not repeat a value.
func (r *Reader) SetAside(why string) {
	r.sum.Rows--
	r.note(func() string { return why })
}

// Err is what ended the reading: nil at the end, ErrHeader, or what the
// underlying reader said.
func (r *Reader) Err() error { return r.err }

// Summary tells what was seen so far.
func (r *Reader) Summary() Summary {
	s := r.sum
	s.Charset, s.List = r.charset, slices.Clone(r.sum.List)
	return s
}

// fault is why a row does not fit.
type fault int

const (
	fits fault = iota
	tooLong
	notText
	control
	wrongCount
	empty
	longField
)

func (r *Reader) bad(f fault, column int) {
	r.note(func() string {
		switch f {
		case tooLong:
			return fmt.Sprintf("longer than %d bytes", r.o.MaxLine)
		case notText:
			return "not valid " + string(r.charset)
		case control:
			return "has a control character"
		case wrongCount:
			return fmt.Sprintf("has %d fields, the header %d", column, r.width)
		case empty:
			return "column " + r.columns[column].Name + ": empty"
		}
		return fmt.Sprintf("column %s: longer than %d characters", r.columns[column].Name, r.columns[column].Len)
	})
}

func (r *Reader) note(why func() string) {
	r.sum.Bad++
	if len(r.sum.List) < r.o.MaxBad {
		r.sum.List = append(r.sum.List, Bad{Line: r.line, Why: why()})
	}
}

// readHeader finds the columns in the first line.
func (r *Reader) readHeader(line []byte, long bool) {
	if long {
		r.err = fmt.Errorf("line 1 is longer than %d bytes: %w", r.o.MaxLine, ErrHeader)
		return
	}
	names, why := r.names(line)
	if why == "" {
		why = r.find(names)
	}
	if why != "" {
		r.err = fmt.Errorf("line 1: %s: %w", why, ErrHeader)
		return
	}
	r.header = true
}

// names splits a header.
func (r *Reader) names(line []byte) (names []string, why string) {
	_, c := scan(line, nil)
	f := fits
	if !c.ascii {
		line, f = r.decode(line, c.utf8)
	}
	if c.ctl || f != fits {
		return nil, "is not text"
	}
	for name := range strings.SplitSeq(string(line), "|") {
		if len(names) == maxColumns {
			return nil, fmt.Sprintf("has more than %d columns", maxColumns)
		}
		names = append(names, strings.Trim(name, " \ufeff"))
	}
	return names, ""
}

// find sets where the columns are and tells why they cannot be.
func (r *Reader) find(names []string) (why string) {
	r.width, r.sum.Unknown = len(names), len(names)
	for i, c := range r.columns {
		r.rules[i].at = -1
		for at, name := range names {
			if name != c.Name && !slices.Contains(c.Aliases, name) {
				continue
			}
			if r.rules[i].at >= 0 {
				return "column " + c.Name + " is there twice"
			}
			r.rules[i].at = at
			r.sum.Unknown--
		}
		if r.rules[i].at < 0 && c.Required {
			return "column " + c.Name + " is missing"
		}
	}
	return ""
}

// decode makes UTF-8 of a line that is not ASCII; valid: it is UTF-8 already.
// The first of them decides the charset.
func (r *Reader) decode(line []byte, valid bool) ([]byte, fault) {
	switch {
	case r.charset == Undecided && valid:
		r.charset = UTF8
	case r.charset == Undecided:
		r.charset = GB18030
	}
	if r.charset == UTF8 {
		if !valid {
			return nil, notText
		}
		return line, fits
	}
	if r.gb == nil {
		r.gb = newGB18030(r.o.MaxLine)
	}
	text, ok := r.gb.decode(line)
	if !ok {
		return nil, notText
	}
	return text, fits
}
