package memcard

import "vcckiosk/cardreader/apdu"

// Family is the command set by which a family of readers reaches an SLE4442, as data: the chip knows no APDUs, each maker of
// readers invented its own. The zero value is not a family; New takes ACS for it.
type Family struct {
	// Name is for logs.
	Name string

	// Select tells the reader which chip to speak to, and powers the card off and on: a code presented before is forgotten.
	Select [6]byte
	// Read and Write are CLA INS P1 of the commands whose P2 is the offset and whose last field is the length.
	Read, Write [3]byte
	// Counter is the whole command that reads the error counter; its answer begins with the counter.
	Counter [5]byte
	// Present and Change are CLA INS P1 P2 of the commands that carry the three bytes of the code.
	Present, Change [4]byte

	// ReadMax and WriteMax are the most bytes one command may move.
	ReadMax, WriteMax int
	// Tail is how many bytes some models add after the bytes read (the protection bits); 0: none.
	Tail int
	// CodeOK and CodeLocked are the status words of Present for a right code and for a chip that is locked; CodeSW1 is the
	// first byte of both and of a wrong code's. They are not the usual ones: SW2 is the chip's error counter, so 9007 is
	// success and 9000 is the dead card.
	CodeOK, CodeLocked apdu.Status
	CodeSW1            byte
}

// ACS is the family of ACR38, ACR38x, ACR39, ACR33 and their relatives by Advanced Card Systems (reference manuals of ACR38
// 1.9 and 2.2, ACR38x 6.02). Firmware of 2006 that answers the counter as data before 9000 is understood too.
var ACS = Family{
	Name:     "ACS",
	Select:   [6]byte{0xFF, 0xA4, 0x00, 0x00, 0x01, 0x06},
	Read:     [3]byte{0xFF, 0xB0, 0x00},
	Write:    [3]byte{0xFF, 0xD0, 0x00},
	Counter:  [5]byte{0xFF, 0xB1, 0x00, 0x00, 0x04},
	Present:  [4]byte{0xFF, 0x20, 0x00, 0x00},
	Change:   [4]byte{0xFF, 0xD2, 0x00, 0x01},
	ReadMax:  128,
	WriteMax: 32,
	Tail:     4,
	CodeOK:   0x9007, CodeLocked: 0x9000, CodeSW1: 0x90,
}
