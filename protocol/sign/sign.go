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
	"encoding/hex"
	"fmt"
	"net/url"
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
	Encoded              // form encoding: a blank is a plus sign
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
		if v = Trim(v); v == "" && !o.KeepEmpty {
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
		v := Trim(params[k])
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

// Trim removes what the platform removes from every parameter: leading and
// trailing characters up to the blank.
func Trim(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return r <= ' ' })
}

func appendText(out []byte, s string, c Charset, v Value) ([]byte, error) {
	if c == GBK {
		g, err := simplifiedchinese.GBK.NewEncoder().String(s)
		if err != nil {
			return nil, fmt.Errorf("a character is not in GBK")
		}
		s = g
	}
	if v == Encoded {
		s = url.QueryEscape(s)
	}
	return append(out, s...), nil
}

// compareFold orders like a case-insensitive tree map: by the upper, then the
// lower case of each character; keys equal that way by their bytes.
func compareFold(a, b string) int {
	fold := func(s string) string {
		return strings.Map(func(r rune) rune { return unicode.ToLower(unicode.ToUpper(r)) }, s)
	}
	return cmp.Or(cmp.Compare(fold(a), fold(b)), cmp.Compare(a, b))
}

// Sum digests message and password: 32 upper-case hex digits.
func Sum(message, password []byte) string {
	h := md5.New()
	h.Write(message)
	h.Write(password)
	var sum [md5.Size]byte
	var digits [2 * md5.Size]byte
	hex.Encode(digits[:], h.Sum(sum[:0]))
	for i, c := range digits {
		if c >= 'a' {
			digits[i] = c - ('a' - 'A')
		}
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
