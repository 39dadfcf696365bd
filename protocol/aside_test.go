package protocol

import (
	"encoding/pem"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestACustomerFindsTheOpenConnectionFree: while a heartbeat is under way, a
// live call needs no new connection and so no handshake.
func TestACustomerFindsTheOpenConnectionFree(t *testing.T) {
	t.Parallel()
	var opened atomic.Int64
	arrived, leave := make(chan struct{}), make(chan struct{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := `{"termTransNo":"` + testTrans + `","orderNo":"` + testOrder + `","state":"P"}`
		switch {
		case strings.HasSuffix(r.URL.Path, "/getToken"):
			body = `{"token":"T1","expireTime":7200}`
		case strings.HasSuffix(r.URL.Path, "/device/time"):
			close(arrived)
			<-leave
			body = `{"timestamp":"20260102030405"}`
		}
		_, _ = w.Write([]byte(body))
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	s.StartTLS()
	defer s.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newTestClient(t, nil, func(cfg *Config, _ *Deps) { cfg.BaseURL, cfg.TLS.CAFile = s.URL+"/vcc-openapi", ca })
	ask := func() {
		t.Helper()
		if _, err := c.QueryOrder(t.Context(), QueryOrderRequest{TransNo: testTrans}); err != nil {
			t.Fatal(err)
		}
	}
	ask() // the customer before
	beat := make(chan error, 1)
	go func() {
		_, err := c.Time(Aside(t.Context()))
		beat <- err
	}()
	<-arrived
	before := opened.Load()
	ask()
	if n := opened.Load() - before; n != 0 {
		t.Errorf("%d connections opened for a customer while a heartbeat was under way", n)
	}
	close(leave)
	if err := <-beat; err != nil {
		t.Error(err)
	}
}
