// Package journal keeps every top-up on disk: each change of a record is a new
// line of a chain (agent/chain), nothing is overwritten. What is not settled
// is also held in memory, together with an index of the rest; memory follows
// each commit.
//
// An interrupted write leaves the record's previous version, whole.
package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"go.etcd.io/bbolt"

	"vcckiosk/agent/chain"
	"vcckiosk/agent/topup"
)

var lines = chain.New("journal")

// Viewer reads the file; *queue.Writer is one.
type Viewer interface {
	View(fn func(*bbolt.Tx) error) error
}

// Journal is the top-ups of one kiosk. Its methods may be called from any
// goroutine; those that take a transaction inside that transaction only.
type Journal struct {
	v      Viewer
	damage []chain.Damage

	mu        sync.Mutex
	newest    map[topup.TransNo]uint64 // line of the newest version
	first     map[topup.TransNo]uint64 // line of the first version
	high      uint64                   // newest committed line
	began     []topup.TransNo          // in order
	orders    map[string][]topup.TransNo
	unsettled map[topup.TransNo]topup.Record
}

// Open reads the whole chain. A line that does not verify is named in Damage
// and hides no other. A record whose newest line stands behind damage may have
// had a later version: it is marked Salvaged, so that it proves nothing it
// cannot prove again.
func Open(v Viewer) (*Journal, error) {
	j := &Journal{
		v: v, newest: map[topup.TransNo]uint64{}, first: map[topup.TransNo]uint64{}, orders: map[string][]topup.TransNo{},
		unsettled: map[topup.TransNo]topup.Record{},
	}
	err := v.View(func(tx *bbolt.Tx) error {
		// Most lines are old versions, or records nothing is left to do about:
		// only their headings are read, which is what opening takes its time for.
		bad, err := lines.Scan(tx, func(n uint64, body []byte, _ bool) error {
			h, err := readHeading(body)
			if err != nil {
				j.damage = append(j.damage, chain.Damage{N: n, What: "not a record"})
				return nil //nolint:nilerr // told in Damage
			}
			j.enter(n, h.TransNo, h.OrderNo)
			if h.settled() {
				delete(j.unsettled, h.TransNo)
			} else {
				j.unsettled[h.TransNo] = topup.Record{}
			}
			return nil
		})
		for no := range j.unsettled {
			body, gerr := lines.Get(tx, j.newest[no])
			r, derr := decode(body)
			if gerr != nil || derr != nil {
				j.damage = append(j.damage, chain.Damage{N: j.newest[no], What: "not a record"})
				delete(j.unsettled, no)
				continue
			}
			j.unsettled[no] = r
		}
		j.damage = append(j.damage, bad...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	// A lost line may have been the newest version of anything that is older; a
	// line that is out of its place may be anybody's.
	for _, d := range j.damage {
		for no, r := range j.unsettled {
			if j.newest[no] <= d.N {
				r.Salvaged = true
				j.unsettled[no] = r
			}
		}
	}
	return j, nil
}

func decode(body []byte) (topup.Record, error) {
	var r topup.Record
	if err := json.Unmarshal(body, &r); err != nil {
		return r, fmt.Errorf("decode record: %w", err)
	}
	if !r.TransNo.Valid() || r.Version != 1 {
		return r, errors.New("decode record: no number or unknown version")
	}
	return r, nil
}

// enter needs j.mu, or nobody else around.
func (j *Journal) enter(n uint64, no topup.TransNo, orderNo string) {
	if _, known := j.newest[no]; !known {
		j.began = append(j.began, no)
		j.first[no] = n
		j.orders[orderNo] = append(j.orders[orderNo], no)
	}
	j.newest[no] = n
	j.high = max(j.high, n)
}

// index needs j.mu, or nobody else around.
func (j *Journal) index(n uint64, r topup.Record) {
	j.enter(n, r.TransNo, r.OrderNo)
	if Settled(r) {
		delete(j.unsettled, r.TransNo)
		return
	}
	j.unsettled[r.TransNo] = r
}

// Settled reports whether nothing is left to do about r.
func Settled(r topup.Record) bool {
	return r.Phase == topup.Closed && !r.Awaiting && r.Parked == ""
}

// Damage is what did not verify when the journal was opened.
func (j *Journal) Damage() []chain.Damage { return j.damage }

// Put appends a version of r. The transaction's commit makes it the newest.
// Memory holds what the disk holds, never what was left out of it (a plan in
// clear).
func (j *Journal) Put(tx *bbolt.Tx, r topup.Record) error {
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	stored, err := decode(body)
	if err != nil {
		return fmt.Errorf("journal %s: %w", r.TransNo, err) // would be damage when read again
	}
	n, err := lines.Append(tx, body)
	if err != nil {
		return fmt.Errorf("journal %s: %w", r.TransNo, err)
	}
	tx.OnCommit(func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.index(n, stored)
	})
	return nil
}

// Get is the newest committed version of a record.
func (j *Journal) Get(no topup.TransNo) (topup.Record, bool) {
	j.mu.Lock()
	r, ok := j.unsettled[no]
	n := j.newest[no]
	j.mu.Unlock()
	if ok {
		return r, true
	}
	if n == 0 {
		return topup.Record{}, false
	}
	err := j.v.View(func(tx *bbolt.Tx) error {
		body, err := lines.Get(tx, n)
		if err != nil || body == nil {
			return errors.Join(err, errors.New("no such line"))
		}
		r, err = decode(body)
		return err
	})
	return r, err == nil
}

// GetTx is the newest version of a record as tx sees it, its own Put included.
func (j *Journal) GetTx(tx *bbolt.Tx, no topup.TransNo) (r topup.Record, found bool, err error) {
	j.mu.Lock()
	n, high := j.newest[no], j.high
	salvaged := j.unsettled[no].Salvaged
	j.mu.Unlock()
	// Versions this transaction has put lie behind everything committed.
	err = lines.After(tx, high, func(_ uint64, body []byte) error {
		if v, err := decode(body); err == nil && v.TransNo == no {
			r, found = v, true
		}
		return nil
	})
	if err != nil || found {
		return r, found, err
	}
	if n == 0 {
		return r, false, nil
	}
	body, err := lines.Get(tx, n)
	if err != nil || body == nil {
		return r, false, errors.Join(err, fmt.Errorf("journal line %d", n))
	}
	r, err = decode(body)
	r.Salvaged = r.Salvaged || salvaged
	return r, err == nil, err
}

// Len is how many records there are.
func (j *Journal) Len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.began)
}

// ByCard are the unsettled records of a card, oldest first.
func (j *Journal) ByCard(hash string) []topup.Record {
	return j.open(func(r topup.Record) bool { return r.Card.Hash == hash })
}

// Unsettled are all records with something left to do, oldest first.
func (j *Journal) Unsettled() []topup.Record {
	return j.open(func(topup.Record) bool { return true })
}

func (j *Journal) open(want func(topup.Record) bool) []topup.Record {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []topup.Record
	for _, r := range j.unsettled {
		if want(r) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b topup.Record) int {
		return int(j.first[a.TransNo]) - int(j.first[b.TransNo])
	})
	return out
}

// ByOrder are all records of an order, oldest first.
func (j *Journal) ByOrder(orderNo string) []topup.Record {
	j.mu.Lock()
	nos := slices.Clone(j.orders[orderNo])
	j.mu.Unlock()
	return j.records(nos)
}

// Last are the n records begun last, newest first.
func (j *Journal) Last(n int) []topup.Record {
	j.mu.Lock()
	nos := slices.Clone(j.began[max(0, len(j.began)-n):])
	j.mu.Unlock()
	slices.Reverse(nos)
	return j.records(nos)
}

func (j *Journal) records(nos []topup.TransNo) []topup.Record {
	var out []topup.Record
	for _, no := range nos {
		if r, ok := j.Get(no); ok {
			out = append(out, r)
		}
	}
	return out
}

// Entry is one stored version of a record.
type Entry struct {
	Line   uint64       `json:"line"`
	Record topup.Record `json:"record"`
}

// Versions are all stored versions of a record, oldest first. It reads the
// journal from the record's first line on: for people, not for the money path.
func (j *Journal) Versions(no topup.TransNo) ([]Entry, error) {
	j.mu.Lock()
	first := j.first[no]
	j.mu.Unlock()
	if first == 0 {
		return nil, nil
	}
	var out []Entry
	err := j.v.View(func(tx *bbolt.Tx) error {
		return lines.After(tx, first-1, func(n uint64, body []byte) error {
			if !bytes.Contains(body, []byte(no)) {
				return nil
			}
			if r, err := decode(body); err == nil && r.TransNo == no {
				out = append(out, Entry{n, r})
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read versions: %w", err)
	}
	return out, nil
}

// Trim removes the oldest lines, at most limit, as long as they belong to settled
// records and more than keep records remain. The rest still verifies.
func (j *Journal) Trim(tx *bbolt.Tx, keep, limit int) (int, error) {
	j.mu.Lock()
	spare := len(j.began) - keep
	j.mu.Unlock()
	if spare <= 0 {
		return 0, nil
	}
	var gone []topup.TransNo
	n, err := lines.Trim(tx, limit, func(n uint64, body []byte) bool {
		r, err := decode(body)
		if err != nil {
			return true // it proves nothing and was told in Damage
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		if _, open := j.unsettled[r.TransNo]; open {
			return false
		}
		if j.newest[r.TransNo] == n {
			if len(gone) >= spare {
				return false
			}
			gone = append(gone, r.TransNo)
		}
		return true
	})
	if err != nil {
		return 0, err
	}
	tx.OnCommit(func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		for _, no := range gone {
			delete(j.newest, no)
			delete(j.first, no)
			j.began = slices.DeleteFunc(j.began, func(b topup.TransNo) bool { return b == no })
			for order, nos := range j.orders {
				if i := slices.Index(nos, no); i >= 0 {
					if j.orders[order] = slices.Delete(nos, i, i+1); len(j.orders[order]) == 0 {
						delete(j.orders, order)
					}
					break
				}
			}
		}
	})
	return n, nil
}
