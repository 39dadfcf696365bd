package vcctest

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"vcckiosk/protocol/push"
	"vcckiosk/protocol/signed"
)

func commandKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

// beat sends a heartbeat with these acks and returns the commands of the answer.
func (k *kiosk) beat(acks ...m) (out []m) {
	k.t.Helper()
	body := m{"deviceId": k.device, "state": "serving"}
	if len(acks) > 0 {
		body["acks"] = acks
	}
	a, err := k.try("6004", nil, body)
	if c := k.code(a, err); c != "" {
		k.t.Fatalf("heartbeat refused: %s", c)
	}
	for _, c := range a["commands"].([]any) {
		out = append(out, c.(map[string]any))
	}
	return out
}

// TestCommandsOpenWithTheKiosksCode: both ends were written from the page of
// the format, neither from the other.
func TestCommandsOpenWithTheKiosksCode(t *testing.T) {
	key, next := commandKey(1), commandKey(2)
	world(t, Options{Good: true, CommandKey: key}, func(p *Platform, a, _ *kiosk) {
		public, err := signed.ParseKey(CommandKeyHex(key))
		if err != nil {
			t.Fatal(err)
		}
		ring, err := signed.NewRing(public)
		if err != nil {
			t.Fatal(err)
		}
		id, err := p.Command(Order{DeviceID: a.device, Cmd: "disable", Args: map[string]string{"reason": "年检"}, Next: next.Public().(ed25519.PublicKey)})
		if err != nil {
			t.Fatal(err)
		}
		cs := a.beat()
		if len(cs) != 1 || cs[0]["cmdId"] != id || len(cs[0]) != 2 {
			t.Fatalf("given %v", cs)
		}
		raw, err := signed.FromText(cs[0]["signed"].(string))
		if err != nil {
			t.Fatal(err)
		}
		e, err := ring.Open(raw, signed.Want{Purpose: "command", Device: a.device, Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if string(e.Payload) != `{"cmdId":"C1","cmd":"disable","args":{"reason":"年检"}}` || e.Counter != 1 || e.Next != signed.ID(next.Public().(ed25519.PublicKey)) ||
			time.Until(e.Expires).Abs() > time.Hour+time.Second {
			t.Errorf("opened %+v: %s", e, e.Payload)
		}
		again, err := signed.Seal(signed.Envelope{Purpose: e.Purpose, Device: e.Device, Counter: e.Counter, Expires: e.Expires, Next: e.Next, Payload: e.Payload}, key)
		if err != nil || !bytes.Equal(again, raw) {
			t.Errorf("sealed by the kiosk's code: %x, by ours: %x, %v", again, raw, err)
		}
	})
}

func TestCommandsAreGivenUntilTheyAreAcknowledged(t *testing.T) {
	world(t, Options{Good: true, CommandKey: commandKey(1)}, func(p *Platform, a, b *kiosk) {
		one, err := p.Command(Order{DeviceID: a.device, Cmd: "keyCheck"})
		if err != nil {
			t.Fatal(err)
		}
		two, err := p.Command(Order{DeviceID: a.device, Cmd: "reload"})
		if err != nil {
			t.Fatal(err)
		}
		p.QueueCommand(a.device, "X1", "")
		want(t, "commands of another kiosk", len(b.beat()), 0)
		want(t, "commands", len(a.beat()), 3)
		want(t, "commands again", len(a.beat()), 3)
		left := a.beat(m{"cmdId": one, "result": "ok", "kcv": "1A2B3C"}, m{"cmdId": "X1", "result": "refused", "reason": "unsigned"})
		want(t, "commands left", len(left), 1)
		want(t, "which", left[0]["cmdId"], any(two))
		if w := p.Waiting(a.device); !slices.Equal(w, []string{two}) {
			t.Errorf("waiting: %v", w)
		}
		acks := p.Acks()
		want(t, "acknowledgements", len(acks), 2)
		want(t, "check value", acks[0].KCV, "1A2B3C")
		want(t, "reason", acks[1].Reason, "unsigned")
		r, err := a.try("6004", nil, m{"deviceId": a.device, "acks": []m{{"cmdId": one, "result": "done"}}})
		want(t, "an acknowledgement of another form", a.code(r, err), codeParameter)
		if _, err := New(Options{Good: true}).Command(Order{DeviceID: "K", Cmd: "reload"}); err == nil {
			t.Error("signed without a key")
		}
	})
}

func (k *kiosk) register(key, serial string, more m) (m, string) {
	k.t.Helper()
	body := m{"orgCode": "SU0105", "deviceSn": serial, "appId": "APP"}
	for n, v := range more {
		body[n] = v
	}
	raw, err := json.Marshal(body)
	if err != nil {
		k.t.Fatal(err)
	}
	k.token, k.password = "", key
	status, out, err := k.raw("6001", "POST", "/device/register", url.Values{}, raw)
	if err != nil || status != 200 {
		k.t.Fatalf("%d, %v", status, err)
	}
	var a m
	if err := json.Unmarshal(out, &a); err != nil {
		k.t.Fatal(err)
	}
	return a, k.code(a, nil)
}

func TestRegistration(t *testing.T) {
	world(t, Options{Good: true, EnterpriseKey: "ENTERPRISE", GiveKeys: true, Serials: []string{"S1", "S2"}}, func(p *Platform, a, _ *kiosk) {
		p.AddCode("12345678")
		first, code := a.register("ENTERPRISE", "S1", m{"model": "Q"})
		want(t, "by the enterprise's key", code, "")
		again, _ := a.register("12345678", "S1", nil)
		if first["deviceId"] != again["deviceId"] || first["baseKey"] != again["baseKey"] || len(first["baseKey"].(string)) != 32 {
			t.Errorf("first %v, again %v", first, again)
		}
		for _, x := range []struct{ what, key, serial, want string }{
			{"by nobody", "ELSE", "S2", codePassword},
			{"by a used code", "12345678", "S2", codeCodeUsed},
			{"by the same code once more", "12345678", "S1", ""},
			{"an unknown number", "ENTERPRISE", "S3", codeSerial},
			{"a number of another form", "ENTERPRISE", "S 1", codeParameter},
		} {
			_, code := a.register(x.key, x.serial, nil)
			want(t, x.what, code, x.want)
		}
		_, code = a.register("ENTERPRISE", "S1", m{"extra": 1})
		want(t, "with an unknown field", code, codeParameter)
		rs := p.Registrations()
		want(t, "registrations", len(rs), 1)
		want(t, "asked", rs[0].Times, 3)
		// The key it was given opens a session.
		p.mu.Lock()
		at := p.account("", rs[0].DeviceID)
		want(t, "account", p.accounts[at].BaseKey, first["baseKey"].(string))
		p.mu.Unlock()
	})
}

func TestNoDate(t *testing.T) {
	t.Parallel()
	for _, no := range []bool{false, true} {
		p := New(Options{Good: true, BaseKey: baseKey, NoDate: no})
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/device/time", nil))
		want(t, "no Date header", w.Header().Get("Date") == "", no)
	}
}

// TestPushesReachTheKiosksCode: a handshake and an event between two programs
// written apart.
func TestPushesReachTheKiosksCode(t *testing.T) {
	t.Parallel()
	token, err := push.NewToken("of-the-tests")
	if err != nil {
		t.Fatal(err)
	}
	var got []push.Event
	h, err := push.New(push.Config{Token: token, OrgCode: "SU0105", Pull: func(e push.Event) { got = append(got, e) }})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	defer s.Close()
	good := Pusher{URL: s.URL, Token: "of-the-tests"}
	if err := good.Subscribe(t.Context()); err != nil {
		t.Error(err)
	}
	if err := (Pusher{URL: s.URL, Token: "of-others"}).Subscribe(t.Context()); err == nil || strings.Contains(err.Error(), "of-others") {
		t.Errorf("with another token: %v", err)
	}
	for _, e := range []Event{{Code: "7003", ID: "E1", OrgCode: "SU0105", Datas: []map[string]any{{"subsCode": "1400"}}}, {Code: "7003", ID: "E1", OrgCode: "SU0105"}} {
		if err := good.Push(t.Context(), e); err != nil {
			t.Error(err)
		}
	}
	if err := good.Push(t.Context(), Event{Code: "7003", ID: "E2", OrgCode: "OTHER1"}); err == nil {
		t.Error("an event of another organisation is taken")
	}
	if len(got) != 1 || got[0].Code != "7003" || got[0].Rows != 1 {
		t.Errorf("pulled for %+v", got)
	}
}
