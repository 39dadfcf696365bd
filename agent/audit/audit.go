// Package audit records what a person may have to answer for: refused and
// contradicted top-ups, keys, operators' acts. The lines are chained
// (agent/chain); no key, card number, phone number or name is in them.
//
// Nothing is written here in a top-up that goes well: the journal is its
// record.
package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"vcckiosk/agent/chain"
)

var lines = chain.New("audit")

// Entry is one event. Time is the wall clock, which is data, not order.
type Entry struct {
	N     uint64            `json:"-"`
	At    int64             `json:"at"` // milliseconds since 1970
	Event Event             `json:"event"`
	Attrs map[string]string `json:"attrs,omitempty"`
}

// Limits of one entry: what comes from outside must not fill the disk.
const (
	maxAttrs = 12
	maxValue = 256
	// Keep is how many entries are kept; older ones are trimmed.
	Keep = 20_000
)

func clip(s string) string {
	if len(s) > maxValue {
		return strings.ToValidUTF8(s[:maxValue], "")
	}
	return s
}

// Append records e in tx. attrs must hold no key, phone number, name or card
// number; of more than 12 the first by name are kept, each cut at 256 bytes.
func Append(tx *bbolt.Tx, at time.Time, e Event, attrs map[string]string) error {
	en := Entry{At: at.UnixMilli(), Event: e, Attrs: map[string]string{}}
	for _, k := range slices.Sorted(maps.Keys(attrs)) {
		if len(en.Attrs) == maxAttrs {
			break
		}
		en.Attrs[clip(k)] = clip(attrs[k])
	}
	body, err := json.Marshal(en)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	n, err := lines.Append(tx, body)
	if err != nil {
		return fmt.Errorf("record event %s: %w", e, err)
	}
	if n > Keep {
		if _, err := lines.Trim(tx, 16, func(old uint64, _ []byte) bool { return old+Keep <= n }); err != nil {
			return fmt.Errorf("trim events: %w", err)
		}
	}
	return nil
}

// List is the newest n entries, oldest of them first. Entries that do not
// verify are left out; Verify names them.
func List(tx *bbolt.Tx, n int) ([]Entry, error) {
	if n <= 0 {
		return nil, nil
	}
	var out []Entry
	lines.Newest(tx, func(no uint64, body []byte) bool {
		var e Entry
		if json.Unmarshal(body, &e) == nil {
			e.N = no
			out = append(out, e)
		}
		return len(out) < n
	})
	slices.Reverse(out)
	return out, nil
}

// ErrBroken: the chain does not hold.
var ErrBroken = errors.New("audit log is broken")

// Verify walks the chain.
func Verify(tx *bbolt.Tx) error {
	bad, err := lines.Scan(tx, func(uint64, []byte, bool) error { return nil })
	if err != nil {
		return err
	}
	if len(bad) > 0 {
		return fmt.Errorf("%w: %d places, the first at entry %d: %s", ErrBroken, len(bad), bad[0].N, bad[0].What)
	}
	return nil
}
