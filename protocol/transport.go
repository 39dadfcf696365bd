package protocol

import (
	"errors"
	"net/http"
	"time"
)

// TLSConfig says whom the client trusts.
type TLSConfig struct {
	// CAFile holds the only trusted roots, PEM; the system's when empty.
	CAFile string
	// Pins are base64 SHA-256 digests of SubjectPublicKeyInfo; one of them must
	// be in a verified chain. Keep one of a key that is not in use yet.
	Pins []string
	// BuildTime is the least time the clock is believed to show.
	BuildTime time.Time
	// LastGood, if set, returns the last time an authenticated answer confirmed.
	LastGood func() time.Time
}

// NewTransport builds the transport.
func NewTransport(c TLSConfig) (*http.Transport, error) { return nil, errors.New("todo") }
