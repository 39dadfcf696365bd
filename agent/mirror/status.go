package mirror

import (
	"errors"
	"slices"
	"time"

	"vcckiosk/protocol/table"
)

// State is how a table is.
type State string

// States of a table, the worst first.
const (
	// ResyncNeeded: changes of some time can no longer be had; what is held may
	// be out of date until Resync.
	ResyncNeeded State = "resync needed"
	Empty        State = "not pulled yet"
	Behind       State = "behind" // older than two intervals
	Current      State = "current"
)

// Status is a mirror at a glance. Nothing in it is personal.
type Status struct {
	State  State         `json:"state"` // the worst of its tables
	Fault  string        `json:"fault,omitempty"`
	Next   string        `json:"next,omitempty"` // what a person does about it
	Tables []TableStatus `json:"tables"`
	// Dropped is when and why the file was deleted last, in this run.
	Dropped *Dropped `json:"dropped,omitempty"`
}

// TableStatus is one table.
type TableStatus struct {
	Code  string `json:"code"`
	State State  `json:"state"`
	// Watermark: every change before it has been asked for; none before Since.
	// Both are zero before the first pull, and so is Age.
	Watermark time.Time     `json:"watermark,omitzero"`
	Since     time.Time     `json:"since,omitzero"`
	Age       time.Duration `json:"ageNs"`
	Gap       *Gap          `json:"gap,omitempty"`
	Rows      uint64        `json:"rows"`            // taken in all
	Bad       uint64        `json:"bad"`             // set aside in all
	Pulled    time.Time     `json:"pulled,omitzero"` // end of the last pull in this run
	Last      table.Summary `json:"last"`            // of the last window in this run
	// Aside are the first rows set aside of the last window that had some, in this
	// run. Reasons repeat no value.
	Aside []table.Bad `json:"aside,omitempty"`
	Error string      `json:"error,omitempty"`
}

// resyncAdvice is what a person does about a gap.
const resyncAdvice = "changes of that time can no longer be had: kioskctl mirror resync drops the rows and pulls the last month; rows older than that come back when they change"

// Status takes the picture. It asks nobody.
func (m *Mirror) Status() Status {
	now, sane := m.d.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	st := Status{State: Current, Fault: m.fault, Dropped: m.dropped, Tables: []TableStatus{}}
	order := []State{ResyncNeeded, Empty, Behind, Current}
	for _, code := range m.cfg.Tables {
		s := m.tables[code]
		t := TableStatus{
			Code: code, State: Current, Watermark: s.mark.At, Since: s.mark.Since, Gap: s.mark.Gap, Rows: s.mark.Rows, Bad: s.mark.Bad, Pulled: s.pulled, Last: s.last, Aside: s.aside,
		}
		if s.err != nil && !errors.Is(s.err, errQuiet) {
			t.Error = s.err.Error()
		}
		if !t.Watermark.IsZero() && sane {
			t.Age = max(now.Sub(t.Watermark), 0)
		}
		switch {
		case t.Watermark.IsZero():
			t.State = Empty
		case t.Gap != nil || sane && t.Age > reach:
			t.State = ResyncNeeded
		case t.Age > 2*m.cfg.Interval:
			t.State = Behind
		}
		if slices.Index(order, t.State) < slices.Index(order, st.State) {
			st.State = t.State
		}
		st.Tables = append(st.Tables, t)
	}
	if st.State == ResyncNeeded {
		st.Next = resyncAdvice
	}
	return st
}
