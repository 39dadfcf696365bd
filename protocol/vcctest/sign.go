package vcctest

import (
	"bytes"
	"crypto/md5" //nolint:gosec // the platform's sign is MD5 by its document
	"encoding/hex"
	"encoding/json"
	"net/url"
	"sort"
	"strings"

	"golang.org/x/text/encoding/simplifiedchinese"
)

// canonical is the text a request's sign is made of, without the password:
// every query value that is not empty after trimming, in order of its key, key
// and value side by side, then the body as sent.
func (s SignReading) canonical(query url.Values, body []byte) []byte {
	keys := make([]string, 0, len(query))
	for k := range query {
		if k != "sign" {
			keys = append(keys, k)
		}
	}
	sort.Slice(keys, func(i, j int) bool {
		a, b := keys[i], keys[j]
		if s.FoldOrder {
			if la, lb := strings.ToLower(a), strings.ToLower(b); la != lb {
				return la < lb
			}
		}
		return a < b
	})
	var out bytes.Buffer
	for _, k := range keys {
		v := strings.TrimSpace(query.Get(k))
		if v == "" && !s.KeepEmpty {
			continue
		}
		if s.GBK {
			k, v = gbk(k), gbk(v)
		}
		if s.Encoded {
			v = url.QueryEscape(v)
		}
		if !s.ExcludeKeys {
			out.WriteString(k)
		}
		out.WriteString(v)
	}
	out.Write(body)
	return out.Bytes()
}

// gbk recodes a text; what GBK does not have becomes a question mark, as the
// platform's own library does it.
func gbk(s string) string {
	var out []byte
	for _, r := range s {
		b, err := simplifiedchinese.GBK.NewEncoder().String(string(r))
		if err != nil {
			b = "?"
		}
		out = append(out, b...)
	}
	return string(out)
}

// digest is UPPER(HEX(MD5(text + password))).
func digest(text []byte, password string) string {
	h := md5.New() //nolint:gosec // see the import
	h.Write(text)
	h.Write([]byte(password))
	return strings.ToUpper(hex.EncodeToString(h.Sum(nil)))
}

// signed reports whether sign belongs to the request.
func (s SignReading) signed(query url.Values, body []byte, password string) bool {
	got := strings.TrimSpace(query.Get("sign"))
	if s.Hex == HexUpper && got != strings.ToUpper(got) || s.Hex == HexLower && got != strings.ToLower(got) {
		return false
	}
	return password != "" && strings.EqualFold(got, digest(s.canonical(query, body), password))
}

// signAnswer is the sign of an answer: its scalar top-level members by their
// literal text, strings by their content.
func (s SignReading) signAnswer(body []byte, password string) string {
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil {
		return ""
	}
	scalars := url.Values{}
	for k, raw := range members {
		text := strings.TrimSpace(string(raw))
		switch {
		case text == "null" || text[0] == '{' || text[0] == '[':
			continue
		case text[0] == '"':
			if json.Unmarshal(raw, &text) != nil {
				continue
			}
		}
		scalars.Set(k, text)
	}
	plain := s
	plain.Encoded, plain.KeepEmpty = false, false
	return digest(plain.canonical(scalars, nil), password)
}
