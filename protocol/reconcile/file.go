package reconcile

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of a file. What is beyond is no day of a kiosk.
const (
	MaxFile    = 16 << 20
	MaxSum     = 256
	maxRows    = 50_000
	maxLine    = 4096
	maxColumns = 64
	// maxFaults is how many faults are told one by one.
	maxFaults = 100
)

// Fault is a row that was left out, with what is wrong. Line is its line in an
// answer, 0 in a file of our own. It holds no customer's data.
type Fault struct {
	Line    int    `json:"line,omitempty"`
	TransNo string `json:"termTransNo,omitempty"`
	What    string `json:"what"`
}

// Totals is the sum beside a file: over all its rows, whatever their outcome.
type Totals struct {
	Rows   int    `json:"rows"`
	Amount Fen    `json:"amount"`
	Volume Volume `json:"gasVolume"`
	SHA256 string `json:"sha256"` // of the file's bytes, lower-case hex
}

// Line is the sum as a file.
func (t Totals) Line() []byte {
	return fmt.Appendf(nil, "%d|%d|%d|%s\n", t.Rows, t.Amount, t.Volume, t.SHA256)
}

// Write makes a day's file. Rows are put in the order of write time and number,
// so the same rows always give the same bytes. A row that breaks a limit, or
// whose number another one has, is left out and named.
func Write(rows []Row) (body []byte, t Totals, bad []Fault) {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.WriteTime, b.WriteTime), cmp.Compare(a.TransNo, b.TransNo))
	})
	var b bytes.Buffer
	cells := make([]string, 0, len(Columns))
	for _, c := range ours() {
		cells = append(cells, c.Name)
	}
	b.WriteString(strings.Join(cells, "|") + "\n")
	seen := map[string]bool{}
	for i := range rows {
		r := &rows[i]
		line, err := writeRow(r, cells[:0])
		switch {
		case err != nil:
		case seen[r.TransNo]:
			err = errors.New("number stands there twice")
		case t.Rows == maxRows || b.Len()+len(line) > MaxFile:
			err = fmt.Errorf("more than %d rows or %d bytes", maxRows, MaxFile)
		}
		if err != nil {
			bad = append(bad, Fault{TransNo: clip(r.TransNo), What: err.Error()})
			continue
		}
		seen[r.TransNo] = true
		b.WriteString(line)
		t.Rows++
		t.Amount += r.Amount
		t.Volume += r.Volume
	}
	t.SHA256 = sum(b.Bytes())
	return b.Bytes(), t, bad
}

func writeRow(r *Row, cells []string) (string, error) {
	for _, c := range ours() {
		s := c.put(r)
		var back Row
		if err := c.cell(&back, s); err != nil { // what a reader would refuse is not written
			return "", err
		}
		cells = append(cells, escape(s))
	}
	line := strings.Join(cells, "|") + "\n"
	if len(line) > maxLine || !utf8.ValidString(line) {
		return "", fmt.Errorf("row: %d bytes, at most %d", len(line), maxLine)
	}
	return line, nil
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "")
	}
	return strings.ToValidUTF8(s, "")
}

// Table is a file that was read.
type Table struct {
	Rows   []Row
	Faults []Fault // rows that were set aside, the first 100
	Bad    int     // how many there were
	Totals Totals  // over Rows, and the hash of all bytes
	lines  int     // rows, bad ones included
}

// Errors of Read and Check: nothing of the file can be used. It may be read
// again later, when its writer has finished it.
var (
	ErrForm = errors.New("not a reconciliation file")
	ErrCut  = errors.New("file is cut short")
	ErrSum  = errors.New("file does not fit its sum")
)

// Read reads a day's file, ours or an answer. A row that cannot be used is set
// aside and hides no other.
func Read(body []byte) (*Table, error) {
	if len(body) > MaxFile {
		return nil, fmt.Errorf("%d bytes, at most %d: %w", len(body), MaxFile, ErrForm)
	}
	t := &Table{Totals: Totals{SHA256: sum(body)}}
	body = bytes.TrimPrefix(body, []byte("\xEF\xBB\xBF"))
	if len(body) > 0 && body[len(body)-1] != '\n' {
		return nil, fmt.Errorf("last line does not end: %w", ErrCut)
	}
	header, rest, ok := bytes.Cut(body, []byte("\n"))
	if !ok || len(header) > maxLine || !utf8.Valid(header) {
		return nil, fmt.Errorf("no header: %w", ErrForm)
	}
	cols, err := columnsOf(strings.Split(strings.TrimSuffix(string(header), "\r"), "|"))
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for n := 2; len(rest) > 0; n++ {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		if t.lines++; t.lines > maxRows {
			return nil, fmt.Errorf("line %d: more than %d rows: %w", n, maxRows, ErrForm)
		}
		r, err := readRow(line, cols)
		if err == nil && seen[r.TransNo] {
			err = errors.New("number stands there twice")
		}
		if err != nil {
			if t.Bad++; len(t.Faults) < maxFaults {
				t.Faults = append(t.Faults, Fault{Line: n, What: err.Error()})
			}
			continue
		}
		seen[r.TransNo] = true
		t.Rows = append(t.Rows, r)
		t.Totals.Rows++
		t.Totals.Amount += r.Amount
		t.Totals.Volume += r.Volume
	}
	return t, nil
}

// columnsOf finds each cell's column, nil for one nobody asked for.
func columnsOf(header []string) ([]*Column, error) {
	if len(header) > maxColumns {
		return nil, fmt.Errorf("%d columns, at most %d: %w", len(header), maxColumns, ErrForm)
	}
	cols := make([]*Column, len(header))
	for i, name := range header {
		name = strings.TrimSpace(name)
		for j := range Columns {
			c := &Columns[j]
			if name != c.Name && !slices.Contains(c.Aliases, name) {
				continue
			}
			if slices.Contains(cols, c) {
				return nil, fmt.Errorf("header: %s twice: %w", c.Name, ErrForm)
			}
			cols[i] = c
		}
	}
	for j := range Columns {
		if c := &Columns[j]; c.Needed && !slices.Contains(cols, c) {
			return nil, fmt.Errorf("header: no column %s: %w", c.Name, ErrForm)
		}
	}
	return cols, nil
}

func readRow(line []byte, cols []*Column) (Row, error) {
	var r Row
	if len(line) > maxLine {
		return r, fmt.Errorf("%d bytes, at most %d", len(line), maxLine)
	}
	if !utf8.Valid(line) {
		return r, errors.New("not UTF-8")
	}
	cells := strings.Split(string(line), "|")
	if len(cells) != len(cols) {
		return r, fmt.Errorf("%d cells, the header has %d", len(cells), len(cols))
	}
	for i, c := range cols {
		if c == nil {
			continue
		}
		s, ok := unescape(cells[i])
		if !ok {
			return r, fmt.Errorf("%s: neither text nor an escape", c.Name)
		}
		if err := c.cell(&r, s); err != nil {
			return r, err
		}
	}
	return r, nil
}

// Check holds a file against the sum that came with it.
func (t *Table) Check(line []byte) error {
	if len(line) > MaxSum {
		return fmt.Errorf("sum of %d bytes: %w", len(line), ErrSum)
	}
	cells := strings.Split(strings.TrimRight(string(line), "\r\n"), "|")
	if len(cells) != 4 {
		return fmt.Errorf("sum is not rows|amount|volume|sha256: %w", ErrSum)
	}
	rows, ok1 := number(cells[0])
	amount, ok2 := number(cells[1])
	volume, ok3 := number(cells[2])
	switch {
	case !ok1 || !ok2 || !ok3:
		return fmt.Errorf("sum is not rows|amount|volume|sha256: %w", ErrSum)
	case !strings.EqualFold(cells[3], t.Totals.SHA256):
		return fmt.Errorf("sha256: %w", ErrSum)
	case int(rows) != t.lines:
		return fmt.Errorf("%d rows, the sum says %d: %w", t.lines, rows, ErrSum)
	case t.Bad == 0 && (Fen(amount) != t.Totals.Amount || Volume(volume) != t.Totals.Volume):
		return fmt.Errorf("amount or volume: %w", ErrSum)
	}
	return nil
}
