package protocol

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// TLSConfig says whom the client trusts. The zero value trusts the system's
// roots and the system's clock.
type TLSConfig struct {
	// CAFile holds the only trusted roots, PEM; the system's when empty.
	CAFile string
	// CertFile and KeyFile are this kiosk's certificate and key, PEM, for a
	// platform that asks for one; both or neither. Nobody but the owner may use
	// the key file. They are read when the transport is made.
	CertFile, KeyFile string
	// Pins are base64 SHA-256 digests of SubjectPublicKeyInfo; one of them must
	// be in a verified chain. Keep one of a key that is not in use yet.
	Pins []string
	// BuildTime is the least time the clock is believed to show, for a machine
	// that starts in 1970. A clock more than ten years past it is not believed
	// either.
	BuildTime time.Time
	// LastGood, if set, returns the last time an authenticated answer confirmed,
	// kept across restarts; zero when there is none.
	LastGood func() time.Time
}

// ErrPin: the chain verifies, and holds none of the pinned keys.
var ErrPin = errors.New("certificate is none of the pinned ones")

// NewTransport builds the transport: TLS 1.2 or newer, private roots and pins
// if configured, keep-alive, no proxy from the environment, no compression,
// bounded times for connecting and for the answer's header. It follows no
// redirect: the client uses it as a RoundTripper.
func NewTransport(c TLSConfig) (*http.Transport, error) {
	t := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		Time:               c.clock,
		ClientSessionCache: tls.NewLRUClientSessionCache(8),
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read ca_file %s: no certificate in it", c.CAFile)
		}
	}
	if c.CertFile != "" || c.KeyFile != "" {
		cert, err := c.keyPair()
		if err != nil {
			return nil, err
		}
		t.Certificates = []tls.Certificate{cert}
	}
	if len(c.Pins) > 0 {
		pins := map[[sha256.Size]byte]bool{}
		for i, p := range c.Pins {
			raw, err := base64.StdEncoding.DecodeString(p)
			if err != nil || len(raw) != sha256.Size {
				return nil, fmt.Errorf("pin %d: want base64 of 32 bytes", i+1)
			}
			pins[[sha256.Size]byte(raw)] = true
		}
		// VerifyConnection and not VerifyPeerCertificate: only the former runs
		// for a resumed session as well. VerifiedChains and not the peer's list:
		// a chain that was not verified must not satisfy a pin.
		t.VerifyConnection = func(s tls.ConnectionState) error {
			for _, chain := range s.VerifiedChains {
				for _, cert := range chain {
					if pins[sha256.Sum256(cert.RawSubjectPublicKeyInfo)] {
						return nil
					}
				}
			}
			return ErrPin
		}
	}
	dialer := &net.Dialer{Timeout: 8 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        t,
		TLSHandshakeTimeout:    8 * time.Second,
		ResponseHeaderTimeout:  30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		MaxConnsPerHost:        4,
		MaxIdleConnsPerHost:    2,
		IdleConnTimeout:        90 * time.Second,
		DisableCompression:     true, // a bounded body is bounded as it is sent
	}, nil
}

func (c TLSConfig) keyPair() (tls.Certificate, error) {
	if c.CertFile == "" || c.KeyFile == "" {
		return tls.Certificate{}, errors.New("cert_file and key_file belong together")
	}
	st, err := os.Stat(c.KeyFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read key_file: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return tls.Certificate{}, fmt.Errorf("read key_file: %s has mode %04o, others may use it; run chmod 0600 on it",
			c.KeyFile, st.Mode().Perm())
	}
	cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read cert_file %s and key_file %s: %w", c.CertFile, c.KeyFile, err)
	}
	return cert, nil
}

// clock is the time certificates are checked against: never before the build
// and never before the last confirmed time. A clock more than ten years past
// the build is as wrong as one in 1970.
func (c TLSConfig) clock() time.Time {
	now := time.Now()
	var floor, ceiling time.Time
	if !c.BuildTime.IsZero() {
		floor, ceiling = c.BuildTime, c.BuildTime.AddDate(10, 0, 0)
	}
	insane := func(t time.Time) bool { return !ceiling.IsZero() && t.After(ceiling) }
	if c.LastGood != nil {
		if g := c.LastGood(); g.After(floor) && !insane(g) {
			floor = g
		}
	}
	if now.Before(floor) || insane(now) {
		return floor
	}
	return now
}
