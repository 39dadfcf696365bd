package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// otherKiosk is a platform of the selfservice dialect that checks nothing:
// what it answers by path, what it was told, and in which order.
type otherKiosk struct {
	says   map[string]string // payload, or an error to have instead
	bodies map[string]map[string]any
	order  []string
	query  string // of the last request
}

func (p *otherKiosk) RoundTrip(r *http.Request) (*http.Response, error) {
	path := strings.TrimPrefix(r.URL.Path, "/vcc-openapi/selfservice/")
	p.order, p.query = append(p.order, path), r.URL.RawQuery
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	p.bodies[path] = m
	say := p.says[path]
	switch {
	case say == "lost":
		return nil, errors.New("connection reset")
	case say == "nowhere":
		return nil, fmt.Errorf("nothing left: %w", ErrNotSent)
	case strings.HasPrefix(say, "{"):
		return respond(r, 200, `{"respondState":"SUCCESS","payload":`+say+`}`), nil
	}
	return respond(r, 200, `{"respondState":"`+say+`","respondMsg":"no"}`), nil
}

const (
	calculated = `{"terminalBizSN":"` + testTrans + `","cardNo":"` + testCard + `","buyCost":10000,"buyGas":40.00,"calcNo":"00AA"}`
	paid       = `{"terminalBizSN":"` + testTrans + `","orderNo":"` + testOrder + `","cardNo":"` + testCard + `","buyCost":10000,"buyGas":40,"validSeconds":300`
)

func newOtherKiosk(t *testing.T, change ...func(*Config, *Deps)) (*otherKiosk, *Client) {
	p := &otherKiosk{bodies: map[string]map[string]any{}, says: map[string]string{
		"authenticate": `{"session":"T1","workKey":"W1","validSeconds":7200}`,
		"calculate":    calculated,
		"pay":          paid + `,"purse":{"hostDate":"20260801","hostTime":"093001","mac2":"0A0B0C0D"}}`,
	}}
	all := append([]func(*Config, *Deps){func(c *Config, _ *Deps) { c.Dialect = "selfservice" }}, change...)
	return p, newTestClient(t, p, all...)
}

func TestAuthorisingIsCalculationAndPayment(t *testing.T) {
	t.Parallel()
	p, c := newOtherKiosk(t)
	a, err := c.Authorize(t.Context(), loadRequest())
	if err != nil {
		t.Fatal(err)
	}
	if a.Amount != 10000 || a.GasVolume != 4000 || a.AuthExpire != 300 || a.Kind != KindLoad || a.Load.MAC2 != "0A0B0C0D" {
		t.Errorf("%+v", a)
	}
	if got := strings.Join(p.order, " "); got != "authenticate calculate pay" {
		t.Errorf("called %s", got)
	}
	for _, x := range []struct{ call, field, want string }{
		{"authenticate", "terminalCode", "6A5B0E0F1C"},
		{"calculate", "terminalBizSN", testTrans},
		{"calculate", "entrustUnitNo", "WJ0105"},
		{"calculate", "calcNo", "<nil>"},
		{"calculate", "kind", "<nil>"},
		{"pay", "terminalBizSN", testTrans},
		{"pay", "terminalCode", "K0001"},
		{"pay", "buyGas", "40"},
		{"pay", "buyCost", "10000"},
		{"pay", "calcNo", "00AA"},
		{"pay", "userCode", "1400123456"},
	} {
		if got := fmt.Sprint(p.bodies[x.call][x.field]); got != x.want {
			t.Errorf("%s: %s is %s, want %s", x.call, x.field, got, x.want)
		}
	}
	if !strings.Contains(p.query, "mac=") || !strings.Contains(p.query, "session=T1") || !strings.Contains(p.query, "datagramSN=0103") || strings.Contains(p.query, "sign=") {
		t.Errorf("query %s", p.query)
	}
}

// TestAContentBecomesWrites: what a memory card gets is what differs, the
// commit field last and nowhere else.
func TestAContentBecomesWrites(t *testing.T) {
	t.Parallel()
	p, c := newOtherKiosk(t)
	target := []byte(strings.Repeat("00", 256))
	put := func(at int, hex string) { copy(target[2*at:], hex) }
	put(0x40, "0006")
	put(0x44, "0FA0")
	put(0x48, "AABB")
	image := func(more string) string {
		return paid + `,"data":"` + string(target) + `","dataLength":256,"buyTimes":6,"commitOffset":64,"commitLength":2,` +
			`"crcBefore":"01020304","crcAfter":"05060708","pwOld":"FFFFFF","pwNew":""` + more + `}`
	}
	p.says["pay"] = image("")
	a, err := c.Authorize(t.Context(), imageRequest())
	if err != nil {
		t.Fatal(err)
	}
	want := []ImageWrite{{"main", 0x48, "AABB"}, {"main", 0x44, "0FA0"}, {"main", 0x40, "0006"}}
	if !slices.Equal(a.Image.Writes, want) || a.Image.Count != 6 || a.Image.Commit != (ImageField{"main", 64, 2}) || a.Image.PSCOld != "FFFFFF" {
		t.Errorf("%+v", a.Image)
	}
	if b := p.bodies["pay"]; b["dataLength"] != 256.0 || b["buyTimes"] != 5.0 || b["image"] != nil {
		t.Errorf("sent %v", b)
	}
	for name, answer := range map[string]string{
		"both kinds":            image(`,"purse":{"hostDate":"20260801","hostTime":"093001","mac2":"0A0B0C0D"}`),
		"a shorter content":     strings.Replace(image(""), string(target), string(target[2:]), 1),
		"half a byte":           strings.Replace(image(""), string(target), string(target[1:]), 1),
		"no hex":                strings.Replace(image(""), string(target), "zz"+string(target[2:]), 1),
		"commit beyond":         strings.Replace(image(""), `"commitLength":2`, `"commitLength":193`, 1),
		"no commit field":       strings.Replace(image(""), `"commitOffset":64,`, ``, 1),
		"negative":              strings.Replace(image(""), `"commitOffset":64`, `"commitOffset":-1`, 1),
		"a count that is old":   strings.Replace(image(""), `"buyTimes":6`, `"buyTimes":5`, 1),
		"no checksum":           strings.Replace(image(""), `"crcAfter":"05060708",`, ``, 1),
		"a purse's answer":      paid + `,"purse":{"hostDate":"20260801","hostTime":"093001","mac2":"0A0B0C0D"}}`,
		"another order":         strings.Replace(image(""), testOrder, testOrder+"1", 1),
		"another number":        strings.Replace(image(""), testTrans, strings.ToLower(testTrans)+"1", 1),
		"gas in a third of one": strings.Replace(image(""), `"buyGas":40`, `"buyGas":40.001`, 1),
		"neither":               paid + `}`,
	} {
		p.says["pay"] = answer
		if a, err := c.Authorize(t.Context(), imageRequest()); !errors.Is(err, ErrTransport) || errors.Is(err, ErrNotSent) || a.Image != nil {
			t.Errorf("%s: %+v %v, want outcome unknown", name, a, err)
		}
	}
}

// TestEachStepOfAnAuthorisationHasItsOutcome: nothing is ever called not sent
// once a step has left, and nothing is paid that was not asked for.
func TestEachStepOfAnAuthorisationHasItsOutcome(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name, calculate, pay string
		order                string
		want, not            []error
	}{
		{"calculation does not leave", "nowhere", "", "calculate", []error{ErrNotSent, ErrTransport}, []error{ErrBusiness}},
		{"calculation lost", "lost", "", "calculate", []error{ErrTransport}, []error{ErrNotSent, ErrBusiness}},
		{"calculation refused", "46003", "", "calculate", []error{ErrBusiness, ErrHeld}, []error{ErrTransport, ErrNotSent}},
		{"calculation: unknown error", "ERROR", "", "calculate", []error{ErrTransport}, []error{ErrNotSent, ErrBusiness}},
		{"payment does not leave", calculated, "nowhere", "calculate pay", []error{ErrTransport}, []error{ErrNotSent, ErrBusiness}},
		{"payment lost", calculated, "lost", "calculate pay", []error{ErrTransport}, []error{ErrNotSent, ErrBusiness}},
		{"payment refused", calculated, "46004", "calculate pay", []error{ErrBusiness, ErrGivenBack}, []error{ErrNotSent, ErrTransport}},
		{"payment without a payload", calculated, "SUCCESS", "calculate pay", []error{ErrTransport}, []error{ErrNotSent, ErrBusiness}},
		{"another price", strings.Replace(calculated, "10000", "10001", 1), "", "calculate", []error{ErrTransport}, []error{ErrNotSent, ErrBusiness}},
		{"price as a text", strings.Replace(calculated, "10000", `"10000.0"`, 1), "", "calculate", []error{ErrTransport}, []error{ErrNotSent}},
		{"other gas", strings.Replace(calculated, "40.00", "41", 1), "", "calculate", []error{ErrTransport}, []error{ErrNotSent}},
		{"another card", strings.Replace(calculated, testCard, testCard[1:], 1), "", "calculate", []error{ErrTransport}, []error{ErrNotSent}},
		{"another number", strings.Replace(calculated, testTrans, testTrans[1:]+"0", 1), "", "calculate", []error{ErrTransport}, []error{ErrNotSent}},
		{"no number of the calculation", strings.Replace(calculated, "calcNo", "calcno", 1), "", "calculate", []error{ErrTransport}, []error{ErrNotSent}},
	} {
		p, c := newOtherKiosk(t)
		p.says["calculate"], p.says["pay"] = x.calculate, or(x.pay, p.says["pay"])
		_, err := c.Authorize(t.Context(), loadRequest())
		t.Log(x.name, err)
		is(t, err, x.want, x.not)
		if got := strings.Join(p.order[1:], " "); got != x.order {
			t.Errorf("%s: called %s, want %s", x.name, got, x.order)
		}
	}
}

func TestResultsInWords(t *testing.T) {
	t.Parallel()
	p, c := newOtherKiosk(t)
	p.says["reportWrite"] = `{"terminalBizSN":"` + testTrans + `","rev":2,"state":"S"}`
	for result, want := range map[int]string{ResultWritten: "SUCCESS", ResultNotWritten: "FAIL", ResultUnknown: "UNKNOWN", ResultCodeFailed: "SUCCESS"} {
		r := reportRequest()
		r.Result, r.CardDataAfter = result, "0102"
		if _, err := c.Report(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		b := p.bodies["reportWrite"]
		if b["writeState"] != want || b["result"] != nil || b["rev"] != 2.0 || b["dataAfterWrite"] != "0102" || b["dataLength"] != 2.0 || b["exceptionCause"] != "卡 moved" {
			t.Errorf("result %d: sent %v", result, b)
		}
	}
	p.says["reportWrite"] = `{"terminalBizSN":"` + testTrans + `","rev":1,"state":"S"}`
	if _, err := c.Report(t.Context(), reportRequest()); !errors.Is(err, ErrTransport) {
		t.Errorf("an answer to another revision: %v", err)
	}
	p.says["rollback"] = `{"terminalBizSN":"` + testTrans + `","state":"R"}`
	back := ReverseRequest{TransNo: testTrans, OrderNo: testOrder, Reason: ReasonCardGone, Time: "20260102030405", CardNo: testCard, Amount: 10000, GasVolume: 4000}
	if _, err := c.Reverse(t.Context(), back); err != nil {
		t.Fatal(err)
	}
	if b := p.bodies["rollback"]; b["rollbackMoney"] != 10000.0 || b["buyGas"] != 40.0 || b["cause"] != ReasonCardGone || b["cardNo"] != testCard {
		t.Errorf("sent %v", b)
	}
	p.says["queryOrder"] = `{"terminalBizSN":"` + testTrans + `","orderNo":"` + testOrder + `","state":"A","holder":"` + testTrans + `","buyCost":10000,"buyGas":40.00}`
	st, err := c.QueryOrder(t.Context(), QueryOrderRequest{TransNo: testTrans})
	if err != nil || st.State != StateAuthorised || st.GasVolume != 4000 {
		t.Errorf("%+v %v", st, err)
	}
}

// TestTheDocumentsReversalHasNoMore: a platform of the document refuses fields
// it does not know.
func TestTheDocumentsReversalHasNoMore(t *testing.T) {
	t.Parallel()
	p := newPlatform()
	p.says("/iccard/reverse", `{"termTransNo":"`+testTrans+`","state":"R"}`)
	c := newTestClient(t, p)
	back := ReverseRequest{TransNo: testTrans, OrderNo: testOrder, Reason: ReasonCardGone, Time: "20260102030405", CardNo: testCard, Amount: 1, GasVolume: 1}
	if _, err := c.Reverse(t.Context(), back); err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(p.bodies["/iccard/reverse"]), &m); err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(m)); !slices.Equal(got, []string{"deviceId", "orderNo", "orgCode", "reason", "termTransNo", "time"}) {
		t.Errorf("sent %v", got)
	}
}

func TestConfigurationIsLaidOverADialect(t *testing.T) {
	t.Parallel()
	p, c := newOtherKiosk(t, func(cfg *Config, _ *Deps) {
		cfg.Endpoints = map[string]Endpoint{"4006": {Path: "/selfservice/charge", Names: map[string]string{"amount": "payment"}}}
		cfg.Envelope = Envelope{Codes: map[string]string{"E1": "46003"}, Sign: "digest"}
	})
	p.says["charge"] = strings.Replace(p.says["pay"], "buyCost", "payment", 1)
	if _, err := c.Authorize(t.Context(), loadRequest()); err != nil {
		t.Fatal(err)
	}
	if b := p.bodies["charge"]; b["payment"] != 10000.0 || b["buyGas"] != 40.0 || !strings.Contains(p.query, "digest=") {
		t.Errorf("sent %v with %s", b, p.query)
	}
	p.says["charge"] = "E1"
	if _, err := c.Authorize(t.Context(), loadRequest()); !errors.Is(err, ErrHeld) {
		t.Errorf("%v, want ErrHeld", err)
	}
	p.says["charge"] = "MAC_ERROR"
	if _, err := c.Authorize(t.Context(), loadRequest()); !errors.Is(err, ErrAuth) {
		t.Errorf("%v, want ErrAuth", err)
	}
	if _, err := c.Invoke(t.Context(), codeCalculate, nil); !errors.Is(err, ErrPermanent) {
		t.Errorf("a step was called alone: %v", err)
	}
	for dialect, want := range map[string]string{"klingon": `dialect "klingon"`} {
		cfg := testConfig()
		cfg.Dialect = dialect
		if _, err := NewClient(cfg, Deps{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	cfg := testConfig()
	cfg.Endpoints = map[string]Endpoint{codeCalculate: {Path: "/x"}}
	if _, err := NewClient(cfg, Deps{}); err == nil || !strings.Contains(err.Error(), "no interface") {
		t.Errorf("a step of no dialect: %v", err)
	}
}

// FuzzSelfservicePermission: whatever a payment answers, it is an error or the
// permission that was asked for.
func FuzzSelfservicePermission(f *testing.F) {
	f.Add(paid + `,"data":"00","dataLength":1,"buyTimes":6,"commitOffset":0,"commitLength":1}`)
	f.Add(paid + `,"purse":{"hostDate":"20260801","hostTime":"093001","mac2":"0A0B0C0D"}}`)
	f.Add(paid + `,"data":7,"commitOffset":-1,"commitLength":99999999999999999999}`)
	f.Add(paid + `,"data":{"a":[]},"purse":[],"buyTimes":null}`)
	f.Fuzz(func(t *testing.T, pay string) {
		if !strings.HasPrefix(pay, "{") {
			return
		}
		p := &otherKiosk{bodies: map[string]map[string]any{}, says: map[string]string{
			"authenticate": `{"session":"T1","validSeconds":7200}`, "calculate": calculated, "pay": pay,
		}}
		c := newTestClient(t, p, func(c *Config, _ *Deps) { c.Dialect = "selfservice" })
		r := imageRequest()
		a, err := c.Authorize(t.Context(), r)
		if err != nil {
			return
		}
		last := a.Image.Writes[len(a.Image.Writes)-1]
		if a.TransNo != r.TransNo || a.OrderNo != r.OrderNo || a.Amount != r.Amount || a.Kind != r.Kind || last.Offset != a.Image.Commit.Offset {
			t.Errorf("%s: %+v", pay, a)
		}
	})
}
