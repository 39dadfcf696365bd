package protocol

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"
)

// BaseKey is the kiosk's base key as the client sees it: it signs, and it has
// a generation that changes with the key.
type BaseKey interface {
	// Sign returns the upper-case hex MD5 of message followed by the key.
	Sign(message []byte) string
	Generation() uint64
}

// SeqSource gives the serial of the next HTTP request: 1..99999999999999,
// never the same twice, not even after a power cut.
type SeqSource interface {
	Next(ctx context.Context) (uint64, error)
}

// Deps is what the client needs from its surroundings.
type Deps struct {
	// Transport carries the requests; NewTransport(Config.TLS) when nil. An
	// error it returns that is ErrNotSent promises that nothing left.
	Transport http.RoundTripper
	// Key returns the active base key, or an error when there is none.
	Key func() (BaseKey, error)
	Seq SeqSource
	// Log may be nil.
	Log *slog.Logger
	// Evicted, if set, is called when a token was rejected less than 60 s after
	// it was issued: somebody else opens sessions under the same identity. It is
	// called from the goroutine of the call and must not block.
	Evicted func()
}

// Client speaks with the platform. It is safe for concurrent use and starts no
// goroutine.
type Client struct {
	*settings
	deps Deps
}

// NewClient validates the configuration; an error names the field.
func NewClient(c Config, d Deps) (*Client, error) { return nil, errors.New("todo") }

// TokenInfo is what may be shown of the session.
type TokenInfo struct {
	Live       bool
	Issued     time.Time
	Expires    time.Time
	Generation uint64 // of the base key it was made with
	HasSession bool   // a session key came with the token
}

// Token makes sure that there is a live token.
func (c *Client) Token(ctx context.Context) error { return errors.New("todo") }

// ProveKey opens a session with k: nil means that the platform accepts this
// key, ErrKeyRefused that it does not. Any other error proves nothing.
func (c *Client) ProveKey(ctx context.Context, k BaseKey) error { return errors.New("todo") }

// DropToken forgets the session.
func (c *Client) DropToken() {}

// CardInfo calls 3010.
func (c *Client) CardInfo(ctx context.Context, r CardInfoRequest) (CardInfo, error) {
	return CardInfo{}, errors.New("todo")
}

// CardPrice calls 3019.
func (c *Client) CardPrice(ctx context.Context, subs, org, cardNo string) (CardPrice, error) {
	return CardPrice{}, errors.New("todo")
}

// Authorize calls 4006.
func (c *Client) Authorize(ctx context.Context, r AuthorizeRequest) (Authorization, error) {
	return Authorization{}, errors.New("todo")
}

// Report calls 6002.
func (c *Client) Report(ctx context.Context, r ReportRequest) (ReportAnswer, error) {
	return ReportAnswer{}, errors.New("todo")
}

// Reverse calls 6003.
func (c *Client) Reverse(ctx context.Context, r ReverseRequest) (ReverseAnswer, error) {
	return ReverseAnswer{}, errors.New("todo")
}

// QueryOrder calls 6006.
func (c *Client) QueryOrder(ctx context.Context, r QueryOrderRequest) (OrderState, error) {
	return OrderState{}, errors.New("todo")
}

// Heartbeat calls 6004.
func (c *Client) Heartbeat(ctx context.Context, r HeartbeatRequest) (HeartbeatAnswer, error) {
	return HeartbeatAnswer{}, errors.New("todo")
}

// Skew tells how far the platform's clock is ahead of this machine's, once an
// answer carried a date.
func (c *Client) Skew() (time.Duration, bool) { return 0, false }

// Evictions counts the tokens rejected less than 60 s after they were issued.
func (c *Client) Evictions() int { return 0 }

// TokenInfo describes the session without its secrets.
func (c *Client) TokenInfo() TokenInfo { return TokenInfo{} }
