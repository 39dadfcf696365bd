// Package vpcd is the reader driver "sim": the reader end of the vpcd protocol
// (vsmartcard) on a loopback port, with one place for a card. A virtual card
// dials in and is thereby inserted; it hangs up and is removed.
//
// It is built with the tag `sim` only, and a program built with that tag is
// never shipped: whoever reaches the port holds a card that nobody printed.
// Without the tag the package has the same names and Listen fails.
//
// # Protocol
//
// A frame is a big-endian length of two bytes and the payload. The reader sends
// control frames of one byte (0 power off, 1 power on, 4 send the ATR) and
// command APDUs; the card answers APDUs and the ATR request. A command of one
// byte can therefore not be sent.
//
// Other readers of this protocol poll for the ATR to learn whether the card is
// still there. This one blocks in a read instead, so that an idle kiosk does not
// wake up for it; a card that vanishes without closing its connection (impossible
// on loopback) would be noticed at the next command.
package vpcd
