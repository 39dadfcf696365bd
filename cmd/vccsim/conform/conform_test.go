package conform

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"maps"
	mrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"vcckiosk/protocol/vcctest"
)

const testKey = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6"

// serve puts a platform on a real port and returns what conform is told of it.
func serve(t *testing.T, o vcctest.Options) (*vcctest.Platform, Config) {
	t.Helper()
	o.BaseKey = testKey
	p := vcctest.New(o)
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return p, Config{
		BaseURL: s.URL + "/vcc-openapi", AppID: "APPX", DeviceID: "QC000X", OrgCode: "SU0105", Key: []byte(testKey), Transport: transport,
	}
}

// expected is what must be found, out of the options a platform was made with.
func expected(o vcctest.Options, device bool) map[string]string {
	s := o.Sign
	key := o.Token.SessionKey || device
	pick := func(on bool, yes, no string) string {
		if on {
			return yes
		}
		return no
	}
	m := map[string]string{
		"auth":             pick(device, "device (1001)", "enterprise (1002)"),
		"token.sessionKey": pick(key, "given", "not given"),
		"token.live":       pick(o.Token.KeepOld, "several at once", "one: a new one ends the one before"),
		"sign.keys":        pick(s.ExcludeKeys, "values only", "keys and values"),
		"sign.sort":        pick(s.FoldOrder, "letter case ignored", "by bytes"),
		"sign.value":       pick(s.Encoded, "encoded", "raw"),
		"sign.charset":     pick(s.GBK, "gbk", "utf-8"),
		"sign.empty":       pick(s.KeepEmpty, "its key takes part", "left out"),
		"sign.place":       pick(s.Header, "header", "query"),
		"sign.hex":         [...]string{"either case", "upper case", "lower case"}[s.Hex],
		"sign.requests":    pick(s.TokenOnly, "only getToken must be signed", "every call must be signed"),
		"sign.password":    pick(key, "session key", "token"),
		"sign of answers":  pick(o.SignAnswers, "as requests are", "none"),

		"resultCode of a success": [...]string{"absent", `"0"`, "0"}[o.ResultCode],
		"resultCode of a refusal": pick(o.ResultCode == vcctest.ResultNumber, "number", "text"),
		"seq used twice":          "refused with 10056",
		"seq that is none":        "refused with 30002",
		"pageSize 1000 of 3007":   "becomes 10",
		"status of a refusal":     "OK",
		"clock":                   "right within 5 minutes",
	}
	switch s.Password {
	case vcctest.PasswordToken:
		m["sign.password"] = "token"
	case vcctest.PasswordBase:
		m["sign.password"] = "base key"
	}
	if s.ExcludeKeys { // an empty value without its key is nothing
		m["sign.empty"] = nochange
	}
	m["token.expireTime"] = [...]string{"seconds", "epoch in seconds", "epoch in milliseconds", "absent"}[o.Token.Form]
	if o.Token.AsString && o.Token.Form != vcctest.ExpireAbsent {
		m["token.expireTime"] += ", as text"
	}
	var forms []string
	for i, f := range []vcctest.SeqForms{vcctest.SeqOwn, vcctest.SeqFixed, vcctest.SeqFive, vcctest.SeqShort} {
		if o.Seq == 0 || o.Seq&f != 0 {
			forms = append(forms, seqForms()[i].name)
		}
	}
	m["seq"] = strings.Join(forms, "; ")
	return m
}

// drawn is a platform nobody chose.
func drawn(r *mrand.Rand) (o vcctest.Options, device bool) {
	coin := func() bool { return r.IntN(2) == 0 }
	o = vcctest.Options{
		Good: true, Seed: r.Uint64(), ResultCode: vcctest.ResultForm(r.IntN(3)), SignAnswers: coin(), Seq: vcctest.SeqForms(r.IntN(16)),
		Sign: vcctest.SignReading{
			ExcludeKeys: coin(), FoldOrder: coin(), Encoded: coin(), KeepEmpty: coin(), GBK: coin(), Header: coin(), TokenOnly: coin(),
			Hex: vcctest.HexCase(r.IntN(3)), Password: vcctest.PasswordForm(r.IntN(4)),
		},
		Token: vcctest.TokenOptions{Form: vcctest.ExpireForm(r.IntN(4)), AsString: coin(), SessionKey: coin(), KeepOld: coin()},
	}
	device = coin()
	if o.Sign.Password == vcctest.PasswordSession {
		o.Token.SessionKey = true // without one it serves nobody
	}
	return o, device
}

// TestItTellsPlatformsApart: ten platforms over HTTP, three of them drawn when
// the test runs.
func TestItTellsPlatformsApart(t *testing.T) {
	t.Parallel()
	good := func(change func(*vcctest.Options)) vcctest.Options {
		o := vcctest.Options{Good: true}
		change(&o)
		return o
	}
	type platform struct {
		name   string
		o      vcctest.Options
		device bool
	}
	all := []platform{
		{"the document's", good(func(*vcctest.Options) {}), false},
		{"a device's session", good(func(o *vcctest.Options) { o.SignAnswers = true }), true},
		{"values only, by a tree map", good(func(o *vcctest.Options) {
			o.Sign = vcctest.SignReading{ExcludeKeys: true, FoldOrder: true}
			o.ResultCode = vcctest.ResultString
		}), false},
		{"encoded GBK, empties kept", good(func(o *vcctest.Options) {
			o.Sign = vcctest.SignReading{Encoded: true, GBK: true, KeepEmpty: true}
			o.Token = vcctest.TokenOptions{Form: vcctest.ExpireEpoch, AsString: true}
		}), false},
		{"base key for ever, in a header", good(func(o *vcctest.Options) {
			o.Sign = vcctest.SignReading{Password: vcctest.PasswordBase, Header: true, Hex: vcctest.HexLower}
			o.Token = vcctest.TokenOptions{SessionKey: true, KeepOld: true}
			o.ResultCode = vcctest.ResultNumber
		}), false},
		{"token only, five digits of code", good(func(o *vcctest.Options) {
			o.Sign = vcctest.SignReading{TokenOnly: true, GBK: true, Hex: vcctest.HexUpper}
			o.Token = vcctest.TokenOptions{Form: vcctest.ExpireAbsent}
			o.Seq = vcctest.SeqFive
		}), false},
		{"of the drafts", good(func(o *vcctest.Options) {
			o.Sign = vcctest.SignReading{Password: vcctest.PasswordToken}
			o.Token = vcctest.TokenOptions{Form: vcctest.ExpireMillis, SessionKey: true}
			o.Seq, o.ResultCode = vcctest.SeqFixed|vcctest.SeqShort, vcctest.ResultString
		}), false},
	}
	for range 3 {
		var b [8]byte
		_, _ = rand.Read(b[:])
		seed := binary.BigEndian.Uint64(b[:])
		o, device := drawn(mrand.New(mrand.NewPCG(seed, 1)))
		all = append(all, platform{fmt.Sprintf("drawn by seed %d", seed), o, device})
	}
	for _, x := range all {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			identify(t, x.o, x.device)
		})
	}
}

// identify compares what is found with what a platform is.
func identify(t *testing.T, o vcctest.Options, device bool) {
	t.Helper()
	_, c := serve(t, o)
	if device {
		c.AppID, c.ChannelID = "", "CH01"
	}
	r, err := Run(t.Context(), c)
	if err != nil {
		t.Fatalf("%+v: %v after %d calls", o, err, r.Calls)
	}
	got := map[string]string{}
	for _, x := range r.Readings {
		got[x.Question] = x.Found
	}
	want := expected(o, device)
	for _, q := range slices.Sorted(maps.Keys(want)) {
		if got[q] != want[q] {
			t.Errorf("%s: found %q, is %q", q, got[q], want[q])
		}
		delete(got, q)
	}
	if len(got) > 0 {
		t.Errorf("not expected: %v", got)
	}
	t.Logf("%d calls; %+v %+v seq %d", r.Calls, o.Sign, o.Token, o.Seq)
	if r.Calls > 80 {
		t.Errorf("%d calls: too many for a platform that counts them", r.Calls)
	}
}

// TestManyDrawnPlatforms does it with more of them.
func TestManyDrawnPlatforms(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		o, device := drawn(mrand.New(mrand.NewPCG(seed, 2)))
		t.Run(fmt.Sprint(seed), func(t *testing.T) { identify(t, o, device) })
	}
}

// TestOtherPathsAndProbes: interfaces elsewhere, and a platform that has fewer.
func TestOtherPathsAndProbes(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name   string
		o      vcctest.Options
		paths  map[string]string
		differ map[string]string
	}{
		{"elsewhere", vcctest.Options{Endpoints: map[string]string{"1002": "/login", "3007": "/find"}}, map[string]string{"1002": "/login", "3007": "/find"}, nil},
		{"without 3007", vcctest.Options{Endpoints: map[string]string{"3007": "/find"}}, nil, map[string]string{"pageSize 1000 of 3007": "not offered"}},
		{
			"without 3007 and 6005",
			vcctest.Options{Endpoints: map[string]string{"3007": "/find", "6005": "/clock"}},
			nil,
			map[string]string{"pageSize 1000 of 3007": "not offered"},
		},
	} {
		x.o.Good, x.o.Sign.GBK = true, true
		_, c := serve(t, x.o)
		c.Paths = x.paths
		r, err := Run(t.Context(), c)
		if err != nil {
			t.Errorf("%s: %v", x.name, err)
			continue
		}
		want := expected(x.o, false)
		maps.Copy(want, x.differ)
		for _, f := range r.Readings {
			if f.Found != want[f.Question] {
				t.Errorf("%s: %s: found %q, is %q", x.name, f.Question, f.Found, want[f.Question])
			}
		}
	}
	_, c := serve(t, vcctest.Options{Good: true})
	for _, bad := range []map[string]string{{"9999": "/x"}, {"3007": "x"}, {"3007": "/x?y"}} {
		c.Paths = bad
		if _, err := Run(t.Context(), c); err == nil {
			t.Errorf("%v accepted", bad)
		}
	}
}

// FuzzCases: no file of cases does anything but fail or be valid.
func FuzzCases(f *testing.F) {
	f.Add([]byte("[[case]]\nid=\"a\"\ntitle=\"b\"\n[[case.step]]\ncall=\"3005\"\nexpect=[\"ok\"]\n"))
	for _, n := range []string{"cases/calls.toml", "cases/money.toml"} {
		b, err := builtIn.ReadFile(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		cs, err := ParseCases("x", b)
		if err != nil {
			return
		}
		for _, c := range cs {
			for _, s := range c.Steps {
				if s.moves() && c.Orders == 0 {
					t.Errorf("case %q moves money without orders", c.ID)
				}
			}
		}
	})
}

func answered(r *http.Request, body string) (*http.Response, error) {
	w := httptest.NewRecorder()
	w.WriteString(body)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}
