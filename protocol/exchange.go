package protocol

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"time"

	"vcckiosk/protocol/catalogue"
	"vcckiosk/protocol/sign"
)

// request is one call before it has a sequence number and a sign, in the
// catalogue's names.
type request struct {
	name   string // catalogue code; the endpoint's own can be another one
	end    *endpoint
	path   string
	params map[string]string // besides seq, token and sign
	body   []byte
	// upload opens a body that is sent and not signed, anew for each try, and
	// tells its length; uploadType is its type.
	upload     func() (io.ReadCloser, int64, error)
	uploadType string
	// strict is set for the calls that open a session or move money: a wrong
	// sign and a code of 1..9999 make their outcome unknown.
	strict bool
	accept string // default application/json
	// mask takes secrets out of the answer before it is decoded; nil: none.
	mask  *mask
	key   deriver // of getToken and 6001, which have no session: derives the key of the body
	whole bool    // the end of a streamed body must be told from a broken line
}

// password signs: it digests a message with the access password.
type password func(message []byte) string

func textPassword(s secret) password {
	return func(message []byte) string { return sign.Sum(message, []byte(s.reveal())) }
}

// passwords gives what can have signed an answer.
type passwords func(*value) []password

// answer is a decoded answer and when the platform says it was given.
type answer struct {
	*value
	date time.Time // zero without a usable Date header
}

func (c *Client) fail(r request, reason string, class ...error) *CallError {
	return &CallError{Interface: r.name, Method: r.end.Method, Path: r.path, Reason: reason, class: class}
}

// sent is a request that has left and been answered with a status.
type sent struct {
	*http.Response
	began  time.Time
	seal   *sealer // nil: nothing is encrypted
	opened bool    // the answer was, and is decrypted
}

// send makes one HTTP request with a new sequence number and sign. sess is nil
// for getToken. The caller closes the body.
func (c *Client) send(ctx context.Context, r request, sess *session, pw password) (sent, error) {
	if err := ctx.Err(); err != nil {
		return sent{}, c.fail(r, "cancelled before it was sent", ErrTransport, ErrNotSent, err)
	}
	u, t, err := c.address(ctx, r, sess, pw)
	if err != nil {
		return sent{}, err
	}
	method := http.MethodPost
	if r.end.Method == catalogue.Get {
		method = http.MethodGet
	}
	s := sent{}
	if s.seal, err = c.sealer(r, sess, method, t.seq); err != nil {
		return sent{}, err
	}
	var reqBody io.Reader
	if t.body != nil && s.seal != nil {
		t.body, t.contentType = s.seal.seal(t.body), "application/json; charset=utf-8"
	}
	if t.body != nil {
		reqBody = bytes.NewReader(t.body)
	}
	var size int64 = -1
	if r.upload != nil {
		file, n, err := r.upload()
		if err != nil {
			e := c.fail(r, "file cannot be read", ErrNotSent)
			e.cause = err
			return sent{}, e
		}
		reqBody, size, t.contentType = file, n, r.uploadType
	}
	var connected bool
	transport := c.transport
	if isAside(ctx) {
		transport = c.aside
	}
	_, network := transport.(*http.Transport)
	if network {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			GotConn: func(httptrace.GotConnInfo) { connected = true },
		})
	}
	hr, err := http.NewRequestWithContext(ctx, method, u, reqBody)
	if err != nil {
		if file, ok := reqBody.(io.Closer); ok {
			_ = file.Close() // nothing was read
		}
		return sent{}, c.fail(r, "address cannot be built", ErrPermanent, ErrNotSent)
	}
	if size >= 0 {
		hr.ContentLength = size
	}
	hr.Header.Set("Accept", or(r.accept, "application/json"))
	if t.contentType != "" {
		hr.Header.Set("Content-Type", t.contentType)
	}
	if t.sign != "" {
		hr.Header.Set(c.Envelope.Sign, t.sign)
	}
	s.began = time.Now()
	// The transport directly, not http.Client: no redirect is followed, which
	// would carry the token away in the Referer, and no *url.Error is made.
	s.Response, err = transport.RoundTrip(hr) //nolint:bodyclose // the caller does
	if err != nil {
		return sent{}, c.classify(ctx, r, err, network && !connected)
	}
	return s, nil
}

// exchange makes one call for a JSON answer and applies the rule for results.
func (c *Client) exchange(ctx context.Context, r request, sess *session, pw password, check passwords) (answer, error) {
	resp, err := c.send(ctx, r, sess, pw)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end or given up
	return c.readAnswer(ctx, r, resp, resp.Body, sess, check)
}

// readAnswer reads body, which is resp's, as a JSON answer.
func (c *Client) readAnswer(ctx context.Context, r request, resp sent, body io.Reader, sess *session, check passwords) (answer, error) {
	raw, err := r.readAll(body)
	ended := time.Now()
	c.log.Debug("platform call", slog.String("interface", r.name), slog.Int("status", resp.StatusCode),
		slog.Int("bytes", len(raw)), slog.Duration("took", ended.Sub(resp.began)))
	switch {
	case len(raw) > maxAnswer:
		return answer{}, c.fail(r, "answer is too large", ErrTransport)
	case err != nil:
		return answer{}, c.classify(ctx, r, err, false)
	case resp.ContentLength >= 0 && resp.ContentLength != int64(len(raw)):
		return answer{}, c.fail(r, "answer is truncated", ErrTransport)
	}
	a := answer{}
	if d, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		a.date = d
		c.sawDate(d, resp.began.Add(ended.Sub(resp.began)/2))
	}
	a.value, err = c.result(r, resp, raw, sess, check)
	return a, err
}

// readAll reads an answer, at most a byte more than it may have. One with
// secrets is read into one piece of memory, so that no copy is left behind, and
// is cleared of them.
func (r request) readAll(body io.Reader) ([]byte, error) {
	if r.mask == nil {
		return io.ReadAll(io.LimitReader(body, maxAnswer+1))
	}
	raw, n := make([]byte, maxMasked), 0
	for n < len(raw) {
		k, err := body.Read(raw[n:])
		n += k
		switch {
		case errors.Is(err, io.EOF):
			r.mask.take(raw[:n])
			return raw[:n], nil
		case err != nil:
			clear(raw)
			return nil, err
		}
	}
	clear(raw)
	return make([]byte, maxAnswer+1), nil // too large
}

// maxMasked is how long an answer with secrets may be.
const maxMasked = 16 << 10

// address builds the signed address and what else travels. Every parameter is
// checked first, in the catalogue's names.
func (c *Client) address(ctx context.Context, r request, sess *session, pw password) (string, travel, error) {
	serial, err := c.deps.Seq.Next(ctx)
	if err != nil {
		e := c.fail(r, "no sequence number", ErrTransport, ErrNotSent)
		e.cause = err
		return "", travel{}, e
	}
	common := map[string]string{"seq": c.Seq.format(r.end.Code, time.Now(), serial)}
	if sess != nil {
		common["token"] = sess.token.reveal()
	}
	params := make(map[string]string, len(r.params)+2)
	for k, v := range r.params {
		if v = sign.Trim(v); v != "" || c.Sign.KeepEmpty {
			params[k] = v
		}
	}
	for _, set := range []map[string]string{params, common} {
		if err := r.end.checkParams(r.name, set); err != nil {
			return "", travel{}, err
		}
	}
	t, err := r.end.wire(params, r.body)
	t.seq = common["seq"]
	if err != nil {
		return "", travel{}, c.fail(r, "cannot be put into the platform's form: "+err.Error(), ErrPermanent, ErrNotSent)
	}
	signed := maps.Clone(t.signed)
	if signed == nil {
		signed = map[string]string{}
	}
	q := make(url.Values, len(t.query)+3)
	for k, v := range t.query {
		q.Set(k, v)
	}
	for k, name := range map[string]string{"seq": c.Envelope.Seq, "token": c.Envelope.Token} {
		if v, has := common[k]; has {
			q.Set(name, v)
			signed[name] = v
		}
	}
	if sess == nil || c.Sign.Requests == "always" {
		message, err := sign.Canonical(signed, t.inSign, c.sign)
		if err != nil {
			return "", travel{}, c.fail(r, "cannot be signed", ErrPermanent, ErrNotSent)
		}
		s := c.sign.Case(pw(message))
		if c.Sign.Place == "header" {
			t.sign = s
		} else {
			q.Set(c.Envelope.Sign, s)
		}
	}
	return c.base + r.path + "?" + q.Encode(), t, nil
}

// classify turns an error of the network stack into one that is safe to show.
func (c *Client) classify(ctx context.Context, r request, err error, neverConnected bool) error {
	class := []error{ErrTransport}
	if neverConnected || errors.Is(err, ErrNotSent) {
		class = append(class, ErrNotSent)
	}
	notSent := func(reason string) error {
		return c.fail(r, reason, append(class, ErrNotSent)...)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		class = append(class, ErrNotSent)
	}
	ended := ctx.Err()
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		ended = context.DeadlineExceeded // a stream that stood still
	}
	switch {
	case errors.Is(ended, context.Canceled):
		return c.fail(r, "cancelled", append(class, context.Canceled)...)
	case ended != nil || errors.Is(err, context.DeadlineExceeded):
		return c.fail(r, "timed out", append(class, context.DeadlineExceeded)...)
	}
	if errors.Is(err, ErrPin) {
		return notSent("certificate is none of the pinned ones")
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return notSent("certificate is not trusted")
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return notSent("no TLS at the other end")
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return notSent("name cannot be resolved")
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return c.fail(r, "timed out", append(class, context.DeadlineExceeded)...)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return c.fail(r, "answer is truncated", class...)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return notSent("cannot be reached")
	}
	return c.fail(r, "connection failed", class...)
}

// result applies the rule for results: an answer without resultCode, or with
// 0, is success. What it returns has the catalogue's names; the sign is over
// what travelled.
func (c *Client) result(r request, got sent, raw []byte, sess *session, check passwords) (*value, error) {
	resp := got.Response
	raw, err := c.opened(r, &got, raw) // 2.1: decrypt, then check the sign
	if err != nil {
		return nil, err
	}
	v, why := parseAnswer(raw)
	array := why == "" && v.kind == kindArray && r.end.Shape == catalogue.Array
	if why == "" && v.kind != kindObject && !array {
		why = "answer is not an object"
	}
	if why != "" {
		if resp.StatusCode != http.StatusOK {
			why = "refused on the way"
		}
		return nil, c.bad(r, resp, why)
	}
	code, why := c.resultCode(v)
	if why != "" {
		return nil, c.bad(r, resp, why)
	}
	// Codes of token and key are taken from an answer without a valid sign, and
	// with any HTTP status: what they cause is one renewal, and a platform that
	// has dropped the session can hardly sign with it.
	known := code != 0 && (authCode(code) || resp.StatusCode != http.StatusOK && permanentCode(code))
	if !known {
		if resp.StatusCode != http.StatusOK {
			return nil, c.bad(r, resp, "refused on the way")
		}
		if !c.plainAllowed(got, sess) {
			return nil, c.bad(r, resp, "answer is not encrypted")
		}
		if why := c.verify(v, r.strict, check); why != "" {
			return nil, c.bad(r, resp, why)
		}
	}
	if code != 0 && code < 10000 && !r.strict {
		c.log.Warn("platform answered a success code other than 0",
			slog.String("interface", r.name), slog.Int("code", code))
		code = 0
	}
	if code == 0 {
		if c.Envelope.Data != "" && !array {
			if v = v.member(c.Envelope.Data); v == nil || v.kind != kindObject && v.kind != kindArray {
				return nil, c.bad(r, resp, "answer has no "+c.Envelope.Data)
			}
		}
		if err := r.end.translate(v); err != nil {
			return nil, c.bad(r, resp, "answer field "+err.Error())
		}
		return v, nil
	}
	e := &CodeError{Interface: r.name, Code: strconv.Itoa(code), after: retryAfter(resp)}
	// The text of a refused getToken is dropped: it could name a session this
	// client does not know and so cannot take out.
	if m := v.member(c.Envelope.Msg); m != nil && m.kind == kindString && sess != nil {
		secrets := []string{sess.token.reveal(), sess.key.reveal()}
		if q := resp.Request; q != nil && q.URL != nil {
			secrets = append(secrets, q.URL.Query().Get(c.Envelope.Sign), q.Header.Get(c.Envelope.Sign))
		}
		e.Msg = scrub(m.text, secrets...)
	}
	return nil, e
}

// translate gives the fields of an answer the catalogue's names. Of a list
// they lie in datas.
func (e *endpoint) translate(v *value) error {
	if e.Shape == catalogue.List && v.kind == kindObject {
		return e.in.apply(v.member("datas"))
	}
	return e.in.apply(v)
}

func (c *Client) bad(r request, resp *http.Response, why string) *CallError {
	e := c.fail(r, why, ErrTransport)
	e.after = retryAfter(resp)
	if resp.StatusCode != http.StatusOK {
		e.Status = resp.StatusCode
		if resp.StatusCode >= 300 && resp.StatusCode < 400 {
			e.Reason = "redirect refused"
		}
	}
	return e
}

// resultCode reads the code, string or number; 0 when absent.
func (c *Client) resultCode(v *value) (int, string) {
	m := v.member(c.Envelope.Code)
	switch {
	case m == nil || m.kind == kindNull:
		return 0, ""
	case m.kind != kindString && m.kind != kindNumber:
		return 0, "answer field resultCode: not a string or number"
	}
	text := m.text
	if slices.Contains(c.Envelope.Success, text) {
		return 0, ""
	}
	if to, has := c.Envelope.Codes[text]; has {
		text = to
	}
	switch {
	case text == "0":
		return 0, ""
	case !resultForm.MatchString(text):
		return 0, "answer field resultCode: not a code"
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, "answer field resultCode: not a code"
	}
	return n, ""
}

// retryAfter reads Retry-After: seconds, or a date against the answer's own.
func retryAfter(resp *http.Response) time.Duration {
	h := resp.Header.Get("Retry-After")
	if h == "" {
		return 0
	}
	if n, err := strconv.Atoi(h); err == nil {
		return time.Duration(min(max(n, 0), 86400)) * time.Second
	}
	at, err := http.ParseTime(h)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return min(max(at.Sub(now), 0), 24*time.Hour)
}
