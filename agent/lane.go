package agent

import (
	"context"
	"sync"

	"vcckiosk/agent/mirror"
)

// lane lets one backlog request through at a time: with the live one that is
// two in flight. Messages come before the mirror's tables: they
// make it give way, and whoever waits longest goes next.
type lane struct {
	turn chan struct{} // capacity 1

	mu      sync.Mutex
	waiting int                     // messages
	yield   context.CancelCauseFunc // of a borrower that gives way
}

func newLane() *lane { return &lane{turn: make(chan struct{}, 1)} }

// take waits for the lane for a message.
func (l *lane) take(ctx context.Context) (release func(), err error) {
	l.mu.Lock()
	l.waiting++
	if l.yield != nil {
		l.yield(mirror.ErrYield)
	}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.waiting--
		l.mu.Unlock()
	}()
	select {
	case l.turn <- struct{}{}:
		return func() { <-l.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// lend waits for the lane for what can be interrupted: the context ends with
// mirror.ErrYield when a message comes, unless firm.
func (l *lane) lend(ctx context.Context, firm bool) (context.Context, func(), error) {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	if firm {
		return ctx, func() { <-l.turn }, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	l.mu.Lock()
	if l.yield = cancel; l.waiting > 0 {
		cancel(mirror.ErrYield)
	}
	l.mu.Unlock()
	return ctx, func() {
		l.mu.Lock()
		l.yield = nil
		l.mu.Unlock()
		cancel(nil)
		<-l.turn
	}, nil
}
