package conform

import (
	"context"
	"net/http"
	"strings"

	"vcckiosk/protocol/sign"
)

// seqs: which forms of the sequence number are taken.
func (f *finder) seqs(ctx context.Context) error {
	k := f.with(nil)
	a, err := f.do(ctx, k)
	if err != nil {
		return err
	}
	usual := a.outcome()
	var taken []string
	config := ""
	for _, form := range seqForms() {
		m := f.manner
		m.seq = form
		k.manner = &m
		a, err := f.do(ctx, k)
		if err != nil {
			return err
		}
		if a.outcome() != usual {
			continue
		}
		if len(taken) == 0 {
			config = form.config
		}
		taken = append(taken, form.name)
	}
	if len(taken) == 0 {
		taken = []string{neither}
	}
	f.note("seq", strings.Join(taken, "; "), config)
	k = f.with(nil)
	k.seq = "nonsense"
	if a, err = f.do(ctx, k); err != nil {
		return err
	}
	found := "refused with " + a.outcome()
	if a.outcome() == usual {
		found = "taken"
	}
	f.note("seq that is none", found, "")
	return nil
}

// duplicate: what becomes of a sequence number that was used.
func (f *finder) duplicate(ctx context.Context) error {
	k := f.with(nil)
	k.seq = f.newSeq(f.manner.seq, k.code)
	first, err := f.do(ctx, k)
	if err != nil {
		return err
	}
	second, err := f.do(ctx, k)
	if err != nil {
		return err
	}
	found := "refused with " + second.outcome()
	if second.outcome() == first.outcome() {
		found = "taken again"
	}
	f.note("seq used twice", found, "")
	return nil
}

// results: how success and refusal carry their code, and whether answers are
// signed.
func (f *finder) results(ctx context.Context) error {
	good, err := f.do(ctx, f.with(nil))
	if err != nil {
		return err
	}
	bad, err := f.do(ctx, func() call {
		k := f.with(nil)
		k.sign, k.session = strings.Repeat("0", 32), &session{token: "none", password: f.Key}
		return k
	}())
	if err != nil {
		return err
	}
	form := good.codeForm
	if good.outcome() != "ok" { // the probe found nothing: getToken was a success
		form = f.s.answer.codeForm
	}
	f.note("resultCode of a success", map[string]string{"absent": "absent", "text": `"0"`, "number": "0"}[form], "")
	f.note("resultCode of a refusal", map[string]string{"absent": "absent", "text": "text", "number": "number"}[bad.codeForm], "")
	f.note("status of a refusal", http.StatusText(bad.status), "")
	f.note("sign of answers", f.signedBy(good), "")
	return nil
}

// signedBy finds what an answer is signed with.
func (f *finder) signedBy(a answer) string {
	given := a.text("sign")
	if given == "" {
		return "none"
	}
	params := map[string]string{}
	for name, raw := range a.object {
		if len(raw) > 0 && raw[0] != '{' && raw[0] != '[' && string(raw) != "null" {
			params[name] = a.text(name)
		}
	}
	plain := f.options
	plain.Value, plain.KeepEmpty = sign.Raw, false
	for _, o := range []sign.Options{plain, f.options} {
		message, err := sign.Canonical(params, nil, o)
		if err != nil {
			continue
		}
		for _, w := range []struct {
			name     string
			password []byte
		}{{"as requests are", f.s.password}, {"with the session key", []byte(f.s.key)}, {"with the token", []byte(f.s.token)}, {"with the base key", f.Key}} {
			if len(w.password) > 0 && sign.Equal(sign.Sum(message, w.password), given) {
				return w.name
			}
		}
	}
	return "there, and wrong in every reading"
}

// pages: what becomes of a page size above the documented hundred.
func (f *finder) pages(ctx context.Context) error {
	k := f.probes()[0]
	k.session = f.s
	k.params["pageSize"] = "1000"
	a, err := f.do(ctx, k)
	if err != nil {
		return err
	}
	found := "answered with " + a.outcome()
	switch size := a.text("pageSize"); {
	case notOffered(a.outcome()):
		found = "not offered"
	case a.outcome() == "ok" && size != "":
		found = "becomes " + size
	}
	f.note("pageSize 1000 of 3007", found, "")
	return nil
}

// oneToken: does a new token end the one before. It is asked last: the first
// session may be gone.
func (f *finder) oneToken(ctx context.Context) error {
	old := f.s
	s, err := f.again(ctx, old)
	if err != nil {
		return err
	}
	f.s = s
	k := f.with(nil)
	k.session = old
	alive, err := f.try(ctx, k, nil)
	if err != nil {
		return err
	}
	f.note("token.live", map[bool]string{true: "several at once", false: "one: a new one ends the one before"}[alive], "")
	return nil
}
