package push

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const secret = "t0k3n-of-the-tests"

// fixture is a handler with what it was told to pull.
type fixture struct {
	*Handler
	pulled []Event
	log    strings.Builder
}

func handler(t *testing.T) *fixture {
	t.Helper()
	tok, err := NewToken(secret)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{}
	f.Handler, err = New(Config{
		Token: tok, OrgCode: "SU0105", Pull: func(e Event) { f.pulled = append(f.pulled, e) },
		Log: slog.New(slog.NewTextHandler(&f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// query signs as the platform does; written anew, so that it does not share the
// handler's mistakes.
func query(token string, at time.Time, nonce string) url.Values {
	parts := []string{nonce, fmt.Sprint(at.Unix()), token}
	slices.Sort(parts)
	d := sha1.Sum([]byte(strings.Join(parts, "")))
	return url.Values{"timestamp": {fmt.Sprint(at.Unix())}, "nonce": {nonce}, "signature": {hex.EncodeToString(d[:])}}
}

func body(code, id string) string {
	return fmt.Sprintf(`{"eventCode":%q,"eventId":%q,"eventTime":"20261124080000","orgCode":"SU0105","datas":[{"subsCode":"1400000001"}]}`, code, id)
}

func (f *fixture) do(method string, q url.Values, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), method, "/?"+q.Encode(), strings.NewReader(body)))
	return w
}

func TestHandshakeEchoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := handler(t)
		q := query(secret, time.Now(), "n1")
		q.Set("echostr", "5837297429874")
		w := f.do(http.MethodGet, q, "")
		if w.Code != http.StatusOK || w.Body.String() != "5837297429874" {
			t.Errorf("%d %q", w.Code, w.Body)
		}
		if w.Header().Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
			t.Errorf("an echo that a browser may run: %v", w.Header())
		}
		if len(f.pulled) != 0 {
			t.Error("a handshake pulls")
		}
	})
}

func TestEventPullsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := handler(t)
		for i := range 3 {
			if w := f.do(http.MethodPost, query(secret, time.Now(), fmt.Sprint("n", i)), body("7003", "E1")); w.Code != http.StatusOK {
				t.Fatalf("time %d: %d", i, w.Code)
			}
		}
		if w := f.do(http.MethodPost, query(secret, time.Now(), "other"), body("7005", "E2")); w.Code != http.StatusOK {
			t.Fatal(w.Code)
		}
		want := []Event{{"7003", "E1", "20261124080000", "SU0105", 1}, {"7005", "E2", "20261124080000", "SU0105", 1}}
		if !slices.Equal(f.pulled, want) {
			t.Errorf("pulled for %+v", f.pulled)
		}
		if want[0].Pulls() != "3003" || want[1].Pulls() != "" {
			t.Error("what is pulled")
		}
	})
}

func TestHostileRequests(t *testing.T) {
	t.Parallel()
	now := func() time.Time { return time.Now() }
	type values = url.Values
	with := func(q values, k, v string) values { q.Set(k, v); return q }
	for _, c := range []struct {
		name   string
		method string
		q      func() values
		body   string
		want   int
	}{
		{"no signature", "POST", func() values { return values{} }, body("7003", "E"), 403},
		{"wrong token", "POST", func() values { return query("another-token", now(), "n") }, body("7003", "E"), 403},
		{"empty token", "POST", func() values { return query("", now(), "n") }, body("7003", "E"), 403},
		{"signature over the unsorted texts", "POST", func() values {
			q := query(secret, now(), "zzz")
			d := sha1.Sum([]byte("zzz" + secret + q.Get("timestamp")))
			return with(q, "signature", hex.EncodeToString(d[:]))
		}, body("7003", "E"), 403},
		{"another nonce", "POST", func() values { return with(query(secret, now(), "n"), "nonce", "m") }, body("7003", "E"), 403},
		{"nonce that takes over from the timestamp", "POST", func() values {
			q := query(secret, now(), "5")
			return with(q, "nonce", "55")
		}, body("7003", "E"), 403},
		{"too old", "POST", func() values { return query(secret, now().Add(-301*time.Second), "n") }, body("7003", "E"), 403},
		{"from the future", "POST", func() values { return query(secret, now().Add(301*time.Second), "n") }, body("7003", "E"), 403},
		{"timestamp of another form", "POST", func() values { return with(query(secret, now(), "n"), "timestamp", "1e9") }, body("7003", "E"), 403},
		{"signature twice", "POST", func() values {
			q := query(secret, now(), "n")
			q.Add("signature", q.Get("signature"))
			return q
		}, body("7003", "E"), 400},
		{"another method", "PUT", func() values { return query(secret, now(), "n") }, body("7003", "E"), 405},
		{"echo with markup", "GET", func() values { return with(query(secret, now(), "n"), "echostr", "<script>") }, "", 400},
		{"echo with a line end", "GET", func() values { return with(query(secret, now(), "n"), "echostr", "a\r\nb") }, "", 400},
		{"echo too long", "GET", func() values { return with(query(secret, now(), "n"), "echostr", strings.Repeat("a", 129)) }, "", 400},
		{"no echo", "GET", func() values { return query(secret, now(), "n") }, "", 400},
		{"somebody else's organisation", "POST", func() values { return query(secret, now(), "n") }, strings.Replace(body("7003", "E"), "SU0105", "SU0106", 1), 403},
		{"no event", "POST", func() values { return query(secret, now(), "n") }, "{}", 400},
		{"too large", "POST", func() values { return query(secret, now(), "n") }, strings.Repeat(" ", MaxBody) + body("7003", "E"), 413},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := handler(t)
				w := f.do(c.method, c.q(), c.body)
				if w.Code != c.want || len(f.pulled) != 0 {
					t.Errorf("answered %d, want %d; pulled %v", w.Code, c.want, f.pulled)
				}
				if s := f.log.String() + w.Body.String(); strings.Contains(s, secret) || strings.Contains(s, "script") {
					t.Errorf("said %s", s)
				}
			})
		})
	}
}

func TestChunkedBodyIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := handler(t)
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/?"+query(secret, time.Now(), "n").Encode(), io.LimitReader(endless{}, 1<<40))
		r.ContentLength = -1
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		if w.Code != http.StatusRequestEntityTooLarge {
			t.Errorf("answered %d", w.Code)
		}
	})
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestReplayIsRefusedAsLongAsItWouldPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := handler(t)
		ahead := query(secret, time.Now().Add(299*time.Second), "n")
		if w := f.do("POST", ahead, body("7001", "E1")); w.Code != 200 {
			t.Fatal(w.Code)
		}
		for range 10 {
			if w := f.do("POST", ahead, body("7001", "E2")); w.Code != 403 {
				t.Fatalf("the same request again is answered %d after %v", w.Code, time.Now())
			}
			upper := url.Values{}
			for k, v := range ahead {
				upper[k] = v
			}
			upper.Set("signature", strings.ToUpper(ahead.Get("signature")))
			if w := f.do("POST", upper, body("7001", "E3")); w.Code != 403 {
				t.Fatal("in upper case it is taken again")
			}
			time.Sleep(65 * time.Second)
		}
		if len(f.pulled) != 1 {
			t.Errorf("pulled %d times", len(f.pulled))
		}
		if len(f.used) > 1 {
			t.Errorf("%d signatures are still remembered", len(f.used))
		}
	})
}

func TestRateAndMemoryAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := handler(t)
		n, taken := 0, 0
		post := func() int {
			n++
			w := f.do("POST", query(secret, time.Now(), fmt.Sprint("n", n)), body("7003", fmt.Sprint("E", n)))
			if w.Code == 200 {
				taken++
			}
			return w.Code
		}
		for range 100 {
			post()
		}
		if taken != burst {
			t.Errorf("%d of 100 at once were taken", taken)
		}
		if post() != http.StatusTooManyRequests {
			t.Error("not told to slow down")
		}
		time.Sleep(every)
		if post() != 200 || post() != http.StatusTooManyRequests {
			t.Error("want one more after 3 s, and no second")
		}
		most := 0
		for range 4000 {
			time.Sleep(every)
			post()
			most = max(most, len(f.used))
		}
		if len(f.ids) != remembered || len(f.order) != remembered || most > 2*int(window/every)+burst {
			t.Errorf("remembers %d events in %d places, %d signatures", len(f.ids), len(f.order), most)
		}
		if strings.Count(f.log.String(), "push refused") > 2 {
			t.Errorf("a line for each refusal:\n%s", f.log.String())
		}
	})
}

func TestClockIsTheCallers(t *testing.T) {
	t.Parallel()
	tok, err := NewToken(secret)
	if err != nil {
		t.Fatal(err)
	}
	there := time.Now().Add(-48 * time.Hour)
	h, err := New(Config{Token: tok, OrgCode: "SU0105", Pull: func(Event) {}, Now: func() time.Time { return there }})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{Handler: h}
	if w := f.do("POST", query(secret, there, "n"), body("7003", "E")); w.Code != 200 {
		t.Errorf("answered %d", w.Code)
	}
	if w := f.do("POST", query(secret, time.Now(), "n"), body("7003", "E")); w.Code != 403 {
		t.Errorf("answered %d", w.Code)
	}
}

func TestNewWantsAllOfIt(t *testing.T) {
	t.Parallel()
	tok, err := NewToken(secret)
	if err != nil {
		t.Fatal(err)
	}
	pull := func(Event) {}
	for name, c := range map[string]Config{
		"no token": {OrgCode: "SU0105", Pull: pull}, "no organisation": {Token: tok, Pull: pull}, "nothing to do": {Token: tok, OrgCode: "SU0105"},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: made", name)
		}
	}
	for _, s := range []string{"", "short", "with blank in it", strings.Repeat("a", 65)} {
		if _, err := NewToken(s); err == nil || s != "" && strings.Contains(err.Error(), s) {
			t.Errorf("%q: %v", s, err)
		}
	}
	b, err := tok.MarshalText()
	for _, s := range []string{fmt.Sprint(tok), fmt.Sprintf("%+v %#v %d", tok, tok, tok), fmt.Sprintf("%v", Config{Token: tok}), tok.LogValue().String(), string(b)} {
		if strings.Contains(s, secret) || err != nil {
			t.Errorf("printed as %s", s)
		}
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20)
	rows := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("{},", n), ",") + "]" }
	set := func(old, with string) string { return strings.Replace(body("7003", "E1"), old, with, 1) }
	const datas = `[{"subsCode":"1400000001"}]`
	for name, b := range map[string]string{
		"code as a number":    set(`"7003"`, `7003`),
		"time as a number":    set(`"20261124080000"`, `1795478400`),
		"time with blanks":    set(`"20261124080000"`, `"2026-11-24 08:00:00"`),
		"other fields":        set(`"datas"`, `"extra":{"x":[1,2,{"y":null}]},"datas"`),
		"no rows":             set(datas, `[]`),
		"no list of rows":     set(`,"datas":`+datas, ""),
		"a thousand rows":     set(datas, rows(1000)),
		"nested rows":         set(datas, `[{"a":[{"b":1}]}]`),
		"names in other rows": set(datas, `[{"a":1},{"a":2}]`),
	} {
		if e, err := Decode([]byte(b)); err != nil || e.Code != "7003" || e.ID != "E1" {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
	for name, b := range map[string]string{
		"empty": "", "no object": "[]", "null": "null", "cut short": body("7003", "E1")[:40], "something behind it": body("7003", "E1") + "{}",
		"unknown code": set("7003", "7006"), "code as a fraction": set(`"7003"`, "7003.0"), "code as a list": set(`"7003"`, `["7003"]`),
		"no code": set(`"eventCode":"7003",`, ""), "no id": set(`"eventId":"E1",`, ""), "id as a number": set(`"E1"`, "1"),
		"id with a blank": set("E1", "E 1"), "id too long": set("E1", strings.Repeat("E", 65)), "no time": set(`"eventTime":"20261124080000",`, ""),
		"time in words": set("20261124080000", "yesterday"), "no organisation": set(`"orgCode":"SU0105",`, ""), "organisation in lower case": set("SU0105", "su0105"),
		"rows as an object": set(datas, "{}"), "rows of text": set(datas, `["a"]`), "too many rows": set(datas, rows(1001)),
		"twice": set(`"eventId"`, `"eventCode":"7001","eventId"`), "twice below": set(datas, `[{"a":1,"a":2}]`), "twice in another field": set(`"datas"`, `"x":{"y":1,"y":1},"datas"`),
		"too deep": set(datas, "["+deep+"]"), "too deep in another field": set(`"datas"`, `"x":`+deep+`,"datas"`),
		"too many values": set(datas, `[{"a":[`+strings.Repeat("1,", maxValues)+`1]}]`), "not UTF-8": set("E1", "E\xff"),
		"too long": body("7003", "E1") + strings.Repeat(" ", MaxBody),
	} {
		e, err := Decode([]byte(b))
		if !errors.Is(err, ErrEvent) || e != (Event{}) {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
		if err != nil && (strings.Contains(err.Error(), "1400000001") || strings.Contains(err.Error(), "yesterday")) {
			t.Errorf("%s: quotes its input: %v", name, err)
		}
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"127.0.0.1:0", "10.8.0.7:8480", "172.31.255.1:1", "192.168.1.2:80", "100.64.3.4:80", "[::1]:8480", "[fd12:3456::1]:8480"} {
		if err := CheckAddress(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{
		"", ":8480", "0.0.0.0:8480", "[::]:8480", "8.8.8.8:80", "172.32.0.1:80", "100.128.0.1:80", "localhost:80", "kiosk.example:80", "10.8.0.7",
		"[2001:db8::1]:80", "[fe80::1%eth0]:80", "169.254.1.1:80", "224.0.0.1:80", "[::ffff:8.8.8.8]:80", "[::ffff:0.0.0.0]:80", "10.8.0.7:99999",
	} {
		if err := CheckAddress(s); err == nil {
			t.Errorf("%s: allowed", s)
		}
		if l, err := Listen(t.Context(), s); err == nil {
			t.Errorf("%s: listens", s)
			_ = l.Close()
		}
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	f := handler(t)
	ctx, stop := context.WithCancel(t.Context())
	l, err := Listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, f.Handler) }()
	// As many callers as are heard at once say nothing; they are all let in and
	// the next one is served once one of them has gone.
	var mute []net.Conn
	for range maxConns {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		mute = append(mute, c)
	}
	_ = mute[0].Close()
	q := query(secret, time.Now(), "n")
	q.Set("echostr", "hello")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.Addr().String()+"/?"+q.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if string(b) != "hello" {
		t.Errorf("answered %s", b)
	}
	stop() // with callers still there
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, c := range mute {
		_ = c.Close()
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(body("7003", "E1")))
	f.Add([]byte(`{"eventCode":7005,"eventId":"1","eventTime":1795478400,"orgCode":"SU0105","datas":[{},{"a":[1]}]}`))
	f.Add([]byte(`{"datas":[[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Decode(b)
		if (err == nil) != (e.Code != "") || err == nil && (e.ID == "" || e.OrgCode == "" || e.Rows > maxRows) {
			t.Errorf("%q is read as %+v, %v", b, e, err)
		}
	})
}
