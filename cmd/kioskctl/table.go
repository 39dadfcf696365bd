package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// table lines up the cells of lines: each but the last of a line ends with a
// tab. A Chinese character is two columns wide, which text/tabwriter does not
// know.
type table struct{ bytes.Buffer }

// WriteTo prints the table.
func (t *table) WriteTo(out io.Writer) (int64, error) {
	var rows [][]string
	var widths []int
	for line := range strings.Lines(t.String()) {
		cells := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		for i := range cells {
			cells[i] = plain(cells[i])
			if i == len(cells)-1 {
				break // nothing follows it that had to be lined up
			}
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], columns(cells[i]))
		}
		rows = append(rows, cells)
	}
	var b strings.Builder
	for _, cells := range rows {
		line := ""
		for i, c := range cells {
			line += c
			if i < len(cells)-1 {
				line += strings.Repeat(" ", widths[i]-columns(c)+2)
			}
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	n, err := io.WriteString(out, b.String())
	if err != nil {
		return int64(n), fmt.Errorf("print: %w", err)
	}
	return int64(n), nil
}

// columns is how wide a terminal shows s.
func columns(s string) (n int) {
	for _, c := range s {
		switch k := width.LookupRune(c).Kind(); {
		case unicode.In(c, unicode.Mn, unicode.Me, unicode.Cf):
		case k == width.EastAsianWide || k == width.EastAsianFullwidth:
			n += 2
		default:
			n++
		}
	}
	return n
}

// plain takes out what a terminal would obey: some of the text comes from the
// platform and from cards.
func plain(s string) string {
	return strings.Map(func(c rune) rune {
		if c != '\n' && c != '\t' && unicode.IsControl(c) || unicode.Is(unicode.Cf, c) {
			return '\uFFFD'
		}
		return c
	}, s)
}
