package agent

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/bbolt"

	"vcckiosk/agent/audit"
	"vcckiosk/agent/command"
	"vcckiosk/agent/journal"
	"vcckiosk/agent/mirror"
	"vcckiosk/agent/topup"
	"vcckiosk/keystore"
	"vcckiosk/protocol"
	"vcckiosk/queue"
)

// Status is the kiosk at a glance, for technicians and operators. Nothing in
// it is secret or personal.
type Status struct {
	State    string        `json:"state"` // serving, or the code of the note that says why not
	Note     *Note         `json:"note,omitempty"`
	Device   string        `json:"device"`
	Terminal string        `json:"terminal"`
	Firmware string        `json:"firmware"`
	Reader   ReaderStatus  `json:"reader"`
	KCV      string        `json:"kcv,omitempty"`
	KeyGen   uint64        `json:"keyGen"`
	Key      string        `json:"key"`   // active, pending, none, locked: and why
	Token    string        `json:"token"` // live, none, refused: the session with the platform
	Outbox   OutboxStatus  `json:"outbox"`
	Journal  JournalStatus `json:"journal"`
	Alarms   []string      `json:"alarms,omitempty"`
	// Disabled is set while the kiosk is out of service by command;
	// Registration on a kiosk whose name comes from the platform.
	Disabled     *command.Out        `json:"disabled,omitempty"`
	Registration *RegistrationStatus `json:"registration,omitempty"`
	DiskFree     int64               `json:"diskFree"`
	Evictions    int                 `json:"evictions"`
	SkewMS       int64               `json:"skewMs"`
	Uptime       time.Duration       `json:"uptimeNs"`
	Commits      uint64              `json:"commits"`
	// Mirror is nil where master data is not mirrored.
	Mirror *mirror.Status `json:"mirror,omitempty"`
}

// ReaderStatus tells which reader and what is in it.
type ReaderStatus struct {
	Name  string   `json:"name"`
	State string   `json:"state"`
	Last  *Reading `json:"last,omitempty"`
}

// OutboxStatus counts what still has to be told.
type OutboxStatus struct {
	Depth     int `json:"depth"`
	Scheduled int `json:"scheduled"` // questions for another day
	Parked    int `json:"parked"`
	// Files to upload, which are no results and wait for everything else.
	Media       int           `json:"media,omitempty"`
	MediaParked int           `json:"mediaParked,omitempty"`
	OldestAge   time.Duration `json:"oldestAgeNs"`
}

// JournalStatus counts records that are not closed.
type JournalStatus struct {
	Open    int `json:"open"`
	Damaged int `json:"damaged"`
}

// Reading is the card last read, as it may be shown.
type Reading struct {
	Card string    `json:"card"` // last four digits / six digits of its hash
	Type string    `json:"type"`
	At   time.Time `json:"at"`
}

// Status takes the kiosk's picture. It asks nobody outside.
func (a *Agent) Status() Status {
	st := Status{
		State: "serving", Device: a.device(), Terminal: a.cfg.TerminalNo, Firmware: a.cfg.Firmware,
		Alarms: a.alarms.list(), Evictions: a.client.Evictions(), Commits: a.writer.Stats().Commits,
		Uptime: time.Since(a.started),
	}
	st.Disabled, st.Registration = a.commands.ledger.Out(), a.Registrar.Status()
	if n := a.blocked(); n != nil {
		st.State, st.Note = n.Code, n
	}
	st.Reader = ReaderStatus{Name: a.reader.Name(), State: "unknown", Last: a.reading.Load()}
	if s := a.state.Load(); s != nil {
		st.Reader.State = s.kind.String()
	}
	st.Key, st.KCV, st.KeyGen = a.keyStatus()
	st.Token = tokenWords(a.client.TokenInfo())
	q := a.outbox.Stats()
	st.Outbox = OutboxStatus{Depth: q.Depth, Scheduled: q.Scheduled, Parked: q.Parked, Media: q.Spare, MediaParked: q.SpareParked}
	if !q.Oldest.IsZero() {
		st.Outbox.OldestAge = time.Since(q.Oldest)
	}
	for _, r := range a.journal.Unsettled() {
		if r.Phase != topup.Closed {
			st.Journal.Open++
		}
	}
	st.Journal.Damaged = len(a.journal.Damage())
	if a.disk != nil {
		st.DiskFree, _ = a.disk()
	}
	if a.Mirror != nil {
		m := a.Mirror.Status()
		st.Mirror = &m
	}
	if skew, ok := a.client.Skew(); ok {
		st.SkewMS = skew.Milliseconds()
	}
	return st
}

func tokenWords(t protocol.TokenInfo) string {
	switch {
	case t.Live:
		return "live"
	case t.Refusals > 0:
		return "refused"
	}
	return "none"
}

func (a *Agent) keyStatus() (words, kcv string, gen uint64) {
	if a.keys == nil {
		return "locked: " + a.keysWhy, "", 0
	}
	k, err := a.keys.Active()
	switch {
	case err == nil:
		return "active", k.KCV(), k.Generation()
	case errors.Is(err, keystore.ErrNoKey):
		if p, err := a.keys.Pending(); err == nil {
			return "pending: not proven yet", p.KCV(), p.Generation()
		}
		return "none", "", 0
	default:
		return err.Error(), "", 0
	}
}

// Queue is the outbox as it is now, parked messages included, oldest first.
func (a *Agent) Queue() []queue.Item { return a.outbox.List() }

// Records are the last n top-ups, newest first.
func (a *Agent) Records(n int) []topup.Record { return a.journal.Last(n) }

// Record is one top-up with all stored versions of it.
func (a *Agent) Record(no topup.TransNo) (topup.Record, []journal.Entry, error) {
	r, ok := a.journal.Get(no)
	if !ok {
		return topup.Record{}, nil, ErrNoRecord
	}
	versions, err := a.journal.Versions(no)
	return r, versions, err
}

// Requeue makes a parked message live again.
func (a *Agent) Requeue(ctx context.Context, id uint64, who string) error {
	return a.writer.Do(ctx, func(tx *bbolt.Tx) error {
		it, ok, err := a.outbox.Get(tx, id)
		if err != nil {
			return err
		}
		if !ok {
			return queue.ErrNoItem
		}
		if err := a.outbox.Requeue(tx, id); err != nil {
			return err
		}
		if r, ok, err := a.journal.GetTx(tx, topup.TransNo(it.Ref)); err == nil && ok && r.Parked != "" && r.Conflict == nil && !r.Manual {
			r.Parked = ""
			if err := a.journal.Put(tx, r); err != nil {
				return err
			}
		}
		return audit.Append(tx, time.Now(), audit.OperatorRequeue, map[string]string{
			"who": who, "kind": it.Kind, "termTransNo": it.Ref, "reason": it.Parked,
		})
	})
}
