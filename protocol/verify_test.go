package protocol

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"vcckiosk/protocol/vcctest"
)

// randomAnswer is an answer with header parameters and members of every kind,
// written the way no encoder of ours would.
func randomAnswer(r *rand.Rand) (text string, nested bool) {
	scalars := []string{
		"0", "-0", "1.0", "1.10", "1e3", "1E+03", "100000000000000000000000000001", "0.30000000000000004", "true", "false", "null",
		`""`, `"7200"`, `" 张 三 "`, `"\u5f20\u4e09"`, `"\ud83d\ude00"`, `"a\/b\n\u0000"`, `"\ud800"`, `"1.0"`, `"\u3000"`, `"\t"`,
	}
	gap := func() string { return []string{"", " ", "\n\t", "\r\n"}[r.IntN(4)] }
	names := []string{"resultCode", "resultMsg", "timestamp"}
	values := []string{`"0"`, []string{`""`, `"成功"`}[r.IntN(2)], `"20170801093001"`}
	for i := range r.IntN(8) {
		names = append(names, fmt.Sprintf("%s%d", []string{"a", "B", "expireTime", "名", "_"}[r.IntN(5)], i))
		v := scalars[r.IntN(len(scalars))]
		if r.IntN(6) == 0 {
			v, nested = []string{`{"a":1.0}`, `[1, "x"]`, `[]`, `{}`}[r.IntN(4)], true
		}
		values = append(values, v)
	}
	r.Shuffle(len(names), func(i, j int) {
		names[i], names[j] = names[j], names[i]
		values[i], values[j] = values[j], values[i]
	})
	var b strings.Builder
	b.WriteString(gap() + "{")
	for i := range names {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString(gap() + `"` + names[i] + `"` + gap() + ":" + gap() + values[i] + gap())
	}
	return b.String() + "}" + gap(), nested
}

// signs puts the sign of the simulated platform into an answer, at its front
// or its end.
func signs(r *rand.Rand, s vcctest.SignReading, text, password string) string {
	member := `"sign":"` + s.SignAnswer([]byte(text), password) + `"`
	if r.IntN(2) == 0 {
		return strings.Replace(text, "{", "{"+member+",", 1)
	}
	i := strings.LastIndex(text, "}")
	return text[:i] + "," + member + text[i:]
}

func TestSignedAnswersOfTheOtherEndAreBelievedAndAlteredOnesNot(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(8, 52))
	const with = "S0e1S2s3I4o5N6k7E8y9A0b1C2d3E4f5"
	check := func(*value) []password { return []password{textPassword(newSecret(with))} }
	altered := 0
	clients := map[int]*Client{}
	for n := range 4000 {
		reading := n % 64
		s := vcctest.SignReading{
			ExcludeKeys: reading&1 != 0, FoldOrder: reading&2 != 0, Encoded: reading&4 != 0, KeepEmpty: reading&8 != 0,
			GBK: reading&16 != 0, TrimAnswers: reading&32 != 0,
		}
		c := clients[reading]
		if c == nil {
			c = newTestClient(t, nil, func(cfg *Config, _ *Deps) {
				cfg.Sign = SignConfig{ExcludeKeys: s.ExcludeKeys, KeepEmpty: s.KeepEmpty, VerifyResponse: "require"}
				if s.FoldOrder {
					cfg.Sign.Sort = "fold"
				}
				if s.Encoded {
					cfg.Sign.Value = "encoded"
				}
				if s.GBK {
					cfg.Sign.Charset = "gbk"
				}
			})
			clients[reading] = c
		}
		c.Sign.VerifyResponse = "require"
		plain, nested := randomAnswer(r)
		if s.GBK && strings.Contains(plain, `\ud`) {
			continue // what GBK has not is refused, not guessed
		}
		text := signs(r, s, plain, with)
		v, why := parseAnswer([]byte(text))
		if why == "" {
			why = c.verify(v, true, check)
		}
		if why != "" {
			t.Fatalf("reading %06b: %s: %s", reading, why, text)
		}
		// One digit of the time of day is another: a scalar, whatever the reading.
		other := strings.Replace(text, "20170801093001", "20170801093002", 1)
		if v, why = parseAnswer([]byte(other)); why != "" {
			t.Fatal(why)
		}
		if c.verify(v, true, check) == "" {
			t.Fatalf("reading %06b: an altered answer was believed: %s", reading, other)
		}
		c.Sign.VerifyResponse = "if_present"
		if got := c.verify(v, false, check) == ""; got != nested {
			t.Fatalf("if_present: altered answer (nested %v) believed: %v: %s", nested, got, other)
		}
		if c.verify(v, true, check) == "" {
			t.Fatal("if_present: an altered answer of a money call was believed")
		}
		altered++
	}
	if altered < 2000 {
		t.Errorf("only %d answers were tried", altered)
	}
}

// A number is never written anew: 1.0 is signed as 1.0, which is not 1.
func TestNumbersOfAnAnswerAreSignedAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	c := newTestClient(t, nil, func(cfg *Config, _ *Deps) { cfg.Sign.VerifyResponse = "require" })
	check := func(*value) []password { return []password{textPassword(newSecret("P"))} }
	for _, x := range [][2]string{{"1.0", "1"}, {"1e3", "1000"}, {"-0", "0"}, {"1.10", "1.1"}} {
		for i, number := range x {
			signed := `{"amount":` + x[0] + `,"timestamp":"20170801093001"}`
			text := fmt.Sprintf(`{"amount":%s,"timestamp":"20170801093001","sign":"%s"}`, number, vcctest.SignReading{}.SignAnswer([]byte(signed), "P"))
			v, why := parseAnswer([]byte(text))
			if why != "" {
				t.Fatal(why)
			}
			if got := c.verify(v, true, check) == ""; got != (i == 0) {
				t.Errorf("signed as %s, told as %s: believed %v", x[0], number, got)
			}
		}
	}
}

// The three modes against the three things an answer can do, for a call that
// moves money and one that does not.
func TestVerifyResponseModes(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		mode, sign    string // sign: none, empty, right, wrong, number
		strict, loose bool   // accepted: money call, other call (with a nested value)
	}{
		{"off", "none", true, true},
		{"off", "right", true, true},
		{"off", "wrong", true, true},
		{"off", "number", true, true},
		{"if_present", "none", true, true},
		{"if_present", "empty", true, true},
		{"if_present", "right", true, true},
		{"if_present", "wrong", false, true},
		{"if_present", "number", false, true},
		{"require", "none", false, false},
		{"require", "empty", false, false},
		{"require", "right", true, true},
		{"require", "wrong", false, false},
		{"require", "number", false, false},
	} {
		c := newTestClient(t, nil, func(cfg *Config, _ *Deps) { cfg.Sign.VerifyResponse = x.mode })
		plain := `{"state":"S","datas":[1],"timestamp":"20170801093001"}`
		member := map[string]string{
			"none": "", "empty": `"sign":"",`, "wrong": `"sign":"00000000000000000000000000000000",`, "number": `"sign":7,`,
			"right": `"sign":"` + strings.ToLower(vcctest.SignReading{}.SignAnswer([]byte(plain), "P")) + `",`,
		}[x.sign]
		v, why := parseAnswer([]byte(strings.Replace(plain, "{", "{"+member, 1)))
		if why != "" {
			t.Fatal(why)
		}
		check := func(*value) []password { return []password{textPassword(newSecret("P"))} }
		for strict, want := range map[bool]bool{true: x.strict, false: x.loose} {
			if got := c.verify(v, strict, check) == ""; got != want {
				t.Errorf("%s, sign %s, money %v: accepted %v", x.mode, x.sign, strict, got)
			}
		}
	}
}

// getToken's answer may be signed with the base key, or with what it brings,
// under whatever names it has there.
func TestTheAnswerOfGetTokenIsSignedByOneOfThreePasswords(t *testing.T) {
	t.Parallel()
	const token, session = "1Z5M011v4P5joM9VqMr0", "S0e1S2s3I4o5N6k7E8y9A0b1C2d3E4f5"
	for _, x := range []struct {
		name, password string
		good           bool
	}{
		{"base key", testKey, true}, {"session key", session, true}, {"token", token, true}, {"something else", "x", false},
	} {
		for _, named := range []bool{false, true} {
			plain := `{"token":"` + token + `","sessionKey":"` + session + `","expireTime":7200,"timestamp":"20170801093001","resultCode":"0"}`
			change := func(cfg *Config, _ *Deps) { cfg.Sign.VerifyResponse = "require" }
			if named {
				plain = strings.NewReplacer(`"token"`, `"access_token"`, `"sessionKey"`, `"session_key"`).Replace(plain)
				change = func(cfg *Config, _ *Deps) {
					cfg.Sign.VerifyResponse = "require"
					cfg.Endpoints = map[string]Endpoint{codeToken: {Names: map[string]string{"token": "access_token", "sessionKey": "session_key"}}}
				}
			}
			text := signs(rand.New(rand.NewPCG(1, 1)), vcctest.SignReading{}, plain, x.password)
			if !json.Valid([]byte(text)) {
				t.Fatal(text)
			}
			synctest.Test(t, func(t *testing.T) {
				c := newTestClient(t, roundTrip(func(r *http.Request) (*http.Response, error) { return respond(r, 200, text), nil }), change)
				err := c.Token(t.Context())
				if (err == nil) != x.good {
					t.Errorf("%s, other names %v: %v", x.name, named, err)
				}
				if err != nil {
					is(t, err, []error{ErrTransport}, []error{ErrNotSent, ErrKeyRefused})
				}
			})
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
	}
	return f(r)
}
