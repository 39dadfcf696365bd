package conform

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// session is an opened one.
type session struct {
	token, key string // key: the session key, "" without one
	password   []byte // what later calls are signed with, as far as known
	answer     answer // of getToken
}

var (
	// ErrNoSession: getToken was answered, and refused in every reading tried.
	ErrNoSession = errors.New("no reading of getToken is taken: wrong key, wrong appId, or a reading that is not known here")
	// ErrNoAnswer: nothing usable came from the address.
	ErrNoAnswer = errors.New("no usable answer from this address")
)

func (c *caller) tokenCall() call {
	if c.ChannelID != "" {
		return call{code: "1001", method: http.MethodGet, path: "/oauth/getToken", params: map[string]string{"channelId": c.ChannelID, "deviceId": c.DeviceID}}
	}
	return call{code: "1002", method: http.MethodGet, path: "/oauth2/getToken", params: map[string]string{"appId": c.AppID}}
}

// begin opens a session by trying: the best-evidenced reading first, and both
// places of the sign at once. It leaves the manner that was taken.
func (c *caller) begin(ctx context.Context) (*session, error) {
	said := map[string]int{}
	for _, form := range seqForms() {
		for _, v := range []struct{ values, lower bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
			m := c.manner
			m.seq, m.options.ExcludeKeys, m.options.LowerHex = form, v.values, v.lower
			c.manner = m
			c.say("getToken, seq " + form.name)
			s, a, err := c.open(ctx)
			if err != nil {
				return nil, err
			}
			if s != nil {
				return s, nil
			}
			o := a.outcome()
			if said[o]++; (o == "lost" || o == "page" || notOffered(o)) && said[o] >= 2 {
				return nil, fmt.Errorf("getToken: %s: %w", o, ErrNoAnswer)
			}
			if !refusesSign(o) && o != "lost" && o != "page" && o != "ok" {
				break // not the sign: the next form of the sequence number
			}
		}
	}
	return nil, ErrNoSession
}

// open calls getToken once; no session when it was refused.
func (c *caller) open(ctx context.Context) (*session, answer, error) {
	a, err := c.do(ctx, c.tokenCall())
	if err != nil || a.outcome() != "ok" || a.text("token") == "" {
		return nil, a, err
	}
	s := &session{token: a.text("token"), key: a.text("sessionKey"), answer: a}
	if s.password = []byte(s.key); s.key == "" {
		s.password = []byte(s.token)
	}
	return s, a, nil
}

// again opens a further session in the manner that is known by now.
func (c *caller) again(ctx context.Context, like *session) (*session, error) {
	c.say("another getToken")
	s, a, err := c.open(ctx)
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return nil, fmt.Errorf("getToken: %s after it was taken before: %w", a.outcome(), ErrNoSession)
	}
	switch string(like.password) {
	case string(c.Key):
		s.password = c.Key
	case like.token:
		s.password = []byte(s.token)
	}
	return s, nil
}

// life says how expireTime is told.
func life(a answer) string {
	raw := string(a.object["expireTime"])
	n, err := strconv.ParseInt(a.text("expireTime"), 10, 64)
	if raw == "" || raw == "null" {
		return "absent"
	}
	if err != nil {
		return "not a number"
	}
	form := "seconds"
	switch {
	case n > 1_000_000_000_000:
		form = "epoch in milliseconds"
	case n > 1_000_000_000:
		form = "epoch in seconds"
	}
	if raw[0] == '"' {
		form += ", as text"
	}
	return form
}

// skew of the platform's clock in words.
func skew(a answer, now time.Time) string {
	at := a.date
	if t, err := time.ParseInLocation("20060102150405", a.text("timestamp"), time.FixedZone("CST", 8*3600)); err == nil {
		at = t
	}
	switch d := at.Sub(now); {
	case at.IsZero():
		return "not told"
	case d.Abs() < 5*time.Minute:
		return "right within 5 minutes"
	default:
		return "off by " + d.Round(time.Minute).String()
	}
}

// oneOf reports whether s is in the list.
func oneOf(s string, list ...string) bool { return slices.Contains(list, s) }
