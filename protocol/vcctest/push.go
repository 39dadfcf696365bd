package vcctest

import (
	"context"
	"crypto/sha1" //nolint:gosec // the handshake of a push is SHA-1
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Pusher sends the platform's pushes 7001 to 7005 to one address.
type Pusher struct {
	URL    string
	Token  string       // shared with the receiver
	Client *http.Client // nil: one with a time limit of 10 s
}

// Event is what a push tells.
type Event struct {
	Code    string           `json:"eventCode"`
	ID      string           `json:"eventId"`
	Time    string           `json:"eventTime"` // yyyyMMddHHmmss; empty: now
	OrgCode string           `json:"orgCode"`
	Datas   []map[string]any `json:"datas"`
}

// query signs a request made at that time.
func (p Pusher) query(at time.Time, nonce string) url.Values {
	stamp := strconv.FormatInt(at.Unix(), 10)
	three := sort.StringSlice{p.Token, stamp, nonce}
	three.Sort()
	sum := sha1.Sum([]byte(strings.Join(three, ""))) //nolint:gosec // see the import
	return url.Values{"signature": {hex.EncodeToString(sum[:])}, "timestamp": {stamp}, "nonce": {nonce}}
}

func nonce() string {
	return strconv.FormatUint(rand.Uint64(), 36) //nolint:gosec // a simulator's
}

// Subscribe asks whether the address is the right one, as the platform does
// before it pushes there: the echo must come back.
func (p Pusher) Subscribe(ctx context.Context) error {
	q, echo := p.query(time.Now(), nonce()), nonce()
	q.Set("echostr", echo)
	got, err := p.send(ctx, http.MethodGet, q, "")
	if err == nil && got != echo {
		return errors.New("subscribe: the echo is another text")
	}
	return err
}

// Push sends an event.
func (p Pusher) Push(ctx context.Context, e Event) error {
	if e.Time == "" {
		e.Time = time.Now().In(zone).Format("20060102150405")
	}
	if e.Datas == nil {
		e.Datas = []map[string]any{}
	}
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	_, err = p.send(ctx, http.MethodPost, p.query(time.Now(), nonce()), string(body))
	return err
}

func (p Pusher) send(ctx context.Context, method string, q url.Values, body string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, method, p.URL+"?"+q.Encode(), strings.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("push: %w", err)
	}
	client := p.Client
	if client == nil {
		client = &http.Client{Timeout: 10 * time.Second}
	}
	resp, err := client.Do(r)
	if err != nil {
		if u, is := errors.AsType[*url.Error](err); is {
			err = u.Err // without the address, which is signed
		}
		return "", fmt.Errorf("push: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return "", fmt.Errorf("push: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("push: answered %d", resp.StatusCode)
	}
	return string(b), nil
}
