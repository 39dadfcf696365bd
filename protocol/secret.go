package protocol

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"unicode"
)

// secret holds a token or session key. It wraps a pointer, because fmt cannot
// call methods in the unexported fields of another struct: there it prints an
// address.
type secret struct{ p *string }

const redacted = "[redacted]"

func newSecret(s string) secret { return secret{&s} }

// reveal gives the text, for the query and the digest only.
func (s secret) reveal() string {
	if s.p == nil {
		return ""
	}
	return *s.p
}

func (s secret) empty() bool { return s.reveal() == "" }

// Format, LogValue, MarshalText and GobEncode keep the text out of everything
// that prints.
func (s secret) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(redacted)) }
func (s secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (s secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (s secret) GobEncode() ([]byte, error)   { return nil, errors.New("a secret is not encoded") }

// scrub makes the platform's text fit to be kept: no secrets of this session,
// no control characters, at most 256 characters.
func scrub(msg string, secrets ...string) string {
	for _, s := range secrets {
		if s != "" {
			msg = strings.ReplaceAll(msg, s, redacted)
		}
	}
	msg = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, msg)
	if r := []rune(msg); len(r) > 256 {
		msg = string(r[:256])
	}
	return msg
}
