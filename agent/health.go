package agent

import (
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"vcckiosk/agent/audit"
	"vcckiosk/agent/topup"
	"vcckiosk/cardreader"
	"vcckiosk/protocol"
)

// blocked tells why nothing could be sold now, nil if it could, by what is
// known without asking anybody.
func (a *Agent) blocked() *Note {
	if s := a.state.Load(); s == nil || s.kind == cardreader.ReaderGone || s.kind == cardreader.ServiceDown {
		return noteNoReader
	}
	if a.keys == nil {
		return noteNeedsKey
	}
	if _, err := a.keys.Active(); err != nil {
		return noteNeedsKey
	}
	if a.disk != nil {
		if free, err := a.disk(); err != nil || free < a.cfg.MinDisk {
			a.alarms.raise(string(audit.DiskLow))
			return noteNoDisk
		}
		a.alarms.clear(string(audit.DiskLow))
	}
	if !a.clockSane() {
		a.alarms.raise(string(audit.ClockUnsane))
		return noteClock
	}
	a.alarms.clear(string(audit.ClockUnsane))
	if a.outbox.Stats().Depth >= a.cfg.MaxDepth {
		return noteBacklog
	}
	return nil
}

// clockSane reports whether the wall clock can be believed.
func (a *Agent) clockSane() bool {
	b, now := a.cfg.BuildTime, time.Now()
	return b.IsZero() || !now.Before(b) && !now.After(b.AddDate(10, 0, 0))
}

// preflight is the gate before each customer: could a top-up be finished now?
func (a *Agent) preflight(ctx context.Context) *Note {
	if n := a.blocked(); n != nil {
		return n
	}
	if err := a.client.Token(ctx); err != nil {
		a.log.Warn("no token", "err", err)
		if errors.Is(err, protocol.ErrNoKey) || errors.Is(err, protocol.ErrKeyRefused) {
			return noteNeedsKey
		}
		return noteOffline
	}
	return nil
}

// alarms are the conditions a person must hear of. They live in memory; what
// caused them is on disk.
type alarms struct {
	mu sync.Mutex
	on map[string]time.Time
}

func (s *alarms) raise(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on == nil {
		s.on = map[string]time.Time{}
	}
	if _, ok := s.on[name]; !ok {
		s.on[name] = time.Now()
	}
}

func (s *alarms) clear(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.on, name)
}

func (s *alarms) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for n := range s.on {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// evictionsAlarm is how many tokens must have been taken from us before it is
// no coincidence.
const evictionsAlarm = 3

// overdue is how long the platform may owe a decision before a person hears.
const overdue = 7 * 24 * time.Hour

// review raises the alarms that come with age and clears those that are over.
func (a *Agent) review() {
	late, parked := false, a.outbox.Stats().Parked > 0
	for _, r := range a.journal.Unsettled() {
		if r.Awaiting && a.now().Sub(time.UnixMilli(int64(r.Decided))) > overdue {
			late = true
		}
	}
	set := func(name string, on bool) {
		if on {
			a.alarms.raise(name)
		} else {
			a.alarms.clear(name)
		}
	}
	set(string(topup.AlarmOverdue), late)
	set(string(audit.ReportParked), parked)
	set(string(audit.PlatformEvicted), a.client.Evictions() >= evictionsAlarm)
	if oldest := a.outbox.Stats().Oldest; !oldest.IsZero() {
		set(string(audit.OutboxOld), time.Since(oldest) > time.Hour)
	} else {
		a.alarms.clear(string(audit.OutboxOld))
	}
}

// trimStep is how many lines of the journal go in one transaction.
const trimStep = 200

// trim keeps the journal at its size: the oldest lines of closed records go.
func (a *Agent) trim(ctx context.Context) {
	if a.journal.Len() <= a.cfg.Keep {
		return
	}
	err := a.writer.Do(ctx, func(tx *bbolt.Tx) error {
		_, err := a.journal.Trim(tx, a.cfg.Keep, trimStep)
		return err
	})
	if err != nil && ctx.Err() == nil {
		a.log.Error("journal not trimmed", "err", err)
	}
}

// heartbeat tells the platform how the kiosk is. Its phase is a hash of the
// kiosk's id, so that a fleet does not speak in chorus.
func (a *Agent) heartbeat(ctx context.Context) error {
	if a.cfg.Heartbeat < 0 {
		<-ctx.Done()
		return nil
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(a.cfg.DeviceID))
	wait := time.Duration(h.Sum64() % uint64(a.cfg.Heartbeat))
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = a.cfg.Heartbeat
		a.review()
		a.trim(ctx)
		st := a.Status()
		_, err := a.client.Heartbeat(protocol.Backlog(ctx), protocol.HeartbeatRequest{
			State: st.State, KCV: st.KCV, KeyGen: st.KeyGen, QueueDepth: st.Outbox.Depth,
			OldestQueued: int64(st.Outbox.OldestAge / time.Second), Parked: st.Outbox.Parked, Alarms: st.Alarms,
			Firmware: a.cfg.Firmware, DiskFree: st.DiskFree,
		})
		if err == nil {
			a.alarms.clear(string(audit.PlatformAuth))
			a.alarms.clear(string(audit.PlatformConfig))
			continue
		}
		if ctx.Err() == nil {
			a.log.Info("heartbeat not delivered", "err", err)
		}
	}
}
