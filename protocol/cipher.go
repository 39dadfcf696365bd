package protocol

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
)

// BodyConfig chooses how JSON and form bodies are encrypted, which the
// document promises (2.1, data security) and does not describe: every part of
// it is a reading, told byte for byte in docs/bodies.md. Files, tables and
// uploads are not encrypted: they do not fit into one message. The zero value
// encrypts nothing.
type BodyConfig struct {
	// Cipher is none (default) or aes-256-gcm.
	Cipher string
	// Key is password (default): what signs the call also encrypts it; or base:
	// the base key always. A platform that gives no session key signs with the
	// token, which travels in the address: then only base keeps a body from
	// somebody who can read the address.
	Key string
}

// suite is a way to seal a body. Another one, such as sm4-gcm with a key of 16
// bytes, is another line of suites.
type suite struct {
	name   string
	keyLen int
	aead   func(key []byte) (cipher.AEAD, error)
}

func suites() []suite {
	return []suite{{"aes-256-gcm", 32, func(key []byte) (cipher.AEAD, error) {
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		return cipher.NewGCM(block)
	}}}
}

func (s *settings) checkBody() error {
	names := []string{"none"}
	for _, x := range suites() {
		names = append(names, x.name)
	}
	var err error
	if s.Body.Cipher, err = oneOf("body.cipher", s.Body.Cipher, names...); err != nil {
		return err
	}
	if s.Body.Key, err = oneOf("body.key", s.Body.Key, "password", "base"); err != nil {
		return err
	}
	for _, x := range suites() {
		if x.name == s.Body.Cipher {
			s.suite = &x
		}
	}
	return nil
}

// Labels of what is derived and of what is sealed. They are on the wire of
// both ends: a change is another version.
const (
	bodyKeyLabel = "vcckiosk/body-key/1 "
	bodyLabel    = "vcckiosk/body/1"
)

// deriver is a BaseKey that gives derived keys; keystore.Key is one. The key
// itself never leaves it.
type deriver interface {
	Derive(salt []byte, info string, n int) ([]byte, error)
}

// codeSecret is what 6001 is signed with.
type codeSecret []byte

func (s codeSecret) Derive(salt []byte, info string, n int) ([]byte, error) {
	return hkdf.Key(sha256.New, s, salt, info, n)
}

// sealer seals and opens the bodies of one request: what it has sealed can be
// opened as the body of that message number, method and path only, and an
// answer only as the answer to it.
type sealer struct {
	suite suite
	aead  cipher.AEAD
	place string
}

// sealer makes the sealer of one HTTP request; nil when nothing is encrypted.
func (c *Client) sealer(r request, sess *session, method, seq string) (*sealer, error) {
	if c.suite == nil {
		return nil, nil
	}
	key, err := c.bodyKey(r, sess)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	aead, err := c.suite.aead(key)
	if err != nil {
		return nil, c.fail(r, "body cannot be encrypted", ErrPermanent, ErrNotSent)
	}
	return &sealer{suite: *c.suite, aead: aead, place: method + "\n" + r.path + "\n" + seq}, nil
}

// bodyKey derives the key of a body from the access password.
func (c *Client) bodyKey(r request, sess *session) ([]byte, error) {
	info := bodyKeyLabel + c.suite.name
	base := r.key // without a session
	if sess != nil && (c.Body.Key == "base" || c.Sign.Password == "base") {
		k, err := c.activeKey()
		if err != nil {
			return nil, err
		}
		base, _ = k.(deriver)
		sess = nil
	}
	if sess == nil {
		if base == nil {
			return nil, c.fail(r, "the base key derives no key for the body", ErrPermanent, ErrNotSent)
		}
		key, err := base.Derive(nil, info, c.suite.keyLen)
		if err != nil {
			return nil, c.fail(r, "the base key derives no key for the body", ErrPermanent, ErrNotSent)
		}
		return key, nil
	}
	password := sess.key
	if c.Sign.Password == "token" || password.empty() {
		password = sess.token
		if c.tokenSeals.CompareAndSwap(false, true) {
			c.log.Warn("bodies are encrypted with the token, which travels in the address; body.key = base does better, logged once")
		}
	}
	key, err := hkdf.Key(sha256.New, []byte(password.reveal()), nil, info, c.suite.keyLen)
	if err != nil {
		return nil, c.fail(r, "body cannot be encrypted", ErrPermanent, ErrNotSent)
	}
	return key, nil
}

// aad is what a body is bound to besides its key.
func (s *sealer) aad(direction string) []byte {
	return []byte(bodyLabel + "\n" + s.suite.name + "\n" + direction + "\n" + s.place)
}

// seal returns the envelope that travels instead of a request's body.
func (s *sealer) seal(plain []byte) []byte {
	nonce := make([]byte, s.aead.NonceSize(), s.aead.NonceSize()+len(plain)+s.aead.Overhead())
	_, _ = rand.Read(nonce) // never fails
	box := s.aead.Seal(nonce, nonce, plain, s.aad("request"))
	return fmt.Appendf(nil, `{"cipher":%q,"data":%q}`, s.suite.name, base64.StdEncoding.EncodeToString(box))
}

// open returns the body of an answer that came as an envelope, and whether it
// did. A nil sealer opens none.
func (s *sealer) open(raw []byte) (plain []byte, sealed bool, why string) {
	if !bytes.Contains(raw, []byte(`"cipher"`)) {
		return raw, false, ""
	}
	v, bad := parseAnswer(raw)
	if bad != "" || v.kind != kindObject || len(v.names) != 2 {
		return raw, false, ""
	}
	name, data := v.member("cipher"), v.member("data")
	if name == nil || data == nil || name.kind != kindString || data.kind != kindString {
		return raw, false, ""
	}
	switch {
	case s == nil:
		return nil, true, "answer is encrypted, and no cipher is configured"
	case name.text != s.suite.name:
		return nil, true, "answer is encrypted with another cipher"
	}
	box, err := base64.StdEncoding.Strict().DecodeString(data.text)
	if err != nil || len(box) < s.aead.NonceSize()+s.aead.Overhead() || strings.ContainsAny(data.text, "\r\n") {
		return nil, true, "answer cannot be decrypted"
	}
	nonce, box := box[:s.aead.NonceSize()], box[s.aead.NonceSize():]
	if plain, err = s.aead.Open(nil, nonce, box, s.aad("answer")); err != nil {
		return nil, true, "answer cannot be decrypted"
	}
	return plain, true, ""
}

// opened decrypts an answer before anything else is done with it; the sign is
// over the plain text. Whether a plain answer may be one is result's matter:
// see plainAllowed.
func (c *Client) opened(r request, resp *sent, raw []byte) ([]byte, error) {
	if resp.opened {
		return raw, nil
	}
	plain, sealed, why := resp.seal.open(raw)
	if why != "" {
		return nil, c.bad(r, resp.Response, why)
	}
	if resp.opened = sealed; sealed && r.mask != nil {
		r.mask.take(plain)
	}
	return plain, nil
}

// plainAllowed tells whether an answer may come unencrypted: without a cipher,
// and from getToken, whose answer the document draws "in plain or cipher text",
// or 6001, which come before a session.
func (c *Client) plainAllowed(resp sent, sess *session) bool {
	return resp.opened || c.suite == nil || sess == nil
}
