package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestCallsGoOutAndComeBackWhole(t *testing.T) {
	t.Parallel()
	p := newPlatform()
	c := newTestClient(t, p)
	ctx := t.Context()

	p.says("/iccard/getCardInfo", `{"cardNo":"`+testCard+`","subsCode":"1400123456","name":"张**","displayAddr":"木岭","meterCode":"M1","meterType":"1",
		"cardState":"A","canCharge":"Y","remaining":0,"unit":"m3","pendingOrders":[{"orderNo":"o1","amount":100,"gasVolume":20,"payTime":"20260801080000","source":"wx"}],"challenge":"0011223344556677"}`)
	info, err := c.CardInfo(ctx, CardInfoRequest{TerminalNo: "000000000001", CardType: "CPU", CardNo: testCard, Log: []LogEntry{{Seq: 1, Amount: 5, Terminal: "000000000001", Date: "20260801", Time: "080000"}}})
	if err != nil || info.Challenge != "0011223344556677" || len(info.PendingOrders) != 1 || info.PendingOrders[0].Amount != 100 || info.Name != "张**" {
		t.Errorf("3010: %+v, %v", info, err)
	}
	if b := p.bodies["/iccard/getCardInfo"]; !strings.Contains(b, `"deviceId":"K0001","orgCode":"WJ0105"`) {
		t.Errorf("own names are not filled in: %s", b)
	}

	p.says("/iccard/recharge", text(t, loadAnswer()))
	a, err := c.Authorize(ctx, loadRequest())
	if err != nil || a.Load == nil || a.Load.MAC2 != "0A0B0C0D" || a.AuthExpire != 300 || a.Receipt["addr"] != "x" {
		t.Errorf("4006 load: %+v, %v", a, err)
	}
	p.says("/iccard/recharge", text(t, imageAnswer()))
	a, err = c.Authorize(ctx, imageRequest())
	if err != nil || a.Image == nil || a.Image.Count != 6 || len(a.Image.Writes) != 2 || a.Image.Commit != (ImageField{"main", 80, 2}) || a.Image.PSCOld != "FFFFFF" {
		t.Errorf("4006 image: %+v, %v", a, err)
	}
	script := loadAnswer()
	delete(script, "load")
	script["kind"] = "script"
	script["script"] = map[string]any{
		"resume": "never", "steps": []any{map[string]any{"apdu": "00A40000", "expect": "9000", "changing": true}},
		"check": []any{map[string]any{"apdu": "00B00000", "written": "01", "notWritten": "00"}},
	}
	p.says("/iccard/recharge", text(t, script))
	r := loadRequest()
	r.Kind, r.Load = KindScript, nil
	if a, err = c.Authorize(ctx, r); err != nil || a.Script == nil || !a.Script.Steps[0].Changing {
		t.Errorf("4006 script: %+v, %v", a, err)
	}

	p.says("/iccard/reportResult", `{"termTransNo":"`+testTrans+`","orderNo":"`+testOrder+`","rev":2,"state":"S","duplicate":"N"}`)
	if got, err := c.Report(ctx, reportRequest()); err != nil || got.State != StateSettled || got.Rev != 2 {
		t.Errorf("6002: %+v, %v", got, err)
	}
	var sent map[string]any
	if err := json.Unmarshal([]byte(p.bodies["/iccard/reportResult"]), &sent); err != nil || sent["result"] != 0.0 || sent["termTransNo"] != testTrans || sent["logRecord"] == nil {
		t.Errorf("6002 sent %v, %v", sent, err)
	}

	p.says("/iccard/reverse", `{"termTransNo":"`+testTrans+`","orderNo":"`+testOrder+`","state":"R","resultCode":0}`)
	if got, err := c.Reverse(ctx, ReverseRequest{TransNo: testTrans, OrderNo: testOrder, Reason: ReasonCancelled, Time: "20260801093001"}); err != nil || got.State != StateGivenBack {
		t.Errorf("6003: %+v, %v", got, err)
	}

	p.says("/iccard/queryPrice", `{"priceVersion":3,"unit":"m3","stepList":[{"priceseq":1,"price":"2.50","lower":0,"upper":300.5}]}`)
	if got, err := c.CardPrice(ctx, "1400123456", "", testCard); err != nil || got.Steps[0] != (PriceStep{"1", "2.50", "0", "300.5"}) {
		t.Errorf("3019: %+v, %v", got, err)
	}

	p.says("/device/heartbeat", `{"timestamp":"20260801093001","commands":[{"cmdId":"c1","signed":"VktFMQ"},{"cmdId":"c2","cmd":"disable"}]}`)
	if got, err := c.Heartbeat(ctx, HeartbeatRequest{State: "ready", KCV: "A1B2C3", KeyGen: 1, Alarms: []string{"order.parked"}}); err != nil || !slices.Equal(got.Commands, []Command{{"c1", "VktFMQ"}, {ID: "c2"}}) {
		t.Errorf("6004: %+v, %v", got, err)
	}
	if p.repeats != 0 || p.gets != 1 {
		t.Errorf("%d sequence numbers repeated, %d sessions opened", p.repeats, p.gets)
	}
}

func TestQueryOrderRepeatsTheAuthorisationWhileOurs(t *testing.T) {
	t.Parallel()
	p := newPlatform()
	c := newTestClient(t, p)
	part := `"load":{"hostDate":"20260801","hostTime":"093001","mac2":"0A0B0C0D"}`
	head := `{"orderNo":"` + testOrder + `","state":"A","holder":"` + testTrans + `","amount":10000,"gasVolume":4000,"count":0,"authExpire":250,`
	for name, body := range map[string]string{
		"beside the state": head + `"cardNo":"` + testCard + `",` + part + `}`,
		"in an object":     head + `"authorization":{"termTransNo":"` + testTrans + `","orderNo":"` + testOrder + `","cardNo":"` + testCard + `","kind":"load","amount":10000,"gasVolume":4000,"authExpire":250,` + part + `}}`,
	} {
		p.says("/iccard/queryOrder", body)
		got, err := c.QueryOrder(t.Context(), QueryOrderRequest{TransNo: testTrans})
		if err != nil || got.OrderNo != testOrder || got.State != StateAuthorised || got.Authorization == nil || got.Authorization.Load == nil ||
			got.Authorization.Load.MAC2 != "0A0B0C0D" || got.Authorization.AuthExpire != 250 || got.Authorization.CardNo != testCard || got.Authorization.Amount != 10000 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, body := range map[string]string{
		"another order":        `{"orderNo":"other","state":"S"}`,
		"nothing of the order": `{"state":"S"}`,
		"no state":             `{"orderNo":"` + testOrder + `"}`,
		"unknown state":        `{"orderNo":"` + testOrder + `","state":"X"}`,
		"part of two kinds":    head + part + `,"image":{}}`,
		"another amount":       head + `"authorization":{"amount":1,` + part + `}}`,
	} {
		p.says("/iccard/queryOrder", body)
		_, err := c.QueryOrder(t.Context(), QueryOrderRequest{TransNo: testTrans, OrderNo: testOrder})
		if !errors.Is(err, ErrTransport) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.says("/iccard/queryOrder", `{"resultCode":"46001"}`)
	_, err := c.QueryOrder(t.Context(), QueryOrderRequest{OrderNo: testOrder})
	is(t, err, []error{ErrUnknownOrder, ErrBusiness}, []error{ErrTransport, ErrNotSent})
}

func TestAnAuthorisationThatDiffersFromWhatWasAskedIsNoAnswer(t *testing.T) {
	t.Parallel()
	type change struct {
		name  string
		image bool
		path  string // dotted, a number is an index
		value any    // nil deletes
	}
	tests := []change{
		{"another number", false, "termTransNo", strings.Repeat("F", 32)},
		{"no number", false, "termTransNo", nil},
		{"another order", false, "orderNo", "x"},
		{"no order", false, "orderNo", nil},
		{"another card", false, "cardNo", "6501020304050608"},
		{"another kind", false, "kind", "image"},
		{"another amount", false, "amount", 10001},
		{"amount as text", false, "amount", "10000"},
		{"amount as a fraction", false, "amount", 10000.5},
		{"no amount", false, "amount", nil},
		{"another volume", false, "gasVolume", 1},
		{"expired at once", false, "authExpire", 0},
		{"never expires", false, "authExpire", 86401},
		{"no permission", false, "load", nil},
		{"permission of another kind as well", false, "image", map[string]any{}},
		{"short MAC2", false, "load.mac2", "0A0B0C"},
		{"MAC2 not hex", false, "load.mac2", "0A0B0C0G"},
		{"no such date", false, "load.hostDate", "20261301"},
		{"no such time", false, "load.hostTime", "246060"},
		{"date not digits", false, "load.hostDate", "2026080A"},
		{"receipt is a list", false, "receipt", []int{1}},
		{"control character in the receipt", false, "receipt", map[string]any{"a": "\x00"}},
		{"count not newer", true, "image.count", 5},
		{"unknown zone", true, "image.writes.0.zone", "protection"},
		{"negative offset", true, "image.writes.0.offset", -1},
		{"offset beyond the card", true, "image.writes.0.offset", 256},
		{"data beyond the card", true, "image.writes.0.offset", 255},
		{"half a byte", true, "image.writes.0.data", "010"},
		{"no data", true, "image.writes.0.data", ""},
		{"writes overlap", true, "image.writes.0.offset", 79},
		{"no writes", true, "image.writes", []any{}},
		{"no commit field", true, "image.commit", nil},
		{"commit field not written", true, "image.commit.offset", 100},
		{"commit field half written", true, "image.commit.len", 3},
		{"commit field beyond the card", true, "image.commit.offset", 255},
		{"code too long", true, "image.pscOld", "FFFFFFFF"},
		{"check value too short", true, "image.crcAfter", "0506"},
		{"no check value", true, "image.crcBefore", nil},
	}
	p := newPlatform()
	c := newTestClient(t, p)
	for _, x := range tests {
		req, ans := loadRequest(), loadAnswer()
		if x.image {
			req, ans = imageRequest(), imageAnswer()
		}
		put(ans, x.path, x.value)
		p.says("/iccard/recharge", text(t, ans))
		got, err := c.Authorize(t.Context(), req)
		if err == nil {
			t.Errorf("%s: accepted", x.name)
			continue
		}
		is(t, err, []error{ErrTransport}, []error{ErrBusiness, ErrNotSent, ErrAuth, ErrPermanent})
		if !reflect.DeepEqual(got, Authorization{}) {
			t.Errorf("%s: something was returned", x.name)
		}
	}
}

func put(m map[string]any, path string, v any) {
	key, rest, deep := strings.Cut(path, ".")
	if !deep {
		if v == nil {
			delete(m, key)
		} else {
			m[key] = v
		}
		return
	}
	switch in := m[key].(type) {
	case map[string]any:
		put(in, rest, v)
	case []any:
		i, rest, _ := strings.Cut(rest, ".")
		var n int
		_, _ = fmt.Sscan(i, &n)
		put(in[n].(map[string]any), rest, v)
	}
}

func TestOnlyAFullAcknowledgementSettlesAReport(t *testing.T) {
	t.Parallel()
	good := map[string]any{"termTransNo": testTrans, "orderNo": testOrder, "rev": 2, "state": "S"}
	p := newPlatform()
	c := newTestClient(t, p)
	p.says("/iccard/reportResult", text(t, good))
	if _, err := c.Report(t.Context(), reportRequest()); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		name, field string
		value       any
	}{
		{"no number", "termTransNo", nil},
		{"another number", "termTransNo", strings.Repeat("0", 32)},
		{"another order", "orderNo", "x"},
		{"no rev", "rev", nil},
		{"an older rev", "rev", 1},
		{"rev as text", "rev", "2"},
		{"no state", "state", nil},
		{"authorised", "state", "A"},
		{"unknown state", "state", "s"},
		{"empty state", "state", ""},
		{"code 1", "resultCode", "1"},
		{"code 9999", "resultCode", 9999},
		{"code as bool", "resultCode", true},
		{"code empty", "resultCode", ""},
		{"code 00", "resultCode", "00"},
		{"negative code", "resultCode", -1},
	} {
		bad := maps.Clone(good)
		put(bad, x.field, x.value)
		p.says("/iccard/reportResult", text(t, bad))
		_, err := c.Report(t.Context(), reportRequest())
		if err == nil {
			t.Errorf("%s: acknowledged", x.name)
			continue
		}
		is(t, err, []error{ErrTransport}, []error{ErrBusiness, ErrAuth, ErrNotSent})
	}
}

func TestResultCodesFallIntoTheirClasses(t *testing.T) {
	t.Parallel()
	all := []error{ErrTransport, ErrAuth, ErrKeyRefused, ErrBusiness, ErrPermanent, ErrUnknownOrder, ErrHeld, ErrGivenBack, ErrContent, ErrMAC, ErrChallenge, ErrNotSent, ErrNoKey}
	for _, x := range []struct {
		codes string
		want  []error
	}{
		{"1 9999 10001 10010 10027 10035 10053 10056 19999", []error{ErrTransport}},
		{"10031 10045", []error{ErrPermanent}},
		{"30001 30007", []error{ErrPermanent, ErrBusiness}},
		{"20001 20002 30009 30010 40058", []error{ErrAuth}},
		{"20000 20009 20031 20040 40162 46006 46007 46008 99999", []error{ErrBusiness}},
		{"46001", []error{ErrBusiness, ErrUnknownOrder}},
		{"46002", []error{ErrBusiness, ErrContent}},
		{"46003", []error{ErrBusiness, ErrHeld}},
		{"46004", []error{ErrBusiness, ErrGivenBack}},
		{"46005", []error{ErrBusiness, ErrMAC}},
		{"46009", []error{ErrBusiness, ErrChallenge}},
	} {
		for _, code := range strings.Fields(x.codes) {
			p := newPlatform()
			c := newTestClient(t, p)
			p.says("/iccard/recharge", `{"resultCode":`+code+`,"resultMsg":"text"}`)
			_, err := c.Authorize(t.Context(), loadRequest())
			var not []error
			for _, e := range all {
				if !containsErr(x.want, e) {
					not = append(not, e)
				}
			}
			is(t, err, x.want, not)
			if e, ok := errors.AsType[*CodeError](err); !ok || e.Code != code || e.Interface != "4006" || e.Msg != "text" {
				t.Errorf("%s: %#v", code, err)
			}
		}
	}
}

func containsErr(list []error, e error) bool {
	for _, x := range list {
		if x == e { //nolint:errorlint // sentinels themselves
			return true
		}
	}
	return false
}

func TestAQueryTakesTheSuccessAreaAsSuccess(t *testing.T) {
	t.Parallel()
	p := newPlatform()
	c := newTestClient(t, p)
	p.says("/iccard/getCardInfo", `{"resultCode":"17","cardNo":"`+testCard+`"}`)
	if _, err := c.CardInfo(t.Context(), CardInfoRequest{TerminalNo: "000000000001", CardType: "CPU", CardNo: testCard}); err != nil {
		t.Error(err)
	}
	p.says("/iccard/queryOrder", `{"resultCode":"17","orderNo":"`+testOrder+`","state":"S"}`)
	if _, err := c.QueryOrder(t.Context(), QueryOrderRequest{OrderNo: testOrder}); !errors.Is(err, ErrTransport) {
		t.Errorf("6006 is a money call: %v", err)
	}
}
