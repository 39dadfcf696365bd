package agent

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"vcckiosk/agent/audit"
	"vcckiosk/protocol"
)

// ErrTooOften: technicians' questions to the platform are limited, so that a
// script on a kiosk is no load for it. Ask again in some seconds.
var ErrTooOften = errors.New("asked too often, wait some seconds")

// ErrNotReading: the interface changes something at the platform.
var ErrNotReading = errors.New("only interfaces that read may be called by hand")

const (
	callBurst = 5
	callEvery = 2 * time.Second
)

// callGuard is a token bucket: callBurst at once, one more every callEvery.
type callGuard struct {
	mu   sync.Mutex
	left float64
	last time.Time
}

func (g *callGuard) take(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last.IsZero() {
		g.left = callBurst
	}
	g.left = min(callBurst, g.left+float64(now.Sub(g.last))/float64(callEvery))
	g.last = now
	if g.left < 1 {
		return false
	}
	g.left--
	return true
}

// Call asks the platform by hand, for who stands at the kiosk: an interface of
// the catalogue that only reads, every field checked before it is signed.
// Nobody can have free text signed this way. The audit log keeps who asked
// which interface by which fields, not their values. Errors: ErrNotReading,
// ErrTooOften (nothing was sent), protocol.FieldError, and those of the client.
func (a *Agent) Call(ctx context.Context, code string, fields map[string]string, who string) (json.RawMessage, error) {
	i, known := a.client.Interface(code)
	switch {
	case !known:
		return nil, &protocol.FieldError{Interface: code, Field: "code", Why: "no such interface"}
	case !i.Read:
		return nil, ErrNotReading
	}
	if err := a.client.Check(code, fields); err != nil { // costs nobody anything
		return nil, err
	}
	if !a.calls.take(time.Now()) {
		return nil, ErrTooOften
	}
	a.event(ctx, audit.OperatorCall, map[string]string{"code": i.Code, "fields": strings.Join(slices.Sorted(maps.Keys(fields)), ","), "who": who})
	return a.client.Invoke(protocol.Backlog(ctx), code, fields)
}
