package agent

import (
	"fmt"
	"time"

	"vcckiosk/agent/topup"
)

// standstill is how long a session may show the same working picture: longer
// than the calls and card commands of one step can take together by their own
// limits.
const standstill = 5 * time.Minute

// Alive tells whether everything moves on, for a supervisor that ends what does
// not. It takes the locks that the work takes and so may block like the work:
// an answer that does not come is a no. A write to a card is never called a
// standstill: each of its commands has the driver's limit, after which Run ends
// by itself with the outcome on record.
func (a *Agent) Alive() error {
	_ = a.Status()
	v, since := a.Screen.last()
	if v.Stage != StageReading && v.Stage != StageWorking || time.Since(since) < standstill {
		return nil
	}
	for _, r := range a.journal.Unsettled() {
		if r.Phase == topup.Writing {
			return nil
		}
	}
	return fmt.Errorf("screen at %q for %v", v.Stage, time.Since(since).Round(time.Second))
}
