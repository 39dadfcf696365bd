package protocol

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"vcckiosk/protocol/catalogue"
)

// stream makes one call whose answer is too large to be held: a table or a
// file. use is given the body once it is known to be no error; it must read to
// the end, and what it has done counts only when stream returns nil: an answer
// that stops early is ErrTransport at the last read. The whole has no deadline
// but ctx's; an answer that stands still for TimeoutBacklog is given up.
//
// What use returns is returned as it is and never retried here.
func (c *Client) stream(ctx context.Context, r request, use func(header http.Header, body io.Reader) error) error {
	if r.params == nil {
		r.params = map[string]string{}
	}
	for _, end := range []string{"lastTimestamp", "timestamp"} {
		// The platform's defaults are today and now, by its own clock.
		if _, has := r.end.fields[end]; has && r.end.Shape == catalogue.Table && r.params[end] == "" {
			return &FieldError{Interface: r.name, Field: end, Why: "missing"}
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(c.TimeoutBacklog, func() { cancel(context.DeadlineExceeded) })
	defer stalled.Stop()
	return c.attempts(ctx, r, func(r request, s *session, pw password) error {
		resp, err := c.send(ctx, r, s, pw)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }() // read to its end or given up
		body := &flow{c: c, ctx: ctx, r: r, resp: resp, moved: func() { stalled.Reset(c.TimeoutBacklog) }}
		in := bufio.NewReaderSize(body, 64<<10)
		first, err := firstByte(in)
		switch {
		case err != nil:
			return err
		case resp.StatusCode != http.StatusOK || first == '{':
			return c.spoken(r, resp, in, s, pw, use)
		case first == '<' && (r.end.Shape == catalogue.Table || bytes.Contains([]byte(resp.Header.Get("Content-Type")), []byte("html"))):
			return c.bad(r, resp.Response, "answer is a web page")
		}
		return use(resp.Header, in)
	})
}

// spoken tells an error, which is JSON, from a file that begins like one.
func (c *Client) spoken(r request, resp sent, in *bufio.Reader, s *session, pw password, use func(http.Header, io.Reader) error) error {
	head, err := io.ReadAll(io.LimitReader(in, maxAnswer))
	if err != nil {
		return err
	}
	if head, err = c.opened(r, &resp, head); err != nil {
		return err
	}
	v, why := parseAnswer(head)
	speaks := why == "" && v.kind == kindObject && v.member(c.Envelope.Code) != nil
	if !speaks && resp.StatusCode == http.StatusOK && r.end.Shape == catalogue.File {
		return use(resp.Header, io.MultiReader(bytes.NewReader(head), in))
	}
	if _, err := c.result(r, resp, head, s, func(*value) []password { return []password{pw} }); err != nil {
		return err
	}
	return c.bad(r, resp.Response, "answer is an object where a "+string(r.end.Shape)+" was asked for")
}

// firstByte is the first one that is neither blank nor a byte order mark; 0
// when there is none. It consumes nothing.
func firstByte(in *bufio.Reader) (byte, error) {
	head, err := in.Peek(64)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	head = bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	if len(head) == 0 {
		return 0, nil
	}
	return head[0], nil
}

// flow reads a body, notes that it moves, and knows whether it came whole.
type flow struct {
	c     *Client
	ctx   context.Context //nolint:containedctx // io.Reader has none; it is the call's
	r     request
	resp  sent
	moved func()
	n     int64
}

func (f *flow) Read(p []byte) (int, error) {
	n, err := f.resp.Body.Read(p)
	f.n += int64(n)
	if n > 0 {
		f.moved()
	}
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF) && f.r.whole && !f.ends():
		return n, f.c.fail(f.r, "answer has neither a length nor an end", ErrTransport)
	case errors.Is(err, io.EOF) && (f.resp.ContentLength < 0 || f.resp.ContentLength == f.n):
		if d, err := http.ParseTime(f.resp.Header.Get("Date")); err == nil && f.n < 1<<16 {
			f.c.sawDate(d, f.resp.began)
		}
		return n, io.EOF
	case errors.Is(err, io.EOF):
		return n, f.c.fail(f.r, "answer is truncated", ErrTransport)
	}
	return n, f.c.classify(f.ctx, f.r, err, false)
}

// ends tells whether the end of a body can be told from a broken line: by its
// length, its chunks or frames, or TLS's own goodbye.
func (f *flow) ends() bool {
	return f.resp.ContentLength >= 0 || len(f.resp.TransferEncoding) > 0 || f.resp.ProtoMajor >= 2 || f.resp.TLS != nil
}
