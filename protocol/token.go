package protocol

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"
)

// session is an opened session: the token, the session key if one came, and
// the generation of the base key it was opened with. It lives in RAM only. It
// does not change after it was made, but for renew, under tokens.mu.
type session struct {
	token, key secret
	generation uint64
	issued     time.Time
	expires    time.Time // as the platform says
	usable     time.Time // never less than Token.MinLife after issue
	renew      time.Time // when the next call should open a new one
}

const evictionSpan = 60 * time.Second

// tokens is the token source: at most one getToken runs at a time, and a local
// guard keeps a fault on the other side from becoming a storm.
type tokens struct {
	mu        sync.Mutex
	cur       *session
	proven    *session // opened by ProveKey, waiting for its key to become active
	flight    *flight
	evictions int

	ordinary, proof guard

	// A base key the platform refused is asked again after a growing pause.
	refused   uint64 // generation
	refusals  int
	notBefore time.Time
}

type flight struct {
	done  chan struct{}
	sess  *session
	err   error
	ended bool // the leader's own context ended: says nothing to the others
}

// guard is a token bucket: 4 at once, one more per 30 s.
type guard struct {
	level float64
	last  time.Time
}

const (
	guardBurst = 4
	guardEvery = 30 * time.Second
)

// take returns 0 when one may go now, else how long to wait.
func (g *guard) take(now time.Time) time.Duration {
	if g.last.IsZero() {
		g.level = guardBurst
	} else {
		g.level = min(guardBurst, g.level+float64(now.Sub(g.last))/float64(guardEvery))
	}
	g.last = now
	if g.level < 1 {
		return time.Duration(math.Ceil((1 - g.level) * float64(guardEvery)))
	}
	g.level--
	return 0
}

func (c *Client) activeKey() (BaseKey, error) {
	k, err := c.deps.Key()
	if err != nil || k == nil {
		return nil, &CallError{
			Interface: c.tokenCode(), Reason: "no base key",
			class: []error{ErrNoKey, ErrAuth, ErrNotSent}, cause: err,
		}
	}
	return k, nil
}

// live returns a session made with the active key's generation, opening one if
// needed. A session that is due for renewal but still usable outlives a
// renewal that fails.
func (c *Client) live(ctx context.Context) (*session, error) {
	t := &c.tokens
	for {
		key, err := c.activeKey()
		if err != nil {
			return nil, err
		}
		t.mu.Lock()
		now := time.Now()
		old := t.current(key.Generation(), now)
		if old != nil && now.Before(old.renew) {
			t.mu.Unlock()
			return old, nil
		}
		f := t.flight
		if f != nil {
			t.mu.Unlock()
			select {
			case <-f.done:
			case <-ctx.Done():
				return nil, c.fail(c.tokenRequest(), "cancelled before it was sent", ErrTransport, ErrNotSent, ctx.Err())
			}
			if f.err == nil && f.sess.generation == key.Generation() {
				return f.sess, nil
			}
			if f.err == nil || f.ended {
				continue
			}
			if old != nil {
				return old, nil
			}
			return nil, f.err
		}
		if wait := t.hold(key.Generation(), now); wait > 0 {
			t.mu.Unlock()
			if old != nil {
				return old, nil
			}
			e := c.fail(c.tokenRequest(), "waiting after a refusal of the base key", ErrAuth, ErrKeyRefused, ErrNotSent)
			e.after = wait
			return nil, e
		}
		f = &flight{done: make(chan struct{})}
		t.flight = f
		wait := t.ordinary.take(now)
		t.mu.Unlock()
		c.lead(ctx, f, key, wait)
		if f.err == nil {
			return f.sess, nil
		}
		if old != nil {
			t.mu.Lock()
			old.renew = time.Now().Add(guardEvery)
			t.mu.Unlock()
			c.log.Warn("token not renewed, the old one is still used", "err", f.err)
			return old, nil
		}
		return nil, f.err
	}
}

// lead runs the one getToken for everybody who waits.
func (c *Client) lead(ctx context.Context, f *flight, key BaseKey, wait time.Duration) {
	t := &c.tokens
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if f.sess == nil && f.err == nil { // a panic on its way out
			f.err = c.fail(c.tokenRequest(), "given up", ErrTransport)
		}
		t.note(f, key.Generation(), time.Now())
		t.flight = nil
		close(f.done)
	}()
	if wait > 0 {
		f.err = c.guarded(wait)
		return
	}
	f.sess, f.err = c.open(ctx, key)
	f.ended = ctx.Err() != nil
}

func (c *Client) guarded(wait time.Duration) error {
	e := c.fail(c.tokenRequest(), "too many sessions opened in a row", ErrAuth, ErrNotSent)
	e.after = wait
	return e
}

// current returns the session that fits the generation, if it may still be
// used. A session made with another generation is dropped: the key changed.
func (t *tokens) current(gen uint64, now time.Time) *session {
	if t.cur != nil && (t.cur.generation != gen || !now.Before(t.cur.usable)) {
		t.cur = nil
	}
	if p := t.proven; p != nil && p.generation == gen {
		t.proven = nil
		if now.Before(p.usable) {
			t.cur = p
		}
	}
	return t.cur
}

func (t *tokens) hold(gen uint64, now time.Time) time.Duration {
	if t.refusals > 0 && t.refused == gen {
		return max(0, t.notBefore.Sub(now))
	}
	return 0
}

func (t *tokens) note(f *flight, gen uint64, now time.Time) {
	switch {
	case f.err == nil:
		t.cur = f.sess
		t.refusals = 0
	case errors.Is(f.err, ErrKeyRefused):
		if t.refused != gen {
			t.refused, t.refusals = gen, 0
		}
		t.refusals++
		pause := min(guardEvery<<min(t.refusals-1, 8), 15*time.Minute)
		t.notBefore = now.Add(pause)
	}
}

// reject drops a session the platform did not accept any more. A session that
// lived less than a minute was ended by somebody else who opens sessions under
// the same identity.
func (c *Client) reject(s *session) {
	t := &c.tokens
	t.mu.Lock()
	evicted := false
	if t.cur == s {
		t.cur = nil
		if time.Since(s.issued) < evictionSpan {
			t.evictions++
			evicted = true
		}
	}
	t.mu.Unlock()
	if evicted {
		c.log.Warn("token rejected within a minute of its issue")
		if c.deps.Evicted != nil {
			c.deps.Evicted()
		}
	}
}

// Token makes sure that there is a live token, opening a session if needed. It
// is a no-op while there is one.
func (c *Client) Token(ctx context.Context) error {
	ctx, cancel := c.limit(ctx)
	defer cancel()
	_, err := c.live(ctx)
	return err
}

// ProveKey opens a session with k: nil means that the platform accepts this
// key, ErrKeyRefused that it does not. Any other error proves nothing. The
// session is kept for the moment k becomes the active key; one that was open
// is dropped, because the platform ends it. The guard against storms is not
// shared with ordinary renewals, so that those cannot delay a technician.
func (c *Client) ProveKey(ctx context.Context, k BaseKey) error {
	ctx, cancel := c.limit(ctx)
	defer cancel()
	t := &c.tokens
	t.mu.Lock()
	wait := t.proof.take(time.Now())
	t.mu.Unlock()
	if wait > 0 {
		return c.guarded(wait)
	}
	s, err := c.open(ctx, k)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cur, t.proven = nil, s
	if t.refused == s.generation {
		t.refusals = 0
	}
	return nil
}

// DropToken forgets the session; the next call opens one.
func (c *Client) DropToken() {
	c.tokens.mu.Lock()
	defer c.tokens.mu.Unlock()
	c.tokens.cur, c.tokens.proven = nil, nil
}

// Evictions counts the tokens rejected less than 60 s after they were issued.
func (c *Client) Evictions() int {
	c.tokens.mu.Lock()
	defer c.tokens.mu.Unlock()
	return c.tokens.evictions
}

// TokenInfo is what may be shown of the session.
type TokenInfo struct {
	Live       bool
	Issued     time.Time
	Expires    time.Time
	Generation uint64 // of the base key it was opened with
	HasSession bool   // a session key came with the token
	Refusals   int    // how often in a row the platform has refused the base key asked with last
}

// TokenInfo describes the session without its secrets.
func (c *Client) TokenInfo() TokenInfo {
	c.tokens.mu.Lock()
	defer c.tokens.mu.Unlock()
	s := c.tokens.cur
	if s == nil {
		return TokenInfo{Refusals: c.tokens.refusals}
	}
	return TokenInfo{
		Refusals: c.tokens.refusals,
		Live:     time.Now().Before(s.usable), Issued: s.issued, Expires: s.expires,
		Generation: s.generation, HasSession: !s.key.empty(),
	}
}

func (c *Client) tokenCode() string {
	if c.Auth == AuthDevice {
		return codeDeviceToken
	}
	return codeToken
}

func (c *Client) tokenRequest() request {
	code := c.tokenCode()
	r := request{name: code, end: c.catalogue[code], strict: true}
	r.path = r.end.Path
	if c.Auth == AuthDevice {
		r.params = map[string]string{"channelId": c.ChannelID, "deviceId": c.deviceID()}
	} else {
		r.params = map[string]string{"appId": c.AppID}
	}
	return r
}

// open calls 1002 or 1001 with the given key.
func (c *Client) open(ctx context.Context, key BaseKey) (*session, error) {
	r := c.tokenRequest()
	if c.Auth == AuthDevice && c.deviceID() == "" {
		return nil, c.fail(r, "this kiosk is not registered yet", ErrPermanent, ErrNotSent)
	}
	r.key, _ = key.(deriver) // without, a cipher has no key
	s := &session{generation: key.Generation()}
	a, err := c.exchange(ctx, r, nil, key.Sign, func(v *value) []password {
		// Which password signs the answer of getToken is not documented: the
		// base key, or what the answer itself brings.
		all := []password{key.Sign}
		for _, name := range []string{"sessionKey", "token"} {
			if m := r.end.found(v, name); m != nil && m.kind == kindString && m.text != "" {
				all = append(all, textPassword(newSecret(m.text)))
			}
		}
		return all
	})
	if err != nil {
		return nil, err
	}
	in := newReader(a.value)
	s.token = newSecret(in.form("token", formats["token"], true))
	s.key = newSecret(in.form("sessionKey", formats["token"], false))
	life := c.life(in, a)
	if *in.fault != "" {
		return nil, c.fail(r, *in.fault, ErrTransport)
	}
	s.issued = time.Now()
	s.expires = s.issued.Add(life)
	s.usable = s.issued.Add(max(life, c.settings.Token.MinLife))
	s.renew = s.issued.Add(renewAfter(life, c.settings.Token.MinLife, rand.Float64()))
	return s, nil
}

// renewAfter is how long after its issue a session is renewed: the larger of a
// tenth of its life and 60 s before its end, earlier by a share r of half of
// that, and never before least.
func renewAfter(life, least time.Duration, r float64) time.Duration {
	margin := max(life/10, 60*time.Second)
	return max(least, life-margin-time.Duration(r*float64(margin)/2))
}

const maxLife = 2678400 * time.Second // 31 days

// life reads expireTime: epoch milliseconds, epoch seconds, or seconds from
// now; a number or its text. Epochs are measured against the platform's clock.
func (c *Client) life(in reader, a answer) time.Duration {
	text := in.literal("expireTime", 24)
	if text == "" {
		return c.settings.Token.DefaultLife
	}
	stamp := in.literal("timestamp", 32)
	now := a.date
	if now.IsZero() {
		if t, err := time.ParseInLocation("20060102150405", stamp, shanghai()); err == nil {
			now = t
		} else {
			now = time.Now()
		}
	}
	life, ok := parseLife(text, now)
	if !ok {
		in.fail("expireTime", "not a number")
	}
	if life <= 0 {
		return c.settings.Token.DefaultLife
	}
	return life
}

// parseLife returns 0 for a value that says nothing, at least 1 s for one that
// says the session has ended already.
func parseLife(text string, now time.Time) (time.Duration, bool) {
	f, err := strconv.ParseFloat(text, 64)
	if strings.Trim(text, "0123456789.eE+-") != "" {
		return 0, false
	}
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) || math.Abs(f) > 1e15 || f != math.Trunc(f) {
		return 0, false
	}
	n := int64(f)
	var at time.Time
	switch {
	case n <= 0:
		return 0, true
	case n > 1_000_000_000_000:
		at = time.UnixMilli(n)
	case n > 1_000_000_000:
		at = time.Unix(n, 0)
	case n <= int64(maxLife/time.Second):
		return time.Duration(n) * time.Second, true
	default:
		return 0, true // neither a life nor a date
	}
	return min(max(at.Sub(now), time.Second), maxLife), true
}
