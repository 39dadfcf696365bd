package simcard

import (
	"math/bits"
	"slices"
	"sync"
)

// SLE4442 is a 256-byte memory card with a 3-byte code (PSC), as it looks
// through the pseudo-APDUs of an ACS reader:
//
//	FF A4 00 00 01 06        select the card type; cycles the card's power
//	FF B0 00 addr len        read
//	FF B1 00 00 04           error counter and three dummy bytes
//	FF B2 00 00 04           protection bits
//	FF D0 00 addr len data   write
//	FF D1 00 addr len data   protect, where data equals the content
//	FF 20 00 00 03 psc       present the code
//	FF D2 00 01 03 psc       change the code
//
// Memory is written byte by byte: an erase to FF when a bit must become one,
// then zeros are programmed. A tear by a [Fault] with When Byte leaves a prefix
// of new bytes, one byte in between and a suffix of old bytes. Arm gives it
// faults.
//
// The status of present code is inverted, as on the real readers: 9007 is
// success, 9003 and 9001 are wrong codes, 9000 is a locked card.
type SLE4442 struct {
	faults

	// ProtectionInRead appends 4 protection bytes to every read, as some
	// readers do. Set it before the card is used.
	ProtectionInRead bool
	// ReaderChecks makes the reader answer 6300 to a write the card ignores (no
	// code, protected byte, dead counter). Without it the reader says 9000, as
	// real ones do: only reading back proves a write. Set it before the card is
	// used.
	ReaderChecks bool

	mu       sync.Mutex
	mem      [256]byte
	psc      [3]byte
	counter  byte // 7, 3, 1, 0
	prot     uint32
	powered  bool
	selected bool
	open     bool // code presented in this power session

	wear      [256]int
	presented int
	wrong     int
	changed   int
	history   [][256]byte
}

// atrSLE4442 is what an SLE4442 answers to reset, as PC/SC readers report it.
var atrSLE4442 = [...]byte{0x3B, 0x04, 0xA2, 0x13, 0x10, 0x91}

// NewSLE4442 makes a card with this content and code, three tries left.
func NewSLE4442(image [256]byte, psc [3]byte) *SLE4442 {
	return &SLE4442{mem: image, psc: psc, counter: 7, prot: ^uint32(0), history: [][256]byte{image}}
}

// ATR is the answer to reset.
func (c *SLE4442) ATR() []byte { return slices.Clone(atrSLE4442[:]) }

// PowerOn starts a power session; the type has to be selected, the code
// presented again.
func (c *SLE4442) PowerOn() { c.power(true) }

// PowerOff ends it; memory, counter and code stay.
func (c *SLE4442) PowerOff() { c.power(false) }

func (c *SLE4442) power(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.powered, c.selected, c.open = on, false, false
}

// Exchange executes one pseudo-APDU; nil means no answer.
func (c *SLE4442) Exchange(cmd []byte) []byte { return c.Reply(cmd).bytes(cmd) }

// Reply executes one pseudo-APDU under the armed faults.
func (c *SLE4442) Reply(cmd []byte) Reply {
	return c.apply(cmd, func(k *cut) ([]byte, bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		out := c.execute(cmd, k)
		c.remember()
		return out, true
	})
}

// partial lets a wrapper tear this card inside a command.
func (c *SLE4442) partial(cmd []byte, k cut) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.execute(cmd, &k)
	c.remember()
	return true
}

// remember keeps the image for judges when it has changed; holds mu.
func (c *SLE4442) remember() {
	if c.history[len(c.history)-1] != c.mem {
		c.history = append(c.history, c.mem)
	}
}

const swFailed = 0x6300

func (c *SLE4442) execute(raw []byte, k *cut) []byte {
	cmd, ok := parseCommand(raw)
	if !c.powered || !ok {
		return status(swLength)
	}
	if cmd.cla != 0xFF {
		return status(swCLA)
	}
	if cmd.ins == 0xA4 {
		c.selected, c.open = false, false
		if len(cmd.data) != 1 || cmd.data[0] != 0x06 {
			return status(swFailed)
		}
		c.selected = true
		return status(swOK)
	}
	if !c.selected {
		return status(swFailed)
	}
	switch cmd.ins {
	case 0xB0:
		return c.read(cmd)
	case 0xB1:
		return answer(c.counter, 0, 0, 0)
	case 0xB2:
		return answer(c.protection()...)
	case 0xD0:
		return c.write(cmd, k)
	case 0xD1:
		return c.protect(cmd, k)
	case 0x20:
		return c.present(cmd, k)
	case 0xD2:
		return c.changeCode(cmd, k)
	}
	return status(swINS)
}

func (c *SLE4442) protection() []byte {
	return []byte{byte(c.prot), byte(c.prot >> 8), byte(c.prot >> 16), byte(c.prot >> 24)}
}

func (c *SLE4442) read(cmd command) []byte {
	if cmd.le < 0 || int(cmd.p2)+cmd.le > len(c.mem) {
		return status(swLength)
	}
	data := slices.Clone(c.mem[cmd.p2 : int(cmd.p2)+cmd.le])
	if c.ProtectionInRead {
		data = append(data, c.protection()...)
	}
	return answer(data...)
}

// writable: the code was presented and the card is not dead.
func (c *SLE4442) writable() bool { return c.open && c.counter != 0 }

func (c *SLE4442) isProtected(addr int) bool { return addr < 32 && c.prot>>addr&1 == 0 }

func (c *SLE4442) write(cmd command, k *cut) []byte {
	if len(cmd.data) == 0 || int(cmd.p2)+len(cmd.data) > len(c.mem) {
		return status(swLength)
	}
	refused := false
	for i, b := range cmd.data {
		addr := int(cmd.p2) + i
		if !c.writable() || c.isProtected(addr) {
			refused = true
			continue
		}
		if k != nil && i >= k.bytes {
			c.mem[addr] = interrupted(c.mem[addr], b, k.rest)
			c.wear[addr]++
			return nil
		}
		if c.mem[addr] != b {
			c.mem[addr] = b
			c.wear[addr]++
		}
	}
	if refused {
		return c.ignored()
	}
	return status(swOK)
}

// ignored is the reader's answer when the card did not act.
func (c *SLE4442) ignored() []byte {
	if c.ReaderChecks {
		return status(swFailed)
	}
	return status(swOK)
}

// interrupted is what a byte holds when the power goes while old becomes b.
func interrupted(old, b byte, rest Rest) byte {
	start := old
	if b&^old != 0 { // a bit must become one: erase first
		start = 0xFF
	}
	switch rest {
	case Untouched:
		return old
	case Erased:
		return start
	case Partial:
	}
	// Program the lower half of the zeros that are due, at least one of them
	// missing and one done where there are two.
	due := start &^ b
	out := start
	for n := bits.OnesCount8(due) / 2; n > 0; n-- {
		bit := due & -due
		out, due = out&^bit, due&^bit
	}
	return out
}

func (c *SLE4442) protect(cmd command, k *cut) []byte {
	if len(cmd.data) == 0 || int(cmd.p2)+len(cmd.data) > 32 {
		return status(swLength)
	}
	if !c.writable() {
		return status(swFailed)
	}
	out := status(swOK)
	for i, b := range cmd.data {
		if k != nil && i >= k.bytes {
			return nil
		}
		if addr := int(cmd.p2) + i; c.mem[addr] == b {
			c.prot &^= 1 << addr
		} else {
			out = status(swFailed)
		}
	}
	return out
}

// present burns one bit of the error counter, compares, and erases the counter
// when the code was right. A tear in between costs one try.
func (c *SLE4442) present(cmd command, k *cut) []byte {
	if len(cmd.data) != 3 {
		return status(swLength)
	}
	if c.counter == 0 {
		return []byte{0x90, 0x00}
	}
	if k != nil && k.bytes == 0 {
		return nil
	}
	c.presented++
	c.counter >>= 1
	if k != nil {
		return nil
	}
	if [3]byte(cmd.data) != c.psc {
		c.open = false
		c.wrong++
		return []byte{0x90, c.counter}
	}
	c.counter, c.open = 7, true
	return []byte{0x90, c.counter}
}

func (c *SLE4442) changeCode(cmd command, k *cut) []byte {
	if len(cmd.data) != 3 {
		return status(swLength)
	}
	if !c.writable() {
		return c.ignored()
	}
	for i, b := range cmd.data {
		if k != nil && i >= k.bytes {
			c.psc[i] = interrupted(c.psc[i], b, k.rest)
			return nil
		}
		c.psc[i] = b
	}
	c.changed++
	return status(swOK)
}
