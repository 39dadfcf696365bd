// Package apdu builds short command APDUs of ISO 7816-4 and takes answers apart. It is pure: it sends nothing.
package apdu

import (
	"errors"
	"fmt"

	"vcckiosk/cardreader"
)

// NoLe says that a command expects no data back.
const NoLe = -1

// Limits of short APDUs.
const (
	MaxData = 255 // bytes a command can carry
	MaxLe   = 256 // bytes a command can ask for; on the wire 00
)

// ErrEmptyAnswer is an answer too short to hold a status word: the card was torn, or the reader lost it, while the command
// ran. For a command that changes the card the outcome is unknown.
var ErrEmptyAnswer = errors.New("answer without a status word")

// Command is one short command APDU.
type Command struct {
	CLA, INS, P1, P2 byte
	// Data is at most 255 bytes; empty means none.
	Data []byte
	// Le is how many bytes are expected, 1 to 256 (256 goes out as 00). NoLe, or 0, sends no Le byte.
	Le int
}

// Bytes is the command as it goes to the card. The error is the caller's mistake: too much data or an impossible Le.
func (c Command) Bytes() ([]byte, error) {
	if len(c.Data) > MaxData {
		return nil, fmt.Errorf("build command %02X %02X: %d bytes of data, at most %d", c.CLA, c.INS, len(c.Data), MaxData)
	}
	if c.Le < NoLe || c.Le > MaxLe {
		return nil, fmt.Errorf("build command %02X %02X: Le %d, at most %d", c.CLA, c.INS, c.Le, MaxLe)
	}
	b := make([]byte, 0, 6+len(c.Data))
	b = append(b, c.CLA, c.INS, c.P1, c.P2)
	if len(c.Data) > 0 {
		b = append(b, byte(len(c.Data)))
		b = append(b, c.Data...)
	}
	if c.Le > 0 {
		b = append(b, byte(c.Le)) // 256 becomes 00
	}
	return b, nil
}

// Response is one answer.
type Response struct {
	// Data is what came before the status word; it shares memory with the answer it was parsed from.
	Data []byte
	SW   Status
}

// Parse takes an answer apart. The only error is ErrEmptyAnswer.
func Parse(answer []byte) (Response, error) {
	n := len(answer)
	if n < 2 {
		return Response{}, ErrEmptyAnswer
	}
	return Response{Data: answer[: n-2 : n-2], SW: Status(answer[n-2])<<8 | Status(answer[n-1])}, nil
}

// Status is the status word SW1 SW2. As an error it is the card speaking: the command arrived and this is its answer.
type Status uint16

// Status words named in code.
const (
	OK                Status = 0x9000
	FileInvalidated   Status = 0x6283
	WrongLength       Status = 0x6700
	NotAcceptable     Status = 0x6901 // PBOC: not in this state
	SecurityStatus    Status = 0x6982
	AuthBlocked       Status = 0x6983
	RefDataInvalid    Status = 0x6984
	ConditionsOfUse   Status = 0x6985
	SecureMessaging   Status = 0x6988
	WrongData         Status = 0x6A80
	CardLocked        Status = 0x6A81 // PBOC: the card is locked
	FileNotFound      Status = 0x6A82
	RecordNotFound    Status = 0x6A83
	WrongP1P2         Status = 0x6A86
	RefDataNotFound   Status = 0x6A88
	WrongINS          Status = 0x6D00
	WrongCLA          Status = 0x6E00
	WrongMAC          Status = 0x9302 // PBOC
	ApplicationLocked Status = 0x9303 // PBOC: for ever
	UnknownKeyIndex   Status = 0x9403 // PBOC
	NoProof           Status = 0x9406 // PBOC: the MAC or TAC asked for is not available
)

// OK reports whether the card says the command is done with nothing to add (9000).
func (s Status) OK() bool { return s == OK }

// SW1 is the first byte.
func (s Status) SW1() byte { return byte(s >> 8) }

// SW2 is the second byte.
func (s Status) SW2() byte { return byte(s) }

// More reports 61xx: the command is done and n bytes (256 for 6100) wait for GET RESPONSE.
func (s Status) More() (n int, ok bool) { return lengthOf(s, 0x61) }

// Exact reports 6Cxx: the command was not done because Le was wrong; n is the right one.
func (s Status) Exact() (n int, ok bool) { return lengthOf(s, 0x6C) }

func lengthOf(s Status, sw1 byte) (int, bool) {
	if s.SW1() != sw1 {
		return 0, false
	}
	if s.SW2() == 0 {
		return MaxLe, true
	}
	return int(s.SW2()), true
}

// Error names the status word, with its meaning where the standard gives one.
func (s Status) Error() string {
	if text, ok := meaning(s); ok {
		return fmt.Sprintf("card status %04X (%s)", uint16(s), text)
	}
	return fmt.Sprintf("card status %04X", uint16(s))
}

// Unwrap leads to cardreader.ErrBlocked for the words by which a card says that it is locked. No other status has one
// meaning in all commands; the applications above map what they branch on.
func (s Status) Unwrap() error {
	switch s {
	case FileInvalidated, CardLocked, ApplicationLocked:
		return cardreader.ErrBlocked
	}
	return nil
}

func meaning(s Status) (string, bool) {
	switch s {
	case OK:
		return "done", true
	case FileInvalidated:
		return "application locked", true
	case 0x6581:
		return "memory failure", true
	case WrongLength:
		return "wrong length", true
	case NotAcceptable:
		return "not acceptable in this state", true
	case SecurityStatus:
		return "security status not satisfied", true
	case AuthBlocked:
		return "PIN blocked", true
	case RefDataInvalid:
		return "reference data invalid", true
	case ConditionsOfUse:
		return "conditions of use not satisfied", true
	case SecureMessaging:
		return "wrong secure messaging data", true
	case WrongData:
		return "wrong data", true
	case CardLocked:
		return "card locked or function not supported", true
	case FileNotFound:
		return "file not found", true
	case RecordNotFound:
		return "record not found", true
	case WrongP1P2:
		return "wrong P1 P2", true
	case RefDataNotFound:
		return "reference data not found", true
	case WrongINS:
		return "command not supported", true
	case WrongCLA:
		return "class not supported", true
	case WrongMAC:
		return "wrong MAC", true
	case ApplicationLocked:
		return "application locked for ever", true
	case UnknownKeyIndex:
		return "unknown key index", true
	case NoProof:
		return "proof not available", true
	}
	return "", false
}
