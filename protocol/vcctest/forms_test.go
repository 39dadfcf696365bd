package vcctest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestFormsOfGetToken(t *testing.T) {
	for name, c := range map[string]struct {
		o     Options
		check func(a m, now time.Time) bool
	}{
		"default": {Options{}, func(a m, _ time.Time) bool {
			_, code := a["resultCode"]
			return a["expireTime"] == 7200.0 && len(a["token"].(string)) == 20 && a["sessionKey"] == nil && !code
		}},
		"seconds as text": {Options{Token: TokenOptions{AsString: true, Life: 899 * time.Second}}, func(a m, _ time.Time) bool { return a["expireTime"] == "899" }},
		"epoch":           {Options{Token: TokenOptions{Form: ExpireEpoch}}, func(a m, now time.Time) bool { return a["expireTime"] == float64(now.Unix()+7200) }},
		"milliseconds":    {Options{Token: TokenOptions{Form: ExpireMillis}}, func(a m, now time.Time) bool { return a["expireTime"] == float64(now.UnixMilli()+7200000) }},
		"absent":          {Options{Token: TokenOptions{Form: ExpireAbsent}}, func(a m, _ time.Time) bool { _, ok := a["expireTime"]; return !ok }},
		"session key":     {Options{Token: TokenOptions{SessionKey: true}}, func(a m, _ time.Time) bool { return len(a["sessionKey"].(string)) == 32 }},
		"code as text":    {Options{ResultCode: ResultString}, func(a m, _ time.Time) bool { return a["resultCode"] == "0" }},
		"code as number":  {Options{ResultCode: ResultNumber}, func(a m, _ time.Time) bool { return a["resultCode"] == 0.0 }},
		"signed": {Options{SignAnswers: true}, func(a m, _ time.Time) bool {
			s, _ := a["sign"].(string)
			delete(a, "sign")
			raw, _ := json.Marshal(a)
			return s != "" && s == SignReading{}.SignAnswer(raw, baseKey) && len(a["timestamp"].(string)) == 14
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c.o.Good = true
			world(t, c.o, func(_ *Platform, a, _ *kiosk) {
				ans := a.must("1002", url.Values{"appId": {"APP"}}, nil)
				if !c.check(ans, time.Now()) {
					t.Errorf("answer %v", ans)
				}
				// Whatever the form, the calls after it work.
				a.card(0)
				bad, err := a.try("6003", nil, m{})
				if a.code(bad, err) == "" && bad["resultCode"] != 30002.0 {
					t.Errorf("error answer %v", bad)
				}
			})
		})
	}
}

func TestWhoMaySpeak(t *testing.T) {
	world(t, Options{Good: true, AppID: "APPKA"}, func(p *Platform, a, b *kiosk) {
		ans, err := b.try("1002", url.Values{"appId": {"APPKB"}}, nil)
		want(t, "unknown appId", b.code(ans, err), "30009")
		p.AddAccount(Account{AppID: "APPKB", BaseKey: "other"})
		ans, err = b.try("1002", url.Values{"appId": {"APPKB"}}, nil)
		want(t, "another's key", b.code(ans, err), "20002")
		p.AddAccount(Account{AppID: "APPKB", BaseKey: baseKey})
		b.login()
		a.login()
		b.card(0)

		ans, err = a.try("3010", nil, m{})
		want(t, "empty body is read after the sign", a.code(ans, err), "30002")
		good := a.password
		a.password = "wrong"
		ans, err = a.try("6005", nil, nil)
		want(t, "wrong sign", a.code(ans, err), "30010")
		a.password = good
		a.token = "unknown"
		ans, err = a.try("6005", nil, nil)
		want(t, "unknown token", a.code(ans, err), "20001")

		a.login()
		old := *a
		a.login()
		ans, err = old.try("6005", nil, nil)
		want(t, "token ended by the next one", old.code(ans, err), "20001")
		a.seq = old.seq // the counter went on in the copy
		a.must("6005", nil, nil)

		time.Sleep(2 * time.Hour)
		ans, err = a.try("6005", nil, nil)
		want(t, "token at its end", a.code(ans, err), "20001")
		a.login()
		p.SetBaseKey("Z1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6")
		ans, err = a.try("6005", nil, nil)
		want(t, "token of the old key", a.code(ans, err), "20001")
		ans, err = a.try("1002", url.Values{"appId": {"APPKA"}}, nil)
		want(t, "old key", a.code(ans, err), "20002")
		b.login() // its key is its own
		a.seq--
		ans, err = b.try("6005", nil, nil)
		want(t, "other account", b.code(ans, err), "")
		b.seq--
		ans, err = b.try("6005", nil, nil)
		want(t, "same seq", b.code(ans, err), "10056")
	})
}

func TestDeviceVariantOfGetToken(t *testing.T) {
	world(t, good, func(_ *Platform, a, _ *kiosk) {
		ans := a.must("1001", url.Values{"channelId": {"C"}, "deviceId": {"KA"}}, nil)
		a.token, a.password = ans["token"].(string), ans["sessionKey"].(string)
		a.card(0)
		a.password = a.token
		ans, err := a.try("6005", nil, nil)
		want(t, "signed with the token", a.code(ans, err), "30010")
	})
}

func TestPasswordsOfLaterCalls(t *testing.T) {
	for name, c := range map[string]struct {
		form PasswordForm
		pass func(a *kiosk, session string) string
	}{
		"auto":    {PasswordAuto, func(_ *kiosk, s string) string { return s }},
		"session": {PasswordSession, func(_ *kiosk, s string) string { return s }},
		"token":   {PasswordToken, func(a *kiosk, _ string) string { return a.token }},
		"base":    {PasswordBase, func(*kiosk, string) string { return baseKey }},
	} {
		t.Run(name, func(t *testing.T) {
			world(t, Options{Good: true, Sign: SignReading{Password: c.form}, Token: TokenOptions{SessionKey: true}}, func(_ *Platform, a, _ *kiosk) {
				a.login()
				session := a.password
				for _, p := range []string{a.token, session, baseKey} {
					a.password = p
					ans, err := a.try("6005", nil, nil)
					want(t, "accepted", a.code(ans, err) == "", p == c.pass(a, session))
				}
			})
		})
	}
	world2 := Options{Good: true, Sign: SignReading{TokenOnly: true}}
	t.Run("token only", func(t *testing.T) {
		world(t, world2, func(p *Platform, a, _ *kiosk) {
			a.login()
			r, _ := http.NewRequestWithContext(a.t.Context(), http.MethodGet, "http://vcc.test/device/time?token="+a.token+"&seq=60052026010100000000000000000099", nil)
			resp, err := p.RoundTripper().RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			if !strings.Contains(string(body), "timestamp") {
				t.Errorf("unsigned call got %s", body)
			}
		})
	})
}

func TestShapesOfSeq(t *testing.T) {
	t.Parallel()
	for seq, ok := range map[string]bool{
		"40062026010203040500000000000001":  true,
		"10012026010203040500000000000001":  true,
		"04006202601020304050000000000001":  true,
		"4006202601020304050000000001":      true,
		"60022026010203040500000000000001":  false,
		"40062026130203040500000000000001":  false,
		"400620260102030405000000000000011": false,
		"4006202601020304050000000000000A":  false,
		"":                                  false,
	} {
		want(t, seq, SeqForms(0).ok(seq, "4006"), ok)
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	p := New(Options{Good: true, BaseKey: baseKey, Endpoints: map[string]string{"4006": "/card/charge"}})
	for target, c := range map[string]struct{ method, want string }{
		"/vcc-openapi/nothing":                                    {http.MethodGet, "10031"},
		"/vcc-openapi/iccard/recharge":                            {http.MethodPost, "10031"}, // moved
		"/vcc-openapi/card/charge":                                {http.MethodGet, "10045"},
		"/x/card/charge?seq=1":                                    {http.MethodPost, "30002"},
		"/oauth2/getToken?seq=1&seq=2":                            {http.MethodGet, "30002"},
		"/oauth2/getToken?%zz":                                    {http.MethodGet, "30002"},
		"/iccard/queryOrder?seq=60062026010203040500000000000001": {http.MethodGet, "40058"},
	} {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest(c.method, target, strings.NewReader("")))
		if w.Code != 200 || !strings.Contains(w.Body.String(), `"resultCode":"`+c.want+`"`) {
			t.Errorf("%s: %d %s, want %s", target, w.Code, w.Body, c.want)
		}
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/iccard/reverse", strings.NewReader(strings.Repeat("x", maxBody+1))))
	if !strings.Contains(w.Body.String(), "30002") {
		t.Errorf("huge body: %s", w.Body)
	}
}

func TestOverARealConnection(t *testing.T) {
	t.Parallel()
	p := New(Options{Good: true, BaseKey: baseKey})
	s := httptest.NewServer(p)
	defer s.Close()
	get := func() (*http.Response, error) {
		q := url.Values{"appId": {"A"}, "seq": {"10022026010203040500000000000001"}}
		q.Set("sign", digest(SignReading{}.Canonical(q, nil), baseKey))
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/vcc-openapi/oauth2/getToken?"+q.Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return s.Client().Do(r)
	}
	resp, err := get()
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != 200 || !strings.Contains(string(body), "token") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	p.SetHook(func(Call) Action { return Action{DropAnswer: true} })
	if resp, err := get(); err == nil {
		_ = resp.Body.Close()
		t.Error("a dropped answer arrived")
	}
	want(t, "calls", p.Calls()["1002"] >= 2, true) // net/http may try a GET again
}

func TestHeartbeatPriceAndBooks(t *testing.T) {
	world(t, good, func(p *Platform, a, b *kiosk) {
		beat := m{"deviceId": "KA", "queueDepth": 3, "anything": []int{1}}
		if _, ok := a.must("6004", nil, beat)["timestamp"]; !ok {
			t.Error("no timestamp")
		}
		raw, ok := p.LastHeartbeat("KA")
		if !ok || !strings.Contains(string(raw), `"queueDepth":3`) {
			t.Errorf("heartbeat %s", raw)
		}
		price := a.must("3019", url.Values{"subsCode": {"14001"}, "orgCode": {"SU0105"}, "cardNo": {purseNo}}, nil)
		want(t, "steps", len(price["stepList"].([]any)), 3)
		info := a.must("3010", nil, m{"deviceId": "K", "terminalNo": a.terminal, "cardNo": purseNo, "balance": 0})
		want(t, "name is masked", info["name"], any("王**"))
		a.must("4006", nil, a.l1("T1", a.card(0), 7))
		a.report("T1", "L1", 1, 0, "answer", nil)
		b.card(8)
		s := p.Books()
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		o, _ := p.Order("L1")
		for _, secret := range []string{o.Issued[0].MAC2, "B809B2F4", "112233\"", "王小明"} {
			if strings.Contains(string(raw), secret) {
				t.Errorf("books show %s", secret)
			}
		}
		want(t, "cards", len(s.Cards), 2)
		want(t, "orders", len(s.Orders), 4)
		for _, err := range []error{
			p.AddOrder(OrderBook{OrderNo: "L1", CardNo: purseNo, Amount: 1}),
			p.AddOrder(OrderBook{OrderNo: "L9", CardNo: "unknown", Amount: 1}),
			p.AddOrder(OrderBook{OrderNo: "L9", CardNo: purseNo}),
			p.AddCard(CardBook{CardNo: purseNo, Kind: KindImage}),
			p.AddCard(CardBook{CardNo: "x", Kind: "script"}),
		} {
			if err == nil {
				t.Error("nonsense was added")
			}
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	p := New(Options{BaseKey: baseKey, Seed: 3, Lapses: Lapses{NoIdempotency: true, ForgetAuth: true, LoseAnswers: true, LateRequests: true, Evictions: true}})
	if err := p.AddCard(CardBook{CardNo: purseNo, Kind: KindLoad, DLK: [16]byte{1}, DTK: [16]byte{2}}); err != nil {
		t.Fatal(err)
	}
	if err := p.AddOrder(OrderBook{OrderNo: "L1", CardNo: purseNo, Amount: 5000, Volume: 1800}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			k := newKiosk(t, p, string("AB"[i%2]))
			k.seq = 100000 * i
			k.device += itoa(int64(i))
			for j := range 50 {
				for {
					if a, err := k.try("1002", url.Values{"appId": {k.device}}, nil); err == nil && a["token"] != nil {
						k.token = a["token"].(string)
						k.password = k.token
						break
					}
				}
				_, _ = k.try("3010", nil, m{"deviceId": "K", "terminalNo": k.terminal, "cardNo": purseNo, "balance": 0})
				_, _ = k.try("4006", nil, m{"termTransNo": num(k.device + itoa(int64(j)))})
				_, _ = k.try("6002", nil, k.reportBody(k.device+itoa(int64(j)), "L1", 1, 1, "journal", nil))
				p.Books()
			}
		})
	}
	wg.Wait()
}
