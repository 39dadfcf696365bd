package vcctest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"vcckiosk/protocol/catalogue"
)

const maxBody = 1 << 20

// endpoint is one interface: method and the end of its path.
type endpoint struct{ code, method, path string }

// endpoints are the catalogue's, which both ends share: what an interface is
// called is not what is tested here.
func endpoints(override map[string]string) []endpoint {
	var list []endpoint
	for _, i := range catalogue.All() {
		if i.Method == catalogue.Push {
			continue
		}
		e := endpoint{i.Code, http.MethodPost, i.Path}
		if i.Method == catalogue.Get {
			e.method = http.MethodGet
		}
		if path, ok := override[i.Code]; ok {
			e.path = path
		}
		list = append(list, e)
	}
	return list
}

// request is a call read from the wire; it outlives its connection when late.
type request struct {
	code   string
	method string
	path   string // of the interface, without what stands before it
	kind   string // Content-Type of the body
	query  url.Values
	body   []byte
	refuse *refusal    // known before the books are opened
	header http.Header // of the answer, beyond what every one has
	// What the sign is over where it is not query and body: as they came, the
	// sign among the query wherever it stood.
	sentQuery url.Values
	sentBody  []byte
	seal      string // what the answer is encrypted with, once the caller is known
	seqCode   string // what leads the sequence number
	// Of the selfservice dialect.
	calcNo   string
	rollback map[string]any
}

// signed is what the sign is over.
func (q *request) signed() (url.Values, []byte) {
	if q.file() {
		return q.query, nil // an upload: the query is signed, the file is not
	}
	if q.sentQuery != nil {
		return q.sentQuery, q.sentBody
	}
	return q.query, q.body
}

// reply is what the caller sees: an answer, or a broken connection.
type reply struct {
	status int
	header http.Header
	body   []byte
	table  *download // instead of body
	broken error
}

func (p *Platform) read(r *http.Request) *request {
	q := &request{query: url.Values{}, method: r.Method, kind: r.Header.Get("Content-Type")}
	for _, e := range p.endpoints {
		if strings.HasSuffix(r.URL.Path, e.path) {
			q.code, q.path = e.code, e.path
			if r.Method != e.method {
				q.refuse = refuse(codeMethod, "method not supported")
			}
		}
	}
	if q.code == "" {
		q.refuse = refuse(codeAPI, "interface unknown")
	}
	if r.Body != nil {
		limit := maxBody
		if q.file() {
			limit = maxUpload
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, int64(limit)+1))
		if (err != nil || len(body) > limit) && q.refuse == nil {
			q.refuse = refuse(codeParameter, "body broken or too long")
		}
		q.body = body
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil && q.refuse == nil {
		q.refuse = refuse(codeParameter, "query")
	}
	for k, v := range values {
		if len(v) != 1 && q.refuse == nil {
			q.refuse = refuse(codeParameter, "parameter twice")
		}
		q.query.Set(k, trim(v[0]))
	}
	q.seqCode = q.code
	if p.b.o.Sign.Header {
		q.query.Set("sign", r.Header.Get("sign"))
	}
	if p.b.o.Dialect == Selfservice {
		q.fromSelfservice()
	}
	return q
}

// call is what a Hook is told: read leniently, since nothing is checked yet.
func (q *request) call(n int) Call {
	var in struct {
		TransNo    string `json:"termTransNo"`
		OrderNo    string `json:"orderNo"`
		CardNo     string `json:"cardNo"`
		DeviceID   string `json:"deviceId"`
		TerminalNo string `json:"terminalNo"`
		Rev        int    `json:"rev"`
		Result     *int   `json:"result"`
	}
	_ = json.Unmarshal(q.body, &in) // a body that is no JSON is told as empty and refused later
	c := Call{Code: q.code, N: n, TransNo: in.TransNo, OrderNo: in.OrderNo, CardNo: in.CardNo, DeviceID: in.DeviceID, TerminalNo: in.TerminalNo, Rev: in.Rev, Result: -1}
	if in.Result != nil {
		c.Result = *in.Result
	}
	for name, field := range map[string]*string{"termTransNo": &c.TransNo, "orderNo": &c.OrderNo, "cardNo": &c.CardNo, "deviceId": &c.DeviceID} {
		if *field == "" {
			*field = q.query.Get(name)
		}
	}
	return c
}

func (a Action) none() bool {
	return a.Delay == 0 && !a.DropRequest && !a.DropAnswer && a.AnswerDelay == 0 && a.Late == 0 && a.Code == "" &&
		a.Status == 0 && a.Body == "" && !a.NotExecuted && !a.WrongSign && a.Edit == nil && a.Cut == 0
}

// spoil chooses a fault of the connection, at most one per call.
func (p *Platform) spoil() Action {
	l, b := p.b.lapses, p.b
	var faults []func() Action
	add := func(on bool, f func() Action) {
		if on {
			faults = append(faults, f)
		}
	}
	coin := func() bool { return b.rng.IntN(2) == 0 }
	add(l.LoseRequests, func() Action { return Action{DropRequest: true} })
	add(l.LoseAnswers, func() Action { return Action{DropAnswer: true} })
	add(l.LateAnswers, func() Action { return Action{AnswerDelay: 20 * time.Second} })
	add(l.LateRequests, func() Action {
		return Action{Late: 20*time.Second + time.Duration(b.rng.Int64N(int64(580*time.Second)))}
	})
	add(l.EmptyAnswers, func() Action { return Action{Status: http.StatusOK, Body: "{}", NotExecuted: coin()} })
	add(l.HTMLAnswers, func() Action {
		return Action{Status: http.StatusOK, Body: "<html><body>maintenance</body></html>", NotExecuted: coin()}
	})
	add(l.Evictions, func() Action { clear(p.tokens); return Action{} })
	if len(faults) == 0 || !b.chance(true) {
		return Action{}
	}
	return faults[b.rng.IntN(len(faults))]()
}

// exchange is one call from arrival to answer. It holds no lock while it waits.
func (p *Platform) exchange(ctx context.Context, r *http.Request) reply {
	q := p.read(r)
	if q.code == "" && p.b.o.NotFound {
		return reply{status: http.StatusNotFound, header: http.Header{"Content-Type": {"text/html"}}, body: []byte("<html>404</html>")}
	}
	p.mu.Lock()
	p.advance(time.Now())
	p.calls[q.code]++
	call, hook := q.call(p.calls[q.code]), p.hook
	p.mu.Unlock()

	var act Action
	if hook != nil {
		act = hook(call)
	}
	if act.none() {
		p.mu.Lock()
		act = p.spoil()
		p.mu.Unlock()
	}
	if err := sleep(ctx, act.Delay); err != nil {
		return reply{broken: err}
	}
	switch {
	case act.DropRequest:
		return reply{broken: fmt.Errorf("simulated loss of the request: %w", io.ErrUnexpectedEOF)}
	case act.Late > 0:
		p.mu.Lock()
		p.hold(q, act.Late)
		p.mu.Unlock()
		return reply{broken: fmt.Errorf("simulated delay on the way: %w", io.ErrUnexpectedEOF)}
	}

	p.mu.Lock()
	p.advance(time.Now())
	var body []byte
	var table *download
	switch {
	case act.Code != "":
		body = p.render(nil, refuse(act.Code, "as the test wants"), "", false)
	case !act.NotExecuted:
		body, table = p.execute(q, act.WrongSign)
	}
	date := p.b.now.UTC().Format(http.TimeFormat)
	p.mu.Unlock()

	if err := sleep(ctx, act.AnswerDelay); err != nil {
		return reply{broken: err}
	}
	if act.DropAnswer {
		return reply{broken: fmt.Errorf("simulated loss of the answer: %w", io.ErrUnexpectedEOF)}
	}
	out := reply{status: http.StatusOK, header: http.Header{}, body: body}
	out.header.Set("Content-Type", "application/json;charset=UTF-8")
	if !p.b.o.NoDate { // options do not change
		out.header.Set("Date", date)
	}
	maps.Copy(out.header, q.header)
	if act.Edit != nil {
		out.body = act.Edit(out.body)
	}
	if p.b.o.Dialect == Selfservice {
		out.body = q.toSelfservice(out.body)
	}
	if act.Status != 0 {
		out.status = act.Status
	}
	if act.Body != "" || act.NotExecuted && act.Code == "" {
		out.body = []byte(act.Body)
		if strings.HasPrefix(act.Body, "<") {
			out.header.Set("Content-Type", "text/html")
		}
		return out
	}
	if table != nil {
		table.cut(act.Cut)
		out.table = table
		out.header.Set("Content-Type", table.contentType())
	}
	return out
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// execute opens the books for one call and returns the answer's body. Nothing
// of the books leaves it unmarshalled: p.mu is held.
func (p *Platform) execute(q *request, wrongSign bool) ([]byte, *download) {
	answer, password, r := p.answer(q)
	switch file := answer.(type) {
	case *download:
		if r == nil {
			return nil, file
		}
	case mediaFile:
		if r == nil {
			q.header = file.header()
			return file.content, nil
		}
	}
	return p.sealed(q, p.render(answer, r, password, wrongSign), q.seal), nil
}

func (p *Platform) answer(q *request) (answer any, password string, r *refusal) {
	switch {
	case q.refuse != nil:
		return nil, "", q.refuse
	case !p.seqOK(q.query.Get("seq"), q.seqCode):
		return nil, "", refuse(codeParameter, "seq")
	case q.code == "1001" || q.code == "1002":
		if answer, password, r = p.getToken(q); r == nil && p.repeatedSeq(q.query.Get("seq")) {
			return nil, "", refuse(codeDuplicate, "duplicate message")
		}
		return answer, password, r
	case q.code == "6001":
		if p.repeatedSeq(q.query.Get("seq")) {
			return nil, "", refuse(codeDuplicate, "duplicate message")
		}
		if r := p.unsealFirst(q); r != nil {
			return nil, "", r
		}
		return p.register(q.query, q.body)
	}
	if password, r = p.session(q); r != nil {
		return nil, "", r
	}
	if p.repeatedSeq(q.query.Get("seq")) {
		return nil, password, refuse(codeDuplicate, "duplicate message")
	}
	answer, r = p.business(q)
	return answer, password, r
}

func (p *Platform) business(q *request) (any, *refusal) {
	switch q.code {
	case "2001":
		return p.upload(q)
	case "2002":
		return p.fetch(q)
	case "3010":
		return run(q.body, p.b.cardInfo)
	case commandCalculate:
		return run(q.body, p.b.calculate)
	case "4006":
		if p.b.o.Dialect == Selfservice {
			return run(q.body, func(a *authRequest) (any, *refusal) { return p.b.pay(a, q.calcNo) })
		}
		return run(q.body, p.b.authorise)
	case "6002":
		return run(q.body, p.b.report)
	case "6003":
		if r := p.b.sameRollback(q.rollback); r != nil {
			return nil, r
		}
		return run(q.body, p.b.reverse)
	case "6006":
		return p.b.queryOrder(q.query.Get("termTransNo"), q.query.Get("orderNo"))
	case "3019":
		return p.b.cardPrice(q.query.Get("subsCode"), q.query.Get("cardNo"))
	case "6004":
		return p.heartbeat(q.body)
	case "3001", "3002", "3003", "3004":
		return p.download(q)
	case "6005":
		return p.b.clock(), nil
	case "3016":
		return p.recharges(q)
	}
	return p.table(q)
}

func run[T any](body []byte, f func(*T) (any, *refusal)) (any, *refusal) {
	var q T
	if r := decode(body, &q); r != nil {
		return nil, r
	}
	return f(&q)
}

// render writes an answer: resultCode in its form, timestamp and sign.
func (p *Platform) render(answer any, r *refusal, password string, wrongSign bool) []byte {
	var body []byte
	o := p.b.o
	if r != nil {
		answer = map[string]any{"resultCode": r.code, "resultMsg": r.msg}
		if n, err := strconv.Atoi(r.code); err == nil && o.ResultCode == ResultNumber {
			answer = map[string]any{"resultCode": n, "resultMsg": r.msg}
		}
	}
	body, err := json.Marshal(answer)
	if err != nil {
		body = []byte("{}") // our own types marshal
	}
	if body[0] == '[' {
		return body // a bare array has no place for members
	}
	if r == nil && o.ResultCode == ResultString {
		body = splice(body, `"resultCode":"0","resultMsg":""`)
	}
	if r == nil && o.ResultCode == ResultNumber {
		body = splice(body, `"resultCode":0,"resultMsg":""`)
	}
	if o.SignAnswers && !bytes.Contains(body, []byte(`"timestamp":`)) {
		body = splice(body, `"timestamp":"`+p.b.stamp()+`"`)
	}
	switch {
	case wrongSign:
		body = splice(body, `"sign":"00000000000000000000000000000000"`)
	case o.SignAnswers && password != "":
		body = splice(body, `"sign":"`+o.Sign.SignAnswer(body, password)+`"`)
	}
	return body
}

// splice puts members at the front of a JSON object.
func splice(object []byte, members string) []byte {
	rest := object[1:]
	if len(rest) > 1 {
		members += ","
	}
	return append([]byte("{"+members), rest...)
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
