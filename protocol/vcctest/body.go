package vcctest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
)

// The platform's end of encrypted bodies, from docs/bodies.md: an envelope
// {"cipher","data"} instead of the body; data is base64 of 12 bytes nonce,
// cipher text, 16 bytes tag.

const bodyCipher = "aes-256-gcm"

type sealedBody struct {
	Cipher string `json:"cipher"`
	Data   string `json:"data"`
}

// gcm is the cipher under a password.
func gcm(password string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(password), nil, "vcckiosk/body-key/1 "+bodyCipher, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// bound is what a body is bound to: the call and its direction.
func (q *request) bound(direction string) []byte {
	return []byte("vcckiosk/body/1\naes-256-gcm\n" + direction + "\n" + q.method + "\n" + q.path + "\n" + q.query.Get("seq"))
}

// unseal decrypts a request's body before its sign is looked at.
func (p *Platform) unseal(q *request, password string) *refusal {
	if !p.b.o.Body.Encrypted || len(q.body) == 0 || q.file() {
		return nil
	}
	var in sealedBody
	if r := decode(q.body, &in); r != nil || in.Cipher != bodyCipher {
		return refuse(codeBody, "body is not encrypted")
	}
	box, err := base64.StdEncoding.DecodeString(in.Data)
	if err != nil || len(box) < 28 {
		return refuse(codeBody, "body cannot be decrypted")
	}
	aead, err := gcm(password)
	if err != nil {
		return refuse(codeBody, "body cannot be decrypted")
	}
	plain, err := aead.Open(nil, box[:12], box[12:], q.bound("request"))
	if err != nil {
		return refuse(codeBody, "body cannot be decrypted")
	}
	q.body = plain
	return nil
}

// unsealFirst decrypts a registration, whose password is the enterprise key or
// one of the codes: the one that opens it.
func (p *Platform) unsealFirst(q *request) *refusal {
	r := p.unseal(q, p.b.o.EnterpriseKey)
	if q.seal = p.b.o.EnterpriseKey; r == nil {
		return nil
	}
	for code := range p.registry.codes {
		if q.seal = code; p.unseal(q, code) == nil {
			return nil
		}
	}
	q.seal = ""
	return r
}

// sealed encrypts an answer for a caller whose password is known.
func (p *Platform) sealed(q *request, body []byte, password string) []byte {
	o := p.b.o.Body
	opening := q.code == "1001" || q.code == "1002"
	if !o.Encrypted || password == "" || opening && o.PlainToken {
		return body
	}
	aead, err := gcm(password)
	if err != nil {
		return body // HKDF of 32 bytes does not fail
	}
	nonce := make([]byte, 12)
	for i := range nonce {
		nonce[i] = byte(p.b.rng.Uint32())
	}
	box := aead.Seal(nonce, nonce, body, q.bound("answer"))
	out, err := json.Marshal(sealedBody{bodyCipher, base64.StdEncoding.EncodeToString(box)})
	if err != nil {
		return body // two texts marshal
	}
	return out
}
