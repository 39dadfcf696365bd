package sign

import (
	"bytes"
	"crypto/md5"
	"encoding/json"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

// The keys in testdata/sign-vectors.json belong to no device.
type vectors struct {
	BaseKey, Token, SessionKey string
	Vectors                    []struct{ ID, What, Plain, Sign string }
}

func golden(t testing.TB) (vectors, map[string]int) {
	t.Helper()
	raw, err := os.ReadFile("testdata/sign-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	at := map[string]int{}
	for i, x := range v.Vectors {
		at[x.ID] = i
	}
	return v, at
}

func TestEveryReadingGivesItsGoldenSign(t *testing.T) {
	t.Parallel()
	v, at := golden(t)
	getToken := map[string]string{"appId": "6A5B0E0F1C", "seq": "10022017080109300000000000000001"}
	subs := map[string]string{"orgCode": "WJ0105", "subsCode": "1400123456", "areaCode": "", "seq": "30052017080109300100000000000002", "token": v.Token}
	search := map[string]string{"fullAddr": "木渎镇 A&B=1", "name": "张 三", "orgCode": "SU0105", "pageIndex": "1", "pageSize": "10", "seq": "30072017080109300200000000000003", "token": v.Token}
	member := map[string]string{"userType": "MEMBER", "username": "u", "seq": "30062017080109300300000000000004", "token": v.Token}
	report := map[string]string{"seq": "60022017080109300400000000000005", "token": v.Token}
	upload := map[string]string{"seq": "20012017080109300500000000000006", "token": v.Token, "type": "image"}
	answer := map[string]string{"expireTime": "7200", "resultCode": "0", "resultMsg": "", "timestamp": "20170801093001", "token": v.Token, "sign": "X"}
	literal := map[string]string{"appId": "6A5B0E0F1C", "seq": "10012017080109300000000000000001"}
	tests := []struct {
		id       string
		params   map[string]string
		body     string
		password string
		o        Options
	}{
		{"E1a", getToken, "", v.BaseKey, Options{}},
		{"E1b", getToken, "", v.BaseKey, Options{ExcludeKeys: true}},
		{"E1d", getToken, "", v.BaseKey, Options{LowerHex: true}},
		{"E1f", literal, "", v.BaseKey, Options{}},
		{"E2a", subs, "", v.Token, Options{}},
		{"E2c", subs, "", v.BaseKey, Options{}},
		{"E2e", subs, "", v.Token, Options{KeepEmpty: true}},
		{"E3a", search, "", v.Token, Options{}},
		{"E3b", search, "", v.Token, Options{Value: Encoded}},
		{"E4a", member, "", v.Token, Options{}},
		{"E4b", member, "", v.Token, Options{Sort: FoldOrder}},
		{"E5a", report, `{"orderNo":"4006202608010001","writeResult":"0"}`, v.Token, Options{}},
		{"E5c", report, "orderNo=4006202608010001&writeResult=0", v.Token, Options{}},
		{"E5d", upload, "", v.Token, Options{}},
		{"E6b", answer, "", v.Token, Options{}},
	}
	if len(tests) != len(v.Vectors) {
		t.Errorf("%d vectors in the file, %d tested", len(v.Vectors), len(tests))
	}
	for _, x := range tests {
		t.Run(x.id, func(t *testing.T) {
			want := v.Vectors[at[x.id]]
			got, err := Canonical(x.params, []byte(x.body), x.o)
			if err != nil {
				t.Fatal(err)
			}
			if string(got)+x.password != want.Plain {
				t.Errorf("canonical string\n got %s\nwant %s", string(got)+x.password, want.Plain)
			}
			if s := x.o.Case(Sum(got, []byte(x.password))); s != want.Sign {
				t.Errorf("sign %s, want %s", s, want.Sign)
			}
		})
	}
}

func TestGBKSignsTheBytesOfThatCharset(t *testing.T) {
	t.Parallel()
	got, err := Canonical(map[string]string{"name": "张"}, nil, Options{Charset: GBK})
	if err != nil || !bytes.Equal(got, []byte("name\xd5\xc5")) {
		t.Errorf("got %q, %v", got, err)
	}
	got, err = Canonical(map[string]string{"name": "张 "}, nil, Options{Charset: GBK, Value: Encoded})
	if err != nil || string(got) != "name%D5%C5" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := Canonical(map[string]string{"name": "\U0001F600"}, nil, Options{Charset: GBK}); err == nil {
		t.Error("a character outside GBK was signed")
	}
}

func TestInvalidTextIsRefusedWithoutShowingIt(t *testing.T) {
	t.Parallel()
	_, err := Canonical(map[string]string{"k": "hidden\xff"}, nil, Options{})
	if err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("got %v", err)
	}
}

// TestTheCanonicalStringIsNotInjective documents why every value is checked
// against the format of its field before it is signed.
func TestTheCanonicalStringIsNotInjective(t *testing.T) {
	t.Parallel()
	a, _ := Canonical(map[string]string{"amount": "100", "amountType": "1"}, nil, Options{})
	b, _ := Canonical(map[string]string{"amount": "100amountType1"}, nil, Options{})
	const both = "271A93D8B398309E3C0B52EE31A5910E"
	if Sum(a, []byte("P")) != both || Sum(b, []byte("P")) != both {
		t.Errorf("signs %s and %s, want both %s", Sum(a, []byte("P")), Sum(b, []byte("P")), both)
	}
}

// The order of a map is random in every run, so that repeating is enough.
func TestOrderOfTheParametersAndEmptyOnesDoNotMatter(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		params := map[string]string{}
		for range r.IntN(24) {
			params[word(r)] = word(r)
		}
		for _, o := range []Options{{}, {Sort: FoldOrder}, {ExcludeKeys: true}, {Value: Encoded}} {
			want, err := Canonical(params, []byte("b"), o)
			if err != nil {
				t.Fatal(err)
			}
			again := map[string]string{"sign": "anything", "empty": "", "blank": " \t"}
			for k, v := range params {
				again[k] = " " + v + "\n"
			}
			got, _ := Canonical(again, []byte("b"), o)
			if !bytes.Equal(want, got) {
				t.Fatalf("%+v: %q and %q", o, want, got)
			}
		}
	}
}

func word(r *rand.Rand) string {
	const letters = "abcXYZ019-_."
	b := make([]byte, 1+r.IntN(8))
	for i := range b {
		b[i] = letters[r.IntN(len(letters))]
	}
	return string(b)
}

func TestEqualIgnoresLetterCaseOnly(t *testing.T) {
	t.Parallel()
	if !Equal("ab01", "AB01") || Equal("ab01", "ab02") || Equal("ab01", "ab0") || Equal("", "a") {
		t.Error("Equal is wrong")
	}
}

func FuzzCanonical(f *testing.F) {
	f.Add("amount", "100", "amountType", "1", []byte("{}"))
	f.Add("sign", "x", "", "", []byte(nil))
	f.Add("a", "\xff", "b", " 张 ", []byte("\x00"))
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string, body []byte) {
		params := map[string]string{k1: v1, k2: v2}
		for i := range 32 {
			o := Options{ExcludeKeys: i&1 != 0, Sort: Sort(i >> 1 & 1), Value: Value(i >> 2 & 1), Charset: Charset(i >> 3 & 1), KeepEmpty: i&16 != 0}
			a, err := Canonical(params, body, o)
			b, err2 := Canonical(params, body, o)
			if !bytes.Equal(a, b) || (err == nil) != (err2 == nil) {
				t.Fatalf("%+v: not the same twice", o)
			}
			if err == nil && !bytes.HasSuffix(a, body) {
				t.Fatalf("%+v: the body is not at the end", o)
			}
			if len(Sum(a, nil)) != 32 {
				t.Fatal("not 32 digits")
			}
		}
	})
}

// A platform encodes by URLEncoder: other letters stay than with
// url.QueryEscape, and a byte of GBK that looks like a letter is escaped.
func TestEncodedValuesAreFormEncoded(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		c        Charset
		in, want string
	}{
		{UTF8, "a*b~c-d.e_f g+h", "a*b%7Ec-d.e_f+g%2Bh"},
		{UTF8, "张\U0001F600", "%E5%BC%A0%F0%9F%98%80"},
		{GBK, "\u4E04 \u4E05", "%81%41+%81%42"},
	} {
		got, err := Canonical(map[string]string{"v": x.in}, nil, Options{Value: Encoded, Charset: x.c, ExcludeKeys: true})
		if err != nil || string(got) != x.want {
			t.Errorf("%q: %q, %v, want %q", x.in, got, err, x.want)
		}
	}
}

func TestAnswersAreSignedAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	params := map[string]string{"a": " x ", "b": " ", "c": ""}
	got, err := Canonical(params, nil, Options{KeepBlanks: true})
	if err != nil || string(got) != "a x b " {
		t.Errorf("%q, %v", got, err)
	}
	if got, err = Canonical(params, nil, Options{}); err != nil || string(got) != "ax" {
		t.Errorf("trimmed: %q, %v", got, err)
	}
}

// benchCall is a report with its query, about as long as they come.
func benchCall() (map[string]string, []byte, []byte) {
	params := map[string]string{
		"seq": "60022017080109300400000000000005", "token": "1Z5M011v4P5joM9VqMr0", "orgCode": "WJ0105", "subsCode": "1400123456",
	}
	return params, []byte(strings.Repeat("x", 512)), []byte("S0e1S2s3I4o5N6k7E8y9A0b1C2d3E4f5")
}

func signOnce(params map[string]string, body, password []byte) string {
	m, err := Canonical(params, body, Options{})
	if err != nil {
		panic(err)
	}
	return Sum(m, password)
}

func TestASignCostsTwoAllocations(t *testing.T) {
	params, body, password := benchCall()
	if n := testing.AllocsPerRun(100, func() { signOnce(params, body, password) }); n > 2 {
		t.Errorf("%v allocations, want 2 at most", n)
	}
}

// BenchmarkSign is one signed call. It prints how many times bare MD5 over the
// same bytes, the password included, it takes: 3 is the limit.
func BenchmarkSign(b *testing.B) {
	params, body, password := benchCall()
	message, err := Canonical(params, body, Options{})
	if err != nil {
		b.Fatal(err)
	}
	all := append(message, password...)
	var bare time.Duration
	for range 3 { // the best of three: other work on the machine only ever adds
		const rounds = 20_000
		start := time.Now()
		for range rounds {
			md5.Sum(all)
		}
		if took := time.Since(start) / rounds; bare == 0 || took < bare {
			bare = took
		}
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(all)))
	for b.Loop() {
		signOnce(params, body, password)
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(bare), "x-md5")
}

func BenchmarkCanonical(b *testing.B) {
	params, body, _ := benchCall()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Canonical(params, body, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSum(b *testing.B) {
	_, body, password := benchCall()
	b.ReportAllocs()
	for b.Loop() {
		Sum(body, password)
	}
}
