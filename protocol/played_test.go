package protocol

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"vcckiosk/protocol/table"
	"vcckiosk/protocol/vcctest"
)

// asked keeps the requests that passed and may change them on their way.
type asked struct {
	next   http.RoundTripper
	change func(*http.Request)
	all    []*http.Request
}

func (a *asked) RoundTrip(r *http.Request) (*http.Response, error) {
	a.all = append(a.all, r.Clone(r.Context()))
	if a.change != nil {
		a.change(r)
	}
	return a.next.RoundTrip(r)
}

// last is the last request to a path, and its query.
func (a *asked) last(t *testing.T, path string) (*http.Request, url.Values) {
	t.Helper()
	for _, r := range slices.Backward(a.all) {
		if strings.HasSuffix(r.URL.Path, path) {
			return r, r.URL.Query()
		}
	}
	t.Fatalf("nothing was sent to %s", path)
	return nil, nil
}

// against is a client of a good simulated platform.
func against(t *testing.T, o vcctest.Options, change func(*Config)) (*Client, *asked, *vcctest.Platform) {
	t.Helper()
	o.Good, o.BaseKey = true, testKey
	p := vcctest.New(o)
	a := &asked{next: p.RoundTripper()}
	return newTestClient(t, a, func(cfg *Config, d *Deps) {
		d.Key = func() (BaseKey, error) { return derivingBase{testBase{testKey, 1}}, nil }
		if change != nil {
			change(cfg)
		}
	}), a, p
}

// played is a client of the platform of these tests, which checks every sign
// by its own code and answers what it is told.
func played(t *testing.T, change ...func(*Config, *Deps)) (*Client, *platform) {
	t.Helper()
	p := newPlatform()
	return newTestClient(t, p, change...), p
}

func (p *platform) sentTo(t *testing.T, path string) (*http.Request, url.Values) {
	t.Helper()
	a := &asked{all: p.requests}
	return a.last(t, path)
}

const subsAnswer = `{"subsCode":"123456","name":"张**","resType":"A","displayAddr":"木岭小区******","subsType":"1","state":"A","orgCode":"SU0105"}`

func subs(ctx context.Context, c *Client) (string, error) {
	b, err := c.Invoke(ctx, "3005", map[string]string{"subsCode": "123456", "orgCode": "SU0105"})
	return string(b), err
}

// readTable reads a table as the stream gives it.
func readTable(ctx context.Context, c *Client, code string, more ...string) (string, error) {
	params := map[string]string{"orgCode": "WJ0105", "lastTimestamp": "20260801000000", "timestamp": "20260802000000"}
	for i := 0; i < len(more); i += 2 {
		params[more[i]] = more[i+1]
	}
	var got []byte
	err := c.stream(ctx, request{name: code, end: c.catalogue[code], params: params}, func(_ http.Header, body io.Reader) (err error) {
		got, err = io.ReadAll(body)
		return err
	})
	return string(got), err
}

// column downloads a table and returns one column of it; a row that is set aside
// is an error.
func column(t *testing.T, c *Client, code string, n int) []string {
	t.Helper()
	end := time.Date(2026, 8, 2, 0, 0, 0, 0, shanghai())
	var got []string
	sum, err := c.Download(t.Context(), code, Window{OrgCode: "WJ0105", From: end.AddDate(0, 0, -1), To: end}, func(r *table.Reader) error {
		got = append(got, string(r.Field(n)))
		return nil
	})
	if err != nil || sum.Bad != 0 {
		t.Errorf("%s: %d rows set aside, %v", code, sum.Bad, err)
	}
	return got
}

// opaque plays values of a column or field the document has no list for.
func opaque(t *testing.T, code, field string, values ...string) {
	t.Helper()
	c, p := played(t)
	i, _ := c.Interface(code)
	var names, cells []string
	at := -1
	for n, f := range i.Answer {
		names, cells = append(names, f.Name), append(cells, "x")
		if f.Name == field {
			at = n
		}
	}
	if at < 0 {
		t.Fatalf("%s has no column %s", code, field)
	}
	for _, v := range values {
		if why := typeRule(i.Answer[at]).check(v); why != "" {
			t.Errorf("%s: %s %q: %s", code, field, v, why)
		}
		cells[at] = v
		text := strings.Join(names, "|") + "\n" + strings.Join(cells, "|") + "\n"
		p.says(i.Path, text)
		if got, err := readTable(t.Context(), c, code); err != nil || got != text {
			t.Errorf("%s: %q, %v", code, got, err)
		}
		if got := column(t, c, code, at); !slices.Equal(got, []string{v}) {
			t.Errorf("%s: read as %q", code, got)
		}
	}
}
