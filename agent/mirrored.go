package agent

import (
	"context"
	"fmt"
	"time"

	"vcckiosk/agent/audit"
	"vcckiosk/agent/mirror"
	"vcckiosk/protocol"
	"vcckiosk/queue"
)

// newMirror makes the mirror, if one is wanted.
func (a *Agent) newMirror(c *mirror.Config) error {
	if c == nil {
		return nil
	}
	cfg := *c
	cfg.DeviceID = a.cfg.DeviceID
	m, err := mirror.New(cfg, mirror.Deps{
		Source: a.client, Disk: a.disk, Log: a.log,
		Lane: func(ctx context.Context, firm bool) (context.Context, func(), error) {
			return a.lane.lend(protocol.Aside(ctx), firm)
		},
		Now: func() (time.Time, bool) { return a.now(), a.clockSane() },
	})
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	a.Mirror = m
	return nil
}

// backlog delivers one message in its turn of the backlog lane. Nobody stands
// there: an answer may take its time.
func (a *Agent) backlog(ctx context.Context, it queue.Item) queue.Outcome {
	release, err := a.lane.take(ctx)
	if err != nil {
		return retry(err)
	}
	defer release()
	if it.Spare { // a file: long, and about no customer
		return a.deliver(protocol.Aside(ctx), it)
	}
	return a.deliver(protocol.Backlog(ctx), it)
}

// Account is a gas account as the mirror holds it, names and address masked.
type Account struct {
	mirror.Subscriber
	Meters []mirror.Meter `json:"meters"`
	// Words are what its codes mean, by appendix and code ("DA": state A), as far
	// as dictionary or catalogue know them.
	Words map[string]string `json:"words"`
}

// Account looks an account up in the mirror for a technician; who and the last
// digits of what are recorded. mirror.ErrNotHeld says nothing about whether it
// exists, mirror.ErrOff that there is no mirror.
func (a *Agent) Account(ctx context.Context, subsCode, who string) (Account, error) {
	if a.Mirror == nil {
		return Account{}, mirror.ErrOff
	}
	a.event(ctx, audit.OperatorLookup, map[string]string{"who": who, "account": "…" + subsCode[max(0, len(subsCode)-4):]})
	s, err := a.Mirror.Subscriber(subsCode)
	if err != nil {
		return Account{}, fmt.Errorf("look up an account: %w", err)
	}
	list, err := a.Mirror.Meters(subsCode)
	if err != nil {
		return Account{}, fmt.Errorf("look up its meters: %w", err)
	}
	out := Account{Subscriber: s, Meters: append([]mirror.Meter{}, list...), Words: map[string]string{}}
	explain := func(appendix, code string) {
		if w := a.Mirror.Word(appendix, code); w != "" {
			out.Words[appendix+code] = w
		}
	}
	explain("D", s.State)
	for _, x := range list {
		explain("E", x.Type)
		explain("F", x.Model)
	}
	return out, nil
}

// ResyncMirror has the mirror dropped and pulled again.
func (a *Agent) ResyncMirror(ctx context.Context, who string) error {
	if a.Mirror == nil {
		return mirror.ErrOff
	}
	a.event(ctx, audit.OperatorResync, map[string]string{"who": who})
	a.Mirror.Resync()
	return nil
}
