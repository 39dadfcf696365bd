package pcsc

import (
	"testing"
	"time"

	"vcckiosk/cardreader/cardtest"
	"vcckiosk/cardreader/simcard"
)

func TestDriverPassesTheSuiteOverAScriptedService(t *testing.T) {
	t.Parallel()
	cardtest.Run(t, func(t *testing.T) cardtest.Rig {
		f := newFake(t, 2*time.Millisecond)
		r := start(f, Config{})
		t.Cleanup(func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
		return cardtest.Rig{
			Reader: r,
			Insert: func(c simcard.Card) {
				f.look() // a hand is slower than the poll
				f.insert(c)
			},
			Remove: f.remove, Swap: f.swap,
			Unplug: f.unplug, Replug: func() { f.replug(theReader) },
			Kill: func() { f.kill(1) }, Restart: f.start,
		}
	})
}
