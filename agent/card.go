package agent

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"vcckiosk/agent/topup"
	"vcckiosk/cardreader"
	"vcckiosk/cardreader/apdu"
	"vcckiosk/cardreader/epurse"
	"vcckiosk/cardreader/memcard"
	"vcckiosk/protocol"
)

// card is one inserted card for as long as its session lasts. Exactly one of
// purse and mem is set.
type card struct {
	a     *Agent
	sess  cardreader.Session
	id    topup.Card
	purse *epurse.Purse
	mem   *memcard.Card

	// What the first, read-only look gave.
	balance uint32
	log     []topup.LogRecord
	logs    topup.LogState
	content []byte
	// stuck is cardreader.ErrStuck once a call to this card never returned.
	stuck error
}

var (
	errForeign = cardreader.ErrForeign
	// errSwapped: the card in the slot is not the one the session began with.
	errSwapped = errors.New("another card in the reader")
	// errUnreadable: the card gave no answer that can be used.
	errUnreadable = errors.New("card cannot be read")
)

// look reads the card without changing it: who it is, balance, log or content.
// It never sends 80 50, which would erase the card's proof.
func (a *Agent) look(ctx context.Context, sess cardreader.Session) (*card, error) {
	c := &card{a: a, sess: sess}
	var foreign error
	if a.cfg.Purse != nil {
		c.purse = epurse.New(sess, *a.cfg.Purse)
		id, err := c.identify(ctx)
		switch {
		case err == nil:
			c.id = id
			return c, c.read(ctx)
		case !errors.Is(err, cardreader.ErrForeign) && !isStatus(err) || a.cfg.Memory == nil:
			return nil, err
		}
		// A reader with a memory card in it answers a CPU card's command with
		// some refusal of its own.
		c.purse, foreign = nil, err
	}
	c.mem = memcard.New(sess, a.cfg.Memory.Family)
	id, err := c.identify(ctx)
	if isStatus(err) && foreign != nil {
		return nil, foreign
	}
	if err != nil {
		return nil, err
	}
	c.id = id
	return c, nil
}

// identify asks the card who it is, from the beginning: application selected
// anew. It changes nothing.
func (c *card) identify(ctx context.Context) (topup.Card, error) {
	if c.purse != nil {
		id, err := c.purse.Identify(ctx)
		if err != nil {
			return topup.Card{}, fmt.Errorf("identify card: %w", err)
		}
		return topup.Card{Type: "CPU", No: id.CardNo(), Hash: topup.Hash(append([]byte("CPU"), id.AppNo[:]...))[:32]}, nil
	}
	p := c.a.cfg.Memory
	if err := c.mem.Select(ctx); err != nil {
		return topup.Card{}, fmt.Errorf("select memory card: %w", err)
	}
	content, err := c.mem.Read(ctx)
	if err != nil {
		return topup.Card{}, fmt.Errorf("read memory card: %w", err)
	}
	if len(content) != p.Layout.Size {
		return topup.Card{}, fmt.Errorf("read memory card: %d bytes: %w", len(content), errUnreadable)
	}
	c.content = content
	name := []byte(p.Type)
	for _, f := range p.Layout.Identity {
		name = append(name, content[f.Offset:f.Offset+f.Len]...)
	}
	no := content[p.CardNo.Offset : p.CardNo.Offset+p.CardNo.Len]
	if blank(no) {
		return topup.Card{}, fmt.Errorf("read memory card: no card number: %w", errForeign)
	}
	return topup.Card{Type: p.Type, No: strings.ToUpper(hex.EncodeToString(no)), Hash: topup.Hash(name)[:32]}, nil
}

func blank(b []byte) bool {
	return bytes.Count(b, []byte{0}) == len(b) || bytes.Count(b, []byte{0xFF}) == len(b)
}

// again makes sure that the card in the slot is still c: a swap inside one
// polling period of the reader gives no event and no error.
func (c *card) again(ctx context.Context) error {
	id, err := c.identify(ctx)
	if err != nil {
		return err
	}
	if id.Hash != c.id.Hash {
		return errSwapped
	}
	return nil
}

// read fills in balance and log of a purse. A log that cannot be read is
// evidence too (LogUnread, LogRefused), not an error.
func (c *card) read(ctx context.Context) error {
	if c.purse == nil {
		return nil
	}
	var err error
	if c.balance, err = c.purse.Balance(ctx); err != nil {
		return fmt.Errorf("read balance: %w", err)
	}
	c.log, c.logs = c.readLog(ctx)
	return nil
}

func (c *card) readLog(ctx context.Context) ([]topup.LogRecord, topup.LogState) {
	l, err := c.purse.Log(ctx)
	records := make([]topup.LogRecord, len(l.Records))
	for i, r := range l.Records {
		records[i] = logRecord(r)
	}
	switch {
	case err == nil && l.Room:
		return records, topup.LogRoom
	case err == nil && l.Complete:
		return records, topup.LogFull
	case cardSpoke(err):
		return records, topup.LogRefused
	default:
		return records, topup.LogUnread
	}
}

// cardSpoke tells the card's own refusal or nonsense from a broken transport,
// after which another try may say more.
func cardSpoke(err error) bool {
	return errors.Is(err, epurse.ErrBadRecord) || isStatus(err)
}

func upper(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

func logRecord(r epurse.LogRecord) topup.LogRecord {
	return topup.LogRecord{
		Seq: r.Seq, Amount: r.Amount, Type: r.Type, Terminal: upper(r.Terminal[:]),
		Date: upper(r.Date[:]), Time: upper(r.Time[:]),
	}
}

func wireLog(l topup.LogRecord) protocol.LogEntry {
	return protocol.LogEntry{
		Seq: int(l.Seq), Amount: protocol.Fen(l.Amount), Terminal: l.Terminal, Date: l.Date, Time: l.Time,
	}
}

// loads returns the load records of the log for 3010: loads only, since
// purchases at the meter prove nothing about an order.
func (c *card) loads() []protocol.LogEntry {
	var out []protocol.LogEntry
	for _, l := range c.log {
		if l.Type == epurse.TypeDepositLoad || l.Type == epurse.TypePurseLoad {
			out = append(out, wireLog(l))
		}
	}
	return out
}

func (c *card) tail() string { return tail(c.id.No) }

func tail(no string) string {
	if len(no) > 4 {
		return no[len(no)-4:]
	}
	return no
}

// logName is how a card stands in a log: last four digits and six digits of
// its hash.
func logName(id topup.Card) string {
	h := id.Hash
	if len(h) > 6 {
		h = h[:6]
	}
	return tail(id.No) + "/" + h
}

func isStatus(err error) bool {
	_, ok := errors.AsType[apdu.Status](err)
	return ok
}
