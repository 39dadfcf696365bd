package vcctest

import (
	"bytes"
	"cmp"
	"crypto/md5" //nolint:gosec // the platform's sign is MD5 by its document
	"encoding/hex"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/encoding/simplifiedchinese"
)

// Canonical is the text a request's sign is made of, without the password:
// every query value that is not empty after trimming, in order of its key, key
// and value side by side, then the body as sent. It is written from the
// document and the habits of Java servers, beside and not after the client's:
// a test compares the two byte for byte.
func (s SignReading) Canonical(query url.Values, body []byte) []byte {
	texts := map[string]string{}
	for k, v := range query {
		if k != "sign" && len(v) > 0 {
			texts[k] = trim(v[0])
		}
	}
	return append(s.join(texts, s.KeepEmpty, s.Encoded), body...)
}

// join sorts and strings together what is not empty, or everything.
func (s SignReading) join(texts map[string]string, empty, encoded bool) []byte {
	type pair struct{ folded, key, value string }
	var pairs []pair
	for k, v := range texts {
		if v == "" && !empty {
			continue
		}
		p := pair{key: k, value: v}
		if s.FoldOrder {
			p.folded = fold(k)
		}
		pairs = append(pairs, p)
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		return cmp.Or(strings.Compare(a.folded, b.folded), strings.Compare(a.key, b.key))
	})
	var out bytes.Buffer
	for _, p := range pairs {
		if !s.ExcludeKeys {
			for _, r := range p.key {
				out.Write(s.bytes(r))
			}
		}
		for _, r := range p.value {
			if encoded {
				out.WriteString(s.escape(r))
			} else {
				out.Write(s.bytes(r))
			}
		}
	}
	return out.Bytes()
}

// trim is what String.trim of a Java server cuts off: everything up to the
// blank, and no other kind of space.
func trim(s string) string {
	const blanks = "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f" +
		"\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f "
	return strings.Trim(s, blanks)
}

// fold is the text by which a case-insensitive tree map orders.
func fold(s string) string {
	runes := []rune(s)
	for i, r := range runes {
		runes[i] = unicode.ToLower(unicode.ToUpper(r))
	}
	return string(runes)
}

// bytes is a character in the charset of the reading; one that GBK has not
// becomes a question mark, as with String.getBytes.
func (s SignReading) bytes(r rune) []byte {
	text := []byte(string(r))
	if !s.GBK || r < 0x80 {
		return text
	}
	gbk, err := simplifiedchinese.GBK.NewEncoder().Bytes(text)
	if err != nil {
		return []byte("?")
	}
	return gbk
}

// escape is a character as URLEncoder.encode writes it.
func (s SignReading) escape(r rune) string {
	const safe = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-*_"
	switch {
	case r == ' ':
		return "+"
	case r < 0x80 && strings.ContainsRune(safe, r):
		return string(r)
	}
	var out strings.Builder
	for _, b := range s.bytes(r) {
		out.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{b})))
	}
	return out.String()
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
	got := trim(query.Get("sign"))
	if s.Hex == HexUpper && got != strings.ToUpper(got) || s.Hex == HexLower && got != strings.ToLower(got) {
		return false
	}
	return password != "" && strings.EqualFold(got, digest(s.Canonical(query, body), password))
}

// SignAnswer is the sign of an answer: over its scalar top-level members,
// resultCode, resultMsg and timestamp among them, in their literal text,
// strings by their content. The document leaves out what is empty; an answer
// is not a query, so that nothing is encoded or, unless TrimAnswers is set,
// trimmed. It is "" for what is no JSON object.
func (s SignReading) SignAnswer(body []byte, password string) string {
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil || members == nil {
		return ""
	}
	texts := map[string]string{}
	for k, raw := range members {
		text := string(raw)
		switch {
		case k == "sign" || text == "null" || text[0] == '{' || text[0] == '[':
			continue
		case text[0] == '"':
			if json.Unmarshal(raw, &text) != nil {
				continue
			}
		}
		if s.TrimAnswers {
			text = trim(text)
		}
		texts[k] = text
	}
	return digest(s.join(texts, false, false), password)
}
