package protocol

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func tlsServer(t *testing.T, h http.Handler, change func(*tls.Config)) (s *httptest.Server, caFile, pin string) {
	t.Helper()
	s = httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{}
	if change != nil {
		change(s.TLS)
	}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(s.Close)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	cert := s.Certificate()
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return s, caFile, base64.StdEncoding.EncodeToString(sum[:])
}

// handler puts a platform on a socket.
func (p *platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resp, err := p.RoundTrip(r)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	for k, v := range resp.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

func TestTLSTrustsTheConfiguredRootsAndPinsOnly(t *testing.T) {
	t.Parallel()
	p := settledPlatform()
	s, ca, pin := tlsServer(t, p, nil)
	other := base64.StdEncoding.EncodeToString(make([]byte, 32))
	valid := time.Now()
	for _, x := range []struct {
		name string
		c    TLSConfig
		ok   bool
	}{
		{"private root", TLSConfig{CAFile: ca}, true},
		{"private root and its pin", TLSConfig{CAFile: ca, Pins: []string{other, pin}}, true},
		{"private root and another pin", TLSConfig{CAFile: ca, Pins: []string{other}}, false},
		{"roots of the system", TLSConfig{}, false},
		{"roots of the system and a pin", TLSConfig{Pins: []string{pin}}, false},
		{"built long after the certificate's end", TLSConfig{CAFile: ca, BuildTime: valid.AddDate(80, 0, 0)}, false},
		{"confirmed time after the certificate's end", TLSConfig{CAFile: ca, LastGood: func() time.Time { return valid.AddDate(80, 0, 0) }}, false},
		{"confirmed time not believed", TLSConfig{CAFile: ca, BuildTime: valid.AddDate(-1, 0, 0), LastGood: func() time.Time { return valid.AddDate(80, 0, 0) }}, true},
		{"a clock far beyond the build", TLSConfig{CAFile: ca, BuildTime: time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC)}, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := newTestClient(t, nil, func(cfg *Config, d *Deps) {
				cfg.BaseURL, cfg.TLS, d.Transport = s.URL+"/vcc-openapi", x.c, nil
			})
			for range 2 { // the second may resume the session
				err := askOrder(t.Context(), c)
				if (err == nil) != x.ok {
					t.Fatalf("%v", err)
				}
				if !x.ok {
					is(t, err, []error{ErrTransport, ErrNotSent}, []error{ErrAuth, ErrBusiness})
				}
				if tr, ok := c.transport.(*http.Transport); ok {
					tr.CloseIdleConnections()
				}
			}
		})
	}
}

func TestTLSOlderThan12IsRefused(t *testing.T) {
	t.Parallel()
	s, ca, _ := tlsServer(t, settledPlatform(), func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS11, tls.VersionTLS11 })
	c := newTestClient(t, nil, func(cfg *Config, d *Deps) {
		cfg.BaseURL, cfg.TLS, d.Transport = s.URL, TLSConfig{CAFile: ca}, nil
	})
	is(t, askOrder(t.Context(), c), []error{ErrTransport, ErrNotSent}, nil)
}

func TestTransportRefusesBadSettings(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []TLSConfig{{CAFile: "/nonexistent/ca.pem"}, {CAFile: empty}, {Pins: []string{"short"}}, {Pins: []string{"AAAA"}}} {
		if _, err := NewTransport(c); err == nil {
			t.Errorf("%+v accepted", c)
		}
	}
}

func TestTheClockIsClampedFromBothSides(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // the clock shows 2000-01-01
		now := time.Now()
		day := 24 * time.Hour
		at := func(d time.Duration) func() time.Time { return func() time.Time { return now.Add(d) } }
		for _, x := range []struct {
			name string
			c    TLSConfig
			want time.Duration
		}{
			{"nothing known", TLSConfig{}, 0},
			{"built earlier", TLSConfig{BuildTime: now.Add(-day)}, 0},
			{"built later", TLSConfig{BuildTime: now.Add(day)}, day},
			{"confirmed later", TLSConfig{BuildTime: now.Add(day), LastGood: at(3 * day)}, 3 * day},
			{"confirmed earlier than built", TLSConfig{BuildTime: now.Add(day), LastGood: at(-day)}, day},
			{"eleven years past the build", TLSConfig{BuildTime: now.AddDate(-11, 0, 0), LastGood: at(-day * 3653)}, -day * 3653},
			{"confirmed time eleven years past the build too", TLSConfig{BuildTime: now.AddDate(-11, 0, 0), LastGood: at(-day)}, now.AddDate(-11, 0, 0).Sub(now)},
		} {
			if got := x.c.clock().Sub(now); got != x.want {
				t.Errorf("%s: %v, want %v", x.name, got, x.want)
			}
		}
	})
}

func TestWhatNeverLeftIsToldFromWhatMayHave(t *testing.T) {
	t.Parallel()
	refused := httptest.NewServer(nil)
	refused.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	plain := httptest.NewServer(settledPlatform())
	t.Cleanup(plain.Close)
	p := settledPlatform()
	p.hook = func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == "/iccard/queryOrder" {
			return nil, errors.New("hang up")
		}
		return nil, nil
	}
	hangup := httptest.NewServer(p)
	t.Cleanup(hangup.Close)
	for _, x := range []struct {
		name, url string
		sent      bool
	}{
		{"connection refused", refused.URL, false},
		{"no such host", "https://platform.invalid", false},
		{"no TLS", "https" + plain.URL[len("http"):], false},
		{"handshake never answered", "https://" + silent.Addr().String(), false},
		{"hung up after the request", hangup.URL, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			c := newTestClient(t, nil, func(cfg *Config, d *Deps) {
				cfg.BaseURL, d.Transport, cfg.TimeoutLive = x.url, nil, 200*time.Millisecond
			})
			// A failed getToken is always "not sent" for the call it was for: look at
			// getToken itself unless the call is what fails.
			err := c.Token(t.Context())
			if x.sent {
				err = askOrder(t.Context(), c)
			}
			if !errors.Is(err, ErrTransport) || errors.Is(err, ErrNotSent) == x.sent {
				t.Errorf("%v: not sent %v", err, errors.Is(err, ErrNotSent))
			}
		})
	}
}
