package epurse

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"vcckiosk/cardreader"
	"vcckiosk/cardreader/apdu"
)

// InfoLen is the length in bytes of the public information file (PBOC 2.0 part 2, EF 15).
const InfoLen = 30

// Identity is the card's public information: who it is. It is not proof against a copied card.
type Identity struct {
	// Serial is the last 8 bytes of AppNo, from which the platform derives the card's keys.
	Serial [8]byte
	// AppNo is the application serial number, BCD.
	AppNo  [10]byte
	Issuer [8]byte
	// AppType and Version are the issuer's own.
	AppType, Version byte
	// Start and Expiry are BCD YYYYMMDD, as the issuer wrote them; they are not checked.
	Start, Expiry [4]byte
}

// CardNo is the card's number as the platform knows it: the 16 digits of Serial, or all 20 of AppNo when its first two bytes
// are not zero. Upper-case hex should an issuer not use BCD.
func (i Identity) CardNo() string {
	if i.AppNo[0] == 0 && i.AppNo[1] == 0 {
		return strings.ToUpper(hex.EncodeToString(i.Serial[:]))
	}
	return strings.ToUpper(hex.EncodeToString(i.AppNo[:]))
}

// ParseIdentity takes the public information apart: issuer 8, application type 1, version 1, application serial number 10,
// start 4, expiry 4, issuer's own 2. A card whose serial number is blank (all 00 or all FF) is not personalised:
// cardreader.ErrForeign.
func ParseIdentity(b []byte) (Identity, error) {
	if len(b) != InfoLen {
		return Identity{}, fmt.Errorf("public information has %d bytes instead of %d", len(b), InfoLen)
	}
	if blank(b[10:20]) || blank(b[12:20]) {
		return Identity{}, fmt.Errorf("%w: blank serial number", cardreader.ErrForeign)
	}
	return Identity{
		Issuer:  [8]byte(b[0:8]),
		AppType: b[8],
		Version: b[9],
		AppNo:   [10]byte(b[10:20]),
		Serial:  [8]byte(b[12:20]),
		Start:   [4]byte(b[20:24]),
		Expiry:  [4]byte(b[24:28]),
	}, nil
}

// blank reports memory that was never written: all 00 or all FF.
func blank(b []byte) bool {
	for _, v := range b {
		if v != b[0] {
			return false
		}
	}
	return b[0] == 0x00 || b[0] == 0xFF
}

// Identify selects the application and reads the public information (SELECT, READ BINARY). It changes nothing on the card,
// keeps its proof of the last transaction, and may be repeated; an Init made before is void. cardreader.ErrForeign: another
// kind of card; cardreader.ErrBlocked: the card says it is locked. Any other error says nothing about the card.
func (p *Purse) Identify(ctx context.Context) (Identity, error) {
	// Selecting ends what was begun and may forget the PIN.
	p.armed, p.pinOK = false, false

	sel := apdu.Command{INS: 0xA4, P1: 0x04, Data: p.p.AID, Le: apdu.MaxLe}
	if len(p.p.AID) == 2 {
		sel.P1 = 0x00 // by file id
	}
	r, err := p.ask(ctx, sel)
	if err != nil {
		return Identity{}, fmt.Errorf("select purse: %w", err)
	}
	if !r.SW.OK() {
		return Identity{}, fmt.Errorf("select purse: %w", foreign(r.SW))
	}

	r, err = p.ask(ctx, apdu.Command{INS: 0xB0, P1: 0x80 | p.p.InfoSFI, Le: InfoLen})
	if err != nil {
		return Identity{}, fmt.Errorf("read public information: %w", err)
	}
	if !r.SW.OK() {
		return Identity{}, fmt.Errorf("read public information: %w", foreign(r.SW))
	}
	id, err := ParseIdentity(r.Data)
	if err != nil {
		return Identity{}, fmt.Errorf("read public information: %w", err)
	}
	return id, nil
}

// foreign adds cardreader.ErrForeign to the words by which a card says that it has no such application or file.
func foreign(sw apdu.Status) error {
	switch sw {
	case apdu.FileNotFound, apdu.WrongP1P2, apdu.WrongINS, apdu.WrongCLA,
		0x6981, // file is of another kind
		0x6986, // no file selected
		0x6999: // application cannot be selected
		return fmt.Errorf("%w: %w", cardreader.ErrForeign, sw)
	}
	return sw
}
