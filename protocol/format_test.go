package protocol

import (
	"errors"
	"strings"
	"testing"

	"vcckiosk/protocol/sign"
)

func TestAValueAgainstItsFormatIsNotSent(t *testing.T) {
	t.Parallel()
	p := newPlatform()
	c := newTestClient(t, p)
	for _, x := range []struct {
		field  string
		change func(*AuthorizeRequest)
	}{
		{"termTransNo", func(r *AuthorizeRequest) { r.TransNo = strings.ToLower(r.TransNo) }},
		{"termTransNo", func(r *AuthorizeRequest) { r.TransNo = "" }},
		{"challenge", func(r *AuthorizeRequest) { r.Challenge = "0011 " }},
		{"orderNo", func(r *AuthorizeRequest) { r.OrderNo = "1&amount=2" }},
		{"deviceId", func(r *AuthorizeRequest) { r.DeviceID = "设备" }},
		{"orgCode", func(r *AuthorizeRequest) { r.OrgCode = "wj0105" }},
		{"terminalNo", func(r *AuthorizeRequest) { r.TerminalNo = "1" }},
		{"cardNo", func(r *AuthorizeRequest) { r.CardNo = strings.Repeat("1", 33) }},
		{"subsCode", func(r *AuthorizeRequest) { r.SubsCode = "a\x00" }},
		{"cardType", func(r *AuthorizeRequest) { r.CardType = "" }},
		{"loadMode", func(r *AuthorizeRequest) { r.LoadMode = 3 }},
		{"amount", func(r *AuthorizeRequest) { r.Amount = -1 }},
		{"gasVolume", func(r *AuthorizeRequest) { r.GasVolume = maxVolume + 1 }},
		{"kind", func(r *AuthorizeRequest) { r.Kind = "gift" }},
		{"kind", func(r *AuthorizeRequest) { r.Load = nil }},
		{"load.random", func(r *AuthorizeRequest) { r.Load.Random = "0102030G" }},
		{"load.mac1", func(r *AuthorizeRequest) { r.Load.MAC1 = "" }},
		{"load.onlineSeq", func(r *AuthorizeRequest) { r.Load.OnlineSeq = 65536 }},
		{"load.keyIndex", func(r *AuthorizeRequest) { r.Load.KeyIndex = 256 }},
		{"payTime", func(r *AuthorizeRequest) { r.PayTime = "2026-08-01" }},
	} {
		r := loadRequest()
		l := *r.Load
		r.Load = &l
		x.change(&r)
		_, err := c.Authorize(t.Context(), r)
		is(t, err, []error{ErrNotSent, ErrPermanent}, []error{ErrTransport, ErrBusiness})
		if e, ok := errors.AsType[*FieldError](err); !ok || e.Field != x.field || e.Interface != "4006" || !strings.Contains(err.Error(), x.field) {
			t.Errorf("%s: %v", x.field, err)
		}
	}
	if _, err := c.CardPrice(t.Context(), "a b", "", testCard); !errors.Is(err, ErrNotSent) {
		t.Errorf("a query with a blank was sent: %v", err)
	}
	if _, err := c.QueryOrder(t.Context(), QueryOrderRequest{}); !errors.Is(err, ErrNotSent) {
		t.Errorf("a query for nothing was sent: %v", err)
	}
	if _, err := c.Heartbeat(t.Context(), HeartbeatRequest{State: "ready", Alarms: []string{"ok", "not ok"}}); !errors.Is(err, ErrNotSent) {
		t.Errorf("a bad entry of a list was sent: %v", err)
	}
	if len(p.requests) != 0 {
		t.Errorf("%d requests left", len(p.requests))
	}
}

// A result must not stay in the kiosk for the sake of a remark.
func TestARemarkIsMadeToFit(t *testing.T) {
	t.Parallel()
	p := newPlatform()
	p.says("/iccard/reportResult", `{"termTransNo":"`+testTrans+`","rev":2,"state":"S"}`)
	c := newTestClient(t, p)
	r := reportRequest()
	r.FailReason = "卡\u202e\x00 \xff" + strings.Repeat("长", 300)
	r.FailCode = "6A 83/卡"
	r.Firmware = "dev (1.2) " + strings.Repeat("x", 80)
	if _, err := c.Report(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	sent := p.bodies["/iccard/reportResult"]
	for _, want := range []string{`"failCode":"6A_83__"`, `"failReason":"卡    长`, `"firmware":"dev__1.2__x`} {
		if !strings.Contains(sent, want) {
			t.Errorf("no %s in %s", want, sent)
		}
	}
}

func TestAFieldWithoutARuleIsNotSent(t *testing.T) {
	t.Parallel()
	for _, v := range []any{
		struct {
			X string `json:"nobodyKnows"`
		}{"a"},
		struct {
			X int `json:"nobodyKnows"`
		}{1},
		struct {
			X int `json:"cardNo"`
		}{1},
		struct {
			X float64 `json:"amount"`
		}{1},
	} {
		if _, err := body("4006", v); !errors.Is(err, ErrNotSent) {
			t.Errorf("%+v: %v", v, err)
		}
	}
}

// No two fields may differ by letter case only: then both readings of the sort
// order sign alike, for every field this program knows.
func TestBothSortOrdersSignEveryKnownFieldAlike(t *testing.T) {
	t.Parallel()
	sets := [][]string{
		{"appId", "seq"},
		{"channelId", "deviceId", "seq"},
		{"subsCode", "orgCode", "cardNo", "seq", "token"},
		{"termTransNo", "orderNo", "seq", "token"},
		{"areaCode", "orgCode", "lastTimestamp", "timestamp", "seq", "token"},
		{"subsCode", "name", "addrCode", "fullAddr", "tel", "phone", "mobile", "orgCode", "pageIndex", "pageSize", "seq", "token"},
		{"userCode", "userType", "seq", "token"},
		{"type", "seq", "token"},
		{"mediaId", "seq", "token"},
		{"expireTime", "resultCode", "resultMsg", "timestamp", "token", "sessionKey"},
		{"termTransNo", "orderNo", "rev", "state", "duplicate", "resultCode", "timestamp"},
	}
	for _, set := range sets {
		params := map[string]string{}
		for _, k := range set {
			params[k] = "v"
		}
		a, _ := sign.Canonical(params, nil, sign.Options{})
		b, _ := sign.Canonical(params, nil, sign.Options{Sort: sign.FoldOrder})
		if string(a) != string(b) {
			t.Errorf("%v: %s and %s", set, a, b)
		}
	}
	lower := map[string]string{}
	for k := range formats {
		l := strings.ToLower(k)
		if other, dup := lower[l]; dup {
			t.Errorf("%s and %s differ by letter case only", k, other)
		}
		lower[l] = k
	}
}

func TestCatalogueIsCompleteAndCanBeReplaced(t *testing.T) {
	t.Parallel()
	all, err := override((*dialect)(nil).table(), nil, &Envelope{})
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []string{codeDeviceToken, codeToken, codeCardInfo, codeCardPrice, codeAuthorize, codeRegister, codeReport, codeReverse, codeHeartbeat, codeTime, codeQueryOrder} {
		if !all[code].Kiosk || all[code].Path == "" {
			t.Errorf("%s: %+v", code, all[code])
		}
	}
	p := newPlatform()
	p.says("/real/report", `{"termTransNo":"`+testTrans+`","rev":2,"state":"P"}`)
	c := newTestClient(t, p, func(cfg *Config, _ *Deps) {
		cfg.Endpoints = map[string]Endpoint{"6002": {Code: "4010", Path: "/real/report"}}
	})
	if _, err := c.Report(t.Context(), reportRequest()); err != nil {
		t.Error(err)
	}
	last := p.requests[len(p.requests)-1]
	if s := last.URL.Query().Get("seq"); !strings.HasPrefix(s, "4010") || len(s) != 32 {
		t.Errorf("seq %s", s)
	}
}

func TestBadConfigurationIsNamed(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		want   string
		change func(*Config)
	}{
		{"base_url", func(c *Config) { c.BaseURL = "" }},
		{"https", func(c *Config) { c.BaseURL = "http://platform.example/x" }},
		{"https", func(c *Config) { c.BaseURL = "http://127.0.0.1.example/x" }},
		{"base_url", func(c *Config) { c.BaseURL = "ftp://platform.example" }},
		{"base_url", func(c *Config) { c.BaseURL = "https://u:p@platform.example" }},
		{"base_url", func(c *Config) { c.BaseURL = "https://platform.example/?a=b" }},
		{"base_url", func(c *Config) { c.BaseURL = "https://%zz" }},
		{"auth", func(c *Config) { c.Auth = "other" }},
		{"appId", func(c *Config) { c.AppID = "" }},
		{"channelId", func(c *Config) { c.Auth, c.ChannelID = AuthDevice, "a b" }},
		{"deviceId", func(c *Config) { c.DeviceID = "" }},
		{"orgCode", func(c *Config) { c.OrgCode = "x" }},
		{"sign.sort", func(c *Config) { c.Sign.Sort = "random" }},
		{"sign.password", func(c *Config) { c.Sign.Password = "none" }},
		{"body.cipher", func(c *Config) { c.Body.Cipher = "sm4-gcm" }},
		{"body.key", func(c *Config) { c.Body.Key = "token" }},
		{"sign.verify_response", func(c *Config) { c.Sign.VerifyResponse = "maybe" }},
		{"seq.code_width", func(c *Config) { c.Seq.CodeWidth = 6 }},
		{"seq.serial_width", func(c *Config) { c.Seq.SerialWidth = 15 }},
		{"seq.code_mode", func(c *Config) { c.Seq.CodeMode = "fixed:12345" }},
		{"seq.partition", func(c *Config) { c.Seq.Partition = 10000 }},
		{"negative", func(c *Config) { c.TimeoutLive = -1 }},
		{`"9999"`, func(c *Config) { c.Endpoints = map[string]Endpoint{"9999": {Path: "/x"}} }},
		{"7001", func(c *Config) { c.Endpoints = map[string]Endpoint{"7001": {Path: "/x"}} }},
		{"not a path", func(c *Config) { c.Endpoints = map[string]Endpoint{"6002": {Path: "x?y"}} }},
		{"not a path", func(c *Config) { c.Endpoints = map[string]Endpoint{"6002": {Path: "/a/../b"}} }},
		{"share the path", func(c *Config) { c.Endpoints = map[string]Endpoint{"6002": {Path: "/iccard/reverse"}} }},
		{"method", func(c *Config) { c.Endpoints = map[string]Endpoint{"6002": {Method: "GET"}} }},
		{"digits", func(c *Config) { c.Endpoints = map[string]Endpoint{"6002": {Code: "60x2"}} }},
		{"pin 1", func(c *Config) { c.TLS.Pins = []string{"x"} }},
	} {
		cfg := testConfig()
		x.change(&cfg)
		_, err := NewClient(cfg, Deps{Key: func() (BaseKey, error) { return testBase{}, nil }, Seq: &counter{}})
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v", x.want, err)
		}
	}
	for _, u := range []string{"http://127.0.0.1:8080/vcc-openapi/", "http://localhost", "http://[::1]:9"} {
		cfg := testConfig()
		cfg.BaseURL = u
		if _, err := cfg.validate(); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
}
