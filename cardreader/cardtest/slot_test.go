package cardtest_test

import (
	"testing"

	"vcckiosk/cardreader/cardtest"
	"vcckiosk/cardreader/simcard"
)

func TestSlotPassesTheSuite(t *testing.T) {
	cardtest.Run(t, func(*testing.T) cardtest.Rig {
		s := simcard.NewSlot("slot")
		return cardtest.Rig{
			Reader: s, Insert: s.Insert, Remove: s.Remove, Swap: s.Swap, Unplug: s.Gone, Replug: s.Back,
			Kill: s.Down, Restart: s.Up,
		}
	})
}
