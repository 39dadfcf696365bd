package simcard

import (
	"encoding/binary"
	"slices"
	"sync"
)

// Field is a place in a memory card's image; Len 0 means the field does not
// exist, more than 8 bytes are not supported.
type Field struct{ Off, Len int }

// Layout says where a meter finds its fields. All are unsigned big-endian
// integers, without a checksum.
type Layout struct {
	// Count is the purchase count, the commit field of a write.
	Count Field
	// Gas is the volume on the card that the meter has not taken.
	Gas Field
	// Return is where the meter writes the total it has ever taken.
	Return Field
}

// DefaultLayout is the layout of the simulated meter maker.
func DefaultLayout() Layout {
	return Layout{Count: Field{0x40, 2}, Gas: Field{0x42, 4}, Return: Field{0x60, 4}}
}

// Get reads a field of an image; a field outside the image reads 0.
func (f Field) Get(image [256]byte) uint64 {
	if !f.valid() {
		return 0
	}
	var b [8]byte
	copy(b[8-f.Len:], image[f.Off:f.Off+f.Len])
	return binary.BigEndian.Uint64(b[:])
}

// Put writes the low bytes of v into a field.
func (f Field) Put(image *[256]byte, v uint64) {
	if !f.valid() {
		return
	}
	b := binary.BigEndian.AppendUint64(nil, v)
	copy(image[f.Off:f.Off+f.Len], b[8-f.Len:])
}

func (f Field) valid() bool {
	return f.Len > 0 && f.Len <= 8 && f.Off >= 0 && f.Off+f.Len <= 256
}

// Mode is how a meter treats the purchase count.
type Mode int

const (
	// Strict takes gas only when the count is the last one taken plus one.
	Strict Mode = iota
	// Lax takes whatever gas is on the card.
	Lax
)

// MeterVisit is one insertion of a card into a meter.
type MeterVisit struct {
	Took   bool
	Volume uint32 // taken; 0 when nothing was
	Count  int    // the card's count
	Before [256]byte
	After  [256]byte
}

// Meter is a gas meter at the customer's home. It takes the gas from a memory
// card: adds it to its own store, zeroes the gas field, writes the total into
// the return field, and never changes the count.
type Meter struct {
	mode   Mode
	layout Layout

	mu     sync.Mutex
	last   int
	total  uint64
	visits []MeterVisit
}

// NewMeter makes a meter that has taken nothing; its first count is 1.
func NewMeter(mode Mode, layout Layout) *Meter {
	return &Meter{mode: mode, layout: layout}
}

// SetLast makes count the last one taken, for a card that is not new.
func (m *Meter) SetLast(count int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = count
}

// Insert holds the card to the meter once.
func (m *Meter) Insert(c *SLE4442) MeterVisit {
	m.mu.Lock()
	defer m.mu.Unlock()
	var v MeterVisit
	c.Patch(func(image *[256]byte) {
		v.Before = *image
		v.Count = int(m.layout.Count.Get(*image))
		gas := m.layout.Gas.Get(*image)
		if gas > 0 && (m.mode == Lax || v.Count == m.last+1) {
			v.Took, v.Volume = true, uint32(gas)
			m.last = v.Count
			m.total += gas
			m.layout.Gas.Put(image, 0)
			m.layout.Return.Put(image, m.total)
		}
		v.After = *image
	})
	m.visits = append(m.visits, v)
	return v
}

// Last is the count of the last gas taken.
func (m *Meter) Last() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// Total is all the gas ever taken, in the card's unit.
func (m *Meter) Total() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total
}

// Visits are all insertions, oldest first.
func (m *Meter) Visits() []MeterVisit {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.visits)
}
