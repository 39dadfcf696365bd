package command

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"sync"

	"go.etcd.io/bbolt"
)

// Result is what became of a command.
type Result string

// The results.
const (
	OK      Result = "ok"
	Refused Result = "refused" // it was not begun; Reason says why
	Expired Result = "expired" // it came too late and was not begun
	Failed  Result = "failed"  // it was begun, and did not end well or nobody knows
)

// Interrupted is the reason of a command that was begun when the power went,
// or whose end could not be stored: what it did is not known.
const Interrupted = "interrupted"

// Entry is one command in the ledger.
type Entry struct {
	ID      string `json:"id"`
	Name    Name   `json:"cmd"`
	Counter uint64 `json:"counter"`
	Digest  string `json:"digest"` // SHA-256 of the envelope, hex
	At      int64  `json:"at"`     // milliseconds since 1970: data, not order
	// Result is empty while it is under way.
	Result Result `json:"result,omitempty"`
	Reason string `json:"reason,omitempty"`
	KCV    string `json:"kcv,omitempty"`
	// Told: a heartbeat with the acknowledgement was answered.
	Told bool `json:"told,omitempty"`
}

// Out is why a kiosk is out of service by command.
type Out struct {
	ID     string `json:"id"`
	Since  int64  `json:"since"` // milliseconds since 1970
	Reason string `json:"reason,omitempty"`
}

// contents is the value in the bucket.
type contents struct {
	Counter uint64  `json:"counter"`       // the highest one taken
	Key     string  `json:"key,omitempty"` // id of the key that signed it
	Out     *Out    `json:"out,omitempty"` // nil: in service
	Entries []Entry `json:"entries"`       // by counter
}

// Bounds of the ledger.
const (
	// MaxUntold is how many acknowledgements can wait; no command is taken
	// beyond it.
	MaxUntold = 32
	keep      = 64 // entries; the oldest told ones go first
)

var (
	// ErrDamaged: the ledger does not have its checksum. Which counters were used
	// is not known any more, so that no command can be taken.
	ErrDamaged = errors.New("ledger of commands is damaged")
	// ErrBusy: too many acknowledgements wait. The same command may be sent again.
	ErrBusy = errors.New("too many commands wait to be acknowledged")
	// ErrReplayed: the counter is not above the highest one taken.
	ErrReplayed = errors.New("counter was used before")
	// ErrNoEntry: no such command is under way.
	ErrNoEntry = errors.New("no such command")
)

var (
	bucket    = []byte("command")
	keyLedger = []byte("ledger")
	crcTable  = crc32.MakeTable(crc32.Castagnoli)
)

// Ledger is what was taken. Its methods over *bbolt.Tx belong into the
// transaction of their consequence; what the others answer follows the commit.
// It is safe for concurrent use.
type Ledger struct {
	mu  sync.Mutex
	cur contents
	bad bool
	// hushed acknowledgements were answered, and the mark of it waits for a
	// commit; wanted ones were asked for again. Both are forgotten by a restart,
	// which repeats an acknowledgement at worst.
	hushed, wanted map[string]bool
}

// Open reads the ledger. A damaged one is no error: Damaged tells, and nothing
// is taken any more.
func Open(view func(func(*bbolt.Tx) error) error) (*Ledger, error) {
	l := &Ledger{hushed: map[string]bool{}, wanted: map[string]bool{}}
	err := view(func(tx *bbolt.Tx) error {
		c, err := read(tx)
		l.cur, l.bad = c, errors.Is(err, ErrDamaged)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open ledger of commands: %w", err)
	}
	return l, nil
}

func read(tx *bbolt.Tx) (c contents, err error) {
	b := tx.Bucket(bucket)
	if b == nil {
		return contents{}, nil
	}
	v := b.Get(keyLedger)
	if v == nil {
		return contents{}, nil
	}
	if len(v) < 10 || v[8] != ' ' || string(fmt.Appendf(nil, "%08x", crc32.Checksum(v[9:], crcTable))) != string(v[:8]) || json.Unmarshal(v[9:], &c) != nil {
		return contents{}, ErrDamaged
	}
	return c, nil
}

// change reads, changes and writes the ledger in tx; memory follows the commit.
func (l *Ledger) change(tx *bbolt.Tx, f func(*contents) error) error {
	c, err := read(tx)
	if err != nil {
		return err
	}
	if err := f(&c); err != nil {
		return err
	}
	c.trim()
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode ledger of commands: %w", err)
	}
	b, err := tx.CreateBucketIfNotExists(bucket)
	if err != nil {
		return fmt.Errorf("write ledger of commands: %w", err)
	}
	if err := b.Put(keyLedger, append(fmt.Appendf(nil, "%08x ", crc32.Checksum(text, crcTable)), text...)); err != nil {
		return fmt.Errorf("write ledger of commands: %w", err)
	}
	tx.OnCommit(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.cur = c
		maps.DeleteFunc(l.hushed, func(id string, _ bool) bool {
			return !slices.ContainsFunc(c.Entries, func(e Entry) bool { return e.ID == id && !e.Told })
		})
	})
	return nil
}

func (c *contents) trim() {
	slices.SortFunc(c.Entries, func(a, b Entry) int { return cmp.Compare(a.Counter, b.Counter) })
	for over := len(c.Entries) - keep; over > 0; over-- {
		i := slices.IndexFunc(c.Entries, func(e Entry) bool { return e.Told })
		if i < 0 {
			return // MaxUntold bounds them
		}
		c.Entries = slices.Delete(c.Entries, i, i+1)
	}
}

// Take writes a new command down, with its counter and the id of the key that
// signed it; with a Result it is over, without one it is begun. ErrReplayed and
// ErrBusy take nothing.
func (l *Ledger) Take(tx *bbolt.Tx, e Entry, key string) error {
	return l.change(tx, func(c *contents) error {
		untold := 0
		for _, o := range c.Entries {
			if o.ID == e.ID {
				return fmt.Errorf("%w: %s", ErrReplayed, e.ID)
			}
			if !o.Told {
				untold++
			}
		}
		if e.Counter <= c.Counter {
			return fmt.Errorf("%w: %d, after %d", ErrReplayed, e.Counter, c.Counter)
		}
		if untold >= MaxUntold {
			return ErrBusy
		}
		c.Counter, c.Key = e.Counter, key
		c.Entries = append(c.Entries, e)
		return nil
	})
}

// Finish writes down what became of a command that was begun.
func (l *Ledger) Finish(tx *bbolt.Tx, id string, r Result, reason string) error {
	return l.change(tx, func(c *contents) error {
		for i := range c.Entries {
			if e := &c.Entries[i]; e.ID == id && e.Result == "" {
				e.Result, e.Reason = r, reason
				return nil
			}
		}
		return fmt.Errorf("%w: %s", ErrNoEntry, id)
	})
}

// SetOut takes the kiosk out of service, or back into it with nil.
func (l *Ledger) SetOut(tx *bbolt.Tx, o *Out) error {
	return l.change(tx, func(c *contents) error { c.Out = o; return nil })
}

// MarkTold writes down that these acknowledgements were answered. It may be
// repeated.
func (l *Ledger) MarkTold(tx *bbolt.Tx, ids []string) error {
	return l.change(tx, func(c *contents) error {
		for i := range c.Entries {
			if e := &c.Entries[i]; e.Result != "" && slices.Contains(ids, e.ID) {
				e.Told = true
			}
		}
		return nil
	})
}

// Hush keeps acknowledgements that were answered out of the next heartbeat,
// until MarkTold is committed.
func (l *Ledger) Hush(ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		delete(l.wanted, id)
		if slices.ContainsFunc(l.cur.Entries, func(e Entry) bool { return e.ID == id && !e.Told }) {
			l.hushed[id] = true
		}
	}
}

// Again tells whether this very envelope was taken before; its acknowledgement
// is then sent once more.
func (l *Ledger) Again(id, digest string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.cur.Entries {
		if e.ID == id && e.Digest == digest {
			l.wanted[id] = true
			return true
		}
	}
	return false
}

// Acks are at most n commands whose end is still to be told, oldest first.
func (l *Ledger) Acks(n int) (out []Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.cur.Entries {
		if e.Result != "" && (l.wanted[e.ID] || !e.Told && !l.hushed[e.ID]) && len(out) < n {
			out = append(out, e)
		}
	}
	return out
}

// Begun are the commands under way.
func (l *Ledger) Begun() (out []Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.cur.Entries {
		if e.Result == "" {
			out = append(out, e)
		}
	}
	return out
}

// Out tells why the kiosk is out of service by command, nil if it is not.
func (l *Ledger) Out() *Out {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cur.Out
}

// Counter is the highest counter taken and the id of the key that signed it: a
// key that stands before that one in the ring is not taken any more.
func (l *Ledger) Counter() (counter uint64, key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cur.Counter, l.cur.Key
}

// Damaged tells whether the ledger could not be read.
func (l *Ledger) Damaged() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bad
}
