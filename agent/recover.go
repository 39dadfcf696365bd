package agent

import (
	"context"
	"errors"

	"vcckiosk/agent/topup"
	"vcckiosk/cardreader"
	"vcckiosk/queue"
)

// recoverCard asks the inserted card about every record of its own that still
// waits for its word. There is no recovery mode: the same verdict serves the
// first observation right after the write and the one a month later. It
// returns the newest record it settled, nil if none.
func (a *Agent) recoverCard(ctx context.Context, c *card) (*topup.Record, error) {
	var settled *topup.Record
	for _, r := range a.journal.ByCard(c.id.Hash) {
		if !r.NeedsCard() || r.Manual && r.Phase == topup.Unknown {
			continue
		}
		var w writer
		switch {
		case r.Kind == topup.Load && r.Load != nil && c.purse != nil:
			w = &purseWriter{a: a, c: c}
		case r.Kind == topup.Image && r.Image != nil && c.mem != nil:
			w = &imageWriter{a: a, c: c}
		default:
			continue
		}
		v, err := w.observe(ctx, &r)
		if errors.Is(err, queue.ErrInDoubt) {
			return settled, err
		}
		if err != nil {
			a.log.Warn("card not observed", "card", logName(r.Card), "termTransNo", r.TransNo, "err", err)
		}
		if ctx.Err() != nil {
			return settled, ctx.Err()
		}
		n, err := a.conclude(ctx, r, v)
		if err != nil {
			return settled, err
		}
		if n.Outcome != topup.OutcomeUnknown {
			settled = &n
		}
		if errors.Is(c.stuck, cardreader.ErrStuck) {
			return settled, c.stuck
		}
	}
	return settled, nil
}
