// Package epurse speaks to the electronic purse or electronic deposit of a PBOC 2.0 card over a cardreader.Transmitter: it
// reads what the card is and remembers, and loads it (圈存) with a MAC2 made by the platform. It holds no key of the load;
// it computes nothing that moves money.
//
// What may be sent twice is decided here, per command. A command that only reads, and INITIALIZE FOR LOAD, which moves no
// money, is sent again once when the card answers 6Cxx (wrong Le, not done), and its answer is fetched with GET RESPONSE
// when a T=0 card answers 61xx. CREDIT FOR LOAD (80 52) leaves at most once per successful Init, whatever comes back: 9000
// and 61xx mean committed, a short table of status words means refused, and everything else is ErrOutcomeUnknown.
//
// INITIALIZE FOR LOAD erases the card's proof of its last transaction. Whoever has an open question to this card asks it
// first, with Prove and Log.
//
// An interrupted call leaves nothing here to repair: a Purse has no durable state, and the card answers for itself.
package epurse

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"vcckiosk/cardreader"
	"vcckiosk/cardreader/apdu"
)

// ErrOutcomeUnknown is cardreader.ErrOutcomeUnknown: the load was sent and nobody knows whether the card did it. Never send
// it again; ask the card (Prove, Log, the sequence that the next Init gives).
var ErrOutcomeUnknown = cardreader.ErrOutcomeUnknown

// Transaction types of PBOC 2.0 part 2, as they stand in Params.Type and LogRecord.Type.
const (
	TypeDepositLoad byte = 0x01 // electronic deposit (ED)
	TypePurseLoad   byte = 0x02 // electronic purse (EP)
)

// Values used where Params leaves a field zero.
const (
	DefaultInfoSFI     byte = 0x15
	DefaultLogSFI      byte = 0x18
	DefaultLogCapacity      = 10

	maxLogCapacity = 254 // record numbers 1..254
	maxPIN         = 8
)

// defaultAID is the application of the transport ministry's cards.
const defaultAID = "\xA0\x00\x00\x00\x03\x86\x98\x07\x01"

// Params says which application of the card is used, and as which terminal. It holds a PIN, so it never shows itself.
type Params struct {
	// AID selects the application: 5 to 16 bytes by name, exactly 2 bytes by file id. Empty: A00000000386980701.
	AID []byte
	// InfoSFI is the short file id of the public information; 0: 15 hex. LogSFI that of the transaction log; 0: 18 hex.
	InfoSFI, LogSFI byte
	// Type is 01 for the electronic deposit, 02 for the electronic purse; 0: 02.
	Type byte
	// KeyIndex chooses the card's load key and goes out as it is; most cards use 01.
	KeyIndex byte
	// PIN is verified once before the first INITIALIZE FOR LOAD; nil: never. BCD bytes as they go to the card, at most 8.
	PIN []byte
	// Terminal is this kiosk's own terminal number, BCD, by which its loads are told from those of others in the card's log.
	Terminal [6]byte
	// LogCapacity is how many records the card's log holds; 0: 10, at most 254.
	LogCapacity int
	// NoLe leaves Le off commands that carry data, for T=0 readers that pass such commands through as they are.
	NoLe bool
}

// Format prints a placeholder, with every verb.
func (Params) Format(f fmt.State, _ rune) { redact(f) }

// LogValue is a placeholder.
func (Params) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText gives a placeholder.
func (Params) MarshalText() ([]byte, error) { return []byte(redacted), nil }

const redacted = "[redacted]"

func redact(f fmt.State) { _, _ = io.WriteString(f, redacted) }

// Purse is the purse of the card behind one Transmitter, for as long as the card stays in: one card session, one Purse.
// It is used by one goroutine at a time.
type Purse struct {
	t cardreader.Transmitter
	p Params // without PIN

	// pin is behind a function, the one thing fmt never looks into: the methods below do not help a Purse that is printed
	// as an unexported field of something else. nil: none.
	pin    func() []byte
	pinOK  bool      // verified since the application was selected
	pinBad *PINError // the card refused this PIN: never shown to it again
	armed  bool      // Init succeeded and Credit has not been sent since
}

// New makes a Purse; it sends nothing. Params is copied. A parameter the card cannot be asked with shows as an error of the
// first call that needs it.
func New(t cardreader.Transmitter, p Params) *Purse {
	p.AID = slices.Clone(p.AID)
	var pin func() []byte
	if b := slices.Clone(p.PIN); len(b) > 0 {
		pin = func() []byte { return b }
	}
	p.PIN = nil
	if len(p.AID) == 0 {
		p.AID = []byte(defaultAID)
	}
	if p.InfoSFI == 0 {
		p.InfoSFI = DefaultInfoSFI
	}
	if p.LogSFI == 0 {
		p.LogSFI = DefaultLogSFI
	}
	if p.Type == 0 {
		p.Type = TypePurseLoad
	}
	if p.LogCapacity <= 0 {
		p.LogCapacity = DefaultLogCapacity
	}
	p.LogCapacity = min(p.LogCapacity, maxLogCapacity)
	return &Purse{t: t, p: p, pin: pin}
}

// Format prints a placeholder, with every verb.
func (Purse) Format(f fmt.State, _ rune) { redact(f) }

// LogValue is a placeholder.
func (Purse) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText gives a placeholder.
func (Purse) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Balance reads the balance of the purse or deposit (GET BALANCE, 80 5C) in the card's own units: fen on most cards, hundredths
// of a cubic metre on some; the card does not say which. It only reads and may be repeated.
func (p *Purse) Balance(ctx context.Context) (uint32, error) {
	r, err := p.ask(ctx, apdu.Command{CLA: 0x80, INS: 0x5C, P2: p.p.Type, Le: 4})
	if err != nil {
		return 0, fmt.Errorf("read balance: %w", err)
	}
	b, err := exactly(r, 4)
	if err != nil {
		return 0, fmt.Errorf("read balance: %w", err)
	}
	return binary.BigEndian.Uint32(b), nil
}

// maxRounds bounds GET RESPONSE: no answer used here is longer than two rounds.
const maxRounds = 4

// send sends one command exactly once.
func (p *Purse) send(ctx context.Context, c apdu.Command) (apdu.Response, error) {
	b, err := c.Bytes()
	if err != nil {
		return apdu.Response{}, err
	}
	answer, err := p.t.Transmit(ctx, b)
	if err != nil {
		return apdu.Response{}, err
	}
	return apdu.Parse(answer)
}

// ask sends a command that may be sent twice: one that only reads, or INITIALIZE FOR LOAD. An error is of the transport;
// the card's status is in the Response.
func (p *Purse) ask(ctx context.Context, c apdu.Command) (apdu.Response, error) {
	if p.p.NoLe && len(c.Data) > 0 {
		c.Le = apdu.NoLe
	}
	r, err := p.send(ctx, c)
	if err != nil {
		return apdu.Response{}, err
	}
	if n, ok := r.SW.Exact(); ok {
		c.Le = n
		if r, err = p.send(ctx, c); err != nil {
			return apdu.Response{}, err
		}
	}
	return p.collect(ctx, r)
}

// collect fetches what a 61xx announced. The first command is never sent again here.
func (p *Purse) collect(ctx context.Context, r apdu.Response) (apdu.Response, error) {
	var data []byte
	for range maxRounds {
		n, more := r.SW.More()
		if !more {
			r.Data = append(data, r.Data...)
			return r, nil
		}
		data = append(data, r.Data...)
		next, err := p.getResponse(ctx, n)
		if err != nil {
			return apdu.Response{}, fmt.Errorf("get response: %w", err)
		}
		r = next
	}
	return apdu.Response{}, fmt.Errorf("get response: no end after %d rounds", maxRounds)
}

// getResponse reads n waiting bytes (00 C0); a wrong n is mended once.
func (p *Purse) getResponse(ctx context.Context, n int) (apdu.Response, error) {
	r, err := p.send(ctx, apdu.Command{INS: 0xC0, Le: n})
	if err != nil {
		return apdu.Response{}, err
	}
	if exact, ok := r.SW.Exact(); ok {
		return p.send(ctx, apdu.Command{INS: 0xC0, Le: exact})
	}
	return r, nil
}

// exactly is the data of a successful answer that must have n bytes.
func exactly(r apdu.Response, n int) ([]byte, error) {
	if !r.SW.OK() {
		return nil, r.SW
	}
	if len(r.Data) != n {
		return nil, fmt.Errorf("card answered %d bytes instead of %d", len(r.Data), n)
	}
	return r.Data, nil
}
