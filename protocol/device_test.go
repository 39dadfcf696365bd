package protocol

import (
	"bytes"
	"crypto/md5"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

const (
	enterprise = "E1n2t3e4r5p6r7i8s9e0K1e2y3"
	givenKey   = "Z9y8X7w6V5u4T3s2R1q0P9o8N7m6L5k4"
	givenToken = "r1e2g3i4s5t6e7r8T9o0k1e2n3"
)

func fullRegistration() RegisterRequest {
	return RegisterRequest{
		DeviceSN: "SN-1", IMEI: "860000000000001", ICCID: "89860000000000000001", MSISDN: "+8613800000000", MAC: "02:00:00:00:00:01", Model: "QC-3",
		Firmware: "1.0.0", CardTypes: []string{"CPU", "SLE4442"}, Lng: "120.58", Lat: "31.3", Address: "木渎镇 营业厅",
	}
}

// registering is a platform that answers 6001 with body and checks its sign by
// the document's rule.
func registering(t *testing.T, answer string, change ...func(*Config, *Deps)) (*Client, *string) {
	t.Helper()
	p := newPlatform()
	sent := new(string)
	p.hook = func(r *http.Request) (*http.Response, error) {
		if r.URL.Path != "/vcc-openapi/device/register" {
			return nil, nil
		}
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		*sent = string(b)
		q := r.URL.Query()
		if len(q) != 2 || q.Get("sign") != fmt.Sprintf("%X", md5.Sum([]byte("seq"+q.Get("seq")+string(b)+enterprise))) {
			return respond(r, 200, `{"resultCode":"20002","resultMsg":"sign"}`), nil
		}
		return respond(r, 200, answer), nil
	}
	return newTestClient(t, p, change...), sent
}

func TestRegister(t *testing.T) {
	t.Parallel()
	c, sent := registering(t, `{"deviceId":"QC0007","baseKey":"`+givenKey+`","registerToken":"`+givenToken+`","createTime":"20260801093001"}`)
	got, err := c.Register(t.Context(), fullRegistration(), []byte(enterprise))
	if err != nil || got.DeviceID != "QC0007" || string(got.BaseKey) != givenKey || string(got.Token) != givenToken || got.CreateTime != "20260801093001" {
		t.Fatalf("%v, %v", got, err)
	}
	want := `{"orgCode":"WJ0105","channelId":"C01","appId":"6A5B0E0F1C","deviceSn":"SN-1","imei":"860000000000001","iccid":"89860000000000000001","msisdn":"+8613800000000",` +
		`"mac":"02:00:00:00:00:01","model":"QC-3","firmware":"1.0.0","cardTypes":["CPU","SLE4442"],"lng":"120.58","lat":"31.3","address":"木渎镇 营业厅"}`
	if *sent != want {
		t.Errorf("sent\n%s, want\n%s", *sent, want)
	}
	got.Clear()
	if !bytes.Equal(got.BaseKey, make([]byte, 32)) || bytes.ContainsAny(got.Token, givenToken) {
		t.Error("not cleared")
	}
	if _, err := c.Register(t.Context(), RegisterRequest{DeviceSN: "SN-1"}, []byte(enterprise)); err != nil {
		t.Errorf("with nothing but a number: %v", err)
	}
	if *sent != `{"orgCode":"WJ0105","channelId":"C01","appId":"6A5B0E0F1C","deviceSn":"SN-1"}` {
		t.Errorf("sent %s", *sent)
	}
}

func TestRegisterRefusals(t *testing.T) {
	t.Parallel()
	c, _ := registering(t, `{"deviceId":"QC0007"}`)
	_, err := c.Register(t.Context(), fullRegistration(), []byte("another"))
	if e, is := errors.AsType[*CodeError](err); !is || e.Code != "20002" {
		t.Errorf("wrong key: %v", err)
	}
	is(t, err, []error{ErrAuth}, []error{ErrTransport, ErrNotSent, ErrKeyRefused})
	for name, f := range map[string]func(*RegisterRequest){
		"no number": func(r *RegisterRequest) { r.DeviceSN = "" }, "letters in the IMEI": func(r *RegisterRequest) { r.IMEI = "86000000000000A" },
		"longitude": func(r *RegisterRequest) { r.Lng = "181.0" }, "latitude in words": func(r *RegisterRequest) { r.Lat = "north" },
		"MAC in lower case": func(r *RegisterRequest) { r.MAC = "02:00:00:00:00:ab" }, "telephone": func(r *RegisterRequest) { r.MSISDN = "138-0000" },
		"address with a line end": func(r *RegisterRequest) { r.Address = "a\nb" },
	} {
		r := fullRegistration()
		f(&r)
		if _, err := c.Register(t.Context(), r, []byte(enterprise)); !errors.Is(err, ErrNotSent) || !errors.Is(err, ErrPermanent) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Register(t.Context(), fullRegistration(), nil); !errors.Is(err, ErrNotSent) {
		t.Errorf("nothing to sign with: %v", err)
	}
	for name, body := range map[string]string{
		"empty": `{}`, "no id": `{"baseKey":"` + givenKey + `"}`, "id with a blank": `{"deviceId":"QC 7"}`, "short key": `{"deviceId":"Q","baseKey":"short"}`,
		"long key": `{"deviceId":"Q","baseKey":"` + givenKey + `0"}`, "key with a sign": `{"deviceId":"Q","baseKey":"` + givenKey[:31] + `+"}`,
		"key as a number": `{"deviceId":"Q","baseKey":12345678901234567890123456789012}`, "key with an escape": `{"deviceId":"Q","baseKey":"` + givenKey[:31] + `\u0041"}`,
		"name with an escape": `{"deviceId":"Q","base\u004bey":"` + givenKey + `"}`, "key in a list": `{"deviceId":"Q","baseKey":["` + givenKey + `"]}`,
		"two keys": `{"deviceId":"Q","baseKey":"` + givenKey + `","baseKey":"` + givenKey + `"}`, "cut short": `{"deviceId":"Q","baseKey":"` + givenKey, "HTML": "<html>",
		"much too long": `{"deviceId":"Q","x":"` + strings.Repeat("a", maxMasked) + `"}`,
	} {
		c, _ := registering(t, body)
		got, err := c.Register(t.Context(), fullRegistration(), []byte(enterprise))
		if !errors.Is(err, ErrTransport) || got.DeviceID != "" || got.BaseKey != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if err != nil && strings.Contains(err.Error(), givenKey[:20]) {
			t.Errorf("%s: the key is in the error: %v", name, err)
		}
	}
}

// TestRegisterAnswerIsVerifiedWithTheKeyInIt: the sign of the answer is over
// the key as it came, not over what stands in its place.
func TestRegisterAnswerIsVerifiedWithTheKeyInIt(t *testing.T) {
	t.Parallel()
	plain := "baseKey" + givenKey + "deviceIdQC0007registerToken" + givenToken
	sign := fmt.Sprintf("%X", md5.Sum([]byte(plain+enterprise)))
	body := `{"deviceId":"QC0007","baseKey" :	"` + givenKey + `","registerToken":"` + givenToken + `","sign":"` + sign + `"}`
	require := func(c *Config, _ *Deps) { c.Sign.VerifyResponse = "require" }
	c, _ := registering(t, body, require)
	got, err := c.Register(t.Context(), fullRegistration(), []byte(enterprise))
	if err != nil || string(got.BaseKey) != givenKey {
		t.Errorf("%v, %v", got, err)
	}
	c, _ = registering(t, strings.Replace(body, givenKey, strings.ToUpper(givenKey), 1), require)
	if _, err := c.Register(t.Context(), fullRegistration(), []byte(enterprise)); !errors.Is(err, ErrTransport) {
		t.Errorf("another key under the same sign: %v", err)
	}
}

func TestRegisterUnderOtherNames(t *testing.T) {
	t.Parallel()
	c, _ := registering(t, `{"code":"0","result":{"KEY":"`+givenKey+`","NO":"QC0007"}}`, func(c *Config, _ *Deps) {
		c.Envelope = Envelope{Code: "code", Data: "result"}
		c.Endpoints = map[string]Endpoint{"6001": {Names: map[string]string{"baseKey": "KEY", "deviceId": "NO"}}}
	})
	got, err := c.Register(t.Context(), fullRegistration(), []byte(enterprise))
	if err != nil || string(got.BaseKey) != givenKey || got.DeviceID != "QC0007" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestRegistrationIsNotPrinted(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	c, _ := registering(t, `{"deviceId":"QC0007","baseKey":"`+givenKey+`","registerToken":"`+givenToken+`"}`, func(_ *Config, d *Deps) {
		d.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	got, err := c.Register(t.Context(), fullRegistration(), []byte(enterprise))
	if err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "registered", got)
	said := fmt.Sprintf("%v %+v %#v %s %d", got, got, got, got, got) + log.String()
	for _, s := range []string{givenKey, givenToken, enterprise, "90 57 121", "13800000000"} {
		if strings.Contains(said, s) {
			t.Errorf("%q is printed: %s", s, said)
		}
	}
}

func TestUnregisteredClient(t *testing.T) {
	t.Parallel()
	p := newPlatform()
	bare := func(mode AuthMode) func(*Config, *Deps) {
		return func(c *Config, _ *Deps) { c.DeviceID, c.Auth, c.Registers = "", mode, true }
	}
	if _, err := NewClient(func() Config { c := testConfig(); c.DeviceID = ""; return c }(), Deps{}); err == nil {
		t.Error("made without an id that nobody will give it")
	}
	c := newTestClient(t, p, bare(AuthDevice))
	if err := c.Token(t.Context()); !errors.Is(err, ErrNotSent) || len(p.requests) != 0 {
		t.Errorf("a session without a name: %v", err)
	}
	c = newTestClient(t, p, bare(AuthEnterprise))
	p.says("/device/heartbeat", `{"timestamp":"20260801093001"}`)
	if _, err := c.Heartbeat(t.Context(), HeartbeatRequest{State: "x"}); !errors.Is(err, ErrNotSent) {
		t.Errorf("a heartbeat without a name: %v", err)
	}
	if err := c.SetDeviceID("Q C"); err == nil {
		t.Error("a name with a blank")
	}
	if err := c.SetDeviceID("QC0007"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Heartbeat(t.Context(), HeartbeatRequest{State: "x"}); err != nil || !strings.Contains(p.bodies["/device/heartbeat"], `"deviceId":"QC0007"`) {
		t.Errorf("%v, sent %s", err, p.bodies["/device/heartbeat"])
	}
}

func TestTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform()
		c := newTestClient(t, p)
		ahead := time.Now().Add(26 * time.Hour).Truncate(time.Second)
		for name, s := range map[string]string{
			"stamp": `"` + Stamp(ahead) + `"`, "words": `"` + ahead.In(shanghai()).Format(time.DateTime) + `"`,
			"seconds": fmt.Sprint(ahead.Unix()), "milliseconds": fmt.Sprintf(`"%d"`, ahead.UnixMilli()),
		} {
			p.says("/device/time", `{"timestamp":`+s+`}`)
			at, err := c.Time(t.Context())
			skew, known := c.Skew()
			if err != nil || !at.Equal(ahead) || !known || (skew-26*time.Hour).Abs() > time.Second {
				t.Errorf("%s: %v, skew %v %t, %v", name, at, skew, known, err)
			}
		}
		// The header is what every answer has, and wins.
		p.date = time.Now().Add(time.Hour)
		if _, err := c.Time(t.Context()); err != nil {
			t.Error(err)
		}
		if skew, _ := c.Skew(); (skew - time.Hour).Abs() > time.Second {
			t.Errorf("skew %v", skew)
		}
		p.date = time.Time{}
		for name, s := range map[string]string{
			"missing": `{}`, "words": `{"timestamp":"yesterday"}`, "month 13": `{"timestamp":"20261301000000"}`, "1970": `{"timestamp":0}`,
			"last century": `{"timestamp":"19991231235959"}`, "far": `{"timestamp":"21000101000000"}`, "a list": `{"timestamp":[]}`, "sign": `{"timestamp":"-146648800"}`,
		} {
			p.says("/device/time", s)
			before, _ := c.Skew()
			if at, err := c.Time(t.Context()); !errors.Is(err, ErrTransport) || !at.IsZero() {
				t.Errorf("%s: %v, %v", name, at, err)
			}
			if skew, _ := c.Skew(); skew != before {
				t.Errorf("%s: skew %v", name, skew)
			}
		}
	})
}

func TestHeartbeatFields(t *testing.T) {
	t.Parallel()
	p := newPlatform()
	c := newTestClient(t, p)
	p.says("/device/heartbeat", `{"timestamp":"20260801093001"}`)
	_, err := c.Heartbeat(t.Context(), HeartbeatRequest{
		State: "serving", ReaderState: "cardIn", LastTransTime: "20260801093001", ModemState: &ModemState{CSQ: 21, ICCID: "89860000000000000001"},
		Acks: []CommandAck{{ID: "C1", Result: "ok", KCV: "1A2B3C"}, {ID: "C2", Result: "refused", Reason: "unsigned"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"readerState":"cardIn","lastTransTime":"20260801093001","modemState":{"csq":21,"iccid":"89860000000000000001"}`,
		`"acks":[{"cmdId":"C1","result":"ok","kcv":"1A2B3C"},{"cmdId":"C2","result":"refused","reason":"unsigned"}]`,
	} {
		if b := p.bodies["/device/heartbeat"]; !strings.Contains(b, want) {
			t.Errorf("sent %s", b)
		}
	}
	for name, r := range map[string]HeartbeatRequest{
		"result": {State: "x", Acks: []CommandAck{{ID: "C1", Result: "done"}}}, "id": {State: "x", Acks: []CommandAck{{ID: "C 1", Result: "ok"}}},
		"signal": {State: "x", ModemState: &ModemState{CSQ: 100}}, "time": {State: "x", LastTransTime: "yesterday"},
	} {
		if _, err := c.Heartbeat(t.Context(), r); !errors.Is(err, ErrNotSent) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHostileHeartbeatAnswers: what stands in place of a command.
func TestHostileHeartbeatAnswers(t *testing.T) {
	t.Parallel()
	p := newPlatform()
	c := newTestClient(t, p)
	one := `{"cmdId":"C1","signed":"AAAA"}`
	for name, commands := range map[string]string{
		"too many": "[" + strings.Repeat(one+",", 32) + one + "]", "no list": one, "a list of texts": `["C1"]`, "no id": `[{"signed":"AAAA"}]`,
		"an id with a line end": `[{"cmdId":"C\n1","signed":"AAAA"}]`,
		"an envelope too long":  `[{"cmdId":"C1","signed":"` + strings.Repeat("A", maxCommand+1) + `"}]`, "an envelope as an object": `[{"cmdId":"C1","signed":{}}]`,
	} {
		p.says("/device/heartbeat", `{"timestamp":"20260801093001","commands":`+commands+`}`)
		if got, err := c.Heartbeat(t.Context(), HeartbeatRequest{State: "x"}); !errors.Is(err, ErrTransport) || got.Commands != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestMaskLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	m := &mask{names: []string{"baseKey"}}
	r := request{mask: m}
	raw, err := r.readAll(iotest.OneByteReader(strings.NewReader(`{"a":"baseKey","baseKey":"` + givenKey + `","b":{"baseKey":"` + givenToken + `"}}`)))
	if err != nil || bytes.Contains(raw, []byte(givenKey[:8])) || bytes.Contains(raw, []byte(givenToken[:8])) || !json.Valid(raw) || len(m.taken) != 2 {
		t.Fatalf("%s, %d taken, %v", raw, len(m.taken), err)
	}
	if bytes.Contains(raw[:cap(raw)], []byte(givenKey[:8])) {
		t.Error("a copy lies behind the answer")
	}
	broken := errors.New("broken")
	raw, err = r.readAll(io.MultiReader(strings.NewReader(`{"baseKey":"`+givenKey+`"`), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || raw != nil {
		t.Errorf("%s, %v", raw, err)
	}
	m.clear()
	for _, k := range m.taken {
		if !bytes.Equal(k.value, make([]byte, len(k.value))) {
			t.Error("not cleared")
		}
	}
}

func FuzzMask(f *testing.F) {
	f.Add([]byte(`{"deviceId":"Q","baseKey":"` + givenKey + `"}`))
	f.Add([]byte(`{"a":"\\","baseKey" : "` + givenKey + `","b":[{"baseKey":"` + givenToken + `"}]}`))
	f.Add([]byte(`{"x":"\"baseKey\":\"` + givenKey + `\""}`))
	f.Add([]byte(`"baseKey":"`))
	f.Fuzz(func(t *testing.T, b []byte) {
		was := bytes.Clone(b)
		m := &mask{names: []string{"baseKey"}}
		m.take(b)
		if len(b) != len(was) || json.Valid(b) != json.Valid(was) {
			t.Fatalf("%q became %q", was, b)
		}
		if !json.Valid(was) {
			return
		}
		// Put back, it is what it was; and a decoder sees no plain key.
		restored := m.restored(func(message []byte) string { return string(message) })(b)
		if restored != string(was) {
			t.Errorf("%q restored as %q", was, restored)
		}
		var top map[string]json.RawMessage
		if json.Unmarshal(was, &top) != nil {
			return
		}
		var key string
		if json.Unmarshal(top["baseKey"], &key) != nil || len(key) < minSecret || len(key) > 512 || strings.ContainsFunc(key, func(r rune) bool { return r > 127 || notPlain(byte(r)) }) {
			return
		}
		if bytes.Count(was, []byte(`"baseKey"`)) == 1 && bytes.Contains(was, []byte(`"`+key+`"`)) && len(m.taken) == 0 {
			t.Errorf("%q stays in %q", key, b)
		}
	})
}
