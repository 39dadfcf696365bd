package conform

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/protocol/vcctest"
)

// memoryCard is a card and orders for all cases, in the platform's books.
func memoryCard(t *testing.T, p *vcctest.Platform) *TestCard {
	t.Helper()
	content := make([]byte, 256)
	copy(content, "SIMULATED METER MAKER")
	c := &TestCard{Card: CardFile{No: "3100000000001001", Data: hex.EncodeToString(content), Count: []int{0x40, 2}, Gas: []int{0x42, 4}}}
	if err := p.AddCard(vcctest.CardBook{CardNo: c.Card.No, SubsCode: "1400001001", Kind: vcctest.KindImage}); err != nil {
		t.Fatal(err)
	}
	return withOrders(t, p, c)
}

func purseCard(t *testing.T, p *vcctest.Platform) *TestCard {
	t.Helper()
	key := [16]byte{0xEB, 0x9B, 0xC6, 0xDC, 0xDF, 0x74, 0xFF, 0x4E, 0x4B, 0x43, 0xF2, 0xE3, 0x4A, 0x67, 0x27, 0xB6}
	c := &TestCard{Card: CardFile{Kind: "purse", No: "8600000012345601", LoadKey: hex.EncodeToString(key[:]), Balance: 700, OnlineSeq: 9}}
	if err := p.AddCard(vcctest.CardBook{CardNo: c.Card.No, SubsCode: "1400005601", Kind: vcctest.KindLoad, DLK: key, DTK: key}); err != nil {
		t.Fatal(err)
	}
	return withOrders(t, p, c)
}

func withOrders(t *testing.T, p *vcctest.Platform, c *TestCard) *TestCard {
	t.Helper()
	if err := c.check(); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		o := TestOrder{No: fmt.Sprintf("C%03d", i), Amount: int64(100 + i), Gas: int64(30 + i)}
		if err := p.AddOrder(vcctest.OrderBook{OrderNo: o.No, CardNo: c.Card.No, Amount: o.Amount, Volume: o.Gas}); err != nil {
			t.Fatal(err)
		}
		c.Orders = append(c.Orders, o)
	}
	return c
}

func builtInCases(t *testing.T) []Case {
	t.Helper()
	all, err := BuiltIn()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

type makeCard func(*testing.T, *vcctest.Platform) *TestCard

// inBubble runs all cases against a platform in virtual time.
func inBubble(t *testing.T, o vcctest.Options, card makeCard, change func(*Config), look func(*vcctest.Platform, Report, error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.BaseKey = testKey
		p := vcctest.New(o)
		c := Config{
			BaseURL: "http://127.0.0.1/vcc-openapi", AppID: "APPX", DeviceID: "QC000X", OrgCode: "SU0105", Key: []byte(testKey),
			Transport: p.RoundTripper(), MaxWait: time.Hour, Cases: builtInCases(t),
		}
		if card != nil {
			c.Card = card(t, p)
		}
		if change != nil {
			change(&c)
		}
		r, err := Run(t.Context(), c)
		look(p, r, err)
	})
}

func verdict(r Report, id string) Verdict {
	for _, x := range r.Results {
		if x.ID == id {
			return x.Verdict
		}
	}
	return ""
}

// TestAGoodPlatformConforms plays every case with both kinds of card.
func TestAGoodPlatformConforms(t *testing.T) {
	t.Parallel()
	asked := map[string]bool{}
	for _, x := range []struct {
		name string
		card makeCard
		o    vcctest.Options
	}{
		{"memory card", memoryCard, vcctest.Options{Good: true}},
		{"purse", purseCard, vcctest.Options{Good: true}},
		{"memory card, sessions end all the time", memoryCard, vcctest.Options{Good: true, Token: vcctest.TokenOptions{Life: 2 * time.Minute}}},
		{"purse, other readings", purseCard, vcctest.Options{
			Good: true, PendNotWritten: false, ResultCode: vcctest.ResultNumber, SignAnswers: true,
			Sign: vcctest.SignReading{ExcludeKeys: true, Header: true, Password: vcctest.PasswordBase, Hex: vcctest.HexLower}, Seq: vcctest.SeqFive,
		}},
	} {
		inBubble(t, x.o, x.card, nil, func(p *vcctest.Platform, r Report, err error) {
			if err != nil {
				t.Fatalf("%s: %v", x.name, err)
			}
			for _, k := range r.Results {
				switch {
				case k.Verdict == OK:
					asked[k.ID] = true
				case k.Verdict == NotAsked && strings.HasPrefix(k.Why, "is about a"):
				default:
					t.Errorf("%s: %s: %s: %s", x.name, k.ID, k.Verdict, k.Why)
				}
			}
			if !r.Conforms() {
				t.Errorf("%s: does not conform", x.name)
			}
			// Nothing but what clause 5 wants to see contradicted is left behind.
			for _, o := range p.Orders() {
				if o.State == vcctest.StateAuthorised {
					t.Errorf("%s: order %s is left authorised", x.name, o.OrderNo)
				}
			}
		})
	}
	for _, k := range builtInCases(t) {
		if !asked[k.ID] {
			t.Errorf("no platform was asked %s", k.ID)
		}
	}
}

// TestEachBreachIsSeen: a platform that breaks a clause does not conform.
func TestEachBreachIsSeen(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name string
		card makeCard
		l    vcctest.Lapses
		id   string
		want Verdict
	}{
		{"a repeat gets something else", memoryCard, vcctest.Lapses{NoIdempotency: true}, "money.1.repeat", Unsafe},
		{"an expired order is given away", memoryCard, vcctest.Lapses{ReissueAtExpiry: true}, "money.4.expiry", Unsafe},
		{"knows no challenge", memoryCard, vcctest.Lapses{NoChallenge: true}, "money.2.no-challenge", Unsafe},
		{"a stale challenge is taken", purseCard, vcctest.Lapses{FreeOnStale: true}, "money.2.stale-challenge", Unsafe},
		{"fences are forgotten", memoryCard, vcctest.Lapses{ForgetFences: true}, "money.3.report-fence", Unsafe},
		{"fences are forgotten, reversal", memoryCard, vcctest.Lapses{ForgetFences: true}, "money.3.reverse-fence", Unsafe},
		{"knows no fences", memoryCard, vcctest.Lapses{NoFences: true}, "money.3.report-fence", Differs},
		{"two orders for one count", memoryCard, vcctest.Lapses{DoubleCount: true}, "money.6.one-order", Unsafe},
	} {
		inBubble(t, vcctest.Options{Good: true, Lapses: x.l, Odds: 1}, x.card, nil, func(_ *vcctest.Platform, r Report, err error) {
			if got := verdict(r, x.id); got != x.want || err != nil || r.Conforms() {
				t.Errorf("%s: %s is %q (%v), want %q", x.name, x.id, got, err, x.want)
			}
		})
	}
}

// TestAPlatformThatChecksNothing: signs and sessions that anybody could make.
func TestAPlatformThatChecksNothing(t *testing.T) {
	t.Parallel()
	yes := func(r *http.Request) string {
		if strings.HasSuffix(r.URL.Path, "/getToken") {
			return `{"token":"T","expireTime":7200}`
		}
		return `{"state":"S","rev":1}`
	}
	c := Config{
		BaseURL: "http://127.0.0.1/x", AppID: "A", DeviceID: "D", OrgCode: "SU0105", Key: []byte(testKey), Cases: builtInCases(t), Transport: says(yes),
	}
	r, err := Run(t.Context(), c)
	if err != nil || r.Conforms() || verdict(r, "sign.wrong") != Unsafe || verdict(r, "session.none") != Unsafe {
		t.Errorf("%v %+v", err, r.Results)
	}
}

// says is a platform of one function.
type says func(*http.Request) string

func (s says) RoundTrip(r *http.Request) (*http.Response, error) {
	return answered(r, s(r))
}

// TestNoMoneyWithoutATestCard: no call that moves money or books is made
// before somebody named a card for it.
func TestNoMoneyWithoutATestCard(t *testing.T) {
	t.Parallel()
	inBubble(t, vcctest.Options{Good: true}, nil, nil, func(p *vcctest.Platform, r Report, err error) {
		calls := p.Calls()
		if err != nil || calls["4006"]+calls["6002"]+calls["6003"] > 0 {
			t.Errorf("%v, calls %v", err, calls)
		}
		for _, k := range r.Results {
			if strings.HasPrefix(k.ID, "money.") && k.Verdict != NotAsked {
				t.Errorf("%s: %s", k.ID, k.Verdict)
			}
		}
	})
	// A case that would do it cannot be written.
	_, err := ParseCases("x", []byte("[[case]]\nid=\"a\"\ntitle=\"b\"\n[[case.step]]\ncall=\"4006\"\nexpect=[\"46001\"]\n"))
	if err == nil || !strings.Contains(err.Error(), "name its test orders") {
		t.Errorf("a case without orders: %v", err)
	}
	// Orders run out before cases do.
	inBubble(t, vcctest.Options{Good: true}, memoryCard, func(c *Config) { c.Card.Orders = c.Card.Orders[:3] }, func(p *vcctest.Platform, r Report, err error) {
		touched := 0
		for _, o := range p.Orders() {
			if len(o.Trans) > 0 {
				touched++
			}
		}
		if err != nil || r.Orders > 3 || touched > 3 {
			t.Errorf("%v: %d orders used, %d touched", err, r.Orders, touched)
		}
	})
}

func TestAnAddressElsewhereMustBeATestPlatform(t *testing.T) {
	t.Parallel()
	never := says(func(*http.Request) string { t.Error("called"); return "{}" })
	base := Config{BaseURL: "https://api.example/vcc-openapi", AppID: "A", DeviceID: "D", OrgCode: "O", Key: []byte(testKey), Transport: never}
	if _, err := Run(t.Context(), base); !errors.Is(err, ErrNotTest) {
		t.Errorf("%v, want ErrNotTest", err)
	}
	for name, change := range map[string]func(*Config){
		"http elsewhere":  func(c *Config) { c.BaseURL, c.TestPlatform = "http://api.example/x", true },
		"a key in it":     func(c *Config) { c.BaseURL = "http://u:p@127.0.0.1/x" },
		"no host":         func(c *Config) { c.BaseURL = "x" },
		"no identity":     func(c *Config) { c.BaseURL, c.AppID = "http://127.0.0.1/x", "" },
		"no key":          func(c *Config) { c.BaseURL, c.Key = "http://127.0.0.1/x", nil },
		"a negative rate": func(c *Config) { c.BaseURL, c.Rate = "http://127.0.0.1/x", -1 },
		"like loopback":   func(c *Config) { c.BaseURL = "http://127.0.0.1.example/x" },
	} {
		c := base
		change(&c)
		if _, err := Run(t.Context(), c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestItKeepsThePace: two calls a second, getToken as a kiosk guards its own.
func TestItKeepsThePace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var at, tokens []time.Time
		p := vcctest.New(vcctest.Options{Good: true, BaseKey: testKey, Seq: vcctest.SeqShort, Sign: vcctest.SignReading{ExcludeKeys: true, Hex: vcctest.HexLower}})
		next := p.RoundTripper()
		c := Config{
			BaseURL: "http://127.0.0.1/x", AppID: "APPX", DeviceID: "D", OrgCode: "SU0105", Key: []byte(testKey), Rate: 2, TokenEvery: 30 * time.Second,
			Transport: through(func(r *http.Request) (*http.Response, error) {
				at = append(at, time.Now())
				if strings.HasSuffix(r.URL.Path, "/getToken") {
					tokens = append(tokens, time.Now())
				}
				return next.RoundTrip(r)
			}),
		}
		if _, err := Run(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(at); i++ {
			if d := at[i].Sub(at[i-1]); d < 500*time.Millisecond {
				t.Errorf("call %d after %v", i, d)
			}
		}
		for i := 4; i < len(tokens); i++ {
			if d := tokens[i].Sub(tokens[i-4]); d < 2*time.Minute {
				t.Errorf("five sessions asked for in %v", d)
			}
		}
		if len(tokens) < 6 {
			t.Errorf("only %d getTokens: nothing was guarded", len(tokens))
		}
	})
}

type through func(*http.Request) (*http.Response, error)

func (f through) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestHostileAnswersEndInAnError: whatever comes, Run ends and says nothing of
// it but its outcome.
func TestHostileAnswersEndInAnError(t *testing.T) {
	t.Parallel()
	const evil = "EVIL\x1b[2J"
	for name, body := range map[string]string{
		"web page":         "<html>" + evil + "</html>",
		"nothing":          "",
		"no object":        `[1]`,
		"broken":           `{"token":`,
		"refusal":          `{"resultCode":"20002","resultMsg":"` + `EVIL"}`,
		"code of a text":   `{"resultCode":"` + `EVIL","token":"x"}`,
		"token of numbers": `{"token":7,"expireTime":{"a":1}}`,
		"deep":             strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000),
	} {
		c := Config{
			BaseURL: "http://127.0.0.1/x", AppID: "A", DeviceID: "D", OrgCode: "SU0105", Key: []byte(testKey), Cases: builtInCases(t),
			Transport: says(func(*http.Request) string { return body }),
		}
		r, err := Run(t.Context(), c)
		var b strings.Builder
		if werr := r.Write(&b); werr != nil {
			t.Error(werr)
		}
		if out := b.String() + fmt.Sprint(err); strings.Contains(out, "EVIL") || strings.Contains(out, testKey) {
			t.Errorf("%s: %s", name, out)
		}
		if r.Calls > 200 || err == nil && r.Conforms() && len(r.Results) > 0 && !slices.ContainsFunc(r.Results, func(x Result) bool { return x.Verdict == NotAsked }) {
			t.Errorf("%s: %d calls, %v", name, r.Calls, err)
		}
	}
	lost := through(func(*http.Request) (*http.Response, error) { return nil, errors.New("dial " + testKey) })
	_, err := Run(t.Context(), Config{BaseURL: "http://127.0.0.1/x", AppID: "A", DeviceID: "D", OrgCode: "O", Key: []byte(testKey), Transport: lost})
	if !errors.Is(err, ErrNoAnswer) || strings.Contains(err.Error(), testKey) {
		t.Errorf("no answer: %v", err)
	}
	wrong := Config{BaseURL: "http://127.0.0.1/x", AppID: "A", DeviceID: "D", OrgCode: "O", Key: []byte("wrong-key"), Transport: vcctest.New(vcctest.Options{Good: true, BaseKey: testKey}).RoundTripper()}
	if r, err := Run(t.Context(), wrong); !errors.Is(err, ErrNoSession) || r.Calls > 20 {
		t.Errorf("a wrong key: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ended, wrong); err == nil {
		t.Error("ran after its context had ended")
	}
}

func TestBadCasesAreNamed(t *testing.T) {
	t.Parallel()
	const head = "[[case]]\nid=\"a.b\"\ntitle=\"t\"\norders=1\n[[case.step]]\n"
	for text, want := range map[string]string{
		head + "call=\"4006\"\nexpect=[\"ok\"]\nwat=1": `x:8:1: unknown key "case.step.wat"`,
		"[[case":                                                   "x:1:",
		"[[case]]\nid=\"A\"\ntitle=\"t\"":                          "id: want",
		"[[case]]\nid=\"a\"\ntitle=\"t\"":                          "no step",
		head + "call=\"9999\"\nexpect=[\"ok\"]":                    "no interface",
		head + "call=\"7001\"\nexpect=[\"ok\"]":                    "no interface",
		head + "call=\"1002\"\nexpect=[\"ok\"]":                    "sessions are opened",
		head + "call=\"3010\"":                                     "expect: missing",
		head + "call=\"3010\"\nexpect=[\"fine\"]":                  `outcome "fine"`,
		head + "call=\"3010\"\nexpect=[\"ok\"]\nmethod=\"PUT\"":    "method",
		head + "call=\"3010\"\nexpect=[\"ok\"]\npath=\"x?y\"":      "not a path",
		head + "call=\"3010\"\nexpect=[\"ok\"]\norder=2":           "the case has 1",
		head + "call=\"3010\"\nexpect=[\"ok\"]\nsame=\"x\"":        "no earlier step",
		head + "call=\"3010\"\nexpect=[\"ok\"]\nwait=\"long\"":     "wait",
		head + "call=\"3010\"\ncleanup=true":                       "no step is judged",
		head + "call=\"3010\"\nexpect=[\"ok\"]\nsession=\"other\"": "session and sign",
		strings.Repeat(head+"call=\"3010\"\nexpect=[\"ok\"]\n", 2): "two cases",
	} {
		if _, err := ParseCases("x", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v, want %q", text, err, want)
		}
	}
}

func TestATestCardIsChecked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, x := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"good memory card": {"[card]\nno=\"31\"\ndata=\"00000000\"\ncount=[0,2]\ngas=[2,2]\n[[order]]\nno=\"T1\"\namount=100\ngas=30", 0o644, ""},
		"good purse":       {"[card]\nkind=\"purse\"\nno=\"86\"\nload_key=\"00112233445566778899AABBCCDDEEFF\"", 0o600, ""},
		"key for all":      {"[card]\nkind=\"purse\"\nno=\"86\"\nload_key=\"00112233445566778899AABBCCDDEEFF\"", 0o644, "chmod 0600"},
		"no content":       {"[card]\nno=\"31\"\ncount=[0,2]\ngas=[2,2]", 0o600, "card.data"},
		"field outside":    {"[card]\nno=\"31\"\ndata=\"0000\"\ncount=[1,2]\ngas=[0,1]", 0o600, "card.count"},
		"unknown key":      {"[card]\nnumber=\"31\"", 0o600, "strict"},
		"order for free":   {"[card]\nno=\"31\"\ndata=\"00000000\"\ncount=[0,2]\ngas=[2,2]\n[[order]]\nno=\"T1\"", 0o600, "order"},
		"unknown kind":     {"[card]\nkind=\"coin\"\nno=\"1\"", 0o600, "memory or purse"},
	} {
		path := filepath.Join(dir, strings.ReplaceAll(name, " ", "_"))
		if err := os.WriteFile(path, []byte(x.text), x.mode); err != nil {
			t.Fatal(err)
		}
		_, err := ReadTestCard(path)
		if (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
	}
}
