package keystore

import (
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func sample(t *testing.T) *secret {
	t.Helper()
	r, err := newRegion(keyLength)
	must(t, err)
	copy(r.b, sampleKey)
	return newSecret(r, 1)
}

// TestKeysNeverShowThemselves prints keys in every way, also from fields that
// fmt may not call methods on.
func TestKeysNeverShowThemselves(t *testing.T) {
	t.Parallel()
	k, s := &Key{sample(t)}, &Secret{sample(t)}
	type hidden struct {
		key    Key
		ptr    *Key
		secret Secret
		any    any
	}
	type Shown struct {
		Key    Key
		Ptr    *Key
		Secret *Secret
		List   []Key
		Map    map[string]Secret
	}
	h := hidden{*k, k, *s, *k}
	sh := Shown{*k, k, s, []Key{*k}, map[string]Secret{"x": *s}}
	store := &Store{state: state{keys: map[string]entry{recActive: {secret: k.in, info: Info{KCV: k.KCV()}}}}}
	values := []any{k, *k, &k, s, *s, &s, h, &h, []any{h}, sh, &sh, []Key{*k}, map[string]any{"k": k}, store, store.state, k.in, fmt.Errorf("x: %v", k)}

	var out bytes.Buffer
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%d", "%s", "%x", "%X", "%q", "%p", "%T", "%t", "%c", "%U"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		for _, log := range []*slog.Logger{
			slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})),
			slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})),
		} {
			log.Debug("message", "value", v, slog.Group("group", "value", v))
		}
		if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		}
		if b, err := xml.Marshal(v); err == nil {
			out.Write(b)
		}
		_ = gob.NewEncoder(&out).Encode(v)
	}
	text := out.String()
	forms := []string{sampleKey, hex.EncodeToString([]byte(sampleKey)), "48 49 50 51", "0x30, 0x31, 0x32", "MDEyMzQ1Njc4OWFi"}
	for _, f := range forms {
		if strings.Contains(strings.ToLower(text), strings.ToLower(f)) {
			t.Errorf("the output holds %q", f)
		}
	}
	for _, want := range []string{"[redacted]", `"[redacted]"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the output holds no %s", want)
		}
	}
	for _, v := range []any{k, s, sh} {
		if err := gob.NewEncoder(&out).Encode(v); !errors.Is(err, errNotEncoded) {
			t.Errorf("gob of %T: %v", v, err)
		}
	}
	for _, v := range []fmt.Formatter{k, s} {
		if got := fmt.Sprintf("%d %x %s", v, v, v); got != "[redacted] [redacted] [redacted]" {
			t.Errorf("printed %q", got)
		}
	}
}

func TestKeysCompare(t *testing.T) {
	t.Parallel()
	a, b := &Key{sample(t)}, &Key{sample(t)}
	b.in.with(func(k []byte) {
		if !a.Equal(b) {
			t.Error("equal keys differ")
		}
		k[31] ^= 1
	})
	if a.Equal(b) {
		t.Error("different keys are equal")
	}
	d, err := a.Derive([]byte("salt"), "info", 16)
	if err != nil || len(d) != 16 {
		t.Errorf("derive: %d bytes, %v", len(d), err)
	}
}
