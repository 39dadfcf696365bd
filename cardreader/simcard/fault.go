package simcard

import (
	"slices"
	"sync"
	"time"
)

// When says on which side of a command's effect a fault strikes.
type When int

const (
	// Before leaves the command unexecuted.
	Before When = iota
	// After lets the command be executed; its answer is lost or altered.
	After
	// Byte lets a memory card execute the first N bytes of a write. Cards without
	// byte-wise writes treat it as Before.
	Byte
)

// Kind is what a fault does.
type Kind int

const (
	// Tear takes the card out of the reader; it comes back only when somebody
	// inserts it again.
	Tear Kind = iota
	// Mute keeps the card in the reader and never answers.
	Mute
	// Slow executes and answers after Delay, whatever When says.
	Slow
	// EmptyAnswer answers nothing without an error; the card stays.
	EmptyAnswer
	// Swap puts With into the reader's place, without an event. Before: With
	// gets the command. After: this card executes and answers it.
	Swap
	// Status answers SW alone.
	Status
	// Stale answers what the previous command answered.
	Stale
)

// Rest is the state of the byte at which a byte-wise tear strikes.
type Rest int

const (
	// Erased leaves FF where the write needed an erase, and the old value
	// where it did not.
	Erased Rest = iota
	// Partial leaves some of the zero bits programmed and some not.
	Partial
	// Untouched leaves the old value.
	Untouched
)

// Fault is one misfortune. It strikes once and is gone.
type Fault struct {
	// At is the n-th matching command since arming, from 1; 0 means 1.
	At int
	// INS limits the match to one instruction byte; 0 matches every command.
	INS byte
	// When is the side of the effect.
	When When
	// N is, with Byte, the number of whole bytes written before the cut.
	N int
	// Rest is, with Byte, what the next byte is left as.
	Rest Rest
	// Kind is what happens.
	Kind Kind
	// SW is the status word of Kind Status.
	SW uint16
	// Delay is the time of Kind Slow.
	Delay time.Duration
	// With is the other card of Kind Swap.
	With Card
}

// faults is the arming state of one card. The zero value is ready.
type faults struct {
	mu    sync.Mutex
	armed []*armedFault
	last  []byte // previous answer, for Stale
	hits  int
}

type armedFault struct {
	Fault
	seen int
}

// Arm adds a fault. Several may be armed; of two that match the same command
// the one armed first strikes, the other counts the command as seen.
func (f *faults) Arm(x Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x.At < 1 {
		x.At = 1
	}
	f.armed = append(f.armed, &armedFault{Fault: x})
}

// Disarm removes every fault that has not struck.
func (f *faults) Disarm() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = nil
}

// Struck returns how many faults have struck so far.
func (f *faults) Struck() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hits
}

// strike counts cmd and returns the fault that meets it, if any.
func (f *faults) strike(cmd []byte) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	hit := -1
	for i, a := range f.armed {
		if a.INS != 0 && (len(cmd) < 2 || cmd[1] != a.INS) {
			continue
		}
		a.seen++
		if a.seen >= a.At && hit < 0 {
			hit = i
		}
	}
	if hit < 0 {
		return Fault{}, false
	}
	x := f.armed[hit].Fault
	f.armed = slices.Delete(f.armed, hit, hit+1)
	f.hits++
	return x, true
}

// cut tells a card how far to execute a write command.
type cut struct {
	bytes int // whole bytes written
	rest  Rest
}

// apply executes cmd through exec under the armed faults. exec gets nil for a
// whole execution, or where to stop; a card that cannot stop inside a command
// returns false and has done nothing.
func (f *faults) apply(cmd []byte, exec func(*cut) ([]byte, bool)) Reply {
	x, struck := f.strike(cmd)
	whole := func() []byte {
		data, _ := exec(nil)
		return data
	}
	if !struck {
		return f.answered(whole())
	}
	if x.Kind == Slow {
		r := f.answered(whole())
		r.Delay = x.Delay
		return r
	}
	if x.Kind == Swap {
		if x.With == nil {
			return Reply{Torn: true}
		}
		if x.When != After {
			return Reply{Next: x.With, Resend: true}
		}
		r := f.answered(whole())
		r.Next = x.With
		return r
	}
	switch x.When {
	case Before:
	case After:
		whole()
	case Byte:
		exec(&cut{bytes: max(x.N, 0), rest: x.Rest})
	}
	switch x.Kind {
	case Mute:
		return Reply{Mute: true}
	case EmptyAnswer:
		return Reply{Data: []byte{}}
	case Status:
		return f.answered(status(x.SW))
	case Stale:
		f.mu.Lock()
		defer f.mu.Unlock()
		return Reply{Data: slices.Clone(f.last)}
	case Tear, Slow, Swap:
	}
	return Reply{Torn: true}
}

func (f *faults) answered(data []byte) Reply {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = slices.Clone(data)
	return Reply{Data: data}
}

// bytes is the answer as Exchange gives it: nil when there is none.
func (r Reply) bytes(cmd []byte) []byte {
	if r.Resend && r.Next != nil {
		return r.Next.Exchange(cmd)
	}
	if r.Torn || r.Mute {
		return nil
	}
	return r.Data
}

// Faulty gives any card the faults that Purse and SLE4442 have of their own.
type Faulty struct {
	faults
	card Card
}

// NewFaulty wraps c; faults armed on the wrapper strike before those armed on c.
func NewFaulty(c Card) *Faulty { return &Faulty{card: c} }

// ATR returns the wrapped card's answer to reset.
func (f *Faulty) ATR() []byte { return f.card.ATR() }

// PowerOn powers the wrapped card.
func (f *Faulty) PowerOn() { f.card.PowerOn() }

// PowerOff takes the power from the wrapped card.
func (f *Faulty) PowerOff() { f.card.PowerOff() }

// Exchange executes cmd; nil means no answer. Delays are not waited for here,
// and an exchange for another card lasts for this command only: Slot and Plug
// do both through Reply.
func (f *Faulty) Exchange(cmd []byte) []byte { return f.Reply(cmd).bytes(cmd) }

// Reply executes cmd under the armed faults.
func (f *Faulty) Reply(cmd []byte) Reply {
	inner := Reply{}
	out := f.apply(cmd, func(c *cut) ([]byte, bool) {
		if c != nil {
			p, ok := f.card.(interface{ partial([]byte, cut) bool })
			return nil, ok && p.partial(cmd, *c)
		}
		inner = direct(f.card, cmd)
		return inner.Data, true
	})
	// A fault of the wrapped card shows through unless ours struck harder.
	out.Torn = out.Torn || inner.Torn
	out.Mute = out.Mute || inner.Mute
	out.Delay = max(out.Delay, inner.Delay)
	if out.Next == nil {
		out.Next, out.Resend = inner.Next, inner.Resend
	}
	return out
}
