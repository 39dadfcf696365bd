package protocol

import (
	"context"
	"crypto/md5"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	testKey   = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6"
	testTrans = "0123456789ABCDEF0123456789ABCDEF"
	testOrder = "4006202608010001"
	testCard  = "6501020304050607"
)

// testBase is a base key in the clear; only tests may hold one so.
type testBase struct {
	key string
	gen uint64
}

func (k testBase) Sign(message []byte) string {
	return fmt.Sprintf("%X", md5.Sum(append(append([]byte{}, message...), k.key...)))
}
func (k testBase) Generation() uint64 { return k.gen }

type counter struct {
	mu  sync.Mutex
	n   uint64
	err error
}

func (c *counter) Next(context.Context) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	c.n++
	return c.n, nil
}

// platform is the other end, in memory: it works in a synctest bubble. Its sign
// is its own code.
type platform struct {
	mu       sync.Mutex
	key      string
	gets     int               // sessions opened
	token    string            // the only live one
	life     string            // JSON of expireTime
	session  bool              // answers with a session key
	extra    string            // more members of getToken's answer
	requests []*http.Request   // all
	bodies   map[string]string // last body by path
	seqs     map[string]bool
	repeats  int
	date     time.Time
	delay    time.Duration

	// answer gives the body by path after the session was checked; nil: {}.
	answer map[string]func(body string) string
	// hook, if set, may take over: a nil response and nil error go on.
	hook func(*http.Request) (*http.Response, error)
}

func newPlatform() *platform {
	return &platform{
		key: testKey, life: "7200", bodies: map[string]string{}, seqs: map[string]bool{},
		answer: map[string]func(string) string{},
	}
}

func respond(r *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{}, Request: r,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

func (p *platform) sessionKey() string { return "S" + p.token }

func (p *platform) RoundTrip(r *http.Request) (*http.Response, error) {
	if p.delay > 0 {
		select {
		case <-time.After(p.delay):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	if p.hook != nil {
		if resp, err := p.hook(r); resp != nil || err != nil {
			return resp, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	body := ""
	if r.Body != nil {
		b, _ := io.ReadAll(r.Body)
		body = string(b)
	}
	path := strings.TrimPrefix(r.URL.Path, "/vcc-openapi")
	p.requests = append(p.requests, r)
	p.bodies[path] = body
	q := r.URL.Query()
	if p.seqs[q.Get("seq")] {
		p.repeats++
	}
	p.seqs[q.Get("seq")] = true
	resp := respond(r, 200, p.serve(path, q, body))
	if !p.date.IsZero() {
		resp.Header.Set("Date", p.date.UTC().Format(http.TimeFormat))
	}
	return resp, nil
}

func (p *platform) serve(path string, q map[string][]string, body string) string {
	plain := ""
	var keys []string
	for k := range q {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		if k != "sign" && q[k][0] != "" {
			plain += k + q[k][0]
		}
	}
	pw := p.key
	opening := strings.HasSuffix(path, "/getToken")
	if !opening {
		if len(q["token"]) == 0 || q["token"][0] != p.token || p.token == "" {
			return `{"resultCode":"20001","resultMsg":"token"}`
		}
		pw = p.token
		if p.session {
			pw = p.sessionKey()
		}
	}
	if len(q["sign"]) == 0 || q["sign"][0] != fmt.Sprintf("%X", md5.Sum([]byte(plain+body+pw))) {
		return `{"resultCode":20002,"resultMsg":"sign"}`
	}
	if opening {
		p.gets++
		p.token = fmt.Sprintf("T%019d", p.gets)
		s := `{"expireTime":` + p.life + `,"token":"` + p.token + `"`
		if p.session {
			s += `,"sessionKey":"` + p.sessionKey() + `"`
		}
		return s + p.extra + `}`
	}
	if f := p.answer[path]; f != nil {
		return f(body)
	}
	return `{}`
}

// says sets what a path answers.
func (p *platform) says(path, body string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer[path] = func(string) string { return body }
}

func (p *platform) opened() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gets
}

func testConfig() Config {
	return Config{
		BaseURL: "https://platform.invalid/vcc-openapi", AppID: "6A5B0E0F1C", ChannelID: "C01",
		DeviceID: "K0001", OrgCode: "WJ0105",
	}
}

func newTestClient(t testing.TB, p http.RoundTripper, change ...func(*Config, *Deps)) *Client {
	t.Helper()
	c := testConfig()
	d := Deps{
		Transport: p, Seq: &counter{}, Log: slog.New(slog.DiscardHandler),
		Key: func() (BaseKey, error) { return testBase{testKey, 1}, nil },
	}
	for _, f := range change {
		f(&c, &d)
	}
	cl, err := NewClient(c, d)
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

func loadRequest() AuthorizeRequest {
	return AuthorizeRequest{
		TransNo: testTrans, Challenge: "00112233AABBCCDD", OrderNo: testOrder, TerminalNo: "000000000001",
		CardNo: testCard, SubsCode: "1400123456", MeterCode: "M1", CardType: "CPU", LoadMode: ModeDraw,
		Amount: 10000, GasVolume: 4000, Kind: KindLoad,
		Load: &LoadRequest{Type: 2, KeyIndex: 1, KeyVersion: 1, Balance: 500, OnlineSeq: 7, Random: "01020304", MAC1: "A1B2C3D4"},
	}
}

func loadAnswer() map[string]any {
	return map[string]any{
		"termTransNo": testTrans, "orderNo": testOrder, "cardNo": testCard, "kind": "load", "amount": 10000, "gasVolume": 4000,
		"authExpire": 300, "load": map[string]any{"hostDate": "20260801", "hostTime": "093001", "mac2": "0a0b0c0d"},
		"receipt": map[string]any{"addr": "x"}, "resultCode": "0", "later": map[string]any{"unknown": []int{1}},
	}
}

func imageRequest() AuthorizeRequest {
	r := loadRequest()
	r.Kind, r.CardType, r.Load = KindImage, "SLE4442", nil
	r.Image = &ImageRequest{CardData: strings.Repeat("00", 256), Count: 5}
	return r
}

func imageAnswer() map[string]any {
	a := loadAnswer()
	delete(a, "load")
	a["kind"] = "image"
	a["image"] = map[string]any{
		"count":     6,
		"writes":    []any{map[string]any{"zone": "main", "offset": 64, "data": "0102"}, map[string]any{"zone": "main", "offset": 80, "data": "0006"}},
		"commit":    map[string]any{"zone": "main", "offset": 80, "len": 2},
		"crcBefore": "01020304", "crcAfter": "05060708", "pscOld": "FFFFFF", "pscNew": "",
	}
	return a
}

func reportRequest() ReportRequest {
	seq := 7
	return ReportRequest{
		TransNo: testTrans, Rev: 2, OrderNo: testOrder, TerminalNo: "000000000001", CardNo: testCard, Kind: KindLoad,
		Amount: 10000, GasVolume: 4000, Result: ResultWritten, Evidence: "answer", NoAttempt: "N", OnlineSeqBefore: &seq,
		TAC: "A1B2C3D4", LogRecord: &LogEntry{Seq: 7, Amount: 10000, Terminal: "000000000001", Date: "20260801", Time: "093001"},
		FailReason: "卡 moved", WriteTime: "20260801093005", Firmware: "1.0.0",
	}
}

func text(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// is demands that err belongs to every class of want and to none of not.
func is(t testing.TB, err error, want, not []error) {
	t.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			t.Errorf("%v is not %q", err, w)
		}
	}
	for _, n := range not {
		if errors.Is(err, n) {
			t.Errorf("%v is %q", err, n)
		}
	}
}
