package main

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"vcckiosk/agent"
)

// statusEvery is how often systemd is told the state when it asks for no
// watchdog.
const statusEvery = time.Minute

// supervised is what systemd wants to know of.
type supervised interface {
	Alive() error
	Status() agent.Status
}

// supervise tells systemd that the daemon is ready, what state it is in, and,
// as long as every part moves on, that it is alive. Without systemd it does
// nothing. It asks three times per limit of the watchdog, so that one slow
// commit is no reason to be killed.
func supervise(ctx context.Context, a supervised, log *slog.Logger) {
	under, err := daemon.SdNotify(false, daemon.SdNotifyReady)
	if err != nil {
		log.Warn("systemd not told", "err", err)
	}
	if !under {
		return
	}
	defer daemon.SdNotify(false, daemon.SdNotifyStopping) //nolint:errcheck // it is ending anyway
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("watchdog not fed", "err", err)
	}
	every := statusEvery
	if limit > 0 {
		every = limit / 3
	}
	told := ""
	for {
		if alive(ctx, a, every, log) && limit > 0 {
			_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog)
		}
		if now := describe(a.Status()); now != told {
			told = now
			_, _ = daemon.SdNotify(false, "STATUS="+now)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
	}
}

// settled is how long after its start a kiosk has read what it will read.
const settled = 10 * time.Second

// giveBack returns to the system, once, the memory that only the start needed:
// the files were read through, and a kiosk runs for months.
func giveBack(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(settled):
		debug.FreeOSMemory()
	}
}

// alive asks the agent, for at most patience.
func alive(ctx context.Context, a supervised, patience time.Duration, log *slog.Logger) bool {
	answer := make(chan error, 1)
	go func() { answer <- a.Alive() }()
	select {
	case err := <-answer:
		if err != nil {
			log.Error("not moving on, the watchdog is not fed", "err", err)
		}
		return err == nil
	case <-ctx.Done():
		return true
	case <-time.After(patience):
		log.Error("no sign of life within the watchdog's time")
		return false
	}
}

// describe is the state in a line, for systemctl status.
func describe(st agent.Status) string {
	line := st.State
	if st.Note != nil {
		line = st.Note.EN
	}
	if st.Outbox.Depth > 0 {
		line += fmt.Sprintf("; %d messages wait", st.Outbox.Depth)
	}
	if st.Outbox.Parked > 0 {
		line += fmt.Sprintf("; %d parked", st.Outbox.Parked)
	}
	if len(st.Alarms) > 0 {
		line += fmt.Sprintf("; alarms: %v", st.Alarms)
	}
	return line
}
