package simcard

import "time"

// Card is one virtual card. PowerOn and PowerOff frame a power session; what is
// volatile is lost at PowerOff. Exchange executes one command APDU and returns
// data plus SW1 SW2; nil means no answer, because the card was torn out or is
// mute. Implementations are safe for concurrent use; commands come one at a time.
type Card interface {
	ATR() []byte
	PowerOn()
	PowerOff()
	Exchange(cmd []byte) []byte
}

// Replier is a Card that can say why it did not answer. Slot and Plug ask for
// it and fall back on Exchange, where nil is taken for a torn card.
type Replier interface {
	Card
	// Reply executes cmd like Exchange.
	Reply(cmd []byte) Reply
}

// Reply is what became of one APDU. The effect on the card, if any, has
// happened when a Reply exists.
type Reply struct {
	// Data is the answer, SW1 SW2 included. It may be empty: the reader then
	// reports success and no bytes.
	Data []byte
	// Torn: the card left the reader during the APDU.
	Torn bool
	// Mute: the answer never comes; the card stays in the reader.
	Mute bool
	// Delay passes before the answer arrives.
	Delay time.Duration
	// Next, when not nil, is the card that sits in the slot after this APDU.
	// Nobody is told.
	Next Card
	// Resend: this card was exchanged for Next before the APDU reached it, so
	// the APDU goes to Next.
	Resend bool
}

// reply asks c for its answer and follows an exchange made before the APDU.
// The second value is the card that now sits in the reader.
func reply(c Card, cmd []byte) (Reply, Card) {
	for range 4 { // a chain of exchanges longer than this is a test's mistake
		r := direct(c, cmd)
		if r.Next == nil {
			return r, c
		}
		c.PowerOff()
		c = r.Next
		c.PowerOn()
		if !r.Resend {
			return r, c
		}
	}
	return Reply{Torn: true}, c
}

// direct asks c alone.
func direct(c Card, cmd []byte) Reply {
	if rc, ok := c.(Replier); ok {
		return rc.Reply(cmd)
	}
	data := c.Exchange(cmd)
	return Reply{Data: data, Torn: data == nil}
}

// status is an answer without data.
func status(sw uint16) []byte { return []byte{byte(sw >> 8), byte(sw)} }

// answer is data followed by 9000.
func answer(data ...byte) []byte {
	out := make([]byte, 0, len(data)+2)
	return append(append(out, data...), 0x90, 0x00)
}
