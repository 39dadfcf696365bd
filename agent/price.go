package agent

import (
	"context"
	"time"

	"vcckiosk/protocol"
)

// Price is what gas costs for the card's customer, in the platform's own words:
// unit and bounds differ from company to company.
type Price struct {
	Unit  string      `json:"unit,omitempty"`
	Steps []PriceStep `json:"steps"`
}

// PriceStep is one step of a price; Upper is empty for the last one.
type PriceStep struct {
	Price string `json:"price"`
	Lower string `json:"lower,omitempty"`
	Upper string `json:"upper,omitempty"`
}

// priceAfter is how long a customer looks at the list before the price is asked
// for: who knows what to choose does not wait for it, nor beside it.
const priceAfter = time.Second

// runErrands does one by one what a session wants done beside it. What an errand
// finds comes too late or not at all without harm.
func (a *Agent) runErrands(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case do := <-a.errands:
			do()
		}
	}
}

// findPrice asks 3019 for the present customer, until ctx ends. One that cannot
// be had is not shown; nothing else depends on it.
func (a *Agent) findPrice(ctx context.Context, subs, cardNo string) {
	session := a.Screen.session()
	do := func() {
		if ctx.Err() != nil {
			return
		}
		p, err := a.client.CardPrice(ctx, subs, "", cardNo)
		if err != nil {
			a.log.Debug("no price", "err", err)
			return
		}
		a.Screen.setPrice(session, priceOf(p))
	}
	select {
	case a.errands <- do:
	default: // the last one hangs
	}
}

func priceOf(p protocol.CardPrice) *Price {
	out := &Price{Unit: p.Unit}
	for _, s := range p.Steps {
		out.Steps = append(out.Steps, PriceStep{s.Price, s.Lower, s.Upper})
	}
	if len(out.Steps) == 0 {
		return nil
	}
	return out
}
