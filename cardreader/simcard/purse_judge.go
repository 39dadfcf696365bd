package simcard

import "slices"

// Consume is an offline purchase at a meter: it moves the offline sequence,
// never the online one, writes a log record of type 05 (ED) or 06 (EP) and
// takes the place of the load's proof. It returns false, and does nothing, when
// the balance is too small.
func (p *Purse) Consume(amount uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if amount > p.balance {
		return false
	}
	p.balance -= amount
	p.record(p.offline, p.cfg.Type+4, amount,
		[6]byte{0x99, 0, 0, 0, 0, 1}, [4]byte{0x20, 0x26, 0x01, 0x01}, [3]byte{0x12, 0, 0})
	p.offline++
	p.proof, p.load = nil, nil
	return true
}

// Loads are the loads the card has committed, oldest first.
func (p *Purse) Loads() []LoadDone {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.loads)
}

// Balance is the present balance in the card's unit.
func (p *Purse) Balance() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.balance
}

// Seq is the online sequence the next load will use.
func (p *Purse) Seq() uint16 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seq
}

// OfflineSeq is the offline sequence the next purchase will use.
func (p *Purse) OfflineSeq() uint16 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offline
}

// Inits is how often 80 50 was accepted; each one destroyed a proof, if any.
func (p *Purse) Inits() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inits
}

// HasProof tells whether GET TRANSACTION PROVE could still answer.
func (p *Purse) HasProof() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.proof != nil
}

// LogRecords are the log records of 23 bytes, newest first.
func (p *Purse) LogRecords() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([][]byte, len(p.log))
	for i, r := range p.log {
		out[i] = slices.Clone(r)
	}
	return out
}

// Serial is the last 8 bytes of the application serial number.
func (p *Purse) Serial() [8]byte { return p.cfg.Serial }

// Type is the purse's transaction type of a load: 01 ED, 02 EP.
func (p *Purse) Type() byte { return p.cfg.Type }
