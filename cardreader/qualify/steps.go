package qualify

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"vcckiosk/cardreader"
	"vcckiosk/cardreader/epurse"
	"vcckiosk/cardreader/memcard"
)

func steps() []step {
	return []step{
		{"an empty reader says so", emptyReader, false},
		{"a card put in is told of and read", putInAndRead, false},
		{"a session keeps others out and leaves the card as it is", alone, true},
		{"what is not an APDU is refused", notAPDU, true},
		{"two hundred readings agree", manyReadings, true},
		{"five times out and in", outAndIn, true},
		{"a card taken between commands ends its session", takenBetween, true},
		{"a card pulled during a reading ends its session", pulledReading, true},
		{"unplugged and plugged in", cable, true},
		{"the card service restarted", service, true},
		{"written and put back", written, true},
		{"pulled while being written", pulledWriting, true},
	}
}

func emptyReader(b *bench) error {
	s, err := b.Reader.Open(b.ctx)
	if err == nil {
		_ = s.Close()
	}
	return is("open an empty reader", err, cardreader.ErrNoCard)
}

func putInAndRead(b *bench) error {
	if err := b.putIn(); err != nil {
		return err
	}
	if err := b.same(); err != nil {
		return err
	}
	b.measured = b.kind
	return nil
}

func alone(b *bench) error {
	s, err := b.open()
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // twice is allowed
	if len(s.ATR()) == 0 {
		return errors.New("session without the card's answer to reset")
	}
	_, err = b.Reader.Open(b.ctx)
	if err := is("second open", err, cardreader.ErrBusy); err != nil {
		return err
	}
	if err := b.sameIn(s); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if _, err := s.Transmit(b.ctx, []byte{0x00, 0x84, 0x00, 0x00, 0x04}); err == nil {
		return errors.New("a closed session still speaks to the card")
	}
	return b.same()
}

func notAPDU(b *bench) error {
	s, err := b.Reader.Open(b.ctx) // not recorded: these are no commands
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer s.Close() //nolint:errcheck // told by the next open
	for _, cmd := range [][]byte{nil, {0x00}, {0x00, 0xA4, 0x04}} {
		if got, err := s.Transmit(b.ctx, cmd); err == nil {
			return fmt.Errorf("transmit %X: %X and no error", cmd, got)
		}
	}
	return b.sameIn(s)
}

// manyReadings is also the measure of the reader's speed: a look is the same few
// commands each time.
func manyReadings(b *bench) error {
	s, err := b.open()
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // told by the next open
	took := make([]time.Duration, 200)
	for i := range took {
		began := time.Now()
		if err := b.sameIn(s); err != nil {
			return fmt.Errorf("reading %d: %w", i+1, err)
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	round := func(q int) time.Duration { return took[(len(took)*q+99)/100-1].Round(time.Millisecond / 10) }
	b.measured = fmt.Sprintf("a reading takes %v, one in a hundred %v", round(50), round(99))
	return nil
}

func outAndIn(b *bench) error {
	for range 5 {
		if err := b.do(TakeOut, cardreader.CardOut); err != nil {
			return err
		}
		if err := b.putIn(); err != nil {
			return err
		}
		if err := b.same(); err != nil {
			return err
		}
	}
	return nil
}

func takenBetween(b *bench) error {
	s, err := b.open()
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // twice is allowed
	if err := b.sameIn(s); err != nil {
		return err
	}
	if err := b.do(TakeOut, cardreader.CardOut); err != nil {
		return err
	}
	_, err = b.look(s)
	if err := is("read a card that is out", err, cardreader.ErrCardRemoved); err != nil {
		return err
	}
	if err := b.putIn(); err != nil {
		return err
	}
	if _, err := b.look(s); err == nil {
		return errors.New("the old session speaks to a card put in later")
	}
	if err := s.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return b.same()
}

func pulledReading(b *bench) error {
	s, err := b.open()
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // twice is allowed
	b.Ask(Pull)
	for deadline := time.Now().Add(b.Patience); ; {
		got, err := b.look(s)
		if err != nil {
			break
		}
		if !slices.Equal(got, b.content) {
			return errors.New("a reading that was cut off passed for a whole one")
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not pulled within %v", b.Patience)
		}
	}
	if _, err := b.look(s); err == nil {
		return errors.New("the session goes on after its card was pulled")
	}
	if err := s.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return b.back()
}

// back wants the card that was just pulled to be told of as gone, then put in
// again and read as before.
func (b *bench) back() error {
	if b.present {
		if err := b.await(cardreader.CardOut); err != nil {
			return err
		}
	}
	if err := b.putIn(); err != nil {
		return err
	}
	return b.same()
}

func cable(b *bench) error {
	if b.FixedCable {
		return errLeft("the reader is built in")
	}
	if err := b.do(Unplug, cardreader.ReaderGone); err != nil {
		return err
	}
	_, err := b.Reader.Open(b.ctx)
	if err := is("open without a reader", err, cardreader.ErrReaderGone); err != nil {
		return err
	}
	if err := b.do(PlugIn, cardreader.ReaderBack); err != nil {
		return err
	}
	return b.found()
}

func service(b *bench) error {
	if b.NoService {
		return errLeft("no service under this driver")
	}
	if err := b.do(RestartService, cardreader.ServiceUp); err != nil {
		return err
	}
	return b.found()
}

// found wants the card that stayed in the reader to be found there.
func (b *bench) found() error {
	if err := b.await(cardreader.CardIn); err != nil {
		return err
	}
	return b.same()
}

// last is the part of a memory card that is overwritten: none of the layouts we
// know keep anything there that a chip could not do without.
const last = 224

var errKept = errLeft("needs leave to overwrite the card")

func written(b *bench) error {
	if !b.Overwrite {
		return errKept
	}
	s, err := b.open()
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // told by the next open
	if err := b.sameIn(s); err != nil {
		return err
	}
	if b.kind == "purse" {
		return b.initTwice(s)
	}
	m, err := b.unlocked(s)
	if err != nil {
		return err
	}
	before := b.content
	for _, data := range [][]byte{inverse(before[last:]), before[last:]} {
		began := time.Now()
		if err := m.Write(b.ctx, last, data); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		took := time.Since(began)
		got, err := m.Read(b.ctx)
		if err != nil {
			return fmt.Errorf("read back: %w", err)
		}
		if !bytes.Equal(got[last:], data) || !bytes.Equal(got[:last], before[:last]) {
			return errors.New("what was written is not what is read back")
		}
		b.measured = fmt.Sprintf("%d bytes in %v", len(data), took.Round(time.Millisecond/10))
	}
	return nil
}

// initTwice begins a load and does not do it: nothing but the proof of the last
// load changes, and the sequence stays.
func (b *bench) initTwice(s cardreader.Session) error {
	p := epurse.New(s, *b.Purse)
	if _, err := p.Identify(b.ctx); err != nil {
		return fmt.Errorf("identify: %w", err)
	}
	one, err := p.Init(b.ctx, 100)
	if err != nil {
		return fmt.Errorf("80 50: %w", err)
	}
	two, err := p.Init(b.ctx, 100)
	if err != nil {
		return fmt.Errorf("80 50: %w", err)
	}
	if one.Seq != two.Seq || one.Balance != two.Balance || one.Random == two.Random {
		return fmt.Errorf("80 50 twice: sequence %d and %d, balance %d and %d, random number repeated: %t",
			one.Seq, two.Seq, one.Balance, two.Balance, one.Random == two.Random)
	}
	return b.sameIn(s)
}

func inverse(in []byte) []byte {
	out := make([]byte, len(in))
	for i, x := range in {
		out[i] = ^x
	}
	return out
}

// unlocked presents the card's code, once, and only to a card with all its tries.
func (b *bench) unlocked(s cardreader.Session) (*memcard.Card, error) {
	m := memcard.New(s, memcard.Family{})
	if err := m.Select(b.ctx); err != nil {
		return nil, fmt.Errorf("select memory card: %w", err)
	}
	if err := m.Present(b.ctx, b.Code); err != nil {
		return nil, fmt.Errorf("present code: %w", err)
	}
	return m, nil
}

// pulledWriting holds the rule that a torn memory card is told by reading: what
// was written before the tear is new, at most one byte is neither, the rest old.
func pulledWriting(b *bench) error {
	switch {
	case !b.Overwrite:
		return errKept
	case b.kind != "memory card":
		return errLeft("for memory cards")
	}
	s, err := b.open()
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // twice is allowed
	m, err := b.unlocked(s)
	if err != nil {
		return err
	}
	before := b.content
	old, data := before[last:], inverse(before[last:])
	b.Ask(Pull)
	for deadline := time.Now().Add(b.Patience); ; old, data = data, old {
		err := m.Write(b.ctx, last, data)
		if err != nil {
			if err := is("a write that was cut off", err, cardreader.ErrOutcomeUnknown); err != nil {
				return err
			}
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not pulled within %v", b.Patience)
		}
	}
	if err := s.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if b.present {
		if err := b.await(cardreader.CardOut); err != nil {
			return err
		}
	}
	if err := b.putIn(); err != nil {
		return err
	}
	return b.mend(before, old, data)
}

// mend looks at what the tear has left and puts the card back as it was.
func (b *bench) mend(before, old, data []byte) error {
	s, err := b.open()
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // told by the next open
	m, err := b.unlocked(s)
	if err != nil {
		return err
	}
	got, err := m.Read(b.ctx)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	done := 0
	for done < len(data) && got[last+done] == data[done] {
		done++
	}
	torn := done < len(data) && got[last+done] != old[done]
	rest := min(done+1, len(data))
	wrong := !bytes.Equal(got[last+rest:], old[rest:]) || !bytes.Equal(got[:last], before[:last])
	if err := m.Write(b.ctx, last, before[last:]); err != nil {
		return fmt.Errorf("put back: %w", err)
	}
	if wrong {
		return fmt.Errorf("the tear left neither new nor old bytes: %X", got[last:])
	}
	b.measured = fmt.Sprintf("torn after %d of %d bytes, one half written: %t", done, len(data), torn)
	return b.sameIn(s)
}
