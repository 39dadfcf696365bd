package pcsc

// hand is one goroutine that makes calls into the library, one after the other. A call that hangs keeps this goroutine and
// no other; what was given to it afterwards waits its turn.
type hand struct {
	jobs chan func()
}

func newHand() *hand {
	h := &hand{jobs: make(chan func(), 2)} // at most one call and the clean-up after it
	go func() {
		for f := range h.jobs {
			f()
		}
	}()
	return h
}

// do has f made and returns what is closed when f has returned.
func (h *hand) do(f func()) <-chan struct{} {
	done := make(chan struct{})
	h.jobs <- func() {
		defer close(done)
		f()
	}
	return done
}

// finish has f made as the last call.
func (h *hand) finish(f func()) <-chan struct{} {
	done := h.do(f)
	close(h.jobs)
	return done
}
