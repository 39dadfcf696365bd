package protocol

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func askOrder(ctx context.Context, c *Client) error {
	_, err := c.QueryOrder(ctx, QueryOrderRequest{OrderNo: testOrder})
	return err
}

func settledPlatform() *platform {
	p := newPlatform()
	p.says("/iccard/queryOrder", `{"orderNo":"`+testOrder+`","state":"S"}`)
	return p
}

func TestExpireTimeInEveryReading(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	for _, x := range []struct {
		text string
		want time.Duration
		ok   bool
	}{
		{"7200", 2 * time.Hour, true},
		{"1", time.Second, true},
		{"2678400", maxLife, true},
		{"7.2e3", 2 * time.Hour, true},
		{"1800000899", 899 * time.Second, true},
		{"1800000899000", 899 * time.Second, true},
		{"1486488177", time.Second, true}, // past
		{"1900000000", maxLife, true},
		{"0", 0, true},
		{"-5", 0, true},
		{"2678401", 0, true},
		{"1000000000", 0, true},
		{"", 0, false},
		{"soon", 0, false},
		{"0x1p9", 0, false},
		{"7200.5", 0, false},
		{"NaN", 0, false},
		{"1e300", 0, false},
	} {
		got, ok := parseLife(x.text, now)
		if got != x.want || ok != x.ok {
			t.Errorf("%q: %v, %v; want %v, %v", x.text, got, ok, x.want, x.ok)
		}
	}
}

func TestRenewalIsEarlyAndNeverAtOnce(t *testing.T) {
	t.Parallel()
	least := 30 * time.Second
	for _, x := range []struct {
		life     time.Duration
		r        float64
		lo, hi   time.Duration
		whatever string
	}{
		{7200 * time.Second, 0, 6480 * time.Second, 6480 * time.Second, "a tenth before the end"},
		{7200 * time.Second, 1, 6120 * time.Second, 6120 * time.Second, "jitter only makes it earlier"},
		{300 * time.Second, 0, 240 * time.Second, 240 * time.Second, "60 s before the end"},
		{50 * time.Second, 0, least, least, "a short life"},
		{time.Second, 1, least, least, "the shortest life"},
	} {
		if got := renewAfter(x.life, least, x.r); got < x.lo || got > x.hi {
			t.Errorf("%s: %v", x.whatever, got)
		}
	}
}

func TestSessionIsRenewedBeforeItsEnd(t *testing.T) {
	t.Parallel()
	for _, life := range []string{"7200", `"7200"`, "null", `""`, "0"} {
		synctest.Test(t, func(t *testing.T) {
			p := settledPlatform()
			p.life = life
			c := newTestClient(t, p)
			for range 60 {
				if err := askOrder(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				time.Sleep(100 * time.Second)
			}
			if p.gets != 1 {
				t.Errorf("%s: %d sessions in 6000 s", life, p.gets)
			}
			for range 6 {
				time.Sleep(100 * time.Second)
				if err := askOrder(t.Context(), c); err != nil {
					t.Fatal(err)
				}
			}
			if p.gets != 2 {
				t.Errorf("%s: %d sessions in 6600 s", life, p.gets)
			}
			if c.Evictions() != 0 {
				t.Error("a renewal was taken for an eviction")
			}
		})
	}
}

func TestAnEpochIsMeasuredAgainstThePlatformsClock(t *testing.T) {
	t.Parallel()
	server := time.Unix(1_800_000_000, 0) // the bubble's own clock says 2000
	for name, set := range map[string]func(*platform){
		"date header": func(p *platform) { p.date = server },
		"timestamp":   func(p *platform) { p.extra = `,"timestamp":"` + Stamp(server) + `"` },
	} {
		for _, life := range []string{"1800003600", "1800003600000", `"1800003600"`} {
			synctest.Test(t, func(t *testing.T) {
				p := settledPlatform()
				set(p)
				p.life = life
				c := newTestClient(t, p)
				if err := c.Token(t.Context()); err != nil {
					t.Fatal(err)
				}
				if i := c.TokenInfo(); i.Expires.Sub(i.Issued) != time.Hour || !i.Live {
					t.Errorf("%s, %s: %+v", name, life, i)
				}
				if skew, ok := c.Skew(); name == "date header" && (!ok || skew != time.Until(server)) {
					t.Errorf("skew %v, %v", skew, ok)
				}
			})
		}
	}
}

func TestAShortLifeNeverLoops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := settledPlatform()
		p.life = "1"
		c := newTestClient(t, p)
		for range 300 {
			if err := askOrder(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if p.gets > 11 {
			t.Errorf("%d sessions in 300 s", p.gets)
		}
	})
}

func TestOneRenewalForManyCallers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := settledPlatform()
		p.delay = time.Second
		c := newTestClient(t, p)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := askOrder(t.Context(), c); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if p.opened() != 1 {
			t.Errorf("%d sessions for 20 callers", p.opened())
		}
	})
}

func TestTheLeadersCancellationDoesNotFailTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := settledPlatform()
		p.delay = 2 * time.Second
		c := newTestClient(t, p)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			is(t, askOrder(ctx, c), []error{ErrTransport, ErrNotSent, context.Canceled}, nil)
		})
		synctest.Wait()
		wg.Go(func() {
			if err := askOrder(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(time.Second)
		cancel()
		wg.Wait()
	})
}

func TestARejectedTokenIsRenewedOnceAndTheCallRepeatedOnce(t *testing.T) {
	t.Parallel()
	for _, code := range []string{`"20001"`, "40058", "30010"} {
		synctest.Test(t, func(t *testing.T) {
			p := settledPlatform()
			evicted := 0
			c := newTestClient(t, p, func(_ *Config, d *Deps) { d.Evicted = func() { evicted++ } })
			calls := 0
			p.answer["/iccard/queryOrder"] = func(string) string {
				if calls++; calls == 2 {
					return `{"resultCode":` + code + `}`
				}
				return `{"orderNo":"` + testOrder + `","state":"S"}`
			}
			if err := askOrder(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Minute)
			if err := askOrder(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if p.gets != 2 || calls != 3 || p.repeats != 0 || evicted != 0 {
				t.Errorf("%d sessions, %d calls, %d repeated numbers, %d evictions", p.gets, calls, p.repeats, evicted)
			}
			p.answer["/iccard/queryOrder"] = func(string) string { calls++; return `{"resultCode":` + code + `}` }
			err := askOrder(t.Context(), c)
			is(t, err, []error{ErrAuth}, []error{ErrBusiness, ErrTransport, ErrNotSent, ErrKeyRefused})
			if calls != 5 || p.gets != 3 {
				t.Errorf("%d calls, %d sessions after a lasting rejection", calls, p.gets)
			}
		})
	}
}

func TestATokenEndedBySomebodyElseIsCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := settledPlatform()
		evicted := 0
		c := newTestClient(t, p, func(_ *Config, d *Deps) { d.Evicted = func() { evicted++ } })
		if err := askOrder(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		for _, after := range []time.Duration{59 * time.Second, 61 * time.Second, time.Second} {
			time.Sleep(after)
			p.token = "another kiosk's"
			if err := askOrder(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		if evicted != 2 || c.Evictions() != 2 {
			t.Errorf("%d calls of Evicted, %d counted", evicted, c.Evictions())
		}
	})
}

func TestTheGuardStopsAStormOfSessions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := settledPlatform()
		c := newTestClient(t, p)
		p.answer["/iccard/queryOrder"] = func(string) string { return `{"resultCode":20001}` }
		var last error
		for range 100 {
			last = askOrder(t.Context(), c)
			is(t, last, []error{ErrAuth}, []error{ErrBusiness})
		}
		if p.gets != 4 {
			t.Errorf("%d sessions at once", p.gets)
		}
		if RetryAfter(last) <= 0 || RetryAfter(last) > 30*time.Second {
			t.Errorf("retry after %v", RetryAfter(last))
		}
		is(t, last, []error{ErrNotSent}, nil)
		for range 600 {
			time.Sleep(time.Second)
			_ = askOrder(t.Context(), c)
		}
		if p.gets > 4+20 {
			t.Errorf("%d sessions in 10 minutes", p.gets)
		}
	})
}

func TestARefusedKeyIsAskedAgainEverMoreRarely(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := settledPlatform()
		p.key = strings.Repeat("x", 32)
		var gen atomic.Uint64
		gen.Store(1)
		asked := 0
		p.hook = func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "getToken") {
				asked++
			}
			return nil, nil
		}
		c := newTestClient(t, p, func(_ *Config, d *Deps) {
			d.Key = func() (BaseKey, error) {
				if gen.Load() == 2 {
					return testBase{p.key, 2}, nil
				}
				return testBase{testKey, 1}, nil
			}
		})
		for range 3600 {
			err := askOrder(t.Context(), c)
			is(t, err, []error{ErrAuth, ErrKeyRefused, ErrNotSent}, []error{ErrBusiness, ErrTransport})
			time.Sleep(time.Second)
		}
		if asked < 6 || asked > 9 {
			t.Errorf("asked %d times in an hour", asked)
		}
		gen.Store(2) // a new key is tried at once
		if err := askOrder(t.Context(), c); err != nil {
			t.Error(err)
		}
	})
}

func TestAnotherKeyGenerationDropsTheToken(t *testing.T) {
	t.Parallel()
	p := settledPlatform()
	gen := uint64(1)
	c := newTestClient(t, p, func(_ *Config, d *Deps) {
		d.Key = func() (BaseKey, error) { return testBase{testKey, gen}, nil }
	})
	for _, g := range []uint64{1, 1, 2, 2, 1} {
		gen = g
		if err := askOrder(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if i := c.TokenInfo(); i.Generation != g {
			t.Errorf("generation %d used with a token of %d", g, i.Generation)
		}
	}
	if p.gets != 3 || c.Evictions() != 0 {
		t.Errorf("%d sessions, %d evictions", p.gets, c.Evictions())
	}
	c.DropToken()
	if c.TokenInfo().Live {
		t.Error("dropped token is live")
	}
}

func TestProveKeyTellsRefusalFromSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := settledPlatform()
		active := testBase{testKey, 1}
		c := newTestClient(t, p, func(_ *Config, d *Deps) { d.Key = func() (BaseKey, error) { return active, nil } })
		if err := askOrder(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		wrong := testBase{strings.Repeat("w", 32), 2}
		is(t, c.ProveKey(t.Context(), wrong), []error{ErrKeyRefused, ErrAuth}, []error{ErrTransport, ErrNotSent})
		if err := askOrder(t.Context(), c); err != nil || p.gets != 1 {
			t.Errorf("the open session suffered: %v, %d sessions", err, p.gets)
		}
		p.hook = func(r *http.Request) (*http.Response, error) { return respond(r, 502, "<html>"), nil }
		is(t, c.ProveKey(t.Context(), wrong), []error{ErrTransport}, []error{ErrKeyRefused, ErrAuth})
		p.hook = func(r *http.Request) (*http.Response, error) {
			return respond(r, 200, `{"resultCode":"20031"}`), nil
		}
		is(t, c.ProveKey(t.Context(), wrong), nil, []error{ErrKeyRefused})
		p.hook = nil
		p.key = wrong.key // the platform has the new key
		if err := c.ProveKey(t.Context(), wrong); err != nil {
			t.Fatal(err)
		}
		active = wrong
		before := p.gets
		if err := askOrder(t.Context(), c); err != nil || p.gets != before {
			t.Errorf("the proven session is not used: %v, %d sessions more", err, p.gets-before)
		}
		err := c.ProveKey(t.Context(), wrong)
		is(t, err, []error{ErrAuth, ErrNotSent}, []error{ErrKeyRefused})
		if RetryAfter(err) == 0 {
			t.Error("the guard does not say how long")
		}
	})
}

func TestARenewalThatFailsLeavesTheUsableToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := settledPlatform()
		c := newTestClient(t, p)
		if err := askOrder(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		p.hook = func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "getToken") {
				return nil, &net.OpError{Op: "dial", Err: errors.New("refused")}
			}
			return nil, nil
		}
		time.Sleep(7000 * time.Second)
		for range 5 {
			if err := askOrder(t.Context(), c); err != nil {
				t.Errorf("a usable token was not used: %v", err)
			}
		}
		time.Sleep(300 * time.Second)
		is(t, askOrder(t.Context(), c), []error{ErrTransport, ErrNotSent}, []error{ErrAuth})
	})
}

func TestNoKeyIsNotSent(t *testing.T) {
	t.Parallel()
	locked := errors.New("store is locked")
	c := newTestClient(t, settledPlatform(), func(_ *Config, d *Deps) { d.Key = func() (BaseKey, error) { return nil, locked } })
	_, err := c.Authorize(t.Context(), loadRequest())
	is(t, err, []error{ErrNoKey, ErrAuth, ErrNotSent, locked}, []error{ErrTransport, ErrBusiness, ErrKeyRefused})
}

// A failed getToken never speaks about the content of the call it was for.
func TestARefusalOfGetTokenIsNoRefusalOfTheOrder(t *testing.T) {
	t.Parallel()
	p := newPlatform()
	p.hook = func(r *http.Request) (*http.Response, error) {
		return respond(r, 200, `{"resultCode":"46003"}`), nil
	}
	_, err := newTestClient(t, p).Authorize(t.Context(), loadRequest())
	is(t, err, []error{ErrAuth, ErrNotSent}, []error{ErrBusiness, ErrHeld})
}

func TestARepeatThatDidNotLeaveDoesNotUnsendTheFirst(t *testing.T) {
	t.Parallel()
	p := newPlatform()
	n := 0
	p.hook = func(r *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(r.URL.Path, "recharge") {
			return nil, nil
		}
		if n++; n == 1 {
			return respond(r, 200, `{"resultCode":"10056"}`), nil
		}
		return nil, &net.OpError{Op: "dial", Err: errors.New("refused")}
	}
	_, err := newTestClient(t, p).Authorize(t.Context(), loadRequest())
	is(t, err, []error{ErrTransport}, []error{ErrNotSent})
	if n != 2 {
		t.Errorf("%d requests", n)
	}
}

func TestEveryPasswordAndMode(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name    string
		session bool
		change  func(*Config)
		ok      bool
	}{
		{"token alone", false, func(*Config) {}, true},
		{"session key preferred", true, func(*Config) {}, true},
		{"token chosen, platform wants the session key", true, func(c *Config) { c.Sign.Password = "token" }, false},
		{"token chosen", false, func(c *Config) { c.Sign.Password = "token" }, true},
		{"session chosen", true, func(c *Config) { c.Sign.Password = "session" }, true},
		{"session chosen, none given", false, func(c *Config) { c.Sign.Password = "session" }, false},
		{"base chosen, platform wants the token", false, func(c *Config) { c.Sign.Password = "base" }, false},
		{"device mode", true, func(c *Config) { c.Auth = AuthDevice; c.AppID = "" }, true},
		{"calls not signed, platform wants it", false, func(c *Config) { c.Sign.Requests = "token_only" }, false},
		{"narrow numbers", false, func(c *Config) { c.Seq = SeqConfig{SerialWidth: 10, CodeMode: "fixed:1001"} }, true},
		{"wide code", false, func(c *Config) { c.Seq = SeqConfig{CodeWidth: 5, SerialWidth: 13, Partition: 7} }, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			p := settledPlatform()
			p.session = x.session
			c := newTestClient(t, p, func(cfg *Config, _ *Deps) { x.change(cfg) })
			if err := askOrder(t.Context(), c); (err == nil) != x.ok {
				t.Error(err)
			}
		})
	}
}
