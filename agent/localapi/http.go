package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"vcckiosk/agent"
)

const (
	maxBody = 4 << 10
	// How long a caller may take for its body, and to take an answer in. A
	// caller that has stopped reading must not keep a connection for ever.
	bodyTime  = 5 * time.Second
	writeTime = 10 * time.Second
)

// call is one request; body is what was posted, cleared once it is answered.
type call struct {
	*http.Request
	body []byte
}

func answer(f func(*call) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := &call{Request: r}
		defer func() { clear(c.body) }()
		v, err := any(nil), error(nil)
		if r.Method == http.MethodPost {
			err = c.take(w)
		}
		if err == nil {
			v, err = f(c)
		}
		if err != nil {
			refuse(w, err)
			return
		}
		write(w, http.StatusOK, "application/json", v)
	}
}

// take reads the body into one piece of memory, so that a key in it can be
// cleared.
func (c *call) take(w http.ResponseWriter) error {
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Now().Add(bodyTime)) // a recorder in a test has none
	buf := make([]byte, maxBody+1)
	c.body = buf[:0]
	for len(c.body) < len(buf) {
		n, err := c.Body.Read(buf[len(c.body):])
		c.body = buf[:len(c.body)+n]
		switch {
		case errors.Is(err, io.EOF):
			_ = out.SetReadDeadline(time.Time{})
			return nil
		case err != nil:
			w.Header().Set("Connection", "close")
			return errTooSlow
		}
	}
	w.Header().Set("Connection", "close") // the rest of it is not waited for
	return errTooLong
}

// json reads the body. Its errors never quote it: a key may be in there.
func (c *call) json(into any) error {
	if err := json.Unmarshal(c.body, into); err != nil {
		return badRequest("body is not the JSON expected here")
	}
	return nil
}

// problem is an error of RFC 9457.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func refuse(w http.ResponseWriter, err error) {
	status := statusOf(err)
	write(w, status, "application/problem+json", problem{"about:blank", http.StatusText(status), status, err.Error()})
}

func write(w http.ResponseWriter, status int, kind string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, kind, b = http.StatusInternalServerError, "application/problem+json", []byte(`{"status":500,"detail":"answer cannot be written"}`)
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}

// problems answers for mux what it knows nothing of.
func problems(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		// The mux tells the methods of a known path in a header of its 405.
		seen := &refused{header: http.Header{}}
		mux.ServeHTTP(seen, r)
		if allow := seen.header.Get("Allow"); seen.status == http.StatusMethodNotAllowed && allow != "" {
			w.Header().Set("Allow", allow)
			refuse(w, fmt.Errorf("%w: %s", errMethod, allow))
			return
		}
		refuse(w, errNoPath)
	})
}

// refused takes an answer that is not sent.
type refused struct {
	header http.Header
	status int
}

func (s *refused) Header() http.Header         { return s.header }
func (s *refused) Write(b []byte) (int, error) { return len(b), nil }
func (s *refused) WriteHeader(status int)      { s.status = status }

// events streams the screen as server-sent events, from Last-Event-ID on. A
// reader that is slow misses pictures in between, never the last one.
func events(w http.ResponseWriter, r *http.Request, now func() agent.View, wait func(context.Context, uint64) (agent.View, error)) {
	serial, _ := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 64)
	if serial > now().Serial {
		serial = 0 // of an earlier run
	}
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	for {
		v, err := wait(r.Context(), serial)
		if err != nil {
			return
		}
		serial = v.Serial
		b, err := json.Marshal(v)
		if err != nil {
			return
		}
		_ = out.SetWriteDeadline(time.Now().Add(writeTime))
		if _, err := fmt.Fprintf(w, "id: %d\nevent: screen\ndata: %s\n\n", v.Serial, b); err != nil || out.Flush() != nil {
			return
		}
	}
}
