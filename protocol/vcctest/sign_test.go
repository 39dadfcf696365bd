package vcctest

import (
	"net/url"
	"testing"
)

const (
	goldenBase    = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6"
	goldenToken   = "1Z5M011v4P5joM9VqMr0"
	goldenSession = "S0e1S2s3I4o5N6k7E8y9A0b1C2d3E4f5"
)

func TestSignsOfTheWorkedExamples(t *testing.T) {
	t.Parallel()
	e1 := url.Values{"appId": {"6A5B0E0F1C"}, "seq": {"10022017080109300000000000000001"}}
	e2 := url.Values{"orgCode": {"WJ0105"}, "areaCode": {""}, "seq": {"30052017080109300100000000000002"}, "subsCode": {"1400123456"}, "token": {goldenToken}}
	e3 := url.Values{"fullAddr": {"木渎镇 A&B=1"}, "name": {" 张 三 "}, "orgCode": {"SU0105"}, "pageIndex": {"1"}, "pageSize": {"10"}, "seq": {"30072017080109300200000000000003"}, "token": {goldenToken}}
	e4 := url.Values{"seq": {"30062017080109300300000000000004"}, "token": {goldenToken}, "userType": {"MEMBER"}, "username": {"u"}}
	e5 := url.Values{"seq": {"60022017080109300400000000000005"}, "token": {goldenToken}}
	e5d := url.Values{"seq": {"20012017080109300500000000000006"}, "token": {goldenToken}, "type": {"image"}}
	for _, c := range []struct {
		id    string
		s     SignReading
		query url.Values
		body  string
		pass  string
		want  string
	}{
		{"E1a", SignReading{}, e1, "", goldenBase, "ED446AD8FC4F4A19B369C01D720D1579"},
		{"E1b", SignReading{ExcludeKeys: true}, e1, "", goldenBase, "316A216A0B3DD5187B2500BD7C0413FD"},
		{"E2a", SignReading{}, e2, "", goldenToken, "510F8B1BA92A97835AE48034FA0A6E42"},
		{"E2c", SignReading{}, e2, "", goldenBase, "90EEFCD8B0A2B1A0FE52D541A8BD581A"},
		{"E2e", SignReading{KeepEmpty: true}, e2, "", goldenToken, "C3815CD3DA16CDA9AEF354EC10B7FF68"},
		{"E3a", SignReading{}, e3, "", goldenToken, "263928A30CD6F0FB24F48F030A94DB40"},
		{"E3b", SignReading{Encoded: true}, e3, "", goldenToken, "6092C0BED45DCE368F19AC637E128005"},
		{"E4a", SignReading{}, e4, "", goldenToken, "C5AB309A6BEA782E62357DA0261DA90B"},
		{"E4b", SignReading{FoldOrder: true}, e4, "", goldenToken, "C6635F0E6CB1779D0C8AB829D6A8F8F5"},
		{"E5a", SignReading{}, e5, `{"orderNo":"4006202608010001","writeResult":"0"}`, goldenToken, "DD632D8DAC04B5B48B015EA95CDF7202"},
		{"E5c", SignReading{}, e5, "orderNo=4006202608010001&writeResult=0", goldenToken, "0DE38C43149D4A07DA711477425ECB1E"},
		{"E5d", SignReading{}, e5d, "", goldenToken, "41F9D8BE6B5EEF15EFB1EB1857B4647E"},
	} {
		q := url.Values{"sign": {c.want}}
		for k, v := range c.query {
			q[k] = v
		}
		if got := digest(c.s.Canonical(q, []byte(c.body)), c.pass); got != c.want {
			t.Errorf("%s: sign %s, want %s", c.id, got, c.want)
		}
		if !c.s.signed(q, []byte(c.body), c.pass) {
			t.Errorf("%s: not accepted", c.id)
		}
		if c.s.signed(q, []byte(c.body), c.pass+"x") || c.s.signed(q, append([]byte(c.body), ' '), c.pass) {
			t.Errorf("%s: accepted with another password or body", c.id)
		}
	}
	// An answer: empty resultMsg and the sign itself take no part.
	body := `{"resultCode":"0","resultMsg":"","expireTime":7200,"timestamp":"20170801093001","token":"` + goldenToken + `","datas":[1],"sign":"x"}`
	if got := (SignReading{}).SignAnswer([]byte(body), goldenToken); got != "6057CCA3B89E2513C165A1C13D6F141F" {
		t.Errorf("E6b: %s", got)
	}
	if (SignReading{}).signed(e1, nil, "") {
		t.Error("an empty password was accepted")
	}
}
