package simcard

import "slices"

// Image is the present content.
func (c *SLE4442) Image() [256]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mem
}

// History are the images the card has held, the first at personalisation, one
// after each command or meter visit that changed something.
func (c *SLE4442) History() [][256]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.history)
}

// Counter is the error counter: 7 three tries, 3 two, 1 one, 0 dead.
func (c *SLE4442) Counter() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(c.counter)
}

// Wear is the number of erase or write cycles each byte has been through.
// Writing a byte its own value costs none.
func (c *SLE4442) Wear() [256]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wear
}

// Codes says how often a code was presented, how often it was wrong, and how
// often the code was changed.
func (c *SLE4442) Codes() (presented, wrong, changed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.presented, c.wrong, c.changed
}

// CodeIs tells whether psc is the present code.
func (c *SLE4442) CodeIs(psc [3]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.psc == psc
}

// Protect burns the protection bits of addresses below 32, as personalisation
// does.
func (c *SLE4442) Protect(addrs ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range addrs {
		if a >= 0 && a < 32 {
			c.prot &^= 1 << a
		}
	}
}

// Patch lets fn change the content without code, reader or fault: a copied
// card, a meter, another vendor's kiosk. Changed bytes wear.
func (c *SLE4442) Patch(fn func(image *[256]byte)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.mem
	fn(&c.mem)
	for i := range c.mem {
		if c.mem[i] != before[i] {
			c.wear[i]++
		}
	}
	c.remember()
}
