package epurse

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"vcckiosk/cardreader/apdu"
)

// ErrNoInit: Credit was called without a successful Init before it on this Purse. Nothing was sent.
var ErrNoInit = errors.New("load not initialised")

// RefusedError is the card's own word that it did not do the load. It is to be confirmed by the sequence the next Init gives,
// after the proof has been asked for. Unwrap leads to the status word.
type RefusedError struct{ SW apdu.Status }

// Error names the status word.
func (e *RefusedError) Error() string { return "card refused: " + e.SW.Error() }

// Unwrap leads to the status word.
func (e *RefusedError) Unwrap() error { return e.SW }

// PINError is the card's refusal of the PIN. Never retry: the tries left are the card's life. This Purse does not show the PIN
// again; whoever makes a new Purse for the same card must not either until a person has looked.
type PINError struct {
	// TriesLeft is how many more wrong PINs the card takes; 0: blocked.
	TriesLeft int
}

// Error tells the tries left.
func (e *PINError) Error() string {
	if e.TriesLeft == 0 {
		return "card refused the PIN: blocked"
	}
	return fmt.Sprintf("card refused the PIN: %d tries left", e.TriesLeft)
}

// Proof is what the card can still prove of one past transaction.
type Proof struct {
	// MAC is all zero on cards that keep none for a load.
	MAC [4]byte
	// TAC can be checked by the platform only.
	TAC [4]byte
}

// Prove asks the card for its proof of the transaction with this online sequence (GET TRANSACTION PROVE, 80 5A). Cards differ
// in whether a load is kept under the sequence before or after it was counted up: the caller tries both. False without an
// error: the card answers and has no proof under this sequence, which proves nothing by itself. The proof survives loss of
// power, is erased by the next Init, and some cards give it only once: store it before anything else. Prove changes no money.
func (p *Purse) Prove(ctx context.Context, seq uint16) (Proof, bool, error) {
	r, err := p.ask(ctx, apdu.Command{
		CLA: 0x80, INS: 0x5A, P2: p.p.Type,
		Data: binary.BigEndian.AppendUint16(nil, seq), Le: 8,
	})
	if err != nil {
		return Proof{}, false, fmt.Errorf("get transaction proof: %w", err)
	}
	if noProof(r.SW) {
		return Proof{}, false, nil
	}
	b, err := exactly(r, 8)
	if err != nil {
		return Proof{}, false, fmt.Errorf("get transaction proof: %w", err)
	}
	return Proof{MAC: [4]byte(b[:4]), TAC: [4]byte(b[4:])}, true, nil
}

// noProof lists the words by which cards say that there is no proof, or no such command.
func noProof(sw apdu.Status) bool {
	switch sw {
	case apdu.NoProof, apdu.ConditionsOfUse, apdu.RefDataNotFound, apdu.NotAcceptable, apdu.RecordNotFound,
		apdu.WrongData, apdu.WrongP1P2, apdu.WrongINS, apdu.WrongCLA:
		return true
	}
	return false
}

// Init is the card's answer to INITIALIZE FOR LOAD: what the platform needs to make MAC2.
type Init struct {
	// Balance is in the card's units, before the load.
	Balance uint32
	// Seq is the online sequence the load will use. A card commits at most one load per value.
	Seq               uint16
	KeyVersion, AlgID byte
	Random            [4]byte
	// MAC1 is checked by the platform only.
	MAC1 [4]byte
}

// Init begins a load of amount, in the card's units (INITIALIZE FOR LOAD, 80 50), after showing the PIN if one is configured
// and was not shown since Identify. It moves no money and may be repeated, but it erases the card's proof of the last
// transaction, also when it fails without an answer. A refused PIN is a *PINError. Any other refusal leads to the apdu.Status.
func (p *Purse) Init(ctx context.Context, amount uint32) (Init, error) {
	p.armed = false
	if err := p.verify(ctx); err != nil {
		return Init{}, fmt.Errorf("verify PIN: %w", err)
	}
	data := append(make([]byte, 0, 11), p.p.KeyIndex)
	data = binary.BigEndian.AppendUint32(data, amount)
	data = append(data, p.p.Terminal[:]...)
	r, err := p.ask(ctx, apdu.Command{CLA: 0x80, INS: 0x50, P2: p.p.Type, Data: data, Le: 16})
	if err != nil {
		return Init{}, fmt.Errorf("initialize for load: %w", err)
	}
	b, err := exactly(r, 16)
	if err != nil {
		return Init{}, fmt.Errorf("initialize for load: %w", err)
	}
	p.armed = true
	return Init{
		Balance:    binary.BigEndian.Uint32(b[0:4]),
		Seq:        binary.BigEndian.Uint16(b[4:6]),
		KeyVersion: b[6],
		AlgID:      b[7],
		Random:     [4]byte(b[8:12]),
		MAC1:       [4]byte(b[12:16]),
	}, nil
}

// verify shows the PIN, at most once per selection and never after a refusal.
func (p *Purse) verify(ctx context.Context) error {
	if p.pin == nil || p.pinOK {
		return nil
	}
	if p.pinBad != nil {
		return p.pinBad
	}
	pin := p.pin()
	if len(pin) > maxPIN {
		return fmt.Errorf("PIN of %d bytes, at most %d", len(pin), maxPIN)
	}
	// Not through ask: 6C0x is the answer of some cards to a wrong PIN, and is not to be taken for a wrong Le.
	r, err := p.send(ctx, apdu.Command{INS: 0x20, Data: pin, Le: apdu.NoLe})
	if err != nil {
		return err
	}
	if r.SW.OK() {
		p.pinOK = true
		return nil
	}
	if tries, refused := triesLeft(r.SW); refused {
		p.pinBad = &PINError{TriesLeft: tries}
		return p.pinBad
	}
	return r.SW
}

// triesLeft reads the two families of answers to a wrong PIN: 63Cx then 6983 or 6984, and 6C0x then 6A83.
func triesLeft(sw apdu.Status) (int, bool) {
	switch {
	case sw&0xFFF0 == 0x63C0, sw&0xFFF0 == 0x6C00:
		return int(sw & 0x000F), true
	case sw == apdu.AuthBlocked, sw == apdu.RefDataInvalid, sw == apdu.RecordNotFound:
		return 0, true
	}
	return 0, false
}

// Credit is what the card gave for a committed load.
type Credit struct {
	TAC [4]byte
	// HasTAC is false when the card committed but its answer could not be fetched, or held no TAC; Prove may still give it.
	HasTAC bool
}

// Credit does the load begun by Init with the platform's date, time and MAC2 (CREDIT FOR LOAD, 80 52). It is sent exactly
// once, and never again without a new Init; ErrNoInit says that nothing was sent.
//
// No error: the card committed. *RefusedError: the card says it did not. ErrOutcomeUnknown, with its cause: anything else, a
// transport error and a cancelled ctx included; only the card can tell, and never by a second 80 52.
func (p *Purse) Credit(ctx context.Context, date [4]byte, tm [3]byte, mac2 [4]byte) (Credit, error) {
	if !p.armed {
		return Credit{}, fmt.Errorf("credit for load: %w", ErrNoInit)
	}
	// Before the command leaves: no path below may lead to a second one.
	p.armed = false

	data := append(make([]byte, 0, 11), date[:]...)
	data = append(data, tm[:]...)
	data = append(data, mac2[:]...)
	c := apdu.Command{CLA: 0x80, INS: 0x52, Data: data, Le: 4}
	if p.p.NoLe {
		c.Le = apdu.NoLe
	}
	r, err := p.send(ctx, c)
	if err != nil {
		return Credit{}, fmt.Errorf("credit for load: %w: %w", ErrOutcomeUnknown, err)
	}
	if _, more := r.SW.More(); more {
		// Committed. The TAC is wanted, but no failure from here on is one of the load.
		r, err = p.collect(ctx, r)
		if err != nil || !r.SW.OK() {
			return Credit{}, nil //nolint:nilerr // a lost TAC does not undo the load
		}
	}
	switch {
	case r.SW.OK():
		if len(r.Data) != 4 {
			return Credit{}, nil
		}
		return Credit{TAC: [4]byte(r.Data), HasTAC: true}, nil
	case refused(r.SW):
		return Credit{}, fmt.Errorf("credit for load: %w", &RefusedError{SW: r.SW})
	}
	return Credit{}, fmt.Errorf("credit for load: %w: %w", ErrOutcomeUnknown, r.SW)
}

// refused lists the words a card says to CREDIT FOR LOAD before it changes anything: what it checks first is the command
// itself, then its state, then MAC2. 6581 (memory failure), 64xx, 6Cxx and warnings are missing on purpose: they can follow
// a write.
func refused(sw apdu.Status) bool {
	switch sw {
	case apdu.WrongMAC, // MAC2 is wrong
		apdu.ConditionsOfUse, apdu.NotAcceptable, // no INITIALIZE FOR LOAD before it, or the state was lost
		apdu.SecureMessaging, // MAC2 is wrong, on some cards
		apdu.SecurityStatus,  // PIN not shown
		apdu.WrongLength, apdu.WrongP1P2, apdu.WrongINS, apdu.WrongCLA:
		return true
	}
	return false
}
