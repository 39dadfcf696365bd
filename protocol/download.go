package protocol

import (
	"context"
	"io"
	"net/http"
	"slices"
	"time"

	"vcckiosk/protocol/catalogue"
	"vcckiosk/protocol/table"
)

// MaxWindow is the longest span of time one download may ask for: "within a
// month" (3001 to 3004).
const MaxWindow = 31 * 24 * time.Hour

// Window is which changes a download asks for. Whether the platform counts its
// ends in is not documented: ask with an overlap.
type Window struct {
	// OrgCode is this kiosk's when empty.
	OrgCode string
	// From and To are sent in China time, in whole seconds: From rounded down, To
	// cut off. To is after From and at most MaxWindow later.
	From, To time.Time
}

func (w Window) check(code string) error {
	from, to := w.From.Truncate(time.Second), w.To.Truncate(time.Second)
	switch {
	case w.From.IsZero() || w.To.IsZero():
		return &FieldError{Interface: code, Field: "lastTimestamp", Why: "window without beginning or end"}
	case !to.After(from):
		return &FieldError{Interface: code, Field: "timestamp", Why: "window ends before it begins"}
	case to.Sub(from) > MaxWindow:
		return &FieldError{Interface: code, Field: "timestamp", Why: "window is longer than 31 days"}
	}
	return nil
}

// Download reads the changes of a window from one of the tables 3001 to 3004,
// row by row: memory does not grow with the table. use is called for each good
// row, with the columns of the catalogue by their place in it, and may set a
// row aside; an error of use ends the download and is returned as it is.
//
// What was used counts only when Download returns nil: a table has no end mark,
// and one that was cut off is ErrTransport at its last row. table.ErrHeader (an
// ErrTransport too): the answer is not this table. A FieldError: nothing was
// sent. There is no deadline but ctx's; an answer that stands still for
// TimeoutBacklog is given up. Nothing is retried here but what every call
// repeats: a rejected token, a duplicate message, the fallback path of 3002.
func (c *Client) Download(ctx context.Context, code string, w Window, use func(row *table.Reader) error) (table.Summary, error) {
	e := c.catalogue[code]
	if e == nil || e.Shape != catalogue.Table {
		return table.Summary{}, &FieldError{Interface: code, Field: "code", Why: "is no table"}
	}
	if err := w.check(code); err != nil {
		return table.Summary{}, err
	}
	r := request{name: code, end: e, accept: "*/*", params: map[string]string{
		"orgCode":       or(w.OrgCode, c.OrgCode),
		"lastTimestamp": Stamp(w.From),
		"timestamp":     Stamp(w.To),
	}}
	var sum table.Summary
	err := c.stream(ctx, r, func(_ http.Header, body io.Reader) error {
		rows := table.New(body, e.columns(), table.Options{})
		defer func() { sum = rows.Summary() }()
		for rows.Next() {
			if err := use(rows); err != nil {
				return err
			}
		}
		err := rows.Err()
		if err == nil {
			return nil
		}
		if _, ours := err.(*CallError); ours { //nolint:errorlint // as the stream made it, or from the reader
			return err
		}
		bad := c.fail(r, err.Error(), ErrTransport)
		bad.cause = err
		return bad
	})
	return sum, err
}

// columns are the table's with the names this platform is configured to use.
func (e *endpoint) columns() []catalogue.Field {
	list := slices.Clone(e.Answer)
	for i, f := range list {
		list[i].Aliases = slices.Clone(f.Aliases)
		for wire, r := range e.in.fields {
			if r.to == f.Name && !slices.Contains(list[i].Aliases, wire) {
				list[i].Aliases = append(list[i].Aliases, wire)
			}
		}
	}
	return list
}
