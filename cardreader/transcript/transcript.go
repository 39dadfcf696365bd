// Package transcript keeps a conversation with a card as text: recorded once on a
// real card, replayed for ever without one.
package transcript

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"vcckiosk/cardreader"
)

// A transcript is text, one line per event:
//
//	# a comment
//	> 00A40400 09 ...     a command, in hex; spaces are ignored
//	< 9000                its answer; "<" alone is the empty answer
//	! card removed        or its error, by the text of the sentinel
//
// The code a command presents (VERIFY, present and change code) is written as
// ** per byte and takes part in a comparison by its length only. MAC2, the proof
// of a load, is kept: it is worth nothing once the card has used it.

// Record passes every command on to t and writes the transcript to w. The first
// failure to write is returned by the Transmit that met it, after the command
// has reached the card.
func Record(t cardreader.Transmitter, w io.Writer) cardreader.Transmitter {
	return &recorder{to: t, w: w}
}

type recorder struct {
	mu sync.Mutex
	to cardreader.Transmitter
	w  io.Writer
}

func (r *recorder) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	got, err := r.to.Transmit(ctx, cmd)
	line := "< " + strings.ToUpper(hex.EncodeToString(got))
	if err != nil {
		line = "! " + errorName(err)
	}
	_, werr := fmt.Fprintf(r.w, "> %s\n%s\n", masked(cmd), strings.TrimSpace(line))
	if err == nil && werr != nil {
		return nil, fmt.Errorf("write transcript: %w", werr)
	}
	return got, err
}

// masked is a command in hex with the codes it presents hidden.
func masked(cmd []byte) string {
	s := strings.ToUpper(hex.EncodeToString(cmd))
	if len(cmd) <= 5 {
		return s
	}
	switch {
	case cmd[0] == 0x00 && cmd[1] == 0x20, cmd[0] == 0xFF && (cmd[1] == 0x20 || cmd[1] == 0xD2):
		return s[:10] + strings.Repeat("**", len(cmd)-5)
	}
	return s
}

func replayable() []error {
	return []error{
		cardreader.ErrNoCard, cardreader.ErrCardRemoved, cardreader.ErrReaderGone,
		cardreader.ErrServiceDown, cardreader.ErrBusy, cardreader.ErrStuck,
		context.DeadlineExceeded, context.Canceled,
	}
}

// errorName is the sentinel's text; errors without one keep none of their own,
// which may hold anything.
func errorName(err error) string {
	for _, e := range replayable() {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	return "error"
}

// ErrTranscript says that the replayed side asked something the transcript does not have
// at this place, or the transcript cannot be read.
var ErrTranscript = errors.New("not in the transcript")

// errReplayed stands for a recorded error that was no sentinel.
var errReplayed = errors.New("recorded error")

// Replay answers from a transcript. Commands must come in the recorded order;
// any other is ErrTranscript, and so is a command after the last. Every call of
// Replay gives its own position.
func Replay(r io.Reader) cardreader.Transmitter {
	p := &player{}
	p.steps, p.bad = parse(r)
	return p
}

// Rest is how many recorded commands a Transmitter of Replay has not been asked
// for; -1 for any other Transmitter.
func Rest(t cardreader.Transmitter) int {
	p, ok := t.(*player)
	if !ok {
		return -1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.steps)
}

type step struct {
	cmd    string // masked hex
	answer []byte
	err    error
}

type player struct {
	mu    sync.Mutex
	steps []step
	bad   error
}

// parse reads a whole transcript.
func parse(r io.Reader) ([]step, error) {
	var steps []step
	open := false // the last step has no answer yet
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<18) // an answer of 65,537 bytes is twice as many digits
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		rest := strings.ToUpper(strings.Join(strings.Fields(line[1:]), ""))
		switch {
		case line[0] == '>' && !open && rest != "":
			steps = append(steps, step{cmd: rest})
			open = true
		case line[0] == '<' && open:
			b, err := hex.DecodeString(rest)
			if err != nil {
				return nil, fmt.Errorf("%w: line %d is not hex", ErrTranscript, n)
			}
			steps[len(steps)-1].answer = b
			open = false
		case line[0] == '!' && open:
			steps[len(steps)-1].err = namedError(strings.TrimSpace(line[1:]))
			open = false
		default:
			return nil, fmt.Errorf("%w: line %d is out of place", ErrTranscript, n)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTranscript, err)
	}
	if open {
		return nil, fmt.Errorf("%w: the last command has no answer", ErrTranscript)
	}
	return steps, nil
}

func namedError(name string) error {
	for _, e := range replayable() {
		if e.Error() == name {
			return e
		}
	}
	return errReplayed
}

func (p *player) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := masked(cmd)
	switch {
	case p.bad != nil:
		return nil, p.bad
	case len(p.steps) == 0:
		return nil, fmt.Errorf("%w: %s after its end", ErrTranscript, asked)
	case p.steps[0].cmd != asked:
		return nil, fmt.Errorf("%w: %s where %s was recorded", ErrTranscript, asked, p.steps[0].cmd)
	}
	s := p.steps[0]
	p.steps = p.steps[1:]
	if s.err != nil {
		return nil, fmt.Errorf("transmit: %w", s.err)
	}
	return bytes.Clone(s.answer), nil
}
