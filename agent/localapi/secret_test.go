package localapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestASecretReadsLikeAnyString(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`"A1b2"`: "A1b2", `""`: "", `"\u0041\u006a"`: "Aj", `"a\"b\\c\/d"`: `a"b\c/d`, `"a b~"`: "a b~",
	} {
		var s secretText
		if err := json.Unmarshal([]byte(in), &s); err != nil || string(s) != want {
			t.Errorf("%s: %q, %v", in, s, err)
		}
	}
	for _, in := range []string{`17`, `null`, `["A"]`, `"\n"`, `"é"`, `"\u00e9"`, `"\u0141"`, `"\u0000"`, `"\ud83d\ude00"`} {
		s := secretText("before")
		kept := s
		if err := s.UnmarshalJSON([]byte(in)); err == nil || strings.Contains(err.Error(), "before") {
			t.Errorf("%s: %v", in, err)
		}
		if len(s) != 0 || !bytes.Equal(kept, make([]byte, 6)) {
			t.Errorf("%s: left %q, before it %q", in, s, kept)
		}
	}
}

func TestABodyThatIsWipedEndsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	b := []byte("0123456789")
	s := &secretBody{left: b, all: b}
	if n, err := s.Read(make([]byte, 4)); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	s.wipe()
	if n, err := s.Read(make([]byte, 4)); n != 0 || !errors.Is(err, io.EOF) || !bytes.Equal(b, make([]byte, 10)) {
		t.Errorf("%d, %v, left %q", n, err, b)
	}
}

// FuzzBody posts anything as a key: what is taken is what the standard decoder
// takes, nothing is quoted back, and the memory it stood in is cleared.
func FuzzBody(f *testing.F) {
	for _, s := range []string{
		`{"key":"A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6","kcv":"1A2B3C"}`, `{"key":"\u0041"}`, `{"key":"a","key":"bb"}`, `{"key":`, `{"key":{"key":1}}`, ``,
		"{\"key\":\"\xff\"}", `[[[[[[`, `{"kcv":7}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, posted []byte) {
		var got, body []byte
		var failed error
		h := answer(func(c *call) (any, error) {
			var in struct {
				Key secretText `json:"key"`
				KCV string     `json:"kcv"`
			}
			body = c.body
			failed = c.json(&in)
			got = bytes.Clone(in.Key)
			in.Key.wipe()
			return done, failed
		})
		w := httptest.NewRecorder()
		h(w, httptest.NewRequest(http.MethodPost, "/v1/provision", bytes.NewReader(posted)))
		if len(posted) > maxBody {
			if w.Code != http.StatusRequestEntityTooLarge {
				t.Fatalf("%d bytes: status %d", len(posted), w.Code)
			}
			return
		}
		if !bytes.Equal(body, make([]byte, len(body))) {
			t.Error("the body is not cleared")
		}
		var want struct {
			Key string `json:"key"`
			KCV string `json:"kcv"`
		}
		switch err := json.Unmarshal(posted, &want); {
		case failed == nil && (err != nil || want.Key != string(got)):
			t.Errorf("took %q, the standard decoder %q, %v", got, want.Key, err)
		case failed != nil && w.Code != http.StatusBadRequest:
			t.Errorf("status %d for %v", w.Code, failed)
		}
		if len(want.Key) > 8 && strings.Contains(w.Body.String(), want.Key) {
			t.Error("the answer quotes the key")
		}
	})
}

func FuzzQuoted(f *testing.F) {
	f.Add([]byte(`a"b\`))
	f.Add([]byte("\x00\xff~"))
	f.Fuzz(func(t *testing.T, text []byte) {
		q := appendQuoted(nil, text)
		var s string
		if err := json.Unmarshal(q, &s); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		r := []rune(s)
		if len(r) != len(text) {
			t.Fatalf("%d of %d", len(r), len(text))
		}
		for i, c := range r {
			if c != rune(text[i]) {
				t.Fatalf("%q became %q", text, s)
			}
		}
	})
}
