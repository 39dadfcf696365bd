package pcsc

import (
	"errors"
	"fmt"

	"vcckiosk/cardreader"
)

// code is a PC/SC result other than success.
type code uint32

// The codes that mean something of their own here; the others are treated alike.
const (
	codeInternal           code = 0x80100001
	codeCancelled          code = 0x80100002
	codeInvalidHandle      code = 0x80100003
	codeNoMemory           code = 0x80100006
	codeInsufficientBuffer code = 0x80100008
	codeUnknownReader      code = 0x80100009
	codeTimeout            code = 0x8010000A
	codeSharing            code = 0x8010000B
	codeNoCard             code = 0x8010000C
	codeUnknownCard        code = 0x8010000D
	codeProtocol           code = 0x8010000F
	codeInvalidValue       code = 0x80100011
	codeCommError          code = 0x80100013
	codeInvalidATR         code = 0x80100015
	codeNotTransacted      code = 0x80100016
	codeReaderUnavailable  code = 0x80100017
	codeShutdown           code = 0x80100018
	codeCardUnsupported    code = 0x8010001C
	codeNoService          code = 0x8010001D
	codeServiceStopped     code = 0x8010001E
	codeNoReaders          code = 0x8010002E
	codeTooBusy            code = 0x80100031
	codeUnsupportedCard    code = 0x80100065
	codeUnresponsive       code = 0x80100066
	codeUnpowered          code = 0x80100067
	codeReset              code = 0x80100068
	codeRemoved            code = 0x80100069
	codeDenied             code = 0x8010006A
)

// Error names the code, with its meaning where it is one of the usual ones.
func (c code) Error() string {
	if text := c.text(); text != "" {
		return fmt.Sprintf("PC/SC %08X (%s)", uint32(c), text)
	}
	return fmt.Sprintf("PC/SC %08X", uint32(c))
}

func (c code) text() string {
	switch c {
	case codeCancelled:
		return "cancelled"
	case codeInvalidHandle:
		return "handle of a service that is gone"
	case codeUnknownReader:
		return "unknown reader"
	case codeTimeout:
		return "time is up"
	case codeSharing:
		return "another program has the card"
	case codeNoCard:
		return "no card"
	case codeProtocol:
		return "no common protocol"
	case codeInvalidValue:
		return "reader was unplugged"
	case codeCommError:
		return "lost the connection to pcscd"
	case codeNotTransacted:
		return "no answer from the card"
	case codeReaderUnavailable:
		return "reader unavailable"
	case codeNoService:
		return "pcscd is not running"
	case codeServiceStopped:
		return "pcscd has stopped"
	case codeNoReaders:
		return "no reader connected"
	case codeUnresponsive:
		return "card does not answer to reset"
	case codeUnpowered:
		return "card without power"
	case codeReset:
		return "card was reset by another program"
	case codeRemoved:
		return "card removed"
	case codeDenied:
		return "access to pcscd denied"
	}
	return ""
}

// ErrMute is returned by Open for a card that does not answer to reset or cannot be talked to: put in the wrong way round,
// broken, or not a smart card. It came with a CardIn without ATR. Retrying without taking the card out is of no use.
var ErrMute = errors.New("card does not answer to reset")

// whileOpening says what a code from taking a card means to the caller of Open. Every code has a meaning; one that nobody
// has met says that the reader is of no use.
func whileOpening(c code) error {
	switch c {
	case codeNoCard, codeRemoved:
		return cardreader.ErrNoCard
	case codeSharing, codeReset, codeTooBusy, codeNoMemory:
		return cardreader.ErrBusy
	case codeUnresponsive, codeUnpowered, codeUnsupportedCard, codeCardUnsupported, codeUnknownCard, codeProtocol,
		codeInvalidATR, codeNotTransacted:
		return ErrMute
	}
	return ofReader(c)
}

// inSession says what a code from a command means to the caller of Transmit. Whatever it is, the Session is over.
func inSession(c code) error {
	switch c {
	case codeRemoved, codeReset, codeUnpowered, codeUnresponsive, codeNotTransacted, codeNoCard:
		return cardreader.ErrCardRemoved
	case codeSharing:
		return cardreader.ErrBusy
	}
	return ofReader(c)
}

// ofReader tells a dead service from a dead reader.
func ofReader(c code) error {
	if ofService(c) {
		return cardreader.ErrServiceDown
	}
	return cardreader.ErrReaderGone
}

// ofService reports codes that say that this connection to pcscd is of no more use. codeDenied is among them because pcscd
// gives it while it is being stopped; where it means missing rights it repeats, and Problem and the log say so.
func ofService(c code) bool {
	switch c {
	case codeNoService, codeServiceStopped, codeShutdown, codeCommError, codeInvalidHandle, codeDenied, codeInternal:
		return true
	}
	return false
}

// explain wraps a failed call into what the map says; an error that is no code is of this driver's own making.
func explain(what string, err error, meaning func(code) error) error {
	var c code
	if errors.As(err, &c) {
		return fmt.Errorf("%s: %w: %w", what, meaning(c), c)
	}
	return fmt.Errorf("%s: %w", what, err)
}
