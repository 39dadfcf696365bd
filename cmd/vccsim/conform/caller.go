package conform

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"vcckiosk/protocol"
	"vcckiosk/protocol/sign"
)

const (
	maxAnswer = 1 << 20
	timeout   = 20 * time.Second
)

// seqForm is a form of the sequence number.
type seqForm struct {
	name   string
	fixed  bool // code 1001, whatever is called
	code   int  // digits
	serial int
	config string // as the kiosk is configured for it
}

func seqForms() []seqForm {
	return []seqForm{
		{"4+14+14, own code", false, 4, 14, ""},
		{"4+14+14, code 1001", true, 4, 14, "[seq] code_mode = \"fixed:1001\""},
		{"5+14+13", false, 5, 13, "[seq] code_width = 5, serial_width = 13"},
		{"4+14+10", false, 4, 10, "[seq] serial_width = 10"},
	}
}

// manner is how requests are made at the moment.
type manner struct {
	options sign.Options
	places  string // query, header, or both
	seq     seqForm
}

// call is one request, wrong ones included.
type call struct {
	code, method, path string
	params             map[string]string // empty values are sent
	body               []byte

	session   *session // nil: getToken, or a call without a token
	password  []byte   // nil: what the session's calls are signed with
	seq       string   // instead of a new one
	unsigned  bool
	elsewhere bool    // path is wrong on purpose
	sign      string  // instead of the right one
	manner    *manner // instead of the present one
	// Signs for the two places, when they shall differ.
	inQuery, inHeader string
}

// answer is what came.
type answer struct {
	status   int
	table    bool // text that is neither JSON nor a web page
	object   map[string]json.RawMessage
	code     string // result code as text, "" for none
	codeForm string // absent, text, number
	date     time.Time
	lost     error
	page     bool
}

// outcome in one word: ok, a result code, page, table, lost, or http and a status.
func (a answer) outcome() string {
	switch {
	case a.lost != nil:
		return "lost"
	case a.code != "" && a.code != "0":
		return a.code
	case a.status != http.StatusOK:
		return "http" + strconv.Itoa(a.status)
	case a.page:
		return "page"
	case a.table:
		return "table"
	}
	return "ok"
}

// passed reports whether the platform took the session and the sign; what it
// said to the content does not matter.
func (a answer) passed() bool {
	return a.lost == nil && !a.page && !refusesSign(a.outcome()) && (a.status == http.StatusOK || a.code != "")
}

func refusesSign(outcome string) bool {
	return slices.Contains([]string{"20001", "20002", "30009", "30010", "40058", "http401", "http403"}, outcome)
}

func notOffered(outcome string) bool {
	return slices.Contains([]string{"10031", "http404", "http501"}, outcome)
}

// text is a scalar of the answer, "" when absent.
func (a answer) text(name string) string {
	raw, has := a.object[name]
	if !has || string(raw) == "null" {
		return ""
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// caller sends requests, slowly.
type caller struct {
	Config
	manner
	transport http.RoundTripper
	serial    uint64
	calls     int
	next      time.Time // of any call
	tokens    []time.Time
	live      *session
}

func newCaller(c Config, t http.RoundTripper) *caller {
	var r [8]byte
	_, _ = rand.Read(r[:]) // never fails
	return &caller{Config: c, transport: t, serial: binary.BigEndian.Uint64(r[:]) % 1_000_000_000, manner: manner{places: "both", seq: seqForms()[0]}}
}

// newSeq makes a sequence number.
func (c *caller) newSeq(f seqForm, code string) string {
	c.serial++
	if f.fixed {
		code = "1001"
	}
	code = strings.Repeat("0", f.code-len(code)) + code
	return code + protocol.Stamp(time.Now()) + fmt.Sprintf("%0*d", f.serial, c.serial)
}

// wait keeps the pace: Rate calls a second, and of getToken four at once and
// one per TokenEvery after that.
func (c *caller) wait(ctx context.Context, token bool) error {
	now := time.Now()
	at := c.next
	if token && c.TokenEvery > 0 {
		c.tokens = slices.DeleteFunc(c.tokens, func(t time.Time) bool { return now.Sub(t) > 4*c.TokenEvery })
		if len(c.tokens) >= 4 {
			if free := c.tokens[len(c.tokens)-4].Add(4 * c.TokenEvery); free.After(at) {
				at = free
			}
		}
	}
	if d := at.Sub(now); d > 0 {
		if d > 5*time.Second {
			c.say(fmt.Sprintf("waiting %v, as a kiosk would before another getToken", d.Round(time.Second)))
		}
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		now = time.Now()
	}
	if c.Rate > 0 {
		c.next = now.Add(time.Duration(float64(time.Second) / c.Rate))
	}
	if token {
		c.tokens = append(c.tokens, now)
	}
	return nil
}

func (c *caller) say(what string) {
	if c.Progress != nil {
		c.Progress(c.calls, what)
	}
}

// signature digests what a call carries.
func (c *caller) signature(k call, params map[string]string, m manner) (string, error) {
	message, err := sign.Canonical(params, k.body, m.options)
	if err != nil {
		return "", err
	}
	password := k.password
	if password == nil && k.session != nil {
		password = k.session.password
	}
	if password == nil {
		password = c.Key
	}
	return m.options.Case(sign.Sum(message, password)), nil
}

// do sends one call. Its error is the context's or a mistake in the call; what
// the network did is in the answer.
func (c *caller) do(ctx context.Context, k call) (answer, error) {
	if err := c.wait(ctx, k.session == nil && (k.code == "1001" || k.code == "1002")); err != nil {
		return answer{}, err
	}
	m := c.manner
	if k.manner != nil {
		m = *k.manner
	}
	params := maps.Clone(k.params)
	if params == nil {
		params = map[string]string{}
	}
	if params["seq"] = k.seq; k.seq == "" {
		params["seq"] = c.newSeq(m.seq, k.code)
	}
	if k.session != nil {
		params["token"] = k.session.token
	}
	s, err := c.signature(k, params, m)
	if err != nil {
		return answer{}, err
	}
	if k.sign != "" {
		s = k.sign
	}
	query := url.Values{}
	for name, v := range params {
		query.Set(name, v)
	}
	inQuery, inHeader := k.inQuery, k.inHeader
	if inQuery == "" && inHeader == "" && !k.unsigned {
		if m.places != "header" {
			inQuery = s
		}
		if m.places != "query" {
			inHeader = s
		}
	}
	replace := func(v string) string { return strings.Replace(v, "RIGHT", s, 1) }
	if inQuery != "" {
		query.Set("sign", replace(inQuery))
	}
	path := k.path
	if own := c.Paths[k.code]; own != "" && !k.elsewhere {
		path = own
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var body io.Reader
	if k.body != nil {
		body = bytes.NewReader(k.body)
	}
	r, err := http.NewRequestWithContext(ctx, k.method, c.BaseURL+path+"?"+query.Encode(), body)
	if err != nil {
		return answer{}, errors.New("address cannot be built")
	}
	r.Header.Set("Accept", "application/json")
	if k.body != nil {
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	if inHeader != "" {
		r.Header.Set("sign", replace(inHeader))
	}
	c.calls++
	resp, err := c.transport.RoundTrip(r)
	if err != nil {
		if context.Cause(ctx) != nil && errors.Is(context.Cause(ctx), context.Canceled) {
			return answer{}, context.Canceled
		}
		return answer{lost: errors.New("no answer")}, nil // the network's text can hold the query
	}
	defer func() { _ = resp.Body.Close() }() // read to its end or given up
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{lost: errors.New("answer broken")}, nil
	}
	return read(resp, raw), nil
}

func read(resp *http.Response, raw []byte) answer {
	a := answer{status: resp.StatusCode, codeForm: "absent"}
	if d, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		a.date = d
	}
	raw = bytes.TrimSpace(bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf")))
	switch {
	case len(raw) > 0 && raw[0] == '{':
		if json.Unmarshal(raw, &a.object) != nil {
			a.page = true
			return a
		}
	case len(raw) > 0 && raw[0] == '[':
		return a
	default:
		a.page = len(raw) > 0 && raw[0] == '<' || len(raw) == 0 && resp.StatusCode != http.StatusOK
		a.table = !a.page
		return a
	}
	if m, has := a.object["resultCode"]; has && string(m) != "null" {
		a.code, a.codeForm = a.text("resultCode"), "number"
		if m[0] == '"' {
			a.codeForm = "text"
		}
	}
	return a
}
