package conform

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"vcckiosk/protocol/sign"
)

// Reading is what was found to a question.
type Reading struct {
	Question string `json:"question"`
	Found    string `json:"found"`
	// Config is the line of kioskd.toml it asks for, "" where the default does.
	Config string `json:"config,omitempty"`
}

// Found words that are not a reading.
const (
	neither  = "neither"
	untold   = "cannot be told"
	nochange = "no difference" // both readings sign the same
)

// finder asks the questions.
type finder struct {
	*caller
	s     *session
	probe call // a read-only call this platform has
	found []Reading
	// checked says that a wrong sign is refused: without it no reading can be told.
	checked bool
}

func (f *finder) note(question, found, config string) {
	f.found = append(f.found, Reading{question, found, config})
	f.say(question + ": " + found)
}

// with is the probe with further parameters. Names a platform does not know
// are signed all the same: the sign is over every parameter.
func (f *finder) with(params map[string]string) call {
	k := f.probe
	k.session = f.s
	k.params = map[string]string{}
	maps.Copy(k.params, f.probe.params)
	maps.Copy(k.params, params)
	return k
}

// probes are read-only calls, the one that says most first.
func (c *caller) probes() []call {
	return []call{
		{code: "3007", method: http.MethodGet, path: "/subs/querySubs", params: map[string]string{"orgCode": c.OrgCode, "pageIndex": "1", "pageSize": "10"}},
		{code: "6005", method: http.MethodGet, path: "/device/time"},
		{code: "3005", method: http.MethodGet, path: "/subs/getSubsByCode", params: map[string]string{"orgCode": c.OrgCode, "subsCode": "1400123456"}},
		{code: "6006", method: http.MethodGet, path: "/iccard/queryOrder", params: map[string]string{"orderNo": "CONFORM0"}},
	}
}

// findProbe takes the first one that demands a token, and the form of the
// sequence number it takes: of 1001 two forms are the same, of this one they
// are not.
func (f *finder) findProbe(ctx context.Context) (bool, error) {
	forms := seqForms()
	slices.SortStableFunc(forms, func(a, b seqForm) int { // the one getToken took first
		return cmp.Compare(btoi(a.name != f.manner.seq.name), btoi(b.name != f.manner.seq.name))
	})
	for _, p := range f.probes() {
		f.say("looking for a read-only interface: " + p.code)
		for _, form := range forms {
			m := f.manner
			m.seq, p.manner = form, &m
			a, err := f.do(ctx, p) // without a token
			if err != nil {
				return false, err
			}
			if o := a.outcome(); refusesSign(o) {
				f.manner.seq, p.manner, f.probe = form, nil, p
				return true, nil
			} else if notOffered(o) || o == "page" || o == "lost" {
				break
			}
		}
	}
	return false, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// try makes one call in a changed manner and tells whether it passed.
func (f *finder) try(ctx context.Context, k call, change func(*manner)) (bool, error) {
	m := f.manner
	if change != nil {
		change(&m)
	}
	k.manner = &m
	a, err := f.do(ctx, k)
	return a.passed(), err
}

// either asks by two readings: the first that passes is it. params bring out
// the difference; when both sign alike there is none.
func (f *finder) either(ctx context.Context, question string, params map[string]string, config string, names [2]string, change func(*manner, bool)) error {
	if !f.checked {
		f.note(question, untold, "")
		return nil
	}
	k := f.with(params)
	var plain [2]string
	for i, on := range []bool{false, true} {
		m := f.manner
		change(&m, on)
		b, err := sign.Canonical(k.params, nil, m.options)
		if err != nil {
			return err
		}
		plain[i] = string(b)
	}
	if plain[0] == plain[1] {
		f.note(question, nochange, "")
		return nil
	}
	for i, on := range []bool{false, true} {
		pass, err := f.try(ctx, k, func(m *manner) { change(m, on) })
		if err != nil {
			return err
		}
		if pass {
			change(&f.manner, on)
			if i == 0 {
				config = ""
			}
			f.note(question, names[i], config)
			return nil
		}
	}
	f.note(question, neither, "")
	return nil
}

// readings asks all questions.
func (f *finder) readings(ctx context.Context) error {
	if f.ChannelID != "" {
		f.note("auth", "device (1001)", `[auth] mode = "device"`)
	} else {
		f.note("auth", "enterprise (1002)", "")
	}
	f.note("token.expireTime", life(f.s.answer), "")
	f.note("token.sessionKey", map[bool]string{true: "given", false: "not given"}[f.s.key != ""], "")
	f.note("clock", skew(f.s.answer, time.Now()), "")
	ok, err := f.findProbe(ctx)
	if err != nil {
		return err
	}
	if !ok {
		f.note("sign of later calls", "cannot be told: no read-only interface demands a token", "")
		return nil
	}
	for _, ask := range []func(context.Context) error{f.password, f.requests, f.place, f.letters, f.signed, f.seqs, f.duplicate, f.results, f.pages, f.oneToken} {
		if err := ask(ctx); err != nil {
			return err
		}
	}
	return nil
}

// password finds what later calls are signed with.
func (f *finder) password(ctx context.Context) error {
	type way struct {
		name, config string
		password     []byte
	}
	var ways []way
	if f.s.key != "" {
		ways = append(ways, way{"session key", "", []byte(f.s.key)}, way{"token", `[sign] password = "token"`, []byte(f.s.token)})
	} else {
		ways = append(ways, way{"token", "", []byte(f.s.token)})
	}
	for _, w := range append(ways, way{"base key", `[sign] password = "base"`, f.Key}) {
		k := f.with(nil)
		k.password = w.password
		pass, err := f.try(ctx, k, nil)
		if err != nil {
			return err
		}
		if pass {
			f.s.password = w.password
			f.note("sign.password", w.name, w.config)
			return nil
		}
	}
	f.note("sign.password", neither, "")
	return nil
}

// requests: must later calls be signed, and is a wrong sign refused.
func (f *finder) requests(ctx context.Context) error {
	k := f.with(nil)
	k.unsigned = true
	bare, err := f.try(ctx, k, nil)
	if err != nil {
		return err
	}
	k = f.with(nil)
	k.sign = strings.Repeat("0", 32)
	wrong, err := f.try(ctx, k, nil)
	if err != nil {
		return err
	}
	f.checked = !wrong
	switch {
	case bare && wrong:
		f.note("sign.requests", "not checked", `[sign] requests = "token_only"`)
	case bare:
		f.note("sign.requests", "only getToken must be signed", `[sign] requests = "token_only"`)
	default:
		f.note("sign.requests", "every call must be signed", "")
	}
	return nil
}

// place: where a sign is looked for, told by a wrong one in the other place.
func (f *finder) place(ctx context.Context) error {
	if !f.checked {
		f.note("sign.place", untold, "")
		return nil
	}
	zero := strings.Repeat("0", 32)
	for _, w := range []struct{ name, config, inQuery, inHeader, places string }{
		{"query", "", "RIGHT", zero, "query"},
		{"header", `[sign] place = "header"`, zero, "RIGHT", "header"},
	} {
		k := f.with(nil)
		k.inQuery, k.inHeader = w.inQuery, w.inHeader
		pass, err := f.try(ctx, k, nil)
		if err != nil {
			return err
		}
		if pass {
			f.places = w.places
			f.note("sign.place", w.name, w.config)
			return nil
		}
	}
	f.note("sign.place", neither, "")
	return nil
}

// letters: which case of hex digits.
func (f *finder) letters(ctx context.Context) error {
	if !f.checked {
		f.note("sign.hex", untold, "")
		return nil
	}
	was := f.options.LowerHex
	other, err := f.try(ctx, f.with(nil), func(m *manner) { m.options.LowerHex = !was })
	if err != nil {
		return err
	}
	switch {
	case other:
		f.options.LowerHex = false
		f.note("sign.hex", "either case", "")
	case was:
		f.note("sign.hex", "lower case", `[sign] lower_hex = true`)
	default:
		f.note("sign.hex", "upper case", "")
	}
	return nil
}

// signed: what of a request is digested. Values are asked before charset,
// since an encoded value can be of either.
func (f *finder) signed(ctx context.Context) error {
	keys := "keys and values"
	config := ""
	if f.options.ExcludeKeys {
		keys, config = "values only", `[sign] exclude_keys = true`
	}
	f.note("sign.keys", keys, config)
	for _, q := range []struct {
		question, config string
		params           map[string]string
		names            [2]string
		change           func(*manner, bool)
	}{
		{
			"sign.empty", `[sign] keep_empty = true`,
			map[string]string{"areaCode": ""},
			[2]string{"left out", "its key takes part"},
			func(m *manner, on bool) { m.options.KeepEmpty = on },
		},
		{
			"sign.sort", `[sign] sort = "fold"`,
			map[string]string{"userType": "MEMBER", "username": "u"},
			[2]string{"by bytes", "letter case ignored"},
			func(m *manner, on bool) {
				if m.options.Sort = sign.ByteOrder; on {
					m.options.Sort = sign.FoldOrder
				}
			},
		},
		{
			"sign.value", `[sign] value = "encoded"`,
			map[string]string{"fullAddr": "A&B=1 C"},
			[2]string{"raw", "encoded"},
			func(m *manner, on bool) {
				if m.options.Value = sign.Raw; on {
					m.options.Value = sign.Encoded
				}
			},
		},
		{
			"sign.charset", `[sign] charset = "gbk"`,
			map[string]string{"name": "张三"},
			[2]string{"utf-8", "gbk"},
			func(m *manner, on bool) {
				if m.options.Charset = sign.UTF8; on {
					m.options.Charset = sign.GBK
				}
			},
		},
	} {
		if err := f.either(ctx, q.question, q.params, q.config, q.names, q.change); err != nil {
			return err
		}
	}
	return nil
}
