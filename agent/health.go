package agent

import (
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"vcckiosk/agent/audit"
	"vcckiosk/agent/mirror"
	"vcckiosk/agent/topup"
	"vcckiosk/cardreader"
	"vcckiosk/protocol"
)

// blocked tells why nothing could be sold now, nil if it could, by what is
// known without asking anybody.
func (a *Agent) blocked() *Note {
	if a.commands.ledger.Out() != nil {
		return noteDisabled
	}
	if a.device() == "" {
		return noteUnregistered
	}
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
	set(string(audit.MediaParked), a.outbox.Stats().SpareParked > 0)
	set(string(audit.PlatformEvicted), a.client.Evictions() >= evictionsAlarm)
	if a.recon != nil {
		differs, tardy := a.recon.trouble()
		set(string(audit.ReconDiffers), differs)
		set(string(audit.ReconLate), tardy)
	}
	set(string(audit.MirrorResync), a.Mirror != nil && a.Mirror.Status().State == mirror.ResyncNeeded)
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

// wireState writes a reader's state as the heartbeat has it: cardIn, readerGone.
func wireState(s string) string {
	first, rest, _ := strings.Cut(s, " ")
	if rest == "" {
		return first
	}
	return first + strings.ToUpper(rest[:1]) + rest[1:]
}

// askTime asks 6005 when no answer has carried a date yet, or when our clock
// cannot be right. What it teaches is the skew; the system's clock is not
// touched.
func (a *Agent) askTime(ctx context.Context) {
	if _, known := a.client.Skew(); known && a.clockSane() {
		return
	}
	if a.client.Token(protocol.Backlog(ctx)) == nil { // its answer has a date as a rule
		if _, known := a.client.Skew(); known && a.clockSane() {
			return
		}
	}
	if _, err := a.client.Time(protocol.Backlog(ctx)); err != nil && ctx.Err() == nil {
		a.log.Info("platform's clock not known", "err", err)
	}
}

// customerFirst is how long a heartbeat waits for a customer to be done: beside
// a customer's call it would take the one connection that is open, or another,
// and a handshake is what a customer on a slow line notices.
const customerFirst = 2 * time.Minute

// heartbeat tells the platform how the kiosk is. Its phase is a hash of the
// kiosk's id, so that a fleet does not speak in chorus.
func (a *Agent) heartbeat(ctx context.Context) error {
	if a.cfg.Heartbeat < 0 {
		<-ctx.Done()
		return nil
	}
	ctx = protocol.Aside(ctx) // no customer waits behind it, nor for the connection it has
	h := fnv.New64a()
	id := a.device()
	if id == "" {
		id = a.cfg.TerminalNo // as unique, and there before registration
	}
	_, _ = h.Write([]byte(id))
	wait := time.Duration(h.Sum64() % uint64(a.cfg.Heartbeat))
	if !a.clockSane() {
		a.askTime(ctx) // what is known of time decides what can be taken
	}
	soon := false // the last heartbeat was a short one
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = a.cfg.Heartbeat
		a.Screen.quiet(ctx, customerFirst)
		a.review()
		a.trim(ctx)
		a.commands.settleInterrupted(ctx)
		if a.device() == "" {
			continue // nobody knows us yet
		}
		release, err := a.lane.take(ctx)
		if err != nil {
			return nil //nolint:nilerr // ctx has ended
		}
		a.askTime(ctx)
		st, acks := a.Status(), a.commands.acks()
		req := protocol.HeartbeatRequest{
			State: st.State, KCV: st.KCV, KeyGen: st.KeyGen, QueueDepth: st.Outbox.Depth,
			OldestQueued: int64(st.Outbox.OldestAge / time.Second), Parked: st.Outbox.Parked, Alarms: st.Alarms,
			Firmware: a.cfg.Firmware, DiskFree: st.DiskFree, ReaderState: wireState(st.Reader.State), Acks: acks,
		}
		if last := a.journal.Last(1); len(last) > 0 {
			req.LastTransTime = protocol.Stamp(time.UnixMilli(int64(last[0].Begun)))
		}
		if a.modem != nil {
			req.ModemState = a.modem()
		}
		answer, err := a.client.Heartbeat(protocol.Backlog(ctx), req)
		release()
		if err == nil {
			a.alarms.clear(string(audit.PlatformAuth))
			a.alarms.clear(string(audit.PlatformConfig))
			a.commands.told(acks)
			if soon = a.commands.obey(ctx, answer.Commands) && !soon; soon {
				wait = min(wait, ackSoon)
			}
			continue
		}
		if ctx.Err() == nil {
			a.log.Info("heartbeat not delivered", "err", err)
		}
	}
}
