package pcsc

import (
	"slices"
	"sync"
	"testing"
	"time"

	"vcckiosk/cardreader/simcard"
)

// fakePCSC is pcscd and its library as seen by the driver, with everything the real ones were seen to do: the poll, the event
// counter, handles that go on with another card, contexts that never recover. It checks the rules the driver has to keep:
// one call at a time per context, one wait at a time in the process.
type fakePCSC struct {
	t    *testing.T
	poll time.Duration
	stop chan struct{}

	// hook, when not nil, is asked before every call by name, without a lock held; an error is the call's result.
	hook func(call string) error

	mu       sync.Mutex
	changed  chan struct{}
	life     int // of the service; 0: never started
	up       bool
	denies   int // calls of establish refused while dying
	names    []string
	plugged  bool
	deaf     bool // the reader does not answer its driver
	phys     simcard.Card
	link     simcard.Card // the card the reader talks to
	dw       bool         // what the polling thread believes
	shown    uint32       // flags it publishes
	counter  uint32
	atr      []byte
	t0       bool
	holder   *fakeCard
	contexts int
	waits    int
	calls    map[string]int
	early    int // cards a cure has found before the poll
}

const theReader = "Fake Reader 00 00"

// newFake makes a running service with an empty reader. poll 0 has it look for cards only when told by look.
func newFake(t *testing.T, poll time.Duration) *fakePCSC {
	f := &fakePCSC{
		t: t, poll: poll, stop: make(chan struct{}), changed: make(chan struct{}), names: []string{theReader}, plugged: true,
		calls: map[string]int{},
	}
	f.start()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if poll == 0 {
			return
		}
		tick := time.NewTicker(poll)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				f.look()
			case <-f.stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(f.stop); <-done })
	return f
}

func (f *fakePCSC) change() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakePCSC) with(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	f.change()
}

// start starts the service; a card that is in the reader is found at once and is not counted.
func (f *fakePCSC) start() {
	f.with(func() {
		f.life++
		f.up, f.holder, f.counter, f.dw = true, nil, 0, false
		f.shown, f.atr = 0, nil
		f.accept()
		if f.link != nil && f.plugged {
			f.dw = true
			f.power()
		}
	})
}

// kill is SIGKILL; the first denies calls of establish after it are refused as "access denied".
func (f *fakePCSC) kill(denies int) {
	f.with(func() {
		f.up, f.denies = false, denies
		if f.link != nil {
			f.link.PowerOff()
		}
		f.link = nil
	})
}

func (f *fakePCSC) insert(c simcard.Card) { f.with(func() { f.phys = c }) }

func (f *fakePCSC) remove() {
	f.with(func() {
		if f.phys != nil {
			f.phys.PowerOff()
		}
		f.phys = nil
	})
}

// swap exchanges the card with no gap at all.
func (f *fakePCSC) swap(c simcard.Card) {
	f.with(func() {
		f.phys.PowerOff()
		f.phys, f.link = c, c
		c.PowerOn()
	})
}

func (f *fakePCSC) unplug() {
	f.with(func() {
		f.plugged = false
		if f.holder != nil {
			f.holder.unplugged = true
			f.holder = nil
		}
		if f.link != nil {
			f.link.PowerOff()
		}
		f.link, f.dw, f.shown = nil, false, 0
	})
}

// replug plugs the reader in under a name that may be another one.
func (f *fakePCSC) replug(name string) {
	f.with(func() { f.plugged, f.names, f.counter = true, []string{name}, 0 })
}

func (f *fakePCSC) setDeaf(deaf bool) {
	f.with(func() { f.deaf = deaf })
}

// accept is vpcd's: the reader talks to the card that is in it now.
func (f *fakePCSC) accept() {
	if f.link == nil || f.link != f.phys {
		f.link = f.phys
	}
}

func (f *fakePCSC) power() {
	f.link.PowerOn()
	f.atr = f.link.ATR()
	f.shown = statePresent
	if len(f.atr) < 2 {
		f.shown = statePresent | stateMute // and what came instead of an ATR stays where it is
	}
}

// look is one turn of pcscd's polling thread.
func (f *fakePCSC) look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.up || !f.plugged {
		return
	}
	if f.deaf {
		if f.shown != stateUnavailable {
			f.shown, f.dw = stateUnavailable, false
			f.change()
		}
		return
	}
	f.accept()
	switch {
	case f.link == nil && (f.dw || f.shown == stateUnavailable):
		f.dw, f.shown, f.atr = false, 0, nil
		f.counter++
		if f.holder != nil {
			f.holder.removed = true
		}
		f.change()
	case f.link != nil && !f.dw:
		f.dw = true
		f.power()
		f.counter++
		if f.holder != nil { // one that came in by a cure: its power is taken from it and given anew
			f.holder.unset = true
		}
		f.change()
	}
}

// enter does the bookkeeping of a call on a context.
func (f *fakePCSC) enter(c *fakeContext, call string) error {
	f.mu.Lock()
	f.calls[call]++
	if c != nil && call != "cancel" {
		if c.busy != "" {
			f.t.Errorf("%s while %s is under way in the same context", call, c.busy)
		}
		c.busy = call
	}
	hook := f.hook
	f.mu.Unlock()
	if hook != nil {
		return hook(call)
	}
	return nil
}

func (f *fakePCSC) exit(c *fakeContext) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.busy = ""
}

func (f *fakePCSC) count(call string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[call]
}

func (f *fakePCSC) open() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.contexts
}

func (f *fakePCSC) establish() (libContext, error) {
	if err := f.enter(nil, "establish"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.up {
		if f.denies > 0 {
			f.denies--
			return nil, codeDenied
		}
		return nil, codeNoService
	}
	f.contexts++
	return &fakeContext{f: f, life: f.life, cancelled: make(chan struct{}, 1)}, nil
}

type fakeContext struct {
	f         *fakePCSC
	life      int
	busy      string
	waiting   bool
	released  bool
	cancelled chan struct{}
}

// dead is what a context answers whose service has died; holds mu.
func (c *fakeContext) dead() error {
	if c.life != c.f.life || !c.f.up {
		return codeNoService
	}
	return nil
}

func (f *fakePCSC) listed(name string) bool {
	return f.plugged && slices.Contains(f.names, name)
}

func (c *fakeContext) readers() ([]string, error) {
	defer c.f.exit(c)
	if err := c.f.enter(c, "readers"); err != nil {
		return nil, err
	}
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	if err := c.dead(); err != nil {
		return nil, err
	}
	if !c.f.plugged || len(c.f.names) == 0 {
		return nil, codeNoReaders
	}
	return slices.Clone(c.f.names), nil
}

func (c *fakeContext) wait(name string, known uint32, limit time.Duration) (uint32, []byte, error) {
	f := c.f
	defer f.exit(c)
	if err := f.enter(c, "wait"); err != nil {
		return 0, nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waits++; f.waits > 1 {
		f.t.Error("two waits at the same time: scard frees the first one's reader name")
	}
	c.waiting = true
	defer func() { f.waits--; c.waiting = false }()
	if err := c.dead(); err != nil {
		return 0, nil, err
	}
	if name != pnp && !f.listed(name) {
		return 0, nil, codeUnknownReader
	}
	before := f.plugged
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		if name == pnp && f.plugged != before {
			return stateChanged, nil, nil
		}
		if name != pnp {
			if s, changed := f.state(name, known); changed {
				return s | stateChanged, slices.Clone(f.atr), nil
			}
		}
		again := f.changed
		f.mu.Unlock()
		var err error
		select {
		case <-again:
		case <-timer.C:
			err = codeTimeout
		case <-c.cancelled:
			err = codeCancelled
		}
		f.mu.Lock()
		if err != nil {
			return 0, nil, err
		}
		if c.dead() != nil {
			return 0, nil, codeCommError
		}
	}
}

// state is the library's own comparison: the counter counts only if it is known not to be zero; holds mu.
func (f *fakePCSC) state(name string, known uint32) (uint32, bool) {
	const empty, exclusive, counted = 0x10, 0x80, 0xFFFF0000
	if !f.listed(name) {
		return stateUnknown | stateUnavailable, known&stateUnknown == 0
	}
	if f.shown == stateUnavailable {
		return stateUnavailable, known&stateUnavailable == 0
	}
	s := f.shown | f.counter<<16
	if s&statePresent == 0 {
		s |= empty
	}
	if f.holder != nil {
		s |= exclusive
	}
	return s, known == 0 || known&counted != 0 && known&counted != s&counted || known&stateUnavailable != 0 ||
		known&empty != 0 && s&statePresent != 0 || known&statePresent != 0 && s&empty != 0 ||
		(known^s)&stateMute != 0 || known&exclusive != 0 && s&exclusive == 0
}

func (c *fakeContext) cancel() error {
	if err := c.f.enter(c, "cancel"); err != nil {
		return err
	}
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	if c.waiting { // lost otherwise
		c.cancelled <- struct{}{}
	}
	return nil
}

func (c *fakeContext) release() error {
	f := c.f
	defer f.exit(c)
	err := f.enter(c, "release")
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.released {
		f.t.Error("context released twice")
	}
	c.released = true
	f.contexts-- // also where it fails
	if f.holder != nil && f.holder.ctx == c {
		f.t.Error("context released with a connected card")
	}
	if err == nil {
		err = c.dead()
	}
	return err
}

func (c *fakeContext) connect(name string) (libCard, error) {
	f := c.f
	defer f.exit(c)
	if err := f.enter(c, "connect"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case c.dead() != nil:
		return nil, c.dead()
	case !f.listed(name):
		return nil, codeUnknownReader
	case f.shown == stateUnavailable:
		return nil, codeReaderUnavailable
	case f.holder != nil:
		return nil, codeSharing
	case f.shown&stateMute != 0:
		return nil, codeUnresponsive
	case f.shown&statePresent == 0:
		return nil, codeNoCard
	}
	f.holder = &fakeCard{ctx: c}
	f.change()
	return f.holder, nil
}

type fakeCard struct {
	ctx                         *fakeContext
	begun                       bool
	removed, unplugged, invalid bool
	unset                       bool // powered anew under it: no protocol is agreed on
}

// lost is what every call about the card says when something is away; holds mu.
func (c *fakeCard) lost() error {
	switch {
	case c.ctx.dead() != nil:
		return c.ctx.dead()
	case c.invalid:
		return codeInvalidValue
	case c.unplugged:
		c.invalid = true
		return codeReaderUnavailable
	case c.removed:
		return codeRemoved
	}
	return nil
}

func (c *fakeCard) call(name string) error {
	f := c.ctx.f
	defer f.exit(c.ctx)
	if err := f.enter(c.ctx, name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return c.lost()
}

func (c *fakeCard) begin() error {
	err := c.call("begin")
	c.begun = err == nil
	return err
}

func (c *fakeCard) status() ([]byte, bool, error) {
	if err := c.call("status"); err != nil {
		return nil, false, err
	}
	f := c.ctx.f
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.atr), f.t0, nil
}

func (c *fakeCard) end() error {
	if !c.begun {
		c.ctx.f.t.Error("transaction ended that was not begun")
	}
	c.begun = false
	return c.call("end")
}

func (c *fakeCard) disconnect() error {
	err := c.call("disconnect")
	f := c.ctx.f
	if c.begun {
		f.t.Error("card let go inside a transaction")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.holder == c {
		f.holder = nil
		f.change()
	}
	return err
}

func (c *fakeCard) transmit(cmd []byte) ([]byte, error) {
	f := c.ctx.f
	defer f.exit(c.ctx)
	if err := f.enter(c.ctx, "transmit"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !c.begun {
		f.t.Error("command outside a transaction")
	}
	if err := c.lost(); err != nil {
		return nil, err
	}
	switch {
	case c.unset:
		return nil, codeProtocol
	case f.shown == stateUnavailable:
		return nil, codeReaderUnavailable
	case f.deaf, f.link == nil, f.link != f.phys:
		f.link = nil // the next poll looks what is there
		return nil, codeNotTransacted
	}
	card, r := f.link, simcard.Reply{}
	if rc, ok := card.(simcard.Replier); ok {
		r = rc.Reply(cmd)
	} else {
		r.Data = card.Exchange(cmd)
	}
	if r.Torn {
		card.PowerOff()
		f.phys, f.link = nil, nil
		f.change()
		return nil, nil
	}
	if over, err := c.await(card, r); over {
		return nil, err
	}
	if len(r.Data) == 0 { // as simcard.Plug does: pcscd knows no empty answer but a torn card's
		return []byte{0}, nil
	}
	return slices.Clone(r.Data), nil
}

// await waits for a slow or mute card; over says that there will be no answer. The caller holds mu.
func (c *fakeCard) await(card simcard.Card, r simcard.Reply) (over bool, err error) {
	f := c.ctx.f
	if !r.Mute && r.Delay == 0 {
		return false, nil
	}
	var arrives <-chan time.Time
	if !r.Mute {
		arrives = time.After(r.Delay)
	}
	for {
		again := f.changed
		f.mu.Unlock()
		arrived := false
		select {
		case <-again:
		case <-arrives:
			arrived = true
		}
		f.mu.Lock()
		switch {
		case c.ctx.dead() != nil:
			return true, codeCommError
		case c.unplugged:
			return true, codeReaderUnavailable
		case f.phys != card:
			f.link = nil
			return true, nil // torn while waiting: empty and no error
		case arrived:
			return false, nil
		}
	}
}
