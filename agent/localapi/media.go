package localapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"vcckiosk/agent"
	"vcckiosk/agent/media"
)

// uploadTime is how long a caller may take to hand a file over; it comes over a
// socket of this machine.
const uploadTime = 30 * time.Second

// upload takes a file in: its content is the body, what it is stands in the
// query. It answers once the file cannot be lost.
func upload(a *agent.Agent, role Role) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := &call{Request: r}
		if role != Technician {
			refuse(w, errRole)
			return
		}
		out := http.NewResponseController(w)
		_ = out.SetReadDeadline(time.Now().Add(uploadTime)) // a recorder in a test has none
		q := r.URL.Query()
		e, err := a.SendMedia(r.Context(), media.Entry{
			Type: q.Get("type"), Name: q.Get("name"), Purpose: "technician " + c.peer(),
		}, &body{r: r.Body})
		if err != nil {
			w.Header().Set("Connection", "close") // the rest of the file is not waited for
			refuse(w, err)
			return
		}
		_ = out.SetReadDeadline(time.Time{})
		write(w, http.StatusOK, "application/json", e)
	}
}

// body tells a caller that is slow or gone from a fault of our own.
type body struct{ r io.Reader }

func (b *body) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = errTooSlow
	}
	return n, err
}

// Upload hands a file to the daemon, which keeps it and has it uploaded.
func (c *Client) Upload(ctx context.Context, kind, name string, content io.Reader, size int64) (media.Entry, error) {
	var e media.Entry
	err := c.call(ctx, http.MethodPost, "/v1/media?"+url.Values{"type": {kind}, "name": {name}}.Encode(), content, size, &e)
	return e, err
}
