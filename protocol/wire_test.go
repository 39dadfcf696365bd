package protocol

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"vcckiosk/protocol/catalogue"
)

// other is a platform that checks no sign, for calls in another form. token is
// its whole answer to getToken.
func other(token string) *platform {
	p := newPlatform()
	p.hook = func(r *http.Request) (*http.Response, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		path := strings.TrimPrefix(r.URL.Path, "/vcc-openapi")
		p.requests = append(p.requests, r)
		if strings.HasSuffix(path, "/getToken") {
			return respond(r, 200, token), nil
		}
		if r.Body != nil {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			p.bodies[path] = string(b)
		}
		return respond(r, 200, p.answer[path](p.bodies[path])), nil
	}
	return p
}

// TestAPlatformWithOtherNames speaks to one that calls fields, codes and
// envelope otherwise, wants yuan and the sign in a header.
func TestAPlatformWithOtherNames(t *testing.T) {
	t.Parallel()
	p := other(`{"code":"00","result":{"token":"T1","expireTime":7200}}`)
	p.says("/iccard/recharge", `{"code":"00","result":{"transId":"`+testTrans+`","orderNo":"`+testOrder+`","cardNo":"`+testCard+
		`","kind":"load","money":"100.00","gasVolume":40,"authExpire":300,"load":{"hostDate":"20260102","hostTime":"030405","MAC_2":"25d2b647"}}}`)
	c := newTestClient(t, p, func(cfg *Config, _ *Deps) {
		cfg.Envelope = Envelope{Code: "code", Msg: "text", Data: "result", Success: []string{"00"}, Codes: map[string]string{"E7": "46003"}, Token: "access_token"}
		cfg.Endpoints = map[string]Endpoint{"4006": {
			Names: map[string]string{"termTransNo": "transId", "amount": "money", "load.mac1": "MAC_1", "load.mac2": "MAC_2"},
			Units: map[string]string{"amount": "yuan", "gasVolume": "m3"},
		}}
	})
	r := loadRequest()
	a, err := c.Authorize(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if a.Amount != r.Amount || a.GasVolume != r.GasVolume || a.Load.MAC2 != "25D2B647" {
		t.Errorf("%+v", a)
	}
	var sent map[string]any
	if err := json.Unmarshal([]byte(p.bodies["/iccard/recharge"]), &sent); err != nil {
		t.Fatal(err)
	}
	load, _ := sent["load"].(map[string]any)
	if sent["transId"] != testTrans || sent["money"] != 100.00 || load["MAC_1"] == nil || load["mac1"] != nil || sent["amount"] != nil {
		t.Errorf("sent %s", p.bodies["/iccard/recharge"])
	}
	if q := p.requests[len(p.requests)-1].URL.Query(); q.Get("access_token") == "" || q.Get("token") != "" {
		t.Errorf("query %v", q)
	}
	p.says("/iccard/recharge", `{"code":"E7","text":"held"}`)
	if _, err := c.Authorize(t.Context(), r); !errors.Is(err, ErrHeld) {
		t.Errorf("%v, want ErrHeld", err)
	}
	p.says("/iccard/recharge", `{"code":"00"}`)
	if _, err := c.Authorize(t.Context(), r); !errors.Is(err, ErrTransport) {
		t.Errorf("without its data: %v", err)
	}
}

func TestASignInAHeaderIsNotInTheQuery(t *testing.T) {
	t.Parallel()
	p := newPlatform()
	var header, query string
	p.hook = func(r *http.Request) (*http.Response, error) {
		header, query = r.Header.Get("sign"), r.URL.Query().Get("sign")
		return nil, errors.New("far enough")
	}
	c := newTestClient(t, p, func(cfg *Config, _ *Deps) { cfg.Sign.Place = "header" })
	_ = c.Token(t.Context())
	if len(header) != 32 || query != "" {
		t.Errorf("header %q, query %q", header, query)
	}
}

func TestMethodsAreTurnedIntoEachOther(t *testing.T) {
	t.Parallel()
	p := other(`{"token":"T1","expireTime":7200}`)
	p.says("/iccard/queryOrder", `{"termTransNo":"`+testTrans+`","orderNo":"`+testOrder+`","state":"P"}`)
	p.says("/iccard/reverse", `{"termTransNo":"`+testTrans+`","orderNo":"`+testOrder+`","state":"R"}`)
	c := newTestClient(t, p, func(cfg *Config, _ *Deps) {
		cfg.Endpoints = map[string]Endpoint{"6006": {Method: "POST"}, "6003": {Method: "FORM"}}
	})
	if _, err := c.QueryOrder(t.Context(), QueryOrderRequest{TransNo: testTrans, OrderNo: testOrder}); err != nil {
		t.Fatal(err)
	}
	if got, want := p.bodies["/iccard/queryOrder"], `{"termTransNo":"`+testTrans+`","orderNo":"`+testOrder+`"}`; got != want {
		t.Errorf("sent %s, want %s", got, want)
	}
	if _, err := c.Reverse(t.Context(), ReverseRequest{TransNo: testTrans, OrderNo: testOrder, Reason: ReasonAnswerLost, Time: "20260102030405"}); err != nil {
		t.Fatal(err)
	}
	last := p.requests[len(p.requests)-1]
	if last.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || !strings.Contains(p.bodies["/iccard/reverse"], "termTransNo="+testTrans) {
		t.Errorf("sent %s as %s", p.bodies["/iccard/reverse"], last.Header.Get("Content-Type"))
	}
}

func TestUnitsAreConvertedExactly(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ in, from, out string }{
		{"50", "yuan", "5000"},
		{"0.01", "yuan", "1"},
		{"12.3", "m3", "1230"},
		{"-1.5", "yuan", "-150"},
		{"90071992547409.91", "yuan", "9007199254740991"},
		{"5000", "fen", "50.00"},
		{"1", "cl", "0.01"},
		{"0", "fen", "0.00"},
		{"-150", "fen", "-1.50"},
		{"0.001", "yuan", ""},
		{"1e2", "yuan", ""},
		{"1/3", "yuan", ""},
		{"", "yuan", ""},
		{"1_0", "fen", ""},
		{"0x10", "fen", ""},
		{strings.Repeat("9", 21), "fen", ""},
	} {
		to := map[string]catalogue.Unit{"yuan": "fen", "fen": "yuan", "m3": "cl", "cl": "m3"}[x.from]
		got, err := convert(x.in, catalogue.Unit(x.from), to)
		if got != x.out || (err != nil) != (x.out == "") {
			t.Errorf("%s %s: %q %v, want %q", x.in, x.from, got, err, x.out)
		}
	}
}

func TestInvokeChecksEachField(t *testing.T) {
	t.Parallel()
	p := newPlatform()
	p.says("/subs/getSubsByCode", `{"subsCode":"1400","name":"张**","displayAddr":"x","resType":"A","mobile":"1","subsType":1,"state":"A","orgCode":"WJ0105","more":[1]}`)
	p.says("/bill/queryBills", `{"pageIndex":1,"pageSize":10,"total":1,"datas":[{"acctshCode":"B1"}]}`)
	p.says("/worksheet/create", `{"sheetNo":"W1"}`)
	p.says("/user/querySubsByUserCode", `[{"subsCode":"1400"}]`)
	c := newTestClient(t, p)
	for _, x := range []struct {
		code   string
		fields map[string]string
		field  string // of a FieldError, "" for success
	}{
		{"3005", map[string]string{"subsCode": "1400"}, ""},
		{"3005", nil, "subsCode"},
		{"3005", map[string]string{"subsCode": "a b"}, "subsCode"},
		{"3005", map[string]string{"subsCode": "1", "other": "x"}, "other"},
		{"3005", map[string]string{"subsCode": "1", "a\nb": "x"}, "a_b"},
		{"3015", map[string]string{"subsCode": "1", "pageIndex": "1", "pageSize": "10"}, ""},
		{"3015", map[string]string{"subsCode": "1", "pageIndex": "one", "pageSize": "10"}, "pageIndex"},
		{"3006", map[string]string{"userCode": "u", "userType": "MEMBER"}, ""},
		{"5001", map[string]string{"subsCode": "1", "sheetType": "01", "content": "漏气，请上门", "mediaIds": "a,b"}, ""},
		{"5001", map[string]string{"subsCode": "1", "sheetType": "01", "mediaIds": "a," + strings.Repeat("b", 33)}, "mediaIds"},
		{"3010", map[string]string{"terminalNo": "112233445566", "cardType": "CPU", "balance": "0", "log": `[{"seq":1}]`}, "log"},
		{"3010", map[string]string{"terminalNo": "112233445566", "cardType": "CPU", "balance": "0", "log": `[{"seq":1,"amount":1,"terminal":"112233445566","date":"20260101","time":"000000","x":1}]`}, "log"},
		{"4006", map[string]string{}, "code"},
		{"6002", map[string]string{}, "code"},
		{"1002", map[string]string{}, "code"},
		{"3001", map[string]string{}, "code"},
		{"2001", map[string]string{}, "code"},
		{"7001", map[string]string{}, "code"},
		{"9999", map[string]string{}, "code"},
	} {
		raw, err := c.Invoke(t.Context(), x.code, x.fields)
		e, is := errors.AsType[*FieldError](err)
		switch {
		case x.field == "" && (err != nil || !json.Valid(raw)):
			t.Errorf("%s %v: %s %v", x.code, x.fields, raw, err)
		case x.field != "" && (!is || e.Field != x.field):
			t.Errorf("%s %v: %v, want field %s", x.code, x.fields, err, x.field)
		}
	}
	raw, err := c.Invoke(t.Context(), "3005", map[string]string{"subsCode": "1400"})
	if want := `{"subsCode":"1400","name":"张**","addrDetail":"x","addrCode":"A","phone":"1","subsType":1,"state":"A","orgCode":"WJ0105","more":[1]}`; err != nil || string(raw) != want {
		t.Errorf("%s %v\nwant %s", raw, err, want)
	}
	p.says("/bill/queryBills", `{"datas":{"acctshCode":"B1"}}`)
	if _, err := c.Invoke(t.Context(), "3015", map[string]string{"subsCode": "1", "pageIndex": "1", "pageSize": "10"}); !errors.Is(err, ErrTransport) {
		t.Errorf("datas is no list: %v", err)
	}
}

func TestBadOverridesAreNamed(t *testing.T) {
	t.Parallel()
	var env Envelope
	if err := env.defaults(); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		code, want string
		row        Endpoint
	}{
		{"9999", "no interface", Endpoint{Path: "/x"}},
		{"7001", "called by the platform", Endpoint{Path: "/x"}},
		{"4006", "code", Endpoint{Code: "40"}},
		{"4006", "is not a path", Endpoint{Path: "x?y"}},
		{"4006", "share the path", Endpoint{Path: "/iccard/reverse"}},
		{"4006", "does not fit into GET", Endpoint{Method: "get"}},
		{"3001", "method must be GET", Endpoint{Method: "POST"}},
		{"2001", "method must be MULTIPART", Endpoint{Method: "POST"}},
		{"6003", "method must be POST", Endpoint{Method: "DELETE"}},
		{"4006", `no field "amounts"`, Endpoint{Names: map[string]string{"amounts": "x"}}},
		{"4006", "is not a name", Endpoint{Names: map[string]string{"amount": "a b"}}},
		{"4006", "two fields are called", Endpoint{Names: map[string]string{"amount": "orderNo"}}},
		{"4006", "want one of [fen yuan]", Endpoint{Units: map[string]string{"amount": "m3"}}},
		{"4006", "has no unit", Endpoint{Units: map[string]string{"cardNo": "yuan"}}},
		{"4006", "is not a name", Endpoint{Names: map[string]string{"amount": ""}}},
		{"4006", "is another interface's", Endpoint{Code: "6002"}},
		{"3005", "every call's own parameter", Endpoint{Names: map[string]string{"subsCode": "token"}}},
	} {
		_, err := override((*dialect)(nil).table(), map[string]Endpoint{x.code: x.row}, &env)
		if err == nil || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), x.code) {
			t.Errorf("%s %+v: %v, want %q", x.code, x.row, err, x.want)
		}
	}
	for _, env := range []Envelope{
		{Code: "a b"},
		{Codes: map[string]string{"x": "y"}},
		{Codes: map[string]string{"x": "99999999"}},
		{Codes: map[string]string{"x": "0"}},
		{Codes: map[string]string{"0": "46003"}},
		{Success: []string{"OK"}, Codes: map[string]string{"OK": "46003"}},
		{Success: []string{"46003"}},
		{Seq: "a", Token: "a"},
		{Seq: "sign"},
		{Code: "resultMsg"},
		{Code: "d", Data: "d"},
		{Data: "a.b"},
	} {
		if env.defaults() == nil {
			t.Errorf("%+v accepted", env)
		}
	}
}

// TestAStreamIsWholeOrAnError reads a table through the whole way.
func TestAStreamIsWholeOrAnError(t *testing.T) {
	t.Parallel()
	const table = "气户户号|气户名称\r\n1400|张三\r\n"
	for _, x := range []struct {
		name, body string
		length     int64
		status     int
		want       error
	}{
		{"whole", table, int64(len(table)), 200, nil},
		{"of unknown length", table, -1, 200, nil},
		{"cut", table, int64(len(table)) + 5, 200, ErrTransport},
		{"error under 200", `{"resultCode":"20031","resultMsg":"no"}`, -1, 200, ErrBusiness},
		{"object without a code", `{"a":1}`, -1, 200, ErrTransport},
		{"web page", "<html>maintenance</html>", -1, 200, ErrTransport},
		{"refused on the way", "busy", -1, 503, ErrTransport},
		{"empty", "", 0, 200, nil},
	} {
		p := newPlatform()
		p.hook = func(r *http.Request) (*http.Response, error) {
			if !strings.HasSuffix(r.URL.Path, "/subs/download") {
				return nil, nil
			}
			return &http.Response{
				StatusCode: x.status, Header: http.Header{}, ContentLength: x.length, Body: io.NopCloser(strings.NewReader(x.body)), Request: r,
			}, nil
		}
		c := newTestClient(t, p)
		var got []byte
		err := c.stream(t.Context(), request{name: "3003", end: c.catalogue["3003"], params: map[string]string{
			"orgCode": "WJ0105", "lastTimestamp": "20260801000000", "timestamp": "20260802000000",
		}}, func(_ http.Header, body io.Reader) error {
			var err error
			got, err = io.ReadAll(body)
			return err
		})
		if !errors.Is(err, x.want) || x.want == nil && (err != nil || string(got) != x.body) {
			t.Errorf("%s: %q %v, want %v", x.name, got, err, x.want)
		}
	}
}
