package vcctest

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A kiosk speaks the wire by hand: what it sends is built here and not by the
// client the platform is there to test.
type kiosk struct {
	t        *testing.T
	p        *Platform
	terminal string
	device   string
	seq      int
	token    string
	password string
	timeout  time.Duration // of a call, 0 for none
}

const (
	baseKey = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6"
	purseNo = "8600000012345678"
	memNo   = "6600000000000001"
)

// world runs f in a bubble with a platform that has one card of each kind and
// two orders for each, and two kiosks.
func world(t *testing.T, o Options, f func(p *Platform, a, b *kiosk)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o.BaseKey = baseKey
		if o.Odds == 0 {
			o.Odds = 1
		}
		p := New(o)
		dlk := fix[[16]byte](t, "B809B2F4B06B9FFE8273FACE16E62F9D")
		dtk := fix[[16]byte](t, "8956ECBF72016D3FBD464171C5045F6D")
		for _, err := range []error{
			p.AddCard(CardBook{CardNo: purseNo, SubsCode: "14001", Name: "王小明", Kind: KindLoad, DLK: dlk, DTK: dtk}),
			p.AddCard(CardBook{CardNo: memNo, SubsCode: "14002", Kind: KindImage, PSC: [3]byte{0x11, 0x22, 0x33}, NextPSC: [3]byte{0x44, 0x55, 0x66}}),
			p.AddOrder(OrderBook{OrderNo: "L1", CardNo: purseNo, Amount: 5000, Volume: 1800}),
			p.AddOrder(OrderBook{OrderNo: "L2", CardNo: purseNo, Amount: 7000, Volume: 2500}),
			p.AddOrder(OrderBook{OrderNo: "I1", CardNo: memNo, Amount: 5000, Volume: 1800}),
			p.AddOrder(OrderBook{OrderNo: "I2", CardNo: memNo, Amount: 7000, Volume: 2500}),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		f(p, newKiosk(t, p, "A"), newKiosk(t, p, "B"))
	})
}

func newKiosk(t *testing.T, p *Platform, name string) *kiosk {
	return &kiosk{t: t, p: p, device: "K" + name, terminal: "11223344556" + map[string]string{"A": "1", "B": "2"}[name]}
}

// num makes a termTransNo out of a short word.
func num(s string) string { return fmt.Sprintf("%032X", s) }

type m = map[string]any

// raw sends one signed request and returns the whole answer.
func (k *kiosk) raw(code, method, path string, query url.Values, body []byte) (int, []byte, error) {
	k.seq++
	serial := k.seq + int(k.terminal[11])*1000000
	query.Set("seq", code+"20260101000000"+fmt.Sprintf("%014d", serial))
	password := baseKey
	if !strings.HasPrefix(code, "100") {
		query.Set("token", k.token)
		password = k.password
	}
	query.Set("sign", digest(SignReading{}.Canonical(query, body), password))
	ctx := k.t.Context()
	if k.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, k.timeout)
		defer cancel()
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://vcc.test/vcc-openapi"+path+"?"+query.Encode(), bytes.NewReader(body))
	if err != nil {
		k.t.Fatal(err)
	}
	resp, err := k.p.RoundTripper().RoundTrip(r)
	if err != nil {
		return 0, nil, err
	}
	out, err := io.ReadAll(resp.Body)
	return resp.StatusCode, out, err
}

func (k *kiosk) login() {
	k.t.Helper()
	a := k.must("1002", url.Values{"appId": {"APP" + k.device}}, nil)
	k.token, _ = a["token"].(string)
	k.password = k.token
	if s, ok := a["sessionKey"].(string); ok {
		k.password = s
	}
}

// try sends a call and returns its answer, with the refusal's code in it.
func (k *kiosk) try(code string, query url.Values, body m) (m, error) {
	k.t.Helper()
	if k.token == "" && !strings.HasPrefix(code, "100") {
		k.login()
	}
	var raw []byte
	if query == nil {
		query = url.Values{}
	}
	if body != nil {
		raw, _ = json.Marshal(body)
	}
	for _, e := range endpoints(nil) {
		if e.code == code {
			_, out, err := k.raw(code, e.method, e.path, query, raw)
			if err != nil {
				return nil, err
			}
			a := m{}
			if err := json.Unmarshal(out, &a); err != nil {
				return nil, fmt.Errorf("answer %q: %w", out, err)
			}
			return a, nil
		}
	}
	k.t.Fatalf("no interface %s", code)
	return nil, nil
}

func (k *kiosk) must(code string, query url.Values, body m) m {
	k.t.Helper()
	a, err := k.try(code, query, body)
	if err != nil {
		k.t.Fatalf("%s: %v", code, err)
	}
	if c, bad := a["resultCode"]; bad && c != "0" && c != 0.0 {
		k.t.Fatalf("%s: refused %v", code, a)
	}
	return a
}

// code is the refusal's code of an answer, or "".
func (k *kiosk) code(a m, err error) string {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
	c, _ := a["resultCode"].(string)
	return c
}

func (k *kiosk) card(seq int, log ...LogEntry) string {
	k.t.Helper()
	b := m{"deviceId": k.device, "orgCode": "SU0105", "terminalNo": k.terminal, "cardType": "CPU", "cardNo": purseNo, "balance": 0, "log": log}
	c, _ := k.must("3010", nil, b)["challenge"].(string)
	return c
}

// purse is a virtual purse: seq and log as a card keeps them.
func (k *kiosk) loadBody(trans, orderNo, challenge string, amount, volume, seq int) m {
	l := load{Type: 2, Amount: uint32(amount), Seq: uint16(seq), Random: [4]byte{0xA1, 0xB2, byte(seq), byte(k.seq)}}
	unhex(l.Terminal[:], k.terminal)
	m1 := l.mac1(k.p.b.cards[purseNo].DLK)
	return m{
		"termTransNo": num(trans), "challenge": challenge, "orderNo": orderNo, "deviceId": k.device, "orgCode": "SU0105",
		"terminalNo": k.terminal, "cardNo": purseNo, "cardType": "CPU", "loadMode": 1, "amount": amount, "gasVolume": volume, "kind": "load",
		"load": m{"type": 2, "keyIndex": 1, "keyVersion": 0, "algId": 0, "balance": 0, "onlineSeq": seq, "random": upperHex(l.Random[:]), "mac1": upperHex(m1[:])},
	}
}

func (k *kiosk) l1(trans, challenge string, seq int) m {
	return k.loadBody(trans, "L1", challenge, 5000, 1800, seq)
}

// entry is the record a card keeps of a load authorised by answer a.
func (k *kiosk) entry(a m, amount, seq int) LogEntry {
	l := a["load"].(m)
	return LogEntry{Seq: seq, Amount: int64(amount), Terminal: k.terminal, Date: l["hostDate"].(string), Time: l["hostTime"].(string)}
}

func blankImage(count int) []byte {
	img := make([]byte, 256)
	copy(img, "SIMULATED METER MAKER")
	DefaultLayout().Count.put(img, int64(count))
	return img
}

func (k *kiosk) imgCard(img []byte) m {
	k.t.Helper()
	return k.must("3010", nil, m{"deviceId": k.device, "orgCode": "SU0105", "terminalNo": k.terminal, "cardType": "SLE4442", "cardNo": memNo, "balance": 0, "cardData": upperHex(img)})
}

func (k *kiosk) imgBody(trans, orderNo, challenge string, img []byte) m {
	amount, volume := 5000, 1800
	if orderNo == "I2" {
		amount, volume = 7000, 2500
	}
	return m{
		"termTransNo": num(trans), "challenge": challenge, "orderNo": orderNo, "deviceId": k.device, "orgCode": "SU0105",
		"terminalNo": k.terminal, "cardNo": memNo, "cardType": "SLE4442", "loadMode": 1, "amount": amount, "gasVolume": volume, "kind": "image",
		"image": m{"cardData": upperHex(img), "count": DefaultLayout().Count.get(img)},
	}
}

// apply writes an image answer onto a card's content.
func apply(t *testing.T, img []byte, a m) []byte {
	t.Helper()
	out := append([]byte{}, img...)
	for _, w := range a["image"].(m)["writes"].([]any) {
		data, err := hex.DecodeString(w.(m)["data"].(string))
		if err != nil || w.(m)["zone"] != "main" {
			t.Fatalf("write %v", w)
		}
		copy(out[int(w.(m)["offset"].(float64)):], data)
	}
	return out
}

func (k *kiosk) reportBody(trans, orderNo string, rev, result int, evidence string, more m) m {
	b := m{
		"termTransNo": num(trans), "rev": rev, "orderNo": orderNo, "deviceId": k.device, "orgCode": "SU0105", "terminalNo": k.terminal,
		"cardNo": purseNo, "kind": "load", "amount": 5000, "gasVolume": 1800, "result": result, "evidence": evidence, "noAttempt": "N", "offlineSeconds": 0,
	}
	if orderNo[0] == 'I' {
		b["cardNo"], b["kind"] = memNo, "image"
	}
	if orderNo[1] == '2' {
		b["amount"], b["gasVolume"] = 7000, 2500
	}
	for f, v := range more {
		b[f] = v
	}
	return b
}

// report sends 6002 and returns the state, or the refusal's code.
func (k *kiosk) report(trans, orderNo string, rev, result int, evidence string, more m) string {
	k.t.Helper()
	a, err := k.try("6002", nil, k.reportBody(trans, orderNo, rev, result, evidence, more))
	if c := k.code(a, err); c != "" {
		return c
	}
	if a["termTransNo"] != num(trans) || a["orderNo"] != orderNo || a["rev"] != float64(rev) {
		k.t.Fatalf("report answered for another: %v", a)
	}
	return a["state"].(string)
}

func (k *kiosk) reverse(trans, orderNo, reason string) string {
	k.t.Helper()
	a, err := k.try("6003", nil, m{"termTransNo": num(trans), "orderNo": orderNo, "deviceId": k.device, "orgCode": "SU0105", "reason": reason, "time": "20260101000000"})
	if c := k.code(a, err); c != "" {
		return c
	}
	return a["state"].(string)
}

func (k *kiosk) query(trans, orderNo string) m {
	k.t.Helper()
	q := url.Values{}
	if trans != "" {
		q.Set("termTransNo", num(trans))
	}
	if orderNo != "" {
		q.Set("orderNo", orderNo)
	}
	a, err := k.try("6006", q, nil)
	if err != nil {
		k.t.Fatal(err)
	}
	return a
}

func (k *kiosk) authorise(body m) string {
	k.t.Helper()
	a, err := k.try("4006", nil, body)
	return k.code(a, err)
}

func conflicts(p *Platform) string {
	var out []string
	for _, c := range p.Conflicts() {
		no := strings.TrimLeft(c.TransNo, "0")
		if b, err := hex.DecodeString(no); err == nil {
			no = string(b)
		}
		out = append(out, fmt.Sprintf("%d:%s:%s", c.Clause, c.OrderNo, no))
	}
	return strings.Join(out, " ")
}

func wantState(t *testing.T, p *Platform, orderNo, want string) {
	t.Helper()
	if o, ok := p.Order(orderNo); !ok || o.State != want {
		t.Errorf("order %s is %q, want %q (%+v)", orderNo, o.State, want, o)
	}
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
