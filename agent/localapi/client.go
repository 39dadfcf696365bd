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
	"time"

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
	return dialWith(func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	})
}

func dialWith(dial func(context.Context) (net.Conn, error)) *Client {
	return &Client{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}}}
}

// Get reads a path into out.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	return c.call(ctx, http.MethodGet, path, nil, 0, out)
}

// Post sends in as JSON; in and out may be nil.
func (c *Client) Post(ctx context.Context, path string, in, out any) error {
	if in == nil {
		return c.call(ctx, http.MethodPost, path, nil, 0, out)
	}
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	return c.call(ctx, http.MethodPost, path, bytes.NewReader(body), int64(len(body)), out)
}

// Provision offers a base key. The slice is cleared. It waits while the daemon
// asks the platform.
func (c *Client) Provision(ctx context.Context, key []byte, kcv string) (agent.Offered, error) {
	defer clear(key)
	// Put together by hand: the encoder would keep a copy of the key.
	body := make([]byte, 0, 6*(len(key)+len(kcv))+32)
	body = appendQuoted(append(body, `{"key":`...), key)
	body = append(appendQuoted(append(body, `,"kcv":`...), kcv), '}')
	posted := &secretBody{left: body, all: body}
	defer posted.wipe()
	var out agent.Offered
	err := c.call(ctx, http.MethodPost, "/v1/provision", posted, int64(len(body)), &out)
	return out, err
}

func (c *Client) call(ctx context.Context, method, path string, body io.Reader, length int64, out any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errNoAnswer)
	defer cancel()
	resp, err := c.send(ctx, method, path, body, length)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("read answer: %w", because(ctx, err))
	}
	if len(b) > maxAnswer {
		return errors.New("read answer: longer than 16 MB")
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

const (
	// patience is what a call may take: a key's proof asks the platform twice.
	patience  = time.Minute
	maxAnswer = 16 << 20
)

var errNoAnswer = fmt.Errorf("%w: it does not answer", ErrUnreachable)

// because tells an error of ours from that of the caller's context.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// send returns an answer of 200, whose body the caller closes, or an error.
func (c *Client) send(ctx context.Context, method, path string, body io.Reader, length int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://kioskd"+path, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.ContentLength = length
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, because(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	p := problem{}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&p); err != nil || p.Detail == "" {
		p.Detail = http.StatusText(resp.StatusCode)
	}
	return nil, &Problem{resp.StatusCode, p.Detail}
}

// Events passes on the screen's pictures until f returns false or ctx ends.
// After ErrUnreachable it may be called again; no picture is missed then but
// those that another has replaced.
func (c *Client) Events(ctx context.Context, f func(agent.View) bool) error {
	resp, err := c.send(ctx, http.MethodGet, "/v1/events", nil, 0)
	if err != nil {
		return err
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
	return because(ctx, errors.New("the stream ended"))
}
