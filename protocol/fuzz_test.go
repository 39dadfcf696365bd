package protocol

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// FuzzAnswer feeds every call one body. Nothing may panic, and what is accepted
// must be what was asked.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(text(f, loadAnswer())))
	f.Add([]byte(text(f, imageAnswer())))
	f.Add([]byte(`{"termTransNo":"` + testTrans + `","orderNo":"` + testOrder + `","rev":2,"state":"S","duplicate":"N"}`))
	f.Add([]byte(`{"resultCode":"46003","resultMsg":"\u0000"}`))
	f.Add([]byte(`{"orderNo":"` + testOrder + `","state":"A","holder":"` + testTrans + `","authorization":{"script":{"steps":[{}],"check":[]}}}`))
	f.Add([]byte("<html>"))
	f.Add([]byte(`[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p := newPlatform()
		p.hook = func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "getToken") {
				return nil, nil
			}
			return respond(r, 200, string(raw)), nil
		}
		c := newTestClient(t, p)
		ctx := t.Context()
		for _, r := range []AuthorizeRequest{loadRequest(), imageRequest()} {
			if a, err := c.Authorize(ctx, r); err == nil && (a.TransNo != r.TransNo || a.OrderNo != r.OrderNo || a.Amount != r.Amount ||
				a.Kind != r.Kind || a.AuthExpire < 1 || (a.Load == nil) == (a.Image == nil)) {
				t.Errorf("accepted %+v", a)
			}
			p.token = "" // a rejected token must not end the other calls
			c.DropToken()
		}
		if a, err := c.Report(ctx, reportRequest()); err == nil && (a.Rev != 2 || a.TransNo != testTrans || !strings.Contains("SRP", a.State)) {
			t.Errorf("accepted %+v", a)
		}
		_, _ = c.QueryOrder(ctx, QueryOrderRequest{TransNo: testTrans})
		_, _ = c.CardInfo(ctx, CardInfoRequest{TerminalNo: "000000000001", CardType: "CPU", CardNo: testCard})
		_, _ = c.Heartbeat(ctx, HeartbeatRequest{State: "ready"})
		if v, why := parseAnswer(raw); why == "" {
			if !json.Valid([]byte(strings.TrimPrefix(string(raw), "\ufeff"))) {
				t.Error("accepted what is not JSON")
			}
			v.scalars("sign")
		}
	})
}

func FuzzExpireTime(f *testing.F) {
	for _, s := range []string{"7200", "1486488177", "1486488177000", "-1", "", "1e3", "0x10", "9223372036854775807", "NaN"} {
		f.Add(s)
	}
	now := time.Unix(1_800_000_000, 0)
	f.Fuzz(func(t *testing.T, s string) {
		life, ok := parseLife(s, now)
		if life < 0 || life > maxLife || !ok && life != 0 {
			t.Errorf("%q: %v, %v", s, life, ok)
		}
		if at := renewAfter(life, 30*time.Second, 0.5); at < 30*time.Second || at > maxLife {
			t.Errorf("%q: renewed after %v", s, at)
		}
	})
}
