package protocol

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clientCert writes a self-signed certificate and its key.
func clientCert(t *testing.T, dir string) (certFile, keyFile string, cert *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "kiosk.pem"), filepath.Join(dir, "kiosk.key")
	for file, b := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: k}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile, cert
}

func TestThePlatformMayAskForACertificate(t *testing.T) {
	t.Parallel()
	certFile, keyFile, cert := clientCert(t, t.TempDir())
	s, ca, _ := tlsServer(t, settledPlatform(), func(c *tls.Config) {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		c.ClientCAs.AddCert(cert)
	})
	for _, x := range []struct {
		name string
		c    TLSConfig
		ok   bool
	}{
		{"with it", TLSConfig{CAFile: ca, CertFile: certFile, KeyFile: keyFile}, true},
		{"without", TLSConfig{CAFile: ca}, false},
	} {
		c := newTestClient(t, nil, func(cfg *Config, d *Deps) {
			cfg.BaseURL, cfg.TLS, d.Transport = s.URL+"/vcc-openapi", x.c, nil
		})
		if err := askOrder(t.Context(), c); (err == nil) != x.ok {
			t.Errorf("%s: %v", x.name, err)
		}
	}
}

func TestABadKeyPairIsToldBeforeTheFirstCall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile, _ := clientCert(t, dir)
	open := filepath.Join(dir, "open.key")
	b, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(open, b, 0o644); err != nil { // what this test is about
		t.Fatal(err)
	}
	for _, x := range []struct{ name, cert, key, want string }{
		{"key without certificate", "", keyFile, "belong together"},
		{"certificate without key", certFile, "", "belong together"},
		{"no such key", certFile, filepath.Join(dir, "none"), "none"},
		{"key that others may read", certFile, open, "mode 0644"},
		{"two certificates", certFile, certFile, "key_file"},
	} {
		_, err := NewTransport(TLSConfig{CertFile: x.cert, KeyFile: x.key})
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want words %q", x.name, err, x.want)
		}
	}
}
