package vcctest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

// FuzzRequest: whatever is sent, the answer is one JSON object, and nothing
// unsigned moves the books.
func FuzzRequest(f *testing.F) {
	f.Add("POST", "/iccard/recharge", "seq=40062026010203040500000000000001&token=x", []byte(`{"termTransNo":"1"}`))
	f.Add("GET", "/oauth2/getToken", "appId=A&seq=10022026010203040500000000000001&sign=00", []byte{})
	f.Add("GET", "/iccard/queryOrder", "%zz", []byte("\x00"))
	p := New(Options{Good: true, BaseKey: baseKey})
	f.Fuzz(func(t *testing.T, method, path, query string, body []byte) {
		r := &http.Request{Method: method, URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{}}
		r.Body = http.NoBody
		if len(body) > 0 {
			r = httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
			r.Method, r.URL = method, &url.URL{Path: path, RawQuery: query}
		}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		var a map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || a["resultCode"] == nil {
			t.Fatalf("answer %q: %v", w.Body, err)
		}
	})
}

// FuzzBodies: a signed body of any content never panics, and is refused unless
// it is one object of known fields.
func FuzzBodies(f *testing.F) {
	img := upperHex(blankImage(3))
	f.Add("4006", []byte(`{"termTransNo":"000000000000000000000000000000T1","kind":"load","load":{"onlineSeq":7}}`))
	f.Add("4006", []byte(`{"termTransNo":"000000000000000000000000000000A1","orderNo":"I1","deviceId":"K","terminalNo":"112233445566","cardNo":"`+memNo+`","loadMode":1,"amount":5000,"gasVolume":1800,"kind":"image","image":{"cardData":"`+img+`","count":3}}`))
	f.Add("6002", []byte(`{"termTransNo":"000000000000000000000000000000A1","rev":1,"orderNo":"I1","deviceId":"K","terminalNo":"112233445566","cardNo":"1","kind":"image","amount":1,"gasVolume":1,"result":1,"evidence":"image","noAttempt":"N"}`))
	f.Add("6003", []byte(`{"termTransNo":"000000000000000000000000000000A1","orderNo":"I1","deviceId":"K","reason":"02","time":"20260101000000"}`))
	f.Add("3010", []byte(`{"deviceId":"K","terminalNo":"112233445566","cardNo":"`+memNo+`","cardData":"`+img+`"}`))
	f.Add("6002", []byte(`{"rev":1,"rev":2}`))
	f.Add("6003", []byte(`{} {}`))
	f.Fuzz(func(t *testing.T, code string, body []byte) {
		p := New(Options{Good: true, Lapses: Lapses{NoChallenge: true}})
		for _, err := range []error{
			p.AddCard(CardBook{CardNo: memNo, Kind: KindImage}), p.AddOrder(OrderBook{OrderNo: "I1", CardNo: memNo, Amount: 5000, Volume: 1800}),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // once more: a repeat
			p.mu.Lock()
			answer, r := p.business(&request{code: code, query: url.Values{}, body: body})
			out := p.render(answer, r, "p", false)
			p.mu.Unlock()
			if !json.Valid(out) {
				t.Fatalf("answer %q", out)
			}
			if r == nil && code != "6005" && code != "6004" {
				var o map[string]any
				if json.Unmarshal(body, &o) != nil || repeated(body) != "" {
					t.Fatalf("accepted %q", body)
				}
			}
		}
		p.Books()
	})
}
