package protocol

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vcckiosk/protocol/catalogue"
)

// BaseKey is the kiosk's base key as the client sees it: it signs, and it has
// a generation that changes with the key.
type BaseKey interface {
	// Sign returns the upper-case hex MD5 of message followed by the key.
	Sign(message []byte) string
	Generation() uint64
}

// SeqSource gives the serial of the next HTTP request: 1..99999999999999,
// never the same twice, not even after a power cut.
type SeqSource interface {
	Next(ctx context.Context) (uint64, error)
}

// Deps is what the client needs from its surroundings.
type Deps struct {
	// Transport carries the requests; NewTransport(Config.TLS) when nil. An
	// error it returns that is ErrNotSent promises that nothing left.
	Transport http.RoundTripper
	// Key returns the active base key, or an error when there is none.
	Key func() (BaseKey, error)
	Seq SeqSource
	// Log may be nil.
	Log *slog.Logger
	// Evicted, if set, is called when a token was rejected less than 60 s after
	// it was issued: somebody else opens sessions under the same identity. It is
	// called from the goroutine of the call and must not block.
	Evicted func()
}

// Client speaks with the platform. It is safe for concurrent use and starts no
// goroutine.
type Client struct {
	*settings
	deps       Deps
	transport  http.RoundTripper
	aside      http.RoundTripper // see Aside; the same where a test brings its own
	log        *slog.Logger
	tokens     tokens
	nestedSign atomic.Bool
	device     atomic.Pointer[string] // takes the place of DeviceID
	tokenSeals atomic.Bool

	skewMu sync.Mutex
	skew   time.Duration
	skewed bool
}

// NewClient validates the configuration; an error names the field.
func NewClient(c Config, d Deps) (*Client, error) {
	s, err := c.validate()
	if err != nil {
		return nil, fmt.Errorf("platform client: %w", err)
	}
	if d.Key == nil || d.Seq == nil {
		return nil, errors.New("platform client: no source of keys or of sequence numbers")
	}
	cl := &Client{settings: s, deps: d, transport: d.Transport, aside: d.Transport, log: d.Log}
	if cl.log == nil {
		cl.log = slog.New(slog.DiscardHandler)
	}
	if cl.transport == nil {
		if cl.transport, err = NewTransport(c.TLS); err != nil {
			return nil, fmt.Errorf("platform client: %w", err)
		}
		if cl.aside, err = NewTransport(c.TLS); err != nil {
			return nil, fmt.Errorf("platform client: %w", err)
		}
	}
	return cl, nil
}

// Interface returns an interface as this client calls it: code, method and path
// may differ from the catalogue's, the fields have the catalogue's names.
func (c *Client) Interface(code string) (catalogue.Interface, bool) {
	e := c.catalogue[code]
	if e == nil {
		return catalogue.Interface{}, false
	}
	return e.Interface, true
}

// Skew tells how far the platform's clock is ahead of this machine's, once an
// answer carried a date. Its grain is a second.
func (c *Client) Skew() (time.Duration, bool) {
	c.skewMu.Lock()
	defer c.skewMu.Unlock()
	return c.skew, c.skewed
}

func (c *Client) sawDate(date, local time.Time) {
	c.skewMu.Lock()
	defer c.skewMu.Unlock()
	c.skew, c.skewed = date.Sub(local.Round(0)), true
}

// limit bounds a whole call, by the context's mark.
func (c *Client) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	d := c.TimeoutLive
	if isBacklog(ctx) {
		d = c.TimeoutBacklog
	}
	return context.WithTimeout(ctx, d)
}

// do makes one call for a JSON answer, within its deadline.
func (c *Client) do(ctx context.Context, code string, params map[string]string, body []byte, strict bool) (*value, error) {
	ctx, cancel := c.limit(ctx)
	defer cancel()
	if c.dialect != nil && body != nil {
		return c.steps(ctx, code, body, strict)
	}
	return c.ask(ctx, code, params, body, strict)
}

// ask makes one call as the table has it.
func (c *Client) ask(ctx context.Context, code string, params map[string]string, body []byte, strict bool) (*value, error) {
	var v *value
	r := request{name: code, end: c.catalogue[code], params: params, body: body, strict: strict}
	err := c.attempts(ctx, r, func(r request, s *session, pw password) error {
		a, err := c.exchange(ctx, r, s, pw, func(*value) []password { return []password{pw} })
		v = a.value
		return err
	})
	return v, err
}

// attempts makes a call with a live session: one renewal and one repeat when
// the platform rejects the token, one repeat when it says duplicate message,
// one repeat on the fallback path. Every repeat has a new sequence number and
// a new sign.
func (c *Client) attempts(ctx context.Context, r request, attempt func(request, *session, password) error) error {
	for k, v := range r.params {
		if v == "" {
			delete(r.params, k)
		}
	}
	if err := r.end.checkParams(r.name, r.params); err != nil {
		return err
	}
	r.path = r.end.Path
	var sent, renewed, repeated bool
	for {
		s, err := c.live(ctx)
		if err != nil {
			return &attemptError{call: r.name, err: err, session: true, sent: sent}
		}
		pw, err := c.password(r, s)
		if err != nil {
			return err
		}
		err = attempt(r, s, pw)
		if err == nil {
			return nil
		}
		if sent && errors.Is(err, ErrNotSent) {
			err = &attemptError{call: r.name, err: err, sent: true}
		}
		sent = sent || !errors.Is(err, ErrNotSent)
		if e, ok := errors.AsType[*CodeError](err); ok {
			switch {
			case errors.Is(e, ErrAuth):
				c.reject(s)
				if !renewed {
					renewed = true
					continue
				}
			case e.Code == "10056" && !repeated:
				repeated = true
				continue
			}
		}
		if e, ok := errors.AsType[*CallError](err); ok && e.Status == http.StatusNotFound &&
			r.end.Fallback != "" && r.path != r.end.Fallback {
			r.path = r.end.Fallback
			continue
		}
		return err
	}
}

// password chooses what the call is signed with.
func (c *Client) password(r request, s *session) (password, error) {
	switch c.Sign.Password {
	case "base":
		k, err := c.activeKey()
		if err != nil {
			return nil, err
		}
		return k.Sign, nil
	case "token":
		return textPassword(s.token), nil
	case "session":
		if s.key.empty() {
			return nil, c.fail(r, "sign.password is session and the platform gave no session key", ErrPermanent, ErrNotSent)
		}
		return textPassword(s.key), nil
	}
	if !s.key.empty() {
		return textPassword(s.key), nil
	}
	return textPassword(s.token), nil
}

// fill puts this kiosk's own names into a request that leaves them empty.
func (c *Client) fill(deviceID, orgCode *string) {
	if *deviceID == "" {
		*deviceID = c.deviceID()
	}
	if *orgCode == "" {
		*orgCode = c.OrgCode
	}
}

// post makes a call with a JSON body.
func (c *Client) post(ctx context.Context, code string, request any, strict bool) (reader, error) {
	b, err := body(code, request)
	if err != nil {
		return reader{}, err
	}
	v, err := c.do(ctx, code, nil, b, strict)
	if err != nil {
		return reader{}, err
	}
	return newReader(v), nil
}

// closed ends the reading of an answer: the first fault in it makes the whole
// answer unusable.
func (c *Client) closed(code string, in reader) error {
	if *in.fault == "" {
		return nil
	}
	e := c.catalogue[code]
	return &CallError{Interface: code, Method: e.Method, Path: e.Path, Reason: *in.fault, class: []error{ErrTransport}}
}

// same demands that an echoed field is what was asked. Absent is a mismatch
// when it is required.
func (r reader) same(name, asked string, f format, required bool) string {
	got := r.form(name, f, required)
	if (got != "" || required) && *r.fault == "" && got != asked {
		r.fail(name, "is not what was asked")
	}
	return got
}

func (r reader) sameNumber(name string, asked int64, required bool) int64 {
	if m := r.v.member(name); !required && (m == nil || m.kind == kindNull) {
		return asked
	}
	got := r.integer(name, -1<<53, 1<<53, required)
	if *r.fault == "" && got != asked {
		r.fail(name, "is not what was asked")
	}
	return got
}

// oneWord reads a required string out of a closed list.
func (r reader) oneWord(name, list string) string {
	return r.form(name, words(strings.Split(list, "|")...), true)
}
