package keystore

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"fmt"
	"testing"
)

const sampleKey = "0123456789abcdefghijABCDEFGHIJkl"

func TestDigests(t *testing.T) {
	t.Parallel()
	key := []byte(sampleKey)
	msg := bytes.Repeat([]byte("message "), 30)
	for n := range 200 {
		if got, want := sign(msg[:n], key), fmt.Sprintf("%X", md5.Sum(append(bytes.Clone(msg[:n]), key...))); got != want {
			t.Fatalf("sign of %d bytes: %s, want %s", n, got, want)
		}
		m := hmac.New(sha256.New, key)
		m.Write(msg[:n])
		if got := hmacSHA256(key, msg[:n/3], msg[n/3:n]); !hmac.Equal(got[:], m.Sum(nil)) {
			t.Fatalf("hmac of %d bytes: %x", n, got)
		}
		if n == 0 {
			continue
		}
		want, err := hkdf.Key(sha256.New, key, msg[:n], string(msg[:n]), n)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, n)
		hkdfSHA256(got, key, msg[:n], string(msg[:n]))
		if !bytes.Equal(got, want) {
			t.Fatalf("hkdf of %d bytes: %x, want %x", n, got, want)
		}
	}
}

func TestKCVOfKnownKey(t *testing.T) {
	t.Parallel()
	m := hmac.New(sha256.New, []byte(sampleKey))
	m.Write([]byte("kiosk-kcv/1"))
	if got, want := KCV([]byte(sampleKey)), fmt.Sprintf("%X", m.Sum(nil)[:3]); got != want {
		t.Fatalf("KCV = %s, want %s", got, want)
	}
}
