// Package daybook keeps what became of each day's reconciliation: shipped,
// answered, how it came out in numbers. Each change is a new line of a chain
// (agent/chain); the newest line of a day counts. The lists themselves are
// files beside the day files and can be made again.
//
// A lost or damaged line costs a day file that is shipped once more, which
// replaces the whole day.
package daybook

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"go.etcd.io/bbolt"

	"vcckiosk/agent/chain"
	"vcckiosk/agent/topup"
)

var lines = chain.New("recon")

// keep is how many lines there are; the oldest go.
const keep = 800

// Day is one day, yyyyMMdd in China.
type Day struct {
	Day     string       `json:"day"`
	Shipped topup.Millis `json:"shipped"`
	Rows    int          `json:"rows"`
	Amount  topup.Fen    `json:"amount"`
	Volume  topup.Volume `json:"gasVolume"`
	SHA256  string       `json:"sha256"`
	// Left are top-ups that could not be written as a row.
	Left int `json:"left,omitempty"`

	Answered   topup.Millis `json:"answered,omitempty"` // zero: no answer yet
	AnswerHash string       `json:"answerSha256,omitempty"`
	Agreed     int          `json:"agreed"`
	Pending    int          `json:"pending"`
	OnlyOurs   int          `json:"onlyOurs"`
	OnlyTheirs int          `json:"onlyTheirs"`
	Differ     int          `json:"differ"`
	// Faults are rows of the answer that could not be used.
	Faults int `json:"faults,omitempty"`
	// Alarms are differences a person must do something about.
	Alarms int `json:"alarms"`
}

// Book is the days of one kiosk; memory follows each commit.
type Book struct {
	mu   sync.Mutex
	days map[string]Day
	last string
}

// Viewer reads the file; *queue.Writer is one.
type Viewer interface {
	View(fn func(*bbolt.Tx) error) error
}

// Open reads the book.
func Open(v Viewer) (*Book, error) {
	b := &Book{days: map[string]Day{}}
	err := v.View(func(tx *bbolt.Tx) error {
		return lines.After(tx, 0, func(_ uint64, body []byte) error {
			var d Day
			if json.Unmarshal(body, &d) == nil && d.Day != "" {
				b.enter(d)
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read book of days: %w", err)
	}
	return b, nil
}

// enter needs b.mu, or nobody else around.
func (b *Book) enter(d Day) {
	b.days[d.Day] = d
	b.last = max(b.last, d.Day)
}

// Put stores d; the transaction's commit makes it the day's newest.
func (b *Book) Put(tx *bbolt.Tx, d Day) error {
	if d.Day == "" {
		return errors.New("day without a date")
	}
	body, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode day: %w", err)
	}
	n, err := lines.Append(tx, body)
	if err != nil {
		return fmt.Errorf("record day %s: %w", d.Day, err)
	}
	if n > keep {
		if _, err := lines.Trim(tx, 16, func(old uint64, _ []byte) bool { return old+keep <= n }); err != nil {
			return fmt.Errorf("trim days: %w", err)
		}
	}
	tx.OnCommit(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.enter(d)
	})
	return nil
}

// Get is a day as it stands; false: never shipped.
func (b *Book) Get(day string) (Day, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d, ok := b.days[day]
	return d, ok
}

// Last is the latest day that was shipped, "" for none. No outcome may be
// entered under it or a day before it.
func (b *Book) Last() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

// Days are all days, newest first.
func (b *Book) Days() []Day {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := []Day{}
	for _, day := range slices.Backward(slices.Sorted(maps.Keys(b.days))) {
		out = append(out, b.days[day])
	}
	return out
}
