// Package qualify holds a reader on a cable, with a card of plastic in it, against
// what package cardreader promises. A person is the hands: each step says what to
// do and looks at what the reader tells. It is the part of cardreader/cardtest that
// needs no virtual card.
//
// Nothing is written to the card unless Config.Overwrite says so.
package qualify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"vcckiosk/cardreader"
	"vcckiosk/cardreader/epurse"
	"vcckiosk/cardreader/memcard"
	"vcckiosk/cardreader/transcript"
)

// Act is what the person at the bench is to do.
type Act int

// The acts. Pull is a PutOut while the card is being spoken to, the faster the
// better.
const (
	PutIn Act = iota + 1
	TakeOut
	Pull
	Unplug
	PlugIn
	RestartService
)

// Words say what to do, in Chinese and English.
func (a Act) Words() (zh, en string) {
	switch a {
	case PutIn:
		return "请插入测试卡", "put the bench card in"
	case TakeOut:
		return "请取出卡片", "take the card out"
	case Pull:
		return "读写正在进行，请立即拔出卡片", "the card is being spoken to: pull it out now"
	case Unplug:
		return "请拔下读卡器的电缆", "unplug the reader's cable"
	case PlugIn:
		return "请重新插上读卡器的电缆", "plug the reader's cable in again"
	case RestartService:
		return "请在另一终端执行 systemctl restart pcscd", "in another terminal: systemctl restart pcscd"
	default:
		return "", ""
	}
}

// Config says with what and how far to go.
type Config struct {
	Reader cardreader.Reader
	// Purse and Memory are the kinds of card to try, at least one.
	Purse  *epurse.Params
	Memory bool
	// Ask tells the person what to do and returns at once.
	Ask func(Act)
	// Told hears of each step as it ends; nil: nobody.
	Told func(Result)
	// Transcript gets every command and answer, codes masked; nil: not kept. It holds what the card says, its number
	// included.
	Transcript io.Writer
	// Patience is how long an act is waited for; 0: 90 s.
	Patience time.Duration
	// FixedCable: the reader cannot be unplugged. NoService: nothing under the driver can be restarted.
	FixedCable, NoService bool
	// Overwrite allows what a card may be lost by. A memory card: Code is presented, the last 32 bytes are written, once
	// torn in the middle, and put back as they were. A purse: 80 50 erases the proof of its last load.
	Overwrite bool
	Code      [3]byte
}

// State of a step.
type State string

// The states. Left: not tried, Why says for what reason.
const (
	Passed State = "passed"
	Failed State = "FAILED"
	Left   State = "not tried"
)

// Result is what became of one step. Why also carries what was measured.
type Result struct {
	Step  string
	State State
	Why   string
}

// errLeft is the reason a step is left out.
type errLeft string

func (e errLeft) Error() string { return string(e) }

// Run plays all steps, at most a quarter of an hour for a quick person. It ends
// early when ctx does. A step that fails does not keep the others from being
// tried.
func Run(ctx context.Context, c Config) []Result {
	if c.Patience == 0 {
		c.Patience = 90 * time.Second
	}
	b := &bench{Config: c, ctx: ctx}
	var out []Result
	for _, s := range steps() {
		r := Result{Step: s.name, State: Passed}
		b.note("# " + s.name)
		if err := b.try(s); err != nil {
			r.State, r.Why = Failed, err.Error()
			if why, ok := errors.AsType[errLeft](err); ok {
				r.State, r.Why = Left, string(why)
			}
		} else {
			r.Why = b.measured
		}
		b.measured = ""
		b.note(fmt.Sprintf("# %s %s", r.State, r.Why))
		out = append(out, r)
		if c.Told != nil {
			c.Told(r)
		}
	}
	return out
}

// Line is one row for the table of readers in docs/hardware.md.
func Line(reader, way string, results []Result) string {
	list := func(s State) string {
		var names []string
		for _, r := range results {
			if r.State == s {
				name := r.Step
				if s != Passed && r.Why != "" {
					name += " (" + r.Why + ")"
				}
				names = append(names, name)
			}
		}
		return strings.Join(names, "; ")
	}
	not := list(Left)
	if bad := list(Failed); bad != "" {
		not = strings.TrimSuffix("FAILED: "+bad+"; "+not, "; ")
	}
	return strings.NewReplacer("\n", " ").Replace(fmt.Sprintf("| %s | %s | by hand: %s | %s |", reader, way, list(Passed), not))
}

// step is one thing to hold the reader to.
type step struct {
	name string
	run  func(*bench) error
	card bool // the card is to be in when it begins
}

// bench is the reader with the card and the person.
type bench struct {
	Config
	ctx      context.Context
	present  bool // by the last event
	begun    bool // the first event has come
	content  []byte
	kind     string
	measured string
}

func (b *bench) note(line string) {
	if b.Transcript != nil {
		_, _ = fmt.Fprintln(b.Transcript, strings.ReplaceAll(line, "\n", " "))
	}
}

// try plays one step.
func (b *bench) try(s step) error {
	if err := b.ctx.Err(); err != nil {
		return errLeft("stopped")
	}
	if err := b.settle(s.card); err != nil {
		return err
	}
	return s.run(b)
}

// settle brings the card to where the step wants it.
func (b *bench) settle(in bool) error {
	if !b.begun {
		ev, err := b.next()
		if err != nil {
			return err
		}
		if ev.Kind != cardreader.CardIn && ev.Kind != cardreader.CardOut {
			return fmt.Errorf("the reader is not usable: %v", ev.Kind)
		}
	}
	switch {
	case in && !b.present:
		return b.putIn()
	case !in && b.present:
		return b.do(TakeOut, cardreader.CardOut)
	}
	return nil
}

func (b *bench) putIn() error { return b.do(PutIn, cardreader.CardIn) }

// do asks for an act and waits until the reader tells of it.
func (b *bench) do(a Act, want cardreader.EventKind) error {
	b.Ask(a)
	return b.await(want)
}

func (b *bench) next() (cardreader.Event, error) {
	ctx, cancel := context.WithTimeout(b.ctx, b.Patience)
	defer cancel()
	ev, err := b.Reader.Next(ctx)
	if err != nil {
		return ev, err
	}
	b.begun = true
	b.note("# event " + ev.Kind.String())
	switch ev.Kind {
	case cardreader.CardIn:
		b.present = true
	case cardreader.CardOut:
		b.present = false
	}
	return ev, nil
}

// await lets events pass until the wanted one comes.
func (b *bench) await(want cardreader.EventKind) error {
	for {
		ev, err := b.next()
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("no %v within %v", want, b.Patience)
		}
		if err != nil {
			return err
		}
		if ev.Kind == want {
			if want == cardreader.CardIn && len(ev.ATR) == 0 {
				return errors.New("the card gave no answer to reset: is it the right way round?")
			}
			return nil
		}
	}
}

// open takes the card and records what is said.
func (b *bench) open() (cardreader.Session, error) {
	s, err := b.Reader.Open(b.ctx)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	if b.Transcript == nil {
		return s, nil
	}
	return recorded{s, transcript.Record(s, b.Transcript)}, nil
}

type recorded struct {
	cardreader.Session
	t cardreader.Transmitter
}

func (r recorded) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	return r.t.Transmit(ctx, cmd)
}

// look reads what does not change by reading: a purse's identity and balance, a
// memory card's content.
func (b *bench) look(s cardreader.Session) ([]byte, error) {
	var first error
	if b.Purse != nil && b.kind != "memory card" {
		p := epurse.New(s, *b.Purse)
		id, err := p.Identify(b.ctx)
		if err == nil {
			balance, err := p.Balance(b.ctx)
			if err != nil {
				return nil, fmt.Errorf("balance: %w", err)
			}
			b.kind = "purse"
			return fmt.Appendf(id.AppNo[:], "/%d", balance), nil
		}
		if !b.Memory || b.kind == "purse" {
			return nil, fmt.Errorf("identify: %w", err)
		}
		first = err
	}
	m := memcard.New(s, memcard.Family{})
	if err := m.Select(b.ctx); err != nil {
		return nil, errors.Join(first, fmt.Errorf("select memory card: %w", err))
	}
	content, err := m.Read(b.ctx)
	if err != nil {
		return nil, errors.Join(first, fmt.Errorf("read memory card: %w", err))
	}
	b.kind = "memory card"
	return content, nil
}

// same opens the card, reads it, and wants what it read before.
func (b *bench) same() error {
	s, err := b.open()
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // told by the next open
	return b.sameIn(s)
}

func (b *bench) sameIn(s cardreader.Session) error {
	got, err := b.look(s)
	if err != nil {
		return err
	}
	if b.content == nil {
		b.content = got
	}
	if !slices.Equal(got, b.content) {
		return errors.New("the card reads otherwise than before: another card, or a changed one")
	}
	return nil
}

// is wants an error of a kind.
func is(what string, err, want error) error {
	if !errors.Is(err, want) {
		return fmt.Errorf("%s: %v; want %q", what, err, want) //nolint:errorlint // told, not handed on
	}
	return nil
}
