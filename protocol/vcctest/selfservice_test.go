package vcctest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// otherKiosk speaks the selfservice dialect by hand.
type otherKiosk struct {
	*kiosk
	session, key string
}

func (k *otherKiosk) say(command, path string, body m) m {
	k.t.Helper()
	k.seq++
	raw, err := json.Marshal(body)
	if err != nil {
		k.t.Fatal(err)
	}
	q := url.Values{"datagramSN": {command + "20260101000000" + fmt.Sprintf("%014d", k.seq)}}
	if k.session != "" {
		q.Set("session", k.session)
	}
	password := k.key
	if password == "" {
		password = baseKey
	}
	q.Set("mac", digest(SignReading{}.Canonical(q, raw), password))
	r, err := http.NewRequestWithContext(k.t.Context(), http.MethodPost, "http://vcc.test/vcc-openapi/selfservice/"+path+"?"+q.Encode(), bytes.NewReader(raw))
	if err != nil {
		k.t.Fatal(err)
	}
	resp, err := k.p.RoundTripper().RoundTrip(r)
	if err != nil {
		k.t.Fatal(err)
	}
	out, err := io.ReadAll(resp.Body)
	a := m{}
	if err != nil || json.Unmarshal(out, &a) != nil {
		k.t.Fatalf("answer %q %v", out, err)
	}
	return a
}

// payload of a success, nil of a refusal.
func (k *otherKiosk) ok(a m) m {
	k.t.Helper()
	p, is := a["payload"].(m)
	if a["respondState"] != "SUCCESS" || !is {
		k.t.Fatalf("refused %v", a)
	}
	return p
}

func selfserviceWorld(t *testing.T, f func(p *Platform, k *otherKiosk)) {
	t.Helper()
	world(t, Options{Good: true, Dialect: Selfservice}, func(p *Platform, a, _ *kiosk) {
		k := &otherKiosk{kiosk: a}
		s := k.ok(k.say("0001", "authenticate", m{"terminalCode": "APPA"}))
		k.session, _ = s["session"].(string)
		k.key = k.session
		if w, has := s["workKey"].(string); has {
			k.key = w
		}
		f(p, k)
	})
}

// bill is what calculation and payment of the memory card's order I1 say.
func (k *otherKiosk) bill(trans, challenge string) m {
	return m{
		"terminalBizSN": num(trans), "challenge": challenge, "orderNo": "I1", "terminalCode": k.device, "entrustUnitNo": "SU0105",
		"terminalNo": k.terminal, "cardNo": memNo, "type": "SLE4442", "loadMode": 1, "buyCost": 5000, "buyGas": json.Number("18.00"),
		"data": upperHex(blankImage(0)), "dataLength": 256, "buyTimes": 0,
	}
}

func (k *otherKiosk) query() string {
	k.t.Helper()
	p := k.ok(k.say("0101", "queryCard", m{
		"terminalCode": k.device, "entrustUnitNo": "SU0105", "terminalNo": k.terminal, "type": "SLE4442", "cardNo": memNo, "prestore": 0, "data": upperHex(blankImage(0)),
	}))
	if o := p["pendingOrders"].([]any)[0].(m); o["buyCost"] != 5000.0 || o["buyGas"] != 18.0 || o["amount"] != nil {
		k.t.Errorf("order %v", o)
	}
	c, _ := p["challenge"].(string)
	return c
}

func TestSelfserviceSellsAndSettles(t *testing.T) {
	selfserviceWorld(t, func(p *Platform, k *otherKiosk) {
		bill := k.bill("T1", k.query())
		c := k.ok(k.say("0102", "calculate", bill))
		if v, _ := p.Order("I1"); v.State != StatePaid || c["buyCost"] != 5000.0 || c["buyGas"] != 18.0 || c["terminalBizSN"] != num("T1") {
			t.Errorf("a calculation holds an order: %v %s", c, v.State)
		}
		bill["calcNo"] = c["calcNo"]
		paid := k.ok(k.say("0103", "pay", bill))
		target, err := hex.DecodeString(paid["data"].(string))
		if err != nil || len(target) != 256 || DefaultLayout().Gas.get(target) != 1800 || paid["buyTimes"] != 1.0 || paid["commitOffset"] != 64.0 || paid["validSeconds"] != 300.0 {
			t.Errorf("paid %v %v", paid, err)
		}
		report := m{
			"terminalBizSN": num("T1"), "rev": 1, "orderNo": "I1", "terminalCode": k.device, "entrustUnitNo": "SU0105", "terminalNo": k.terminal, "cardNo": memNo,
			"kind": "image", "buyCost": 5000, "buyGas": 18, "writeState": "SUCCESS", "evidence": "image", "noAttempt": "N", "dataAfterWrite": paid["data"], "dataLength": 256,
		}
		if a := k.ok(k.say("0104", "reportWrite", report)); a["state"] != "S" || a["rev"] != 1.0 {
			t.Errorf("reported %v", a)
		}
		if a := k.ok(k.say("0106", "queryOrder", m{"terminalBizSN": num("T1")})); a["state"] != "S" || a["buyGas"] != 18.0 {
			t.Errorf("asked %v", a)
		}
	})
}

// TestSelfserviceRefuses: what one of its calls may not say.
func TestSelfserviceRefuses(t *testing.T) {
	selfserviceWorld(t, func(_ *Platform, k *otherKiosk) {
		code := func(a m) string { s, _ := a["respondState"].(string); return s }
		challenge := k.query()
		bill := k.bill("T1", challenge)
		first := k.ok(k.say("0102", "calculate", bill))["calcNo"]
		second := k.ok(k.say("0102", "calculate", bill))["calcNo"]
		with := func(field string, v any) m {
			b := k.bill("T1", challenge)
			b["calcNo"] = second
			if b[field] = v; v == nil {
				delete(b, field)
			}
			return b
		}
		for _, x := range []struct {
			name, want string
			body       m
		}{
			{"without a calculation", codeChallenge, with("calcNo", nil)},
			{"an older calculation", codeChallenge, with("calcNo", first)},
			{"an old challenge", codeChallenge, with("challenge", "0000000000000000")},
			{"another price", codeContent, with("buyCost", 5001)},
			{"other gas", codeContent, with("buyGas", json.Number("18.01"))},
			{"gas in thousandths", codeParameter, with("buyGas", json.Number("18.001"))},
			{"a length that is not the data's", codeParameter, with("dataLength", 255)},
			{"the document's name", codeParameter, with("termTransNo", num("T1"))},
		} {
			if got := code(k.say("0103", "pay", x.body)); got != x.want {
				t.Errorf("%s: %s, want %s", x.name, got, x.want)
			}
		}
		paid := k.say("0103", "pay", with("", nil))
		if k.ok(paid); code(k.say("0103", "pay", with("calcNo", first))) != "SUCCESS" { // contract clause 1
			t.Error("a repeat of a payment is refused")
		}
		back := m{"terminalBizSN": num("T1"), "orderNo": "I1", "terminalCode": k.device, "entrustUnitNo": "SU0105", "cause": "03", "time": "20260101000000", "cardNo": memNo, "rollbackMoney": 1, "buyGas": 18}
		if got := code(k.say("0105", "rollback", back)); got != codeContent {
			t.Errorf("a reversal of another sum: %s", got)
		}
		back["rollbackMoney"] = 5000
		if a := k.ok(k.say("0105", "rollback", back)); a["state"] != "R" {
			t.Errorf("reversed: %v", a)
		}
		if got := code(k.say("0102", "calculate", k.bill("T1", challenge))); got != codeGivenBack {
			t.Errorf("calculated after it was given back: %s", got)
		}
		k.key = "wrong"
		if got := code(k.say("0101", "queryCard", m{})); got != "MAC_ERROR" {
			t.Errorf("a wrong sign: %s", got)
		}
		k.session, k.key = strings.Repeat("x", 20), baseKey
		if got := code(k.say("0101", "queryCard", m{})); got != "NO_SESSION" {
			t.Errorf("no session: %s", got)
		}
	})
}
