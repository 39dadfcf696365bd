// Package sign builds the canonical string of the platform's message digest
// and the digest itself (2.1): upper-case hex MD5 over the sorted parameters,
// the body and the access password.
//
// The canonical string is not injective: there are no separators, so
// {amount:100, amountType:1} and {amount:"100amountType1"} sign equally. Every
// value must be checked against the format of its field before it is signed,
// and only TLS authenticates: once the password is the token, it travels in
// the same URL as the sign.
package sign

import (
	"cmp"
	"crypto/md5"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"
)

// Sort is the order of the parameters.
type Sort int

// Orders. For every documented and proposed parameter set both give the same.
const (
	ByteOrder Sort = iota // by bytes of the key
	FoldOrder             // letter case ignored; equal keys by bytes
)

// Value is the form in which a value is signed.
type Value int

// Forms of a value.
const (
	Raw     Value = iota // the decoded text
	Encoded              // form encoding (application/x-www-form-urlencoded): a blank is a plus sign
)

// Charset is what the text is turned into before it is digested.
type Charset int

// Charsets of the signed text. The body is never recoded.
const (
	UTF8 Charset = iota
	GBK
)

// Options chooses a reading of the rule. The zero value is the reading with
// the best evidence: keys and values, byte order, raw UTF-8, empty dropped,
// upper-case digits.
type Options struct {
	ExcludeKeys bool    // values only
	Sort        Sort    //
	Value       Value   //
	Charset     Charset //
	KeepEmpty   bool    // the key of an empty value takes part
	LowerHex    bool    // digits in lower case, see Case
	KeepBlanks  bool    // values are not trimmed: answers are signed as they are written
}

// Canonical returns what is digested before the password: every parameter
// except "sign" whose value is not empty after trimming, key directly followed
// by value, in order, then the body as it is sent. For multipart and form
// bodies pass nil. The error says that a key or value is not UTF-8, or cannot
// be written in the charset; it never shows the value.
func Canonical(params map[string]string, body []byte, o Options) ([]byte, error) {
	var few [16]string
	keys := few[:0]
	size := len(body)
	for k, v := range params {
		if k == "sign" {
			continue
		}
		if v = o.trim(v); v == "" && !o.KeepEmpty {
			continue // 2.1: empty values take no part in the sign
		}
		keys = append(keys, k)
		size += len(k) + len(v)
	}
	if o.Sort == FoldOrder {
		slices.SortFunc(keys, compareFold)
	} else {
		slices.Sort(keys)
	}
	out := make([]byte, 0, size)
	for _, k := range keys {
		v := o.trim(params[k])
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return nil, fmt.Errorf("canonical string: parameter %q is not UTF-8", k)
		}
		var err error
		if !o.ExcludeKeys {
			if out, err = appendText(out, k, o.Charset, Raw); err != nil {
				return nil, fmt.Errorf("canonical string: parameter %q: %w", k, err)
			}
		}
		if out, err = appendText(out, v, o.Charset, o.Value); err != nil {
			return nil, fmt.Errorf("canonical string: parameter %q: %w", k, err)
		}
	}
	return append(out, body...), nil
}

func (o Options) trim(s string) string {
	if o.KeepBlanks {
		return s
	}
	return Trim(s)
}

// Trim removes what the platform removes from every parameter: leading and
// trailing characters up to the blank.
func Trim(s string) string {
	for s != "" && s[0] <= ' ' {
		s = s[1:]
	}
	for s != "" && s[len(s)-1] <= ' ' {
		s = s[:len(s)-1]
	}
	return s
}

// appendText appends s in the charset and form of the reading. The error never
// shows s.
func appendText(out []byte, s string, c Charset, v Value) ([]byte, error) {
	if c == UTF8 && v == Raw {
		return append(out, s...), nil
	}
	gbk := simplifiedchinese.GBK.NewEncoder()
	var in [utf8.UTFMax]byte
	for _, r := range s {
		b := utf8.AppendRune(in[:0], r)
		if c == GBK && r >= utf8.RuneSelf {
			var err error
			if b, err = gbk.Bytes(b); err != nil {
				return nil, errors.New("a character is not in GBK")
			}
		}
		if v == Raw || r < utf8.RuneSelf && literal(byte(r)) {
			out = append(out, b...)
			continue
		}
		if r == ' ' {
			out = append(out, '+')
			continue
		}
		// The bytes of a character are escaped together, those that look like
		// letters too, as in the second byte of GBK.
		for _, x := range b {
			out = append(out, '%', upperHex[x>>4], upperHex[x&15])
		}
	}
	return out, nil
}

const upperHex = "0123456789ABCDEF"

// literal tells which bytes form encoding leaves alone. It is the set of
// application/x-www-form-urlencoded, which a platform's URLEncoder has, and
// not that of url.QueryEscape, which keeps ~ and escapes *.
func literal(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c == '*' || c == '-' || c == '.' || c == '_'
}

// compareFold orders like a case-insensitive tree map: by the lower case of the
// upper case of each character; keys equal that way by their bytes.
func compareFold(a, b string) int {
	fold := func(s string) (rune, int) {
		r, n := utf8.DecodeRuneInString(s)
		return unicode.ToLower(unicode.ToUpper(r)), n
	}
	x, y := a, b
	for x != "" && y != "" {
		r, n := fold(x)
		q, m := fold(y)
		if r != q {
			return cmp.Compare(r, q)
		}
		x, y = x[n:], y[m:]
	}
	return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(a, b))
}

// Sum digests message and password: 32 upper-case hex digits.
func Sum(message, password []byte) string {
	h := md5.New()
	h.Write(message)
	h.Write(password)
	var sum [md5.Size]byte
	h.Sum(sum[:0])
	var digits [2 * md5.Size]byte
	for i, c := range sum {
		digits[2*i], digits[2*i+1] = upperHex[c>>4], upperHex[c&15]
	}
	return string(digits[:])
}

// Case returns a digest in the letter case of the reading.
func (o Options) Case(sum string) string {
	if o.LowerHex {
		return strings.ToLower(sum)
	}
	return strings.ToUpper(sum)
}

// Equal compares two digests in constant time, whatever the letter case.
func Equal(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(strings.ToUpper(a)), []byte(strings.ToUpper(b))) == 1
}
