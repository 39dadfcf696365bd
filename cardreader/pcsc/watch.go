package pcsc

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"vcckiosk/cardreader"
)

var (
	errStopped = errors.New("reader is closed")
	errSilent  = errors.New("pcscd does not answer")
)

// What a wait found out.
type finding struct {
	kind    cardreader.EventKind // ServiceDown, ReaderGone, CardOut or CardIn
	name    string
	counter uint32
	atr     []byte
	why     error
}

// conclude makes a finding the present state.
func (r *Reader) conclude(f finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.now
	flip := func(n *int, odd bool) {
		if (*n&1 == 1) != odd {
			*n++
		}
	}
	flip(&r.now.down, f.kind == cardreader.ServiceDown)
	if f.kind != cardreader.ServiceDown { // of a reader behind a dead service nothing is known
		flip(&r.now.gone, f.kind == cardreader.ReaderGone)
	}
	if f.kind == cardreader.CardIn {
		if r.now.card == 0 || r.counter != f.counter {
			r.cards++
			r.now.card = r.cards
		}
		r.counter, r.atr = f.counter, slices.Clone(f.atr)
	} else {
		r.now.card, r.atr = 0, nil
	}
	if f.name != "" {
		r.name = f.name
	}
	r.now.known = true
	news := f.why != nil && (r.problem == nil || r.problem.Error() != f.why.Error())
	r.problem = f.why
	switch {
	case news: // also when only the reason is new: denied once is pcscd being stopped, denied for ever is missing rights
		r.log.Warn("card reader away", "reader", r.name, "state", f.kind.String(), "err", f.why)
	case r.now == before:
	case before.isDown() || before.isGone():
		r.log.Info("card reader back", "reader", r.name)
	}
	if r.now != before {
		r.change()
	}
}

// ask makes a call that should return within limit. When it is overdue the service counts as away until the call returns;
// then its result is errSilent, since what was learnt is old. After Close it returns errStopped at once and leaves the call.
func ask[T any](r *Reader, limit time.Duration, f func() (T, error)) (T, error) {
	var got, none T
	if r.stopped() {
		return none, errStopped
	}
	var err error
	done := r.hand.do(func() { got, err = f() })
	dog := time.NewTimer(limit + overdue)
	defer dog.Stop()
	select {
	case <-done:
		return got, err
	case <-r.stop:
		return none, errStopped
	case <-dog.C:
	}
	r.conclude(finding{kind: cardreader.ServiceDown, why: errSilent})
	select {
	case <-done:
		return none, errSilent
	case <-r.stop:
		return none, errStopped
	}
}

func (r *Reader) isDown() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now.isDown()
}

// pause returns false when the reader is closed meanwhile.
func (r *Reader) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.stop:
		return false
	}
}

// watch keeps a context, and in it the eye on the reader, until Close.
func (r *Reader) watch() {
	var c libContext // hand's alone
	defer close(r.done)
	defer func() {
		r.left = r.hand.finish(func() {
			if c != nil {
				_ = c.release() // nothing hangs on it
			}
		})
	}()
	// A service that is not there is asked for again sooner at first, and never more often than this.
	const first, last = 100 * time.Millisecond, time.Second
	for pause := first; ; {
		_, err := ask(r, 0, func() (_ struct{}, err error) {
			c, err = r.lib.establish()
			return
		})
		if err == nil {
			if err = r.follow(&c); !r.isDown() { // it was of use
				pause = first
			}
		}
		if errors.Is(err, errStopped) {
			return
		}
		r.conclude(finding{kind: cardreader.ServiceDown, why: fmt.Errorf("watch reader: %w", err)})
		if _, err = ask(r, 0, func() (_ struct{}, err error) {
			if c != nil {
				err = c.release() // says "no service", but frees what the dead context held
			}
			c = nil
			return
		}); errors.Is(err, errStopped) || !r.pause(pause) {
			return
		}
		pause = min(2*pause, last)
	}
}

// follow looks for the reader and watches it as long as the context lives; it returns why that ended. *c is hand's; follow
// only passes it on.
func (r *Reader) follow(c *libContext) error {
	for {
		names, err := ask(r, 0, func() ([]string, error) { return (*c).readers() })
		if err != nil && !errors.Is(err, codeNoReaders) {
			return err
		}
		name := choose(names, r.want)
		if name == "" {
			r.conclude(finding{kind: cardreader.ReaderGone, why: noReader(names, r.want)})
			// Ends when a reader comes or goes; one that came between the list and the wait is found a second later.
			switch _, err = r.wait(c, pnp, 0, freshLimit); {
			case err == nil, errors.Is(err, codeTimeout), errors.Is(err, codeCancelled):
				err = r.breathe()
			}
		} else {
			err = r.keep(c, name)
		}
		if err != nil {
			return err
		}
	}
}

func noReader(names []string, want string) error {
	if len(names) == 0 {
		return codeNoReaders
	}
	return fmt.Errorf("no reader named %q among %q", want, names)
}

// breathe keeps a loop whose wait returned at once from turning idle into busy.
func (r *Reader) breathe() error {
	if !r.pause(100 * time.Millisecond) {
		return errStopped
	}
	return nil
}

type seen struct {
	state uint32
	atr   []byte
}

// wait is one bounded wait.
func (r *Reader) wait(c *libContext, name string, known uint32, limit time.Duration) (seen, error) {
	return ask(r, limit, func() (seen, error) {
		ctx, over := *c, make(chan struct{})
		defer close(over)
		go func() { // so that Close need not wait for the limit
			select {
			case <-r.stop:
			case <-over:
				return
			}
			for { // a cancel that comes when the wait does not wait yet is lost
				_ = ctx.cancel()
				select {
				case <-time.After(50 * time.Millisecond):
				case <-over:
					return
				}
			}
		}()
		state, atr, err := ctx.wait(name, known, limit)
		return seen{state, atr}, err
	})
}

// keep watches one reader while it is listed; nil means that the list is to be read again.
func (r *Reader) keep(c *libContext, name string) error {
	var known uint32
	var cure time.Time
	empty := 0 // how often the cure was tried since the reader became empty
	hasty := 0 // waits in a row that did not wait
	for changed := time.Now(); ; {
		began, limit := time.Now(), waitLimit
		if began.Sub(changed) < fresh {
			limit = freshLimit
		}
		now, err := r.wait(c, name, known, limit)
		if hasty++; time.Since(began) >= time.Millisecond {
			hasty = 0
		}
		if hasty > 10 && err == nil || hasty > 0 && errors.Is(err, codeTimeout) {
			if err := r.breathe(); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, codeTimeout):
			if known&statePresent != 0 && known>>16 == 0 {
				known = 0 // a wait does not compare a counter of zero, so look
			}
			if !cure.IsZero() && !time.Now().Before(cure) && r.revive(c, name) {
				empty++
				cure = time.Now().Add(cureAfter(empty))
			}
			continue
		case errors.Is(err, codeUnknownReader), errors.Is(err, codeReaderUnavailable), errors.Is(err, codeNoReaders),
			errors.Is(err, codeCancelled):
			// Once it may be a slip of the library's. The list tells.
			return r.breathe()
		case err != nil:
			return err
		case now.state&stateUnknown != 0:
			r.conclude(finding{kind: cardreader.ReaderGone, why: codeUnknownReader})
			return r.breathe()
		}
		if known != 0 { // not just a look
			changed = time.Now()
		}
		known = now.state &^ stateChanged
		f := finding{kind: cardreader.CardOut, name: name, counter: now.state >> 16}
		switch {
		case now.state&stateUnavailable != 0:
			f.kind, f.why = cardreader.ReaderGone, codeReaderUnavailable
		case now.state&statePresent != 0:
			f.kind = cardreader.CardIn
			if now.state&stateMute == 0 {
				f.atr = now.atr
			}
		}
		r.conclude(f)
		if f.kind != cardreader.CardOut {
			cure = time.Time{}
		} else if cure.IsZero() {
			empty = 0
			cure = time.Now().Add(cureAfter(empty))
		}
	}
}

// cureAfter is the time from becoming empty, or from the last try, to the next try, which comes with the first wait that ends
// without news after it. It begins early, for the customer whose
// card is not seen, and ends rare, for a reader that is just empty.
func cureAfter(tries int) time.Duration {
	switch tries {
	case 0:
		return 2 * time.Second
	case 1:
		return 10 * time.Second
	case 2:
		return time.Minute
	}
	return 10 * time.Minute
}

// revive asks for power in a reader that is said to be empty: if pcscd has lost track of a card, this finds it again, and
// if there is none, nothing happens. It does not run beside a session, which would see its card reset; then it is false.
func (r *Reader) revive(c *libContext, name string) bool {
	select {
	case r.turn <- struct{}{}:
	default:
		return false
	}
	// The error says what is normal: no card. A call that hangs keeps the turn.
	_, _ = ask(r, afterCure, func() (struct{}, error) {
		defer func() { <-r.turn }()
		err := (*c).revive(name)
		if err == nil {
			r.pause(afterCure) // and nobody hears of the card before: the next wait tells of it once
		}
		return struct{}{}, err
	})
	return true
}
