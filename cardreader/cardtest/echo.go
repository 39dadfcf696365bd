package cardtest

import (
	"sync"

	"vcckiosk/cardreader/simcard"
)

// echoCard is the simplest card that can tell whether a driver lost, repeated
// or mixed up commands, or its power.
type echoCard struct {
	*simcard.Faulty
	core *echoCore
}

func newEcho() *echoCard {
	core := &echoCore{}
	return &echoCard{Faulty: simcard.NewFaulty(core), core: core}
}

// Executed is the number of commands the card has executed in its life.
func (c *echoCard) Executed() int {
	c.core.mu.Lock()
	defer c.core.mu.Unlock()
	return c.core.executed
}

type echoCore struct {
	mu       sync.Mutex
	volatile byte
	stored   byte
	executed int
}

// Instructions of the echo card, all CLA 80.
const (
	insEcho     = 0x10 // answers the command itself
	insGive     = 0x12 // answers P1 P2 (big-endian) bytes
	insRemember = 0x14 // P1 into volatile memory
	insRecall   = 0x16
	insKeep     = 0x18 // P1 into non-volatile memory
	insKept     = 0x1A
)

func echo(n int) []byte {
	cmd := make([]byte, n)
	for i := range cmd {
		cmd[i] = byte(i * 7)
	}
	cmd[0], cmd[1] = 0x80, insEcho
	return cmd
}

func echoed(cmd []byte) []byte { return append(append([]byte{}, cmd...), 0x90, 0x00) }

func give(n int) []byte         { return []byte{0x80, insGive, byte(n >> 8), byte(n)} }
func remember(b byte) []byte    { return []byte{0x80, insRemember, b, 0} }
func recall() []byte            { return []byte{0x80, insRecall, 0, 0} }
func keep(b byte) []byte        { return []byte{0x80, insKeep, b, 0} }
func kept() []byte              { return []byte{0x80, insKept, 0, 0} }
func (c *echoCore) ATR() []byte { return []byte{0x3B, 0x02, 0x14, 0x50} }

func (c *echoCore) PowerOn()  { c.forget() }
func (c *echoCore) PowerOff() { c.forget() }

func (c *echoCore) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.volatile = 0
}

func (c *echoCore) Exchange(cmd []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.executed++
	switch {
	case len(cmd) < 4:
		return []byte{0x67, 0x00}
	case cmd[1] == insEcho:
		return echoed(cmd)
	case cmd[1] == insGive:
		return echoed(make([]byte, int(cmd[2])<<8|int(cmd[3])))
	case cmd[1] == insRemember:
		c.volatile = cmd[2]
	case cmd[1] == insRecall:
		return []byte{c.volatile, 0x90, 0x00}
	case cmd[1] == insKeep:
		c.stored = cmd[2]
	case cmd[1] == insKept:
		return []byte{c.stored, 0x90, 0x00}
	}
	return []byte{0x90, 0x00}
}
