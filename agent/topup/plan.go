package topup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// Field is a run of bytes in a memory card.
type Field struct {
	Offset int `json:"offset"`
	Len    int `json:"len"`
}

func (f Field) of(b []byte) []byte { return b[f.Offset : f.Offset+f.Len] }

func (f Field) in(size int) bool {
	return f.Offset >= 0 && f.Len > 0 && f.Offset <= size && f.Len <= size-f.Offset
}

func (f Field) has(off int) bool { return off >= f.Offset && off < f.Offset+f.Len }

// Write is a run of bytes the platform wants on a card.
type Write struct {
	Offset int    `json:"offset"`
	Data   []byte `json:"data"`
}

// Layout is what a card profile says of an image: where its identity, count
// and gas fields are. Size is the whole readable content in bytes. All
// numbers in a card are big endian.
type Layout struct {
	Size     int
	Identity []Field
	Count    Field
	Gas      Field
}

// CountOf reads the purchase count of content.
func (l Layout) CountOf(content []byte) (int, bool) { return number(l.Count, content) }

// GasOf reads the gas a card still holds, in card units.
func (l Layout) GasOf(content []byte) (int, bool) { return number(l.Gas, content) }

func number(f Field, content []byte) (int, bool) {
	if !f.in(len(content)) || f.Len > 4 {
		return 0, false
	}
	n := 0
	for _, b := range f.of(content) {
		n = n<<8 | int(b)
	}
	return n, true
}

// Plan is the stored way from Before to Target: only bytes that change, in
// this order: the gas field late, the commit field last. It holds card content and is sealed
// wherever it is kept.
type Plan struct {
	Before []byte `json:"before"`
	Target []byte `json:"target"`
	Order  []int  `json:"order"` // offsets in the order they are written
	Commit Field  `json:"commit"`
}

// Errors of NewPlan. An order that breaks one is refused before any byte.
var (
	ErrPlanRange    = errors.New("write outside the card")
	ErrPlanIdentity = errors.New("write touches identity bytes")
	ErrPlanCommit   = errors.New("commit field does not change")
	ErrPlanGas      = errors.New("card still holds gas its meter has not taken")
)

// NewPlan turns the platform's writes into a plan over content before.
func NewPlan(before []byte, writes []Write, commit Field, l Layout) (Plan, error) {
	if len(before) != l.Size || !commit.in(l.Size) || commit != l.Count {
		return Plan{}, fmt.Errorf("commit field %d+%d: %w", commit.Offset, commit.Len, ErrPlanRange)
	}
	if gas, ok := l.GasOf(before); !ok || gas != 0 {
		return Plan{}, ErrPlanGas
	}
	target := bytes.Clone(before)
	for _, w := range writes {
		f := Field{Offset: w.Offset, Len: len(w.Data)}
		if !f.in(l.Size) {
			return Plan{}, fmt.Errorf("write %d+%d: %w", f.Offset, f.Len, ErrPlanRange)
		}
		copy(target[f.Offset:], w.Data)
	}
	for _, id := range l.Identity {
		if !id.in(l.Size) || !bytes.Equal(id.of(before), id.of(target)) {
			return Plan{}, fmt.Errorf("offset %d: %w", id.Offset, ErrPlanIdentity)
		}
	}
	if bytes.Equal(commit.of(before), commit.of(target)) {
		return Plan{}, ErrPlanCommit
	}
	p := Plan{Before: bytes.Clone(before), Target: target, Commit: commit}
	// The gas comes late and the count last: some meters take gas whatever the
	// count says, so a card torn before its gas is written gives them nothing.
	for _, part := range []func(off int) bool{
		func(off int) bool { return !l.Gas.has(off) && !commit.has(off) },
		func(off int) bool { return l.Gas.has(off) && !commit.has(off) },
		commit.has,
	} {
		for off := range target {
			if before[off] != target[off] && part(off) {
				p.Order = append(p.Order, off)
			}
		}
	}
	return p, nil
}

// Valid reports whether a plan read back from disk is one NewPlan could have
// made; a plan that is not is never written.
func (p Plan) Valid() bool {
	if len(p.Before) != len(p.Target) || !p.Commit.in(len(p.Target)) || len(p.Order) == 0 {
		return false
	}
	seen := slices.Clone(p.Order)
	slices.Sort(seen)
	var changed []int
	for off := range p.Target {
		if p.Before[off] != p.Target[off] {
			changed = append(changed, off)
		}
	}
	return slices.Equal(seen, changed) && p.Commit.has(p.Order[len(p.Order)-1])
}

// Rest returns what is still to be written when done bytes of the plan are on
// the card: contiguous runs in plan order, the commit field in runs of its own.
func (p Plan) Rest(done int) []Write {
	var runs []Write
	for i := done; i < len(p.Order); i++ {
		off := p.Order[i]
		if n := len(runs); n > 0 && i > done && p.Order[i-1] == off-1 &&
			p.Commit.has(off) == p.Commit.has(off-1) {
			runs[n-1].Data = append(runs[n-1].Data, p.Target[off])
			continue
		}
		runs = append(runs, Write{Offset: off, Data: []byte{p.Target[off]}})
	}
	return runs
}

// prefix reports whether content is what a tear inside this plan leaves: the
// first done bytes of the plan equal the target, at most one byte is erased or
// half written, everything else is as before.
func (p Plan) prefix(content []byte) (done int, ok bool) {
	for done < len(p.Order) && content[p.Order[done]] == p.Target[p.Order[done]] {
		done++
	}
	want := bytes.Clone(p.Before)
	for _, off := range p.Order[:done] {
		want[off] = p.Target[off]
	}
	if bytes.Equal(content, want) {
		return done, true
	}
	if done == len(p.Order) {
		return 0, false
	}
	at := p.Order[done]
	if !tornByte(p.Before[at], p.Target[at], content[at]) {
		return 0, false
	}
	want[at] = content[at]
	return done, bytes.Equal(content, want)
}

// tornByte: a byte is erased to FF bit by bit, then bits are cleared towards
// the target; a cut leaves a value on that way.
func tornByte(before, target, now byte) bool {
	erasing := now&before == before
	writing := now&target == target
	return erasing || writing
}

// Hash is the clear-text name of content: upper hex SHA-256.
func Hash(content []byte) string {
	s := sha256.Sum256(content)
	return string(bytes.ToUpper([]byte(hex.EncodeToString(s[:]))))
}
