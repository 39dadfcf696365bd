package agent

import (
	"context"

	"vcckiosk/agent/command"
	"vcckiosk/protocol/reconcile"
)

// ownTasks are the commands this program carries out itself, where what they
// need is configured. A task given from outside wins.
func (a *Agent) ownTasks() {
	own := func(n command.Name, t Task) {
		if a.commands.tasks[n] == nil {
			a.commands.tasks[n] = t
		}
	}
	if a.Mirror != nil {
		own(command.SyncNow, func(_ context.Context, args map[string]string) error {
			var codes []string
			if c := args["code"]; c != "" {
				codes = []string{c}
			}
			a.Mirror.Wake(codes...)
			return nil
		})
	}
	if a.recon != nil {
		own(command.Reconcile, a.reconcileTask)
	}
}

// reconcileTask begins a day's reconciliation; how it ends is in the status,
// its alarms and the next heartbeats.
func (a *Agent) reconcileTask(_ context.Context, args map[string]string) error {
	day := args["day"]
	if day != "" {
		if d, err := reconcile.ParseDay(day); err != nil || d >= reconcile.DayOf(a.now()) {
			return Refusal("day")
		}
	}
	do := func(ctx context.Context) {
		if _, err := a.Reconcile(ctx, day, "command"); err != nil && ctx.Err() == nil {
			a.log.Warn("reconciliation by command", "day", day, "err", err)
		}
	}
	select {
	case a.jobs <- do:
		return nil
	default:
		return Refusal("busy")
	}
}

// runJobs does one by one what commands have begun.
func (a *Agent) runJobs(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case do := <-a.jobs:
			within, cancel := context.WithTimeout(ctx, dayTime)
			do(within)
			cancel()
		}
	}
}
