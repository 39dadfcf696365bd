//go:build sim

package vpcd_test

import (
	"testing"

	"vcckiosk/cardreader/cardtest"
	"vcckiosk/cardreader/simcard"
	"vcckiosk/cardreader/vpcd"
)

func TestReaderPassesTheSuite(t *testing.T) {
	cardtest.Run(t, func(t *testing.T) cardtest.Rig {
		r, err := vpcd.Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var plug *simcard.Plug
		remove := func() {
			if plug != nil {
				plug.Remove()
				plug = nil
			}
		}
		t.Cleanup(func() {
			remove()
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
		return cardtest.Rig{
			Reader: r,
			Insert: func(c simcard.Card) {
				remove()
				p, err := simcard.Dial(t.Context(), r.Addr(), c)
				if err != nil {
					t.Fatal(err)
				}
				plug = p
			},
			Remove: remove,
			Swap:   func(c simcard.Card) { plug.Swap(c) },
		}
	})
}
