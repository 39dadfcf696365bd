package protocol

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAHostileAnswerIsNoAnswer(t *testing.T) {
	t.Parallel()
	ack := `"termTransNo":"` + testTrans + `","orderNo":"` + testOrder + `","rev":2,"state":"S"`
	deep := strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)
	for _, x := range []struct {
		name   string
		status int
		body   string
		reason string
	}{
		{"nothing", 200, "", "empty"},
		{"blanks", 200, " \n", "empty"},
		{"an empty object", 200, "{}", "termTransNo: missing"},
		{"HTML with 200", 200, "<html><body>login</body></html>", "not JSON"},
		{"HTML with 502", 502, "<html>", "on the way"},
		{"a web application firewall", 202, "<html>", "on the way"},
		{"a refusal with 403", 403, `{` + ack + `}`, "on the way"},
		{"an acknowledgement with 500", 500, `{` + ack + `}`, "on the way"},
		{"a code with 500", 500, `{"resultCode":"46001"}`, "on the way"},
		{"a redirect", 302, `{` + ack + `}`, "redirect"},
		{"a list", 200, `[{` + ack + `}]`, "not an object"},
		{"a text", 200, `"ok"`, "not an object"},
		{"null", 200, `null`, "not an object"},
		{"cut off", 200, `{` + ack, "not JSON"},
		{"trailing garbage", 200, `{` + ack + `}x`, "not JSON"},
		{"two documents", 200, `{` + ack + `}{}`, "not JSON"},
		{"a duplicate field", 200, `{` + ack + `,"state":"R"}`, "state twice"},
		{"a duplicate field deep inside", 200, `{` + ack + `,"x":{"a":1,"a":2}}`, "(unnamed) twice"},
		{"too deep", 200, `{` + ack + `,"x":` + deep + `}`, "too deep"},
		{"too many values", 200, `{` + ack + `,"x":[` + strings.Repeat("1,", maxValues) + `1]}`, "too many"},
		{"too large", 200, `{` + ack + `,"x":"` + strings.Repeat("y", maxAnswer) + `"}`, "too large"},
		{"not UTF-8", 200, `{` + ack + `,"x":"` + "\xff" + `"}`, "not UTF-8"},
		{"a control character", 200, `{` + strings.Replace(ack, testOrder, `a\u0000b`, 1) + `}`, "orderNo"},
		{"a number for a text", 200, `{` + strings.Replace(ack, `"S"`, `1`, 1) + `}`, "state: not a string"},
		{"a number too large", 200, `{` + strings.Replace(ack, `"rev":2`, `"rev":99999999999999999999`, 1) + `}`, "rev"},
	} {
		p := newPlatform()
		p.hook = func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "getToken") {
				return nil, nil
			}
			return respond(r, x.status, x.body), nil
		}
		_, err := newTestClient(t, p).Report(t.Context(), reportRequest())
		if err == nil || !strings.Contains(err.Error(), x.reason) {
			t.Errorf("%s: %v", x.name, err)
			continue
		}
		is(t, err, []error{ErrTransport}, []error{ErrBusiness, ErrNotSent, ErrAuth, ErrPermanent})
	}
}

func TestABodyThatEndsTooEarly(t *testing.T) {
	t.Parallel()
	p := newPlatform()
	c := newTestClient(t, p)
	body := `{"termTransNo":"` + testTrans + `","rev":2,"state":"S"}`
	for name, change := range map[string]func(*http.Response){
		"length says more": func(r *http.Response) { r.ContentLength += 7 },
		"length says less": func(r *http.Response) { r.ContentLength -= 7 },
		"reading fails":    func(r *http.Response) { r.Body = io.NopCloser(io.MultiReader(strings.NewReader(body), broken{})) },
	} {
		p.hook = func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "getToken") {
				return nil, nil
			}
			resp := respond(r, 200, body)
			change(resp)
			return resp, nil
		}
		_, err := c.Report(t.Context(), reportRequest())
		if err == nil {
			t.Errorf("%s: acknowledged", name)
		}
		is(t, err, []error{ErrTransport}, []error{ErrNotSent})
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestHostileAnswersOfGetToken(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{}`, `{"token":""}`, `{"token":7}`, `{"token":"a b"}`, `{"token":"` + strings.Repeat("x", 513) + `"}`, `{"token":"x\u0007"}`,
		`{"token":"abc","sessionKey":1}`, `{"token":"abc","expireTime":[]}`, `{"token":"abc","expireTime":"soon"}`, `{"token":"abc","expireTime":true}`,
		`{"token":"abc","resultCode":"1"}`, `<html>`, `[]`, `{"token":"abc","token":"def"}`, `{"token":"abc","sign":"0123"}`,
	} {
		p := newPlatform()
		p.hook = func(r *http.Request) (*http.Response, error) { return respond(r, 200, body), nil }
		c := newTestClient(t, p)
		err := c.Token(t.Context())
		is(t, err, []error{ErrTransport}, []error{ErrAuth, ErrBusiness})
		if c.TokenInfo().Live {
			t.Errorf("%s: a token came of it", body)
		}
		is(t, c.ProveKey(t.Context(), testBase{testKey, 1}), []error{ErrTransport}, []error{ErrKeyRefused})
	}
}

func md5Hex(s string) string { return fmt.Sprintf("%X", md5.Sum([]byte(s))) }

func TestTheSignOfAnAnswerIsVerified(t *testing.T) {
	t.Parallel()
	const token = "T0000000000000000001"
	plain := "amount" + "10.50" + "flag" + "true" + "orderNo" + testOrder + "state" + "S" + "timestamp" + "7"
	good := `{"timestamp":7,"state":"S","orderNo":"` + testOrder + `","amount":10.50,"flag":true,"none":"","nil":null,"sign":"`
	query := func(c *Client) error {
		_, err := c.Heartbeat(context.Background(), HeartbeatRequest{State: "ready"})
		return err
	}
	report := func(c *Client) error { return askOrder(context.Background(), c) }
	order := `{"state":"S","orderNo":"` + testOrder + `","sign":"`
	orderPlain := "orderNo" + testOrder + "state" + "S"
	for _, x := range []struct {
		name, mode, body string
		call             func(*Client) error
		ok               bool
	}{
		{"literal numbers", "", good + md5Hex(plain+token) + `"}`, query, true},
		{"lower case", "require", good + strings.ToLower(md5Hex(plain+token)) + `"}`, query, true},
		{"wrong on a query", "", good + md5Hex(plain) + `"}`, query, false},
		{"wrong on a query, off", "off", good + md5Hex(plain) + `"}`, query, true},
		{"not a text", "", strings.TrimSuffix(good, `"`) + `7}`, query, false},
		{"absent", "", `{"timestamp":"7"}`, query, true},
		{"absent but required", "require", `{}`, query, false},
		{"wrong with nested values on a query", "", `{"timestamp":7,"commands":[],"sign":"00"}`, query, true},
		{"wrong with nested values, required", "require", `{"timestamp":7,"commands":[],"sign":"00"}`, query, false},
		{"right on a money call", "", order + md5Hex(orderPlain+token) + `"}`, report, true},
		{"wrong on a money call", "", order + `00"}`, report, false},
		{"wrong with nested values on a money call", "", order + `00","x":{}}`, report, false},
		{"wrong on a money call, off", "off", order + `00"}`, report, true},
		{"wrong on a refusal of a money call", "", `{"resultCode":"46001","sign":"00"}`, report, false},
	} {
		p := newPlatform()
		if x.mode == "require" {
			p.extra = `,"sign":"` + md5Hex("expireTime7200token"+token+testKey) + `"`
		}
		c := newTestClient(t, p, func(cfg *Config, _ *Deps) { cfg.Sign.VerifyResponse = x.mode })
		p.says("/device/heartbeat", x.body)
		p.says("/iccard/queryOrder", x.body)
		err := x.call(c)
		if (err == nil) != x.ok {
			t.Errorf("%s: %v", x.name, err)
		}
		if !x.ok {
			is(t, err, []error{ErrTransport}, []error{ErrBusiness, ErrNotSent})
		}
	}
	for name, pw := range map[string]string{"base key": testKey, "token": token, "session key": "S" + token} {
		p := newPlatform()
		p.session = true
		p.extra = `,"sign":"` + md5Hex("expireTime7200sessionKeyS"+token+"token"+token+pw) + `"`
		if err := newTestClient(t, p).Token(t.Context()); err != nil {
			t.Errorf("getToken signed by the %s: %v", name, err)
		}
	}
	p := newPlatform()
	p.extra = `,"sign":"` + md5Hex("x") + `"`
	is(t, newTestClient(t, p).Token(t.Context()), []error{ErrTransport}, []error{ErrAuth})
}

func TestRetryAfterIsRead(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]time.Duration{
		"": 0, "12": 12 * time.Second, "-3": 0, "999999999": 24 * time.Hour, "soon": 0,
		"Thu, 01 Jan 2026 00:00:30 GMT": 30 * time.Second, "Wed, 31 Dec 2025 00:00:30 GMT": 0,
	} {
		p := newPlatform()
		p.hook = func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "getToken") {
				return nil, nil
			}
			resp := respond(r, 429, "<html>")
			resp.Header.Set("Retry-After", header)
			resp.Header.Set("Date", "Thu, 01 Jan 2026 00:00:00 GMT")
			return resp, nil
		}
		if got := RetryAfter(askOrder(t.Context(), newTestClient(t, p))); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

func TestDeadlinesAreLiveAndBacklog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := settledPlatform()
		c := newTestClient(t, p)
		if err := c.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.delay = time.Hour
		for want, ctx := range map[time.Duration]context.Context{15 * time.Second: t.Context(), 30 * time.Second: Backlog(t.Context())} {
			began := time.Now()
			is(t, askOrder(ctx, c), []error{ErrTransport, context.DeadlineExceeded}, []error{ErrNotSent})
			if took := time.Since(began); took != want {
				t.Errorf("took %v, want %v", took, want)
			}
		}
	})
}

func TestDuplicateMessageAndFallbackAreTriedOnceMore(t *testing.T) {
	t.Parallel()
	p := settledPlatform()
	n := 0
	p.answer["/iccard/queryOrder"] = func(string) string { n++; return `{"resultCode":10056}` }
	is(t, askOrder(t.Context(), newTestClient(t, p)), []error{ErrTransport}, []error{ErrBusiness})
	if n != 2 || p.repeats != 0 {
		t.Errorf("%d requests, %d repeated numbers", n, p.repeats)
	}
	p = newPlatform()
	p.says("/order/query", `{"orderNo":"`+testOrder+`","state":"S"}`)
	p.hook = func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/iccard/queryOrder") {
			return respond(r, 404, "no"), nil
		}
		return nil, nil
	}
	c := newTestClient(t, p, func(cfg *Config, _ *Deps) { cfg.Endpoints = map[string]Endpoint{"6006": {Fallback: "/order/query"}} })
	if err := askOrder(t.Context(), c); err != nil {
		t.Error(err)
	}
}

// TestNoSecretReachesAnErrorOrALog runs every fault that could carry the query
// out and looks for the canaries in all that can be printed.
func TestNoSecretReachesAnErrorOrALog(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	lock := slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.Level(-100)})
	const token, session = "CANARYTOKEN000000001", "CANARYSESSION0000001"
	var printed strings.Builder
	show := func(err error) {
		for e := err; e != nil; e = errors.Unwrap(e) {
			fmt.Fprintf(&printed, "%v %+v %#v %s\n", e, e, e, e)
		}
	}
	echo := func(r *http.Request) string {
		return token + " " + session + " " + r.URL.Query().Get("sign") + " " + r.URL.String()
	}
	var sign []string
	faults := map[string]func(*http.Request) (*http.Response, error){
		"url error": func(r *http.Request) (*http.Response, error) {
			return nil, &url.Error{Op: "Get", URL: r.URL.String(), Err: io.EOF}
		},
		"dial error": func(r *http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New(r.URL.String())}
		},
		"dns error": func(r *http.Request) (*http.Response, error) {
			return nil, &net.DNSError{Err: r.URL.String(), Name: r.URL.String()}
		},
		"text with all": func(r *http.Request) (*http.Response, error) { return nil, errors.New(echo(r)) },
		"redirect": func(r *http.Request) (*http.Response, error) {
			resp := respond(r, 302, echo(r))
			resp.Header.Set("Location", "https://elsewhere.invalid/?"+r.URL.RawQuery)
			return resp, nil
		},
		"echo in HTML": func(r *http.Request) (*http.Response, error) { return respond(r, 200, echo(r)), nil },
		"echo in a message": func(r *http.Request) (*http.Response, error) {
			return respond(r, 200, `{"resultCode":"46003","resultMsg":"`+echo(r)+`"}`), nil
		},
		"echo as code": func(r *http.Request) (*http.Response, error) {
			return respond(r, 200, `{"resultCode":"`+token+`"}`), nil
		},
		"echo as field": func(r *http.Request) (*http.Response, error) {
			return respond(r, 200, `{"`+token+`":1,"`+token+`":2}`), nil
		},
		"echo as value": func(r *http.Request) (*http.Response, error) {
			return respond(r, 200, `{"orderNo":"`+token+`","state":"`+session+`"}`), nil
		},
	}
	for name, fault := range faults {
		p := newPlatform()
		p.hook = func(r *http.Request) (*http.Response, error) {
			sign = append(sign, r.URL.Query().Get("sign"))
			if strings.HasSuffix(r.URL.Path, "getToken") {
				return respond(r, 200, `{"token":"`+token+`","sessionKey":"`+session+`"}`), nil
			}
			return fault(r)
		}
		c := newTestClient(t, p, func(_ *Config, d *Deps) { d.Log = slog.New(lock) })
		err := askOrder(t.Context(), c)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		show(err)
		if e, ok := errors.AsType[*CodeError](err); ok {
			fmt.Fprintln(&printed, e.Msg)
		}
		fmt.Fprintf(&printed, "%v %+v %#v\n", c.tokens.cur, c.tokens.cur, c.tokens.cur)
		fmt.Fprintf(&printed, "%v %d %s %q\n", c.TokenInfo(), newSecret(token), newSecret(token), newSecret(token))
		slog.New(lock).Info("session", "s", c.tokens.cur, "t", newSecret(token), "c", err)
		// getToken itself
		p.hook = func(r *http.Request) (*http.Response, error) {
			sign = append(sign, r.URL.Query().Get("sign"))
			return fault(r)
		}
		c.DropToken()
		show(c.Token(t.Context()))
		show(c.ProveKey(t.Context(), testBase{testKey, 1}))
	}
	refused := httptest.NewServer(nil)
	refused.Close()
	c := newTestClient(t, nil, func(cfg *Config, d *Deps) {
		cfg.BaseURL, d.Transport, d.Log = refused.URL, nil, slog.New(lock)
	})
	show(c.Token(t.Context()))
	if printed.Len() == 0 || logged.Len() == 0 {
		t.Fatal("nothing was printed")
	}
	all := printed.String() + logged.String()
	for _, s := range append(sign, token, session, testKey) {
		if s != "" && strings.Contains(all, s) {
			t.Errorf("%q was printed", s)
		}
	}
}

func TestSecretsRefuseToBeEncoded(t *testing.T) {
	t.Parallel()
	s := newSecret("CANARY")
	b, err := s.MarshalText()
	if err != nil || string(b) != redacted || s.LogValue().String() != redacted {
		t.Errorf("%s, %v, %s", b, err, s.LogValue())
	}
	if _, err := s.GobEncode(); err == nil {
		t.Error("encoded by gob")
	}
}
