// Package memcard speaks to an SLE4442 memory card (256 bytes, writing guarded by a three-byte code, the PSC) through the
// pseudo-APDUs of a reader family, over a cardreader.Transmitter.
//
// The chip has no transactions. It erases and writes byte by byte, 5 ms each: a card torn during a write holds a prefix of
// the new bytes, one byte that is FF or partly written, and the rest as it was. Nothing but reading back tells how far it
// came, so no error of a changing command here says so, and none is ever sent twice. Which bytes to write and in what order
// is the caller's plan; Write sends what it is given and nothing else.
//
// The chip dies when the code is presented wrongly three times. Present therefore reads the counter first and goes on only
// with all tries left.
package memcard

import (
	"context"
	"errors"
	"fmt"
	"math/bits"

	"vcckiosk/cardreader"
	"vcckiosk/cardreader/apdu"
)

const (
	// Size is the chip's memory in bytes.
	Size = 256
	// Tries is how many wrong codes the chip takes in a row before it is read-only for ever.
	Tries = 3
)

// What a caller branches on.
var (
	// ErrOutcomeUnknown is cardreader.ErrOutcomeUnknown: a changing command was sent and nobody knows how far it came. Read
	// the card; never repeat the command unread.
	ErrOutcomeUnknown = cardreader.ErrOutcomeUnknown
	// ErrTriesLow: the code was not presented, because the chip has not all its tries left. Never retry; a person must look.
	ErrTriesLow = errors.New("card code not presented: not all tries left")
	// ErrWrongCode: the chip refused the code and one try is gone. Never retry.
	ErrWrongCode = errors.New("wrong card code")
	// ErrLocked: no tries are left; the chip can only be read, for ever.
	ErrLocked = errors.New("card is locked for ever")
	// ErrRange: the bytes lie outside the memory, or are none. Nothing was sent.
	ErrRange = errors.New("outside the card's memory")
	// ErrAnswer: the reader answered something this package does not understand, to a command that only reads.
	ErrAnswer = errors.New("answer not understood")
)

// StatusError is a refusal by the reader. For a command that changes the card it does not say that nothing changed: a reader
// may notice a failure after some bytes. Read the card before anything else. Unwrap leads to the status word.
type StatusError struct {
	// Op is what was being done.
	Op string
	SW apdu.Status
}

// Error names the operation and the status word.
func (e *StatusError) Error() string { return e.Op + ": " + e.SW.Error() }

// Unwrap leads to the status word.
func (e *StatusError) Unwrap() error { return e.SW }

// Card is the memory card behind one Transmitter, for as long as it stays in. It keeps no code and no content, and is used by
// one goroutine at a time. A memory card says nothing that proves who it is: the caller compares the bytes it reads.
type Card struct {
	t cardreader.Transmitter
	f Family
}

// New makes a Card; it sends nothing. A zero Family is ACS.
func New(t cardreader.Transmitter, f Family) *Card {
	if f == (Family{}) {
		f = ACS
	}
	return &Card{t: t, f: f}
}

// Select tells the reader that an SLE4442 is in it, and powers the card off and on. It comes first in each Session; a code
// presented before is forgotten by the chip. It changes no memory and may be repeated.
func (c *Card) Select(ctx context.Context) error {
	r, err := c.send(ctx, c.f.Select[:])
	if err != nil {
		return fmt.Errorf("select card type: %w", err)
	}
	if !r.SW.OK() {
		return &StatusError{Op: "select card type", SW: r.SW}
	}
	return nil
}

// Read reads the whole memory, Size bytes. It may be repeated.
func (c *Card) Read(ctx context.Context) ([]byte, error) {
	mem := make([]byte, 0, Size)
	for len(mem) < Size {
		n := min(c.f.ReadMax, Size-len(mem))
		cmd := append(c.f.Read[:3:3], byte(len(mem)), byte(n))
		r, err := c.send(ctx, cmd)
		if err != nil {
			return nil, fmt.Errorf("read memory at %d: %w", len(mem), err)
		}
		b, err := readData(r, n, c.f.Tail)
		if err != nil {
			return nil, fmt.Errorf("read memory at %d: %w", len(mem), err)
		}
		mem = append(mem, b...)
	}
	return mem, nil
}

// readData takes n bytes out of an answer that has n, or n and tail, bytes of data.
func readData(r apdu.Response, n, tail int) ([]byte, error) {
	if !r.SW.OK() {
		return nil, &StatusError{Op: "read", SW: r.SW}
	}
	if len(r.Data) != n && len(r.Data) != n+tail {
		return nil, fmt.Errorf("%w: %d bytes instead of %d", ErrAnswer, len(r.Data), n)
	}
	return r.Data[:n], nil
}

// Counter reads how many wrong codes the chip still takes: 3, 2, 1, or 0 for a locked one. It may be repeated.
func (c *Card) Counter(ctx context.Context) (tries int, err error) {
	r, err := c.send(ctx, c.f.Counter[:])
	if err != nil {
		return 0, fmt.Errorf("read error counter: %w", err)
	}
	if !r.SW.OK() {
		return 0, &StatusError{Op: "read error counter", SW: r.SW}
	}
	if len(r.Data) == 0 {
		return 0, fmt.Errorf("read error counter: %w: no data", ErrAnswer)
	}
	tries, ok := triesOf(r.Data[0])
	if !ok {
		return 0, fmt.Errorf("read error counter: %w: counter %02X", ErrAnswer, r.Data[0])
	}
	return tries, nil
}

// triesOf counts the bits of the chip's error counter that are still set: 111 is three tries. More than three bits are no
// SLE4442's counter.
func triesOf(counter byte) (int, bool) {
	if counter > 0x07 {
		return 0, false
	}
	return bits.OnesCount8(counter), true
}

// Present shows the code to the chip, after which memory can be written until the card loses power. It reads the counter
// first and sends the code only when all tries are left, once.
//
// ErrTriesLow, and an error of reading the counter: not presented. ErrWrongCode, ErrLocked: refused by the chip. *StatusError:
// refused by the reader. ErrOutcomeUnknown: sent, answer lost; a try may be gone. None of them is to be retried without a
// person; the counter tells what happened.
func (c *Card) Present(ctx context.Context, psc [3]byte) error {
	tries, err := c.Counter(ctx)
	if err != nil {
		return fmt.Errorf("present code: %w", err)
	}
	switch {
	case tries == 0:
		return fmt.Errorf("present code: %w", ErrLocked)
	case tries < Tries:
		return fmt.Errorf("%w: %d", ErrTriesLow, tries)
	}
	r, err := c.send(ctx, withCode(c.f.Present, psc))
	if err != nil {
		return fmt.Errorf("present code: %w: %w", ErrOutcomeUnknown, err)
	}
	return c.presented(r)
}

// presented judges the answer to the code. Its status word is not like any other: 9000 without data is a dead card.
func (c *Card) presented(r apdu.Response) error {
	if r.SW.OK() && len(r.Data) > 0 {
		// Firmware of 2006: counter first in the data. This is never a SW2 counter, which comes without data.
		switch tries, ok := triesOf(r.Data[0]); {
		case !ok:
			return fmt.Errorf("present code: %w: counter %02X", ErrOutcomeUnknown, r.Data[0])
		case tries == Tries:
			return nil
		case tries == 0:
			return fmt.Errorf("present code: %w", ErrLocked)
		}
		return fmt.Errorf("present code: %w", ErrWrongCode)
	}
	switch {
	case r.SW == c.f.CodeOK:
		return nil
	case r.SW == c.f.CodeLocked:
		return fmt.Errorf("present code: %w", ErrLocked)
	case r.SW.SW1() == c.f.CodeSW1:
		return fmt.Errorf("present code: %w", ErrWrongCode)
	}
	return &StatusError{Op: "present code", SW: r.SW}
}

// Write writes data at off, in ascending order, cut into as many commands as the reader needs; each byte is erased and written
// even if it does not change. Without Present before it readers say "done" and the chip does nothing.
//
// No error: the reader says all is written; only reading back proves it. ErrRange: nothing was sent. *StatusError: the reader
// refused one of the commands. ErrOutcomeUnknown: an answer was lost. With both of the latter some, all or none of the bytes
// may be written and one may be torn; no further command was sent.
func (c *Card) Write(ctx context.Context, off int, data []byte) error {
	if off < 0 || len(data) == 0 || off > Size-len(data) {
		return fmt.Errorf("write memory: %w: %d bytes at %d", ErrRange, len(data), off)
	}
	for len(data) > 0 {
		n := min(c.f.WriteMax, len(data))
		cmd := append(c.f.Write[:3:3], byte(off), byte(n))
		if err := c.change(ctx, "write memory", append(cmd, data[:n]...)); err != nil {
			return err
		}
		off, data = off+n, data[n:]
	}
	return nil
}

// ChangeCode gives the chip a new code; Present comes before it. The chip writes the three bytes one after the other, so after
// ErrOutcomeUnknown or a *StatusError the code may be the old one, the new one, or one that nobody knows: never present
// either again unasked, two guesses are all there are.
func (c *Card) ChangeCode(ctx context.Context, psc [3]byte) error {
	return c.change(ctx, "change code", withCode(c.f.Change, psc))
}

// change sends one command that changes the card, once.
func (c *Card) change(ctx context.Context, op string, cmd []byte) error {
	r, err := c.send(ctx, cmd)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", op, ErrOutcomeUnknown, err)
	}
	if !r.SW.OK() {
		return &StatusError{Op: op, SW: r.SW}
	}
	return nil
}

func withCode(head [4]byte, psc [3]byte) []byte {
	return append(head[:4:4], 3, psc[0], psc[1], psc[2])
}

func (c *Card) send(ctx context.Context, cmd []byte) (apdu.Response, error) {
	answer, err := c.t.Transmit(ctx, cmd)
	if err != nil {
		return apdu.Response{}, err
	}
	return apdu.Parse(answer)
}
