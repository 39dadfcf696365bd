package protocol

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"vcckiosk/protocol/vcctest"
)

// derivingBase is a base key that derives, as the keystore's does.
type derivingBase struct{ testBase }

func (k derivingBase) Derive(salt []byte, info string, n int) ([]byte, error) {
	return hkdf.Key(sha256.New, []byte(k.key), salt, info, n)
}

// wiretap keeps what travelled.
type wiretap struct {
	next    http.RoundTripper
	path    []string
	sent    []string
	got     []string
	replace func(path string, n int, body string) string
}

func (w *wiretap) RoundTrip(r *http.Request) (*http.Response, error) {
	body := ""
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body = string(b)
		r.Body = io.NopCloser(strings.NewReader(body))
	}
	w.path, w.sent = append(w.path, strings.TrimPrefix(r.URL.Path, "/vcc-openapi")), append(w.sent, body)
	resp, err := w.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	answer := string(b)
	if w.replace != nil {
		answer = w.replace(w.path[len(w.path)-1], len(w.path)-1, answer)
	}
	w.got = append(w.got, answer)
	resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(answer)), int64(len(answer))
	return resp, nil
}

func sealedClient(t *testing.T, o vcctest.Options, change func(*Config)) (*Client, *wiretap, *vcctest.Platform) {
	t.Helper()
	o.Good, o.BaseKey, o.EnterpriseKey, o.GiveKeys, o.Body.Encrypted = true, testKey, enterprise, true, true
	p := vcctest.New(o)
	w := &wiretap{next: p.RoundTripper()}
	c := newTestClient(t, w, func(cfg *Config, d *Deps) {
		cfg.Body.Cipher = "aes-256-gcm"
		d.Key = func() (BaseKey, error) { return derivingBase{testBase{testKey, 1}}, nil }
		if change != nil {
			change(cfg)
		}
	})
	return c, w, p
}

func isEnvelope(s string) bool {
	var v map[string]any
	return json.Unmarshal([]byte(s), &v) == nil && len(v) == 2 && v["cipher"] == "aes-256-gcm" && v["data"] != ""
}

func beat(ctx context.Context, c *Client) error {
	_, err := c.Heartbeat(ctx, HeartbeatRequest{State: "ready", KCV: "A1B2C3", KeyGen: 1, Firmware: "1.0.0"})
	return err
}

func TestBodiesAreSealedInEveryReading(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name   string
		o      vcctest.Options
		change func(*Config)
	}{
		{"with the token", vcctest.Options{}, nil},
		{"with the session key", vcctest.Options{Token: vcctest.TokenOptions{SessionKey: true}}, nil},
		{"with the token though there is a session key", vcctest.Options{Token: vcctest.TokenOptions{SessionKey: true}, Sign: vcctest.SignReading{Password: vcctest.PasswordToken}}, func(c *Config) { c.Sign.Password = "token" }},
		{"with the base key that signs", vcctest.Options{Sign: vcctest.SignReading{Password: vcctest.PasswordBase}}, func(c *Config) { c.Sign.Password = "base" }},
		{"with the base key, always", vcctest.Options{Body: vcctest.BodyOptions{WithBase: true}}, func(c *Config) { c.Body.Key = "base" }},
		{"getToken in plain text", vcctest.Options{Body: vcctest.BodyOptions{PlainToken: true}}, nil},
		{"device mode", vcctest.Options{}, func(c *Config) { c.Auth = AuthDevice }},
		{"signed answers", vcctest.Options{SignAnswers: true}, func(c *Config) { c.Sign.VerifyResponse = "require" }},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			c, w, p := sealedClient(t, x.o, x.change)
			if err := beat(t.Context(), c); err != nil { // a JSON body
				t.Fatal(err)
			}
			if b, ok := p.LastHeartbeat("K0001"); !ok || !strings.Contains(string(b), `"state":"ready"`) {
				t.Errorf("the platform read %s", b)
			}
			if _, err := c.Invoke(t.Context(), "6005", nil); err != nil { // a GET
				t.Errorf("a GET: %v", err)
			}
			p.Evict() // an answer without a session is plain
			if err := beat(t.Context(), c); err != nil {
				t.Errorf("after an eviction: %v", err)
			}
			_, err := c.QueryOrder(t.Context(), QueryOrderRequest{OrderNo: "none"}) // a refusal
			is(t, err, []error{ErrUnknownOrder}, []error{ErrTransport})
			id := p.AddMedia(vcctest.MediaBook{Name: "a.gif", ContentType: "image/gif", Content: []byte(gifFile)})
			if _, err := c.Fetch(t.Context(), id, filepath.Join(t.TempDir(), "a.gif")); err != nil {
				t.Errorf("a file: %v", err)
			}
			_, err = c.Fetch(t.Context(), strings.Repeat("0", 32), filepath.Join(t.TempDir(), "a.gif"))
			is(t, err, []error{ErrBusiness}, []error{ErrTransport})
			if _, err := c.Upload(t.Context(), file(MediaImage, "a.gif", gifFile)); err != nil {
				t.Errorf("an upload: %v", err)
			}
			for i, path := range w.path {
				plain := strings.Contains(w.got[i], `"20001"`) || path == "/media/get" && w.got[i] == gifFile ||
					x.o.Body.PlainToken && strings.HasSuffix(path, "/getToken")
				if isEnvelope(w.got[i]) == plain {
					t.Errorf("%s: answer %.80s", path, w.got[i])
				}
				if w.sent[i] != "" && path != "/media/upload" && !isEnvelope(w.sent[i]) {
					t.Errorf("%s: request %.80s", path, w.sent[i])
				}
			}
		})
	}
}

// 6001 comes before any session: what signs it seals it, and the base key in
// its answer is taken out of the plain text.
func TestARegistrationIsSealedToo(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{enterprise, "onetimecode12345"} {
		c, w, p := sealedClient(t, vcctest.Options{}, nil)
		p.AddCode("onetimecode12345")
		r, err := c.Register(t.Context(), RegisterRequest{DeviceSN: "SN-1"}, []byte(secret))
		if err != nil || r.DeviceID == "" || len(r.BaseKey) != 32 || string(r.BaseKey) != p.Registrations()[0].BaseKey {
			t.Errorf("%v, %v", r, err)
		}
		if !isEnvelope(w.sent[0]) || !isEnvelope(w.got[0]) {
			t.Errorf("%.60s answered by %.60s", w.sent[0], w.got[0])
		}
	}
}

// What goes wrong with an answer is no answer: for a money call its outcome is
// unknown, and nothing of it is shown.
func TestAnAnswerThatDoesNotOpenIsNoAnswer(t *testing.T) {
	t.Parallel()
	const secret = "SECRETSECRETSECRET"
	flip := func(s string, at int) string {
		var v struct{ Cipher, Data string }
		if json.Unmarshal([]byte(s), &v) != nil {
			return s
		}
		b, _ := base64.StdEncoding.DecodeString(v.Data)
		b[(at+len(b))%len(b)] ^= 1
		return fmt.Sprintf(`{"cipher":%q,"data":%q}`, v.Cipher, base64.StdEncoding.EncodeToString(b))
	}
	cut := func(s string, n int) string {
		var v struct{ Cipher, Data string }
		_ = json.Unmarshal([]byte(s), &v)
		b, _ := base64.StdEncoding.DecodeString(v.Data)
		return fmt.Sprintf(`{"cipher":%q,"data":%q}`, v.Cipher, base64.StdEncoding.EncodeToString(b[:min(n, len(b))]))
	}
	for _, x := range []struct {
		name string
		edit func(body, earlier string) string
	}{
		{"tag wrong", func(b, _ string) string { return flip(b, -1) }},
		{"text altered", func(b, _ string) string { return flip(b, 14) }},
		{"nonce altered", func(b, _ string) string { return flip(b, 0) }},
		{"truncated", func(b, _ string) string { return cut(b, 40) }},
		{"shorter than a tag", func(b, _ string) string { return cut(b, 12) }},
		{"empty data", func(b, _ string) string { return cut(b, 0) }},
		{"the answer to another message", func(_, earlier string) string { return earlier }},
		{"our own request", func(b, _ string) string { return "REQUEST" }},
		{"another cipher", func(b, _ string) string { return strings.Replace(b, "aes-256-gcm", "sm4-gcm", 1) }},
		{"not base64", func(string, string) string { return `{"cipher":"aes-256-gcm","data":"` + secret + `!"}` }},
		{"broken lines in base64", func(b, _ string) string { return strings.Replace(b, `"data":"`, `"data":"\n`, 1) }},
		{"plain", func(string, string) string { return `{"state":"S","resultMsg":"` + secret + `"}` }},
		{"plain and empty", func(string, string) string { return `{}` }},
		{"a plain refusal", func(string, string) string { return `{"resultCode":"46004","resultMsg":"` + secret + `"}` }},
		{"half an envelope", func(b, _ string) string { return b[:len(b)/2] }},
		{"an envelope with more in it", func(b, _ string) string { return strings.Replace(b, "{", `{"state":"S",`, 1) }},
	} {
		c, w, _ := sealedClient(t, vcctest.Options{}, nil)
		if err := beat(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Report(t.Context(), reportRequest()); !errors.Is(err, ErrBusiness) { // no such order: an answer all the same
			t.Fatal(err)
		}
		earlier := w.got[len(w.got)-1]
		w.replace = func(_ string, n int, body string) string {
			if body = x.edit(body, earlier); body == "REQUEST" {
				return w.sent[n]
			}
			return body
		}
		_, err := c.Report(t.Context(), reportRequest())
		is(t, err, []error{ErrTransport}, []error{ErrBusiness, ErrNotSent, ErrAuth, ErrPermanent})
		if err == nil || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), testKey) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
}

func TestAPlatformThatEncryptsIsNotReadWithoutACipher(t *testing.T) {
	t.Parallel()
	// It refuses plain bodies; and what it answers is not taken for success.
	c, w, _ := sealedClient(t, vcctest.Options{Body: vcctest.BodyOptions{PlainToken: true}}, func(cfg *Config) { cfg.Body.Cipher = "none" })
	_, err := c.Invoke(t.Context(), "6005", nil)
	is(t, err, []error{ErrTransport}, []error{ErrNotSent})
	if err == nil || !strings.Contains(err.Error(), "no cipher is configured") {
		t.Errorf("%v", err)
	}
	if !isEnvelope(w.got[len(w.got)-1]) {
		t.Errorf("answered %s", w.got[len(w.got)-1])
	}
}

func TestTheKeyOfABodyNeedsAKeyThatDerives(t *testing.T) {
	t.Parallel()
	c := newTestClient(t, roundTrip(func(*http.Request) (*http.Response, error) {
		t.Error("something was sent")
		return nil, io.EOF
	}), func(cfg *Config, _ *Deps) { cfg.Body.Cipher = "aes-256-gcm" })
	is(t, c.Token(t.Context()), []error{ErrPermanent, ErrNotSent}, []error{ErrTransport})
}

// The derived key and the bound text of docs/bodies.md, byte for byte.
func TestTheEnvelopeIsTheDocumentedOne(t *testing.T) {
	t.Parallel()
	c, w, _ := sealedClient(t, vcctest.Options{}, nil)
	synctest.Test(t, func(t *testing.T) {
		if err := beat(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	})
	key, err := hkdf.Key(sha256.New, []byte(testKey), nil, "vcckiosk/body-key/1 aes-256-gcm", 32)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := suites()[0].aead(key)
	if err != nil {
		t.Fatal(err)
	}
	var v struct{ Cipher, Data string }
	if err := json.Unmarshal([]byte(w.got[0]), &v); err != nil {
		t.Fatal(err)
	}
	box, err := base64.StdEncoding.DecodeString(v.Data)
	if err != nil {
		t.Fatal(err)
	}
	// The first request of a bubble is made at its beginning, with serial 1.
	aad := "vcckiosk/body/1\naes-256-gcm\nanswer\nGET\n/oauth2/getToken\n10022000010108000000000000000001"
	plain, err := aead.Open(nil, box[:12], box[12:], []byte(aad))
	if err != nil || !strings.Contains(string(plain), `"token":`) {
		t.Errorf("%s, %v", plain, err)
	}
}

// The worked example of docs/bodies.md, both directions.
func TestTheWorkedExampleOfASealedBody(t *testing.T) {
	t.Parallel()
	const password, plain = "1Z5M011v4P5joM9VqMr0", `{"orderNo":"4006202608010001"}`
	page, err := os.ReadFile("../docs/bodies.md")
	if err != nil {
		t.Fatal(err)
	}
	key, err := hkdf.Key(sha256.New, []byte(password), nil, bodyKeyLabel+"aes-256-gcm", 32)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := suites()[0].aead(key)
	if err != nil {
		t.Fatal(err)
	}
	s := &sealer{suite: suites()[0], aead: aead, place: "POST\n/iccard/reportResult\n60022017080109300400000000000005"}
	nonce := []byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b")
	for _, direction := range []string{"request", "answer"} {
		data := base64.StdEncoding.EncodeToString(aead.Seal(nonce, nonce, []byte(plain), s.aad(direction)))
		for _, want := range []string{fmt.Sprintf("%x", key), data, plain, password} {
			if !strings.Contains(string(page), want) {
				t.Errorf("%s: docs/bodies.md lacks %s", direction, want)
			}
		}
		if direction == "answer" {
			if got, sealed, why := s.open([]byte(`{"cipher":"aes-256-gcm","data":"` + data + `"}`)); string(got) != plain || !sealed || why != "" {
				t.Errorf("%s %v %s", got, sealed, why)
			}
		}
	}
}
