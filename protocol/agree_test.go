package protocol

import (
	"bytes"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"vcckiosk/protocol/sign"
	"vcckiosk/protocol/vcctest"
)

// Characters of every kind the two ends could treat differently. The first
// inGBK alphabets can be written in GBK.
var alphabets = []string{
	"abcxyzABCXYZ0189",
	"orgCodeuserTypeusernamesign", // keys that differ by case only, and parts of others
	"张三木渎镇绿地太湖城西三期幢室供气点",
	"\u4E02\u4E04\u4E05\u4E8C\u9F98", // the second byte of GBK is a letter or a sign
	" \t\r\n\x00\x1f\x7f\u3000",
	"=&?#%+;,/\\|:\"'<>{}[]~*-._!()@$^`",
	"\U00020000\U0002A6D6\u3400\uE000\uFA0E\uFF21\uFF41", // rare: beyond the BMP, private, compatibility, full width
	"😀👨‍👩‍👧🇨🇳",
	"İıſßẞΣςσÅåǅ\u0345", // letters whose cases do not come in pairs
	"\u0085\u00a0\u2003\u200b\ufeff ",
}

const inGBK = 6

func randomText(r *rand.Rand, limit, from int) string {
	var b strings.Builder
	for range r.IntN(limit + 1) {
		a := []rune(alphabets[r.IntN(from)])
		b.WriteRune(a[r.IntN(len(a))])
	}
	return b.String()
}

// both gives the canonical text of one set as the two ends build it. ok is
// false when a character is not in the charset: the client refuses to sign.
func both(params map[string]string, body []byte, reading int) (client, platform []byte, ok bool) {
	o := sign.Options{
		ExcludeKeys: reading&1 != 0, Sort: sign.Sort(reading >> 1 & 1), Value: sign.Value(reading >> 2 & 1),
		Charset: sign.Charset(reading >> 3 & 1), KeepEmpty: reading&16 != 0,
	}
	client, err := sign.Canonical(params, body, o)
	if err != nil {
		return nil, nil, false
	}
	query := url.Values{}
	for k, v := range params {
		query.Set(k, v)
	}
	s := vcctest.SignReading{
		ExcludeKeys: o.ExcludeKeys, FoldOrder: o.Sort == sign.FoldOrder, Encoded: o.Value == sign.Encoded,
		GBK: o.Charset == sign.GBK, KeepEmpty: o.KeepEmpty,
	}
	return client, s.Canonical(query, body), true
}

// 100,000 random sets, each in one reading in turn; with FULL=1 each in all.
func TestBothEndsBuildTheSameCanonicalText(t *testing.T) {
	t.Parallel()
	const sets, readings = 100_000, 32
	full := os.Getenv("FULL") != "" && os.Getenv("FULL") != "0"
	r := rand.New(rand.NewPCG(20170731, 21))
	compared, refused := 0, 0
	for n := range sets {
		params, from := map[string]string{}, len(alphabets)
		if r.IntN(2) == 0 {
			from = inGBK
		}
		for range r.IntN(7) {
			params[randomText(r, 6, from)] = randomText(r, 10, from)
		}
		if n%3 == 0 {
			params["sign"] = "no part of itself"
		}
		body := []byte(randomText(r, 12, len(alphabets)))
		if n%5 == 0 {
			body = append(body, 0xff, 0xfe, 0) // a body is bytes
		}
		for k := range readings {
			if !full && k != n%readings {
				continue
			}
			client, platform, ok := both(params, body, k)
			if !ok { // then the same reading in UTF-8
				refused++
				if client, platform, ok = both(params, body, k&^8); !ok {
					t.Fatalf("set %d is signed in no charset", n)
				}
			}
			compared++
			if !bytes.Equal(client, platform) {
				t.Fatalf("set %d, reading %05b, %q + %q\nclient   %q\nplatform %q", n, k, params, body, client, platform)
			}
		}
	}
	t.Logf("%d sets, %d texts compared, %d of them in UTF-8 for a character outside GBK", sets, compared, refused)
	if refused > compared/3 {
		t.Errorf("GBK was hardly compared: %d of %d texts", refused, compared)
	}
}

// The documented sets in every reading: what the worked examples sign is held
// in package sign and in vcctest by themselves.
func TestBothEndsAgreeOnTheWorkedExamples(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		params map[string]string
		body   string
	}{
		{map[string]string{"appId": "6A5B0E0F1C", "seq": "10022017080109300000000000000001"}, ""},
		{map[string]string{"orgCode": "WJ0105", "areaCode": "", "seq": "30052017080109300100000000000002", "subsCode": "1400123456", "token": "T"}, ""},
		{map[string]string{"fullAddr": "木渎镇 A&B=1", "name": " 张 三 ", "orgCode": "SU0105", "pageIndex": "1", "pageSize": "10", "token": "T"}, ""},
		{map[string]string{"userType": "MEMBER", "username": "u", "token": "T"}, ""},
		{map[string]string{"seq": "60022017080109300400000000000005", "token": "T"}, `{"orderNo":"4006202608010001","writeResult":"0"}`},
		{map[string]string{"seq": "20012017080109300500000000000006", "token": "T", "type": "image"}, ""},
	} {
		for k := range 32 {
			client, platform, ok := both(c.params, []byte(c.body), k)
			if !ok || !bytes.Equal(client, platform) {
				t.Errorf("reading %05b, %q\nclient   %q\nplatform %q", k, c.params, client, platform)
			}
		}
	}
}

func FuzzBothEndsAgree(f *testing.F) {
	f.Add("amount", "100", "amountType", " 1 ", []byte("{}"), 0)
	f.Add("userType", "张 三*~", "username", "\u3000x", []byte(nil), 31)
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string, body []byte, reading int) {
		for _, s := range []string{k1, v1, k2, v2} {
			if !utf8.ValidString(s) {
				t.Skip("refused by the client")
			}
		}
		client, platform, ok := both(map[string]string{k1: v1, k2: v2}, body, reading&31)
		if ok && !bytes.Equal(client, platform) {
			t.Fatalf("client %q\nplatform %q", client, platform)
		}
	})
}
