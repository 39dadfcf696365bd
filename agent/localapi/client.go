package localapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"vcckiosk/agent"
)

// Client talks to a daemon's socket.
type Client struct{ http *http.Client }

// ErrUnreachable: no daemon answers at the socket.
var ErrUnreachable = errors.New("kioskd is not reachable")

// Problem is an error the daemon answered.
type Problem struct {
	Status int
	Detail string
}

// Error is the daemon's own word.
func (p *Problem) Error() string { return p.Detail }

// Dial makes a client of a socket; nothing is sent yet.
func Dial(socket string) *Client {
	return &Client{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
}

// Get reads a path into out.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	return c.call(ctx, http.MethodGet, path, nil, out)
}

// Post sends in as JSON; in and out may be nil.
func (c *Client) Post(ctx context.Context, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
	}
	return c.call(ctx, http.MethodPost, path, body, out)
}

// Provision offers a base key. The slice is cleared.
func (c *Client) Provision(ctx context.Context, key []byte, kcv string) (agent.Offered, error) {
	defer clear(key)
	// Put together by hand: the encoder would keep a copy of the key.
	body := make([]byte, 0, len(key)+len(kcv)+32)
	body = append(append(append(body, `{"key":"`...), key...), `","kcv":"`...)
	body = append(append(body, kcv...), `"}`...)
	defer clear(body)
	var out agent.Offered
	err := c.call(ctx, http.MethodPost, "/v1/provision", body, &out)
	return out, err
}

func (c *Client) call(ctx context.Context, method, path string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://kioskd"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var p problem
		if json.Unmarshal(b, &p) != nil || p.Detail == "" {
			p.Detail = http.StatusText(resp.StatusCode)
		}
		return &Problem{resp.StatusCode, p.Detail}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

// Events passes on the screen's pictures until f returns false or ctx ends.
func (c *Client) Events(ctx context.Context, f func(agent.View) bool) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://kioskd/v1/events", nil)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	s := bufio.NewScanner(resp.Body)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		data, is := strings.CutPrefix(s.Text(), "data: ")
		if !is {
			continue
		}
		var v agent.View
		if err := json.Unmarshal([]byte(data), &v); err != nil {
			return fmt.Errorf("read event: %w", err)
		}
		if !f(v) {
			return nil
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: the stream ended", ErrUnreachable)
}
