package vcctest

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/encoding/simplifiedchinese"

	"vcckiosk/protocol/catalogue"
)

// DownloadOptions shape the tables of 3001 to 3004. The zero value writes them
// as the document does: UTF-8, LF, its own column names, in chunks.
type DownloadOptions struct {
	GB18030 bool
	Mark    bool // a byte order mark
	CRLF    bool
	Alias   bool // 机构编码 for 组织机构编码
	Extra   bool // a column before and one behind, which the document does not know
	// Short adds a row with too few fields after every so many.
	Short int
	// Length announces Content-Length; without it the body comes in chunks.
	Length bool
	// Lag is how long after its change a row can be seen: a transaction that
	// commits late.
	Lag time.Duration
	// Recent refuses windows that begin more than a month ago, besides those
	// that are longer than one.
	Recent bool
}

// Entry is a row of one of the four tables, with the time of its last change;
// zero: now.
type Entry interface {
	row() (code, key, org string, changed time.Time, cells []string)
}

// Address is a row of 3001.
type Address struct {
	Code, Parent, Type, Name, FullName, OrgCode, State string
	Changed                                            time.Time
}

// SupplyPoint is a row of 3002.
type SupplyPoint struct {
	Code, Type, Gas, Building, Detail, Through, OrgCode string
	Changed                                             time.Time
}

// Subscriber is a row of 3003.
type Subscriber struct {
	Code, Name, AddrCode, Detail, Type, State, Tel, Mobile, OrgCode string
	Changed                                                         time.Time
}

// Meter is a row of 3004. Its code and type together are its key.
type Meter struct {
	Code, Type, Model, Direction, State, Position, SubsCode, Mode, Factory, OrgCode string
	Changed                                                                         time.Time
}

func (a Address) row() (string, string, string, time.Time, []string) {
	return "3001", a.Code, a.OrgCode, a.Changed, []string{a.Code, a.Parent, a.Type, a.Name, a.FullName, a.OrgCode, a.State}
}

func (s SupplyPoint) row() (string, string, string, time.Time, []string) {
	return "3002", s.Code, s.OrgCode, s.Changed, []string{s.Code, s.Type, s.Gas, s.Building, s.Detail, s.Through, s.OrgCode}
}

func (s Subscriber) row() (string, string, string, time.Time, []string) {
	return "3003", s.Code, s.OrgCode, s.Changed, []string{s.Code, s.Name, s.AddrCode, s.Detail, s.Type, s.State, s.Tel, s.Mobile, s.OrgCode}
}

func (m Meter) row() (string, string, string, time.Time, []string) {
	return "3004", m.Code + "|" + m.Type, m.OrgCode, m.Changed,
		[]string{m.Code, m.Type, m.Model, m.Direction, m.State, m.Position, m.SubsCode, m.Mode, m.Factory, m.OrgCode}
}

// tableRows are the books of one table.
type tableRows struct {
	byKey     map[string]tableRow
	generated int
	generate  func(i int, line []byte) []byte
}

type tableRow struct {
	org     string
	changed time.Time
	line    string
}

func (p *Platform) rowsOf(code string) *tableRows {
	if p.rows[code] == nil {
		p.rows[code] = &tableRows{byKey: map[string]tableRow{}}
	}
	return p.rows[code]
}

// AddEntries adds rows, or changes those whose key is known.
func (p *Platform) AddEntries(list ...Entry) {
	defer p.open()()
	for _, e := range list {
		code, key, org, changed, cells := e.row()
		if changed.IsZero() {
			changed = p.b.now
		}
		p.rowsOf(code).byKey[key] = tableRow{org, changed, strings.Join(cells, "|")}
	}
}

// Generate makes every window of a table have n rows more, whatever its org
// code: row i is what generate appends to line, without a line end. It is
// called while the answer is read, without any lock, so that a table of any
// size needs no memory.
func (p *Platform) Generate(code string, n int, generate func(i int, line []byte) []byte) {
	defer p.open()()
	t := p.rowsOf(code)
	t.generated, t.generate = n, generate
}

// download answers 3001 to 3004. Neither end of the window belongs to it: an
// asker must overlap.
func (p *Platform) download(q *request) (any, *refusal) {
	at := func(name string, otherwise time.Time) (time.Time, bool) {
		v := q.query.Get(name)
		if v == "" {
			return otherwise, true
		}
		t, err := time.ParseInLocation("20060102150405", v, zone)
		return t, err == nil && stampForm.MatchString(v)
	}
	now := p.b.now.In(zone)
	from, fromOK := at("lastTimestamp", time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, zone))
	to, toOK := at("timestamp", now)
	org := q.query.Get("orgCode")
	const month = 31 * 24 * time.Hour
	o := p.b.o.Download
	if r := check(
		field{"orgCode", nameForm.MatchString(org)}, field{"lastTimestamp", fromOK}, field{"timestamp", toOK},
		field{"timestamp is not after lastTimestamp", to.After(from)}, field{"more than a month", to.Sub(from) <= month},
		field{"older than a month", !o.Recent || now.Sub(from) <= month+time.Minute},
	); r != nil {
		return nil, r
	}
	t := p.rowsOf(q.code)
	var rows []tableRow
	for _, key := range slices.Sorted(maps.Keys(t.byKey)) {
		r := t.byKey[key]
		if r.org == org && r.changed.After(from) && r.changed.Before(to) && !now.Before(r.changed.Add(o.Lag)) {
			rows = append(rows, r)
		}
	}
	slices.SortStableFunc(rows, func(a, b tableRow) int { return a.changed.Compare(b.changed) })
	d := &download{o: o, rows: rows, generated: t.generated, generate: t.generate, left: -1}
	d.header = header(q.code, o)
	d.length = -1
	if o.Length {
		n, err := io.Copy(io.Discard, d.again())
		if err != nil {
			return nil, refuse("10001", "table cannot be written")
		}
		d.length = n
	}
	return d, nil
}

func header(code string, o DownloadOptions) string {
	i, _ := catalogue.Find(code)
	var names []string
	for _, f := range i.Answer {
		if o.Alias && f.Name == "组织机构编码" {
			f.Name = "机构编码"
		}
		names = append(names, f.Name)
	}
	return extra(strings.Join(names, "|"), "序号", "更新时间", o)
}

func extra(line, before, behind string, o DownloadOptions) string {
	if o.Extra {
		return before + "|" + line + "|" + behind
	}
	return line
}

// download is a table on its way. It is written as it is read.
type download struct {
	o         DownloadOptions
	header    string
	rows      []tableRow
	generated int
	generate  func(i int, line []byte) []byte
	length    int64 // announced; -1: not

	next int   // line, the header is 0
	left int64 // bytes until the cut; negative: none
	line []byte
	buf  []byte
	off  int
}

func (d *download) again() *download {
	c := *d
	return &c
}

// cut sets where the body ends too early.
func (d *download) cut(n int64) {
	if n != 0 {
		d.left = max(n, 0)
	}
}

func (d *download) contentType() string {
	if d.o.GB18030 {
		return "text/plain;charset=GBK"
	}
	return "text/plain;charset=UTF-8"
}

// Read writes as many lines as it takes.
func (d *download) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	if d.off == len(d.buf) {
		d.buf, d.off = d.buf[:0], 0
		for len(d.buf) < 32<<10 && d.more() {
			if err := d.write(); err != nil {
				return 0, err
			}
		}
		if len(d.buf) == 0 {
			return 0, io.EOF
		}
	}
	part := d.buf[d.off:]
	if d.left > 0 && int64(len(part)) > d.left {
		part = part[:d.left]
	}
	n := copy(p, part)
	d.off += n
	if d.left > 0 {
		d.left -= int64(n)
	}
	return n, nil
}

func (d *download) more() bool { return d.next <= len(d.rows)+d.generated }

// write appends the next line to buf.
func (d *download) write() error {
	d.line = d.line[:0]
	i := d.next - 1
	switch {
	case d.next == 0 && d.o.Mark:
		d.line = append(append(d.line, "\ufeff"...), d.header...)
	case d.next == 0:
		d.line = append(d.line, d.header...)
	case i < len(d.rows):
		d.line = append(d.line, extra(d.rows[i].line, strconv.Itoa(i), d.rows[i].changed.In(zone).Format(time.DateTime), d.o)...)
	default:
		d.line = d.generate(i-len(d.rows), d.line)
		if d.o.Extra {
			d.line = fmt.Appendf(nil, "%d|%s|", i, d.line)
		}
	}
	d.end()
	if d.o.Short > 0 && d.next > 0 && d.next%d.o.Short == 0 {
		d.line = append(d.line, "short|row"...)
		d.end()
	}
	d.next++
	if !d.o.GB18030 {
		d.buf = append(d.buf, d.line...)
		return nil
	}
	line, err := simplifiedchinese.GB18030.NewEncoder().Bytes(d.line)
	if err != nil {
		return fmt.Errorf("table in GB18030: %w", err)
	}
	d.buf = append(d.buf, line...)
	return nil
}

func (d *download) end() {
	if d.o.CRLF {
		d.line = append(d.line, '\r')
	}
	d.line = append(d.line, '\n')
}

// serve writes the table to a connection, which breaks when it is cut.
func (d *download) serve(w http.ResponseWriter, status int) {
	if d.length >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(d.length, 10))
	}
	w.WriteHeader(status)
	if _, err := io.Copy(w, d); err != nil || d.left == 0 {
		_ = http.NewResponseController(w).Flush() // what came is seen
		panic(http.ErrAbortHandler)
	}
}

// response is the table without a network.
func (d *download) response(r *http.Request, out reply) *http.Response {
	if d.length >= 0 {
		out.header.Set("Content-Length", strconv.FormatInt(d.length, 10))
	}
	return &http.Response{
		Status: strconv.Itoa(out.status) + " " + http.StatusText(out.status), StatusCode: out.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: out.header,
		Body: io.NopCloser(d), ContentLength: d.length, Request: r,
	}
}

// Entries returns what the books of a table hold, by key: the line as it is
// downloaded, without line end.
func (p *Platform) Entries(code string) []string {
	defer p.open()()
	t := p.rowsOf(code)
	keys := slices.SortedFunc(maps.Keys(t.byKey), cmp.Compare)
	lines := make([]string, len(keys))
	for i, k := range keys {
		lines[i] = t.byKey[k].line
	}
	return lines
}
