package push

import (
	"crypto/sha1" //nolint:gosec // the platform's handshake is SHA-1 by its pattern
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Token is the secret shared with the platform. It prints as "[redacted]".
type Token struct{ p *string }

// NewToken keeps s as a token: 8 to 64 letters, digits, dots, dashes,
// underscores. The error never quotes it.
func NewToken(s string) (Token, error) {
	if !tokenForm.MatchString(s) {
		return Token{}, errors.New("push token: want 8 to 64 letters, digits, dots, dashes, underscores")
	}
	return Token{&s}, nil
}

var tokenForm = regexp.MustCompile(`^[0-9A-Za-z._-]{8,64}$`)

// Format and LogValue print "[redacted]"; MarshalText encodes so.
func (t Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[redacted]") }

// LogValue logs "[redacted]".
func (t Token) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// MarshalText encodes as "[redacted]".
func (t Token) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Config of a Handler.
type Config struct {
	Token Token
	// OrgCode is whose events are taken; required.
	OrgCode string
	// Pull is called once for each event that is new. It must not block: it sets
	// a wake-up and returns. Calls come one at a time.
	Pull func(Event)
	// Now is the clock the timestamps are compared with; time.Now when nil. A
	// kiosk gives the one corrected by the platform's.
	Now func() time.Time
	Log *slog.Logger // may be nil
}

// Bounds of what a Handler lets through and remembers.
const (
	window     = 300 * time.Second
	burst      = 20
	every      = 3 * time.Second
	remembered = 1024 // event ids
	maxEcho    = 128
	quiet      = time.Minute // between two lines in the log about refusals
)

// Handler answers the platform's requests. It starts no goroutine.
type Handler struct {
	c Config

	mu      sync.Mutex
	level   float64 // of the token bucket
	filled  time.Time
	used    map[[sha1.Size]byte]time.Time // signatures, until when they are remembered
	ids     map[string]bool
	order   []string // of ids, oldest first
	refused int      // since the last line in the log
	told    time.Time
}

// New makes a handler.
func New(c Config) (*Handler, error) {
	if c.Token.p == nil || c.Pull == nil || !orgForm.MatchString(c.OrgCode) {
		return nil, errors.New("push: token, organisation and what to do are required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Handler{c: c, level: burst, used: map[[sha1.Size]byte]time.Time{}, ids: map[string]bool{}}, nil
}

// ServeHTTP answers 200 to what is taken, also to an event that was taken
// before; 400, 403, 405, 413 or 429 to what is not, without saying more.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, body := h.serve(r)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if status != http.StatusOK {
		body = http.StatusText(status) + "\n"
		h.note(status)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // a caller that has gone is its own trouble
}

func (h *Handler) serve(r *http.Request) (int, string) {
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return http.StatusMethodNotAllowed, ""
	}
	q := r.URL.Query()
	for _, name := range []string{"signature", "timestamp", "nonce", "echostr"} {
		if len(q[name]) > 1 {
			return http.StatusBadRequest, ""
		}
	}
	if status := h.admit(q.Get("signature"), q.Get("timestamp"), q.Get("nonce")); status != http.StatusOK {
		return status, ""
	}
	if r.Method == http.MethodGet {
		echo := q.Get("echostr")
		if !echoForm.MatchString(echo) {
			return http.StatusBadRequest, ""
		}
		return http.StatusOK, echo
	}
	if r.ContentLength > MaxBody {
		return http.StatusRequestEntityTooLarge, ""
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	switch {
	case err != nil:
		return http.StatusBadRequest, ""
	case len(b) > MaxBody:
		return http.StatusRequestEntityTooLarge, ""
	}
	e, err := Decode(b)
	if err != nil {
		h.c.Log.Debug("push not read", "err", err)
		return http.StatusBadRequest, ""
	}
	if e.OrgCode != h.c.OrgCode {
		return http.StatusForbidden, ""
	}
	h.take(e)
	return http.StatusOK, `{"resultCode":"0"}`
}

var (
	signForm  = regexp.MustCompile(`^[0-9A-Fa-f]{40}$`)
	stampForm = regexp.MustCompile(`^[0-9]{9,10}$`)
	nonceForm = regexp.MustCompile(`^[0-9A-Za-z]{1,64}$`)
	echoForm  = regexp.MustCompile(`^[0-9A-Za-z._-]{1,` + strconv.Itoa(maxEcho) + `}$`)
)

// admit checks the handshake and takes a place in the bucket. A signature is
// used up even when the request turns out to be bad.
func (h *Handler) admit(signature, timestamp, nonce string) int {
	if !signForm.MatchString(signature) || !stampForm.MatchString(timestamp) || !nonceForm.MatchString(nonce) {
		return http.StatusForbidden
	}
	var got [sha1.Size]byte
	_, _ = hex.Decode(got[:], []byte(signature)) // matched above
	want := sum(*h.c.Token.p, timestamp, nonce)
	seconds, _ := strconv.ParseInt(timestamp, 10, 64)
	now, at := h.c.Now(), time.Unix(seconds, 0)
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 || at.Sub(now).Abs() > window {
		return http.StatusForbidden
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for s, until := range h.used {
		if now.After(until) {
			delete(h.used, s)
		}
	}
	if _, again := h.used[want]; again {
		return http.StatusForbidden
	}
	// The bucket counts elapsed time, whatever the wall clock does.
	wall := time.Now()
	if !h.filled.IsZero() {
		h.level = min(burst, h.level+float64(wall.Sub(h.filled))/float64(every))
	}
	h.filled = wall
	if h.level < 1 {
		return http.StatusTooManyRequests
	}
	h.level--
	h.used[want] = at.Add(window) // at most what the bucket lets through in ten minutes
	return http.StatusOK
}

// sum is the signature of a request.
func sum(token, timestamp, nonce string) [sha1.Size]byte {
	parts := []string{token, timestamp, nonce}
	slices.Sort(parts)
	return sha1.Sum([]byte(parts[0] + parts[1] + parts[2])) //nolint:gosec // see the import
}

// take wakes whoever pulls, once for each event.
func (h *Handler) take(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ids[e.ID] {
		return
	}
	if len(h.order) == remembered {
		delete(h.ids, h.order[0])
		h.order = h.order[1:]
	}
	h.ids[e.ID] = true
	h.order = append(h.order, e.ID)
	h.c.Pull(e)
}

// note logs refusals, at most one line a minute: whoever sends rubbish must not
// fill the disk.
func (h *Handler) note(status int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused++
	now := time.Now()
	if !h.told.IsZero() && now.Sub(h.told) < quiet {
		return
	}
	h.c.Log.Warn("push refused", "status", status, "refused", h.refused)
	h.refused, h.told = 0, now
}
