package conform

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"vcckiosk/protocol"
	"vcckiosk/protocol/catalogue"
)

// Verdict of a case.
type Verdict string

// Verdicts.
const (
	OK         Verdict = "ok"
	Differs    Verdict = "differs"
	Unsafe     Verdict = "unsafe"
	NotOffered Verdict = "not offered"
	NotAsked   Verdict = "not asked"
)

// Result is what came of a case.
type Result struct {
	ID      string  `json:"id"`
	Title   string  `json:"title"`
	Clause  string  `json:"clause,omitempty"`
	Verdict Verdict `json:"verdict"`
	// Why says which step was answered how, and what was wanted; or why a case
	// was not asked.
	Why string `json:"why,omitempty"`
}

// player plays one case.
type player struct {
	*caller
	bench   *bench
	orders  []TestOrder
	numbers map[string]string
	answers map[string]answer
	last    answer // newest 4006 that was ok
	seq     string
	sent    call // the newest
	// challenges of 3010, oldest first.
	challenges []string
}

// play plays one case. Its error is the context's.
func (c *caller) play(ctx context.Context, b *bench, k Case) (Result, error) {
	r := Result{ID: k.ID, Title: k.Title, Clause: k.Clause, Verdict: OK}
	p := &player{caller: c, bench: b, numbers: map[string]string{}, answers: map[string]answer{}}
	if k.Orders > 0 {
		switch {
		case b == nil:
			r.Verdict, r.Why = NotAsked, "needs a test card and orders"
			return r, nil
		case k.Card != "" && k.Card != b.Card.Kind:
			r.Verdict, r.Why = NotAsked, "is about a "+k.Card+" card"
			return r, nil
		}
		if p.orders = b.take(k.Orders); p.orders == nil {
			r.Verdict, r.Why = NotAsked, "no test orders left"
			return r, nil
		}
	}
	c.say(k.ID)
	for i, step := range k.Steps {
		if r.Verdict != OK && !step.Cleanup {
			continue
		}
		if step.Wait != "" {
			if ok, err := p.pause(ctx); !ok || err != nil {
				r.Verdict, r.Why = NotAsked, "would wait longer than --max-wait"
				if err != nil {
					return r, err
				}
				continue
			}
		}
		a, err := p.step(ctx, step)
		if err != nil {
			if ctx.Err() != nil {
				return r, err
			}
			r.Verdict, r.Why = NotAsked, fmt.Sprintf("step %d: %v", i+1, err)
			continue
		}
		if step.Cleanup {
			continue
		}
		if v, why := p.judge(step, a); v != OK {
			r.Verdict, r.Why = v, fmt.Sprintf("step %d (%s): %s", i+1, step.Call, why)
		}
		if step.As != "" {
			p.answers[step.As] = a
		}
	}
	return r, nil
}

// pause waits until the last authorisation is over.
func (p *player) pause(ctx context.Context) (bool, error) {
	n, err := strconv.Atoi(p.last.text("authExpire"))
	d := time.Duration(n+1) * time.Second
	if err != nil || d > p.MaxWait {
		return false, nil
	}
	p.say("waiting " + d.String() + " for an authorisation to expire")
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-t.C:
		return true, nil
	}
}

func (p *player) step(ctx context.Context, s Step) (answer, error) {
	k, err := p.build(s)
	if err != nil {
		return answer{}, err
	}
	a, err := p.do(ctx, k)
	if o := a.outcome(); err == nil && s.Session == "" && s.Sign == "" && oneOf(o, "20001", "40058") {
		// Ended by its age, or by another holder: one more, as a kiosk does.
		if p.live, err = p.again(ctx, p.live); err != nil {
			return a, err
		}
		k.session, k.seq = p.live, p.newSeq(p.manner.seq, k.code)
		a, err = p.do(ctx, k)
	}
	if err != nil {
		return a, err
	}
	if c := a.text("challenge"); s.Call == "3010" && c != "" {
		p.challenges = append(p.challenges, c)
	}
	if s.Call == "4006" && a.outcome() == "ok" {
		p.last = a
	}
	if s.Loads && a.outcome() == "ok" && p.bench != nil && p.bench.content != nil {
		p.bench.load(p.last)
	}
	return a, nil
}

// build makes the request of a step.
func (p *player) build(s Step) (call, error) {
	i, _ := catalogue.Find(s.Call)
	k := call{code: i.Code, method: i.Method, path: i.Path, session: p.live}
	if s.Method != "" {
		k.method = s.Method
	}
	if s.Path != "" {
		k.path, k.elsewhere = s.Path, true
	}
	switch s.Session {
	case "none":
		k.session, k.password = nil, p.live.password
	case "wrong":
		k.session = &session{token: "conformwrongtoken000", password: p.live.password}
	}
	switch s.Sign {
	case "none":
		k.unsigned = true
	case "wrong":
		k.sign = strings.Repeat("0", 32)
	}
	switch s.Seq {
	case "":
		k.seq = p.newSeq(p.manner.seq, i.Code)
	case "used":
		k.seq = p.seq
	default:
		k.seq = s.Seq
	}
	p.seq = k.seq
	fields, err := p.fields(i, s)
	if err != nil {
		return call{}, err
	}
	switch {
	case s.Repeat:
		k.body, k.params = p.sent.body, p.sent.params
	case s.Body != "":
		k.body = []byte(s.Body)
	case i.Method == catalogue.Post:
		if k.body, err = json.Marshal(fields); err != nil {
			return call{}, err
		}
	default:
		k.params = map[string]string{}
		for n, v := range fields {
			k.params[n] = fmt.Sprint(v)
		}
	}
	if k.method == http.MethodGet {
		k.body = nil
	}
	p.sent = k
	return k, nil
}

// fields are a call's: required ones by the catalogue, those of a top-up by
// the test card, then what the step says.
func (p *player) fields(i catalogue.Interface, s Step) (map[string]any, error) {
	m := map[string]any{}
	for _, f := range i.Request {
		if f.Required && !strings.Contains(f.Name, ".") {
			m[f.Name] = catalogue.Example(f)
		}
	}
	own := map[string]any{"orgCode": p.OrgCode, "deviceId": p.DeviceID}
	if p.bench != nil {
		maps.Copy(own, p.topUp(i.Code, s))
		if i.Code == "4006" || i.Code == "6002" || i.Code == "6003" || i.Code == "6006" || i.Code == "3010" {
			for _, f := range i.Request {
				if v, has := own[f.Name]; has {
					m[f.Name] = v
				}
			}
		}
	}
	for n := range m {
		if v, has := own[n]; has {
			m[n] = v
		}
	}
	for n, v := range s.Fields {
		x, err := p.look(v, s)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", n, err)
		}
		m[n] = x
	}
	for _, n := range s.Drop {
		delete(m, n)
	}
	return m, nil
}

// topUp are the fields of the calls about a card.
func (p *player) topUp(code string, s Step) map[string]any {
	b, o := p.bench, p.order(s)
	m := map[string]any{
		"terminalNo": b.Card.Terminal, "cardNo": b.Card.No, "cardType": b.Card.Type, "balance": b.Card.Balance,
		"termTransNo": p.number(s.Number), "orderNo": o.No, "amount": o.Amount, "gasVolume": o.Gas,
		"loadMode": 1, "rev": 1, "result": 1, "evidence": "journal", "noAttempt": "Y", "offlineSeconds": 0,
		"reason": "03", "time": protocol.Stamp(time.Now()),
	}
	if n := len(p.challenges); n > 0 {
		m["challenge"] = p.challenges[n-1]
	}
	if b.Card.Kind == "memory" {
		m["kind"] = "image"
		if code == "3010" {
			m["cardData"] = upper(b.content)
		}
		m["image"] = map[string]any{"cardData": upper(b.content), "count": b.number(b.Card.Count)}
		return m
	}
	m["kind"] = "load"
	m["load"] = b.initialise(o.Amount, b.seq)
	return m
}

func (p *player) order(s Step) TestOrder {
	if n := max(s.Order, 1); n <= len(p.orders) {
		return p.orders[n-1]
	}
	return TestOrder{No: "CONFORM0", Amount: 1, Gas: 1}
}

// number is the top-up of a letter, one per case.
func (p *player) number(letter string) string {
	if letter == "" {
		letter = "A"
	}
	if p.numbers[letter] == "" {
		var b [16]byte
		_, _ = rand.Read(b[:]) // never fails
		p.numbers[letter] = upper(b[:])
	}
	return p.numbers[letter]
}

var errNothing = errors.New("nothing of this name yet")

// look replaces what begins with $, in tables too.
func (p *player) look(v any, s Step) (any, error) {
	if t, is := v.(map[string]any); is {
		out := map[string]any{}
		for n, x := range t {
			y, err := p.look(x, s)
			if err != nil {
				return nil, err
			}
			out[n] = y
		}
		return out, nil
	}
	text, is := v.(string)
	if !is || !strings.HasPrefix(text, "$") {
		return v, nil
	}
	name, arg, _ := strings.Cut(text[1:], ".")
	switch name {
	case "number":
		return p.number(arg), nil
	case "challenge": // $challenge.1 is the newest but one
		back, _ := strconv.Atoi(arg)
		if i := len(p.challenges) - 1 - back; i >= 0 && back >= 0 {
			return p.challenges[i], nil
		}
		return nil, errNothing
	case "amount+1":
		return p.order(s).Amount + 1, nil
	case "gas+1":
		return p.order(s).Gas + 1, nil
	case "target": // what the card holds once that authorisation is written
		if a, has := p.answers[arg]; has && p.bench != nil && p.bench.content != nil {
			return upper(written(p.bench.content, a)), nil
		}
		return nil, errNothing
	case "load": // INITIALIZE FOR LOAD at another online sequence, of a purse
		n, err := strconv.Atoi(arg)
		if err != nil || p.bench == nil || p.bench.Card.Kind != "purse" {
			return nil, errNothing
		}
		return p.bench.initialise(p.order(s).Amount, p.bench.seq+n), nil
	case "seq": // the purse's online sequence and n
		n, err := strconv.Atoi(arg)
		if err != nil || p.bench == nil {
			return nil, errNothing
		}
		return p.bench.seq + n, nil
	}
	return nil, fmt.Errorf("%q: not a name", text)
}

// judge compares an answer with what a step wants.
func (p *player) judge(s Step, a answer) (Verdict, string) {
	o := a.outcome()
	said := fmt.Sprintf("answered %s, want %s", o, strings.Join(s.Expect, " or "))
	switch {
	case o == "lost":
		return Differs, said
	case slices.Contains(s.Unsafe, o):
		return Unsafe, said
	case notOffered(o) && !slices.Contains(s.Expect, o):
		return NotOffered, "answered " + o
	}
	for n, v := range s.UnsafeIf {
		if o == "ok" && a.text(n) == fmt.Sprint(v) {
			return Unsafe, fmt.Sprintf("answered %s %v", n, v)
		}
	}
	if !slices.Contains(s.Expect, o) {
		return Differs, said
	}
	for _, n := range slices.Sorted(maps.Keys(s.Answer)) {
		if got := a.text(n); o == "ok" && got != fmt.Sprint(s.Answer[n]) {
			return Differs, fmt.Sprintf("answer field %s is not %v", n, s.Answer[n])
		}
	}
	if s.Same != "" && o == "ok" {
		if n := differing(p.answers[s.Same], a, s.SameFields); n != "" {
			return Unsafe, fmt.Sprintf("answer field %s differs from that of %s", n, s.Same)
		}
	}
	return OK, ""
}

// differing names a field in which two answers differ, "" for none. What
// belongs to the answer and not to its content is left out.
func differing(a, b answer, only []string) string {
	names := only
	if len(names) == 0 {
		for n := range a.object {
			names = append(names, n)
		}
		for n := range b.object {
			names = append(names, n)
		}
		slices.Sort(names)
		names = slices.DeleteFunc(slices.Compact(names), func(n string) bool {
			return oneOf(n, "timestamp", "sign", "authExpire", "resultCode", "resultMsg", "receipt", "duplicate")
		})
	}
	for _, n := range names {
		var x, y any
		if json.Unmarshal(a.object[n], &x) != nil || json.Unmarshal(b.object[n], &y) != nil || !reflect.DeepEqual(x, y) {
			return n
		}
	}
	return ""
}
