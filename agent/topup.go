package agent

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"vcckiosk/agent/audit"
	"vcckiosk/agent/topup"
	"vcckiosk/cardreader"
	"vcckiosk/protocol"
)

// authMargin is how long before the end of an authorisation the first changing
// command may still be sent.
const authMargin = 5 * time.Second

// topUp takes one chosen order onto the card: Intent, 4006, Writing, write,
// outcome. See the map in doc.go.
func (a *Agent) topUp(ctx context.Context, c *card, info protocol.CardInfo, o Offer, view View) (View, error) {
	r := topup.Record{
		Version: 1, TransNo: topup.NewTransNo(), Phase: topup.Intent, OrderNo: o.OrderNo,
		SubsCode: info.SubsCode, MeterCode: info.MeterCode, Amount: o.Amount, Volume: o.Volume,
		Card: c.id, Begun: millis(a.now()), PowerSession: a.power,
	}
	view.Stage, view.Chosen, view.TransNo = StageWorking, &o, r.TransNo
	view.Offers = nil
	a.Screen.show(view)
	var w writer
	if c.purse != nil {
		w = &purseWriter{a: a, c: c}
	} else {
		w = &imageWriter{a: a, c: c}
	}
	w.intend(&r)
	// Commit 1. Before it nothing was begun. After it, until commit 2, the
	// journal proves that nothing changing was sent: a restart makes this
	// record NotWritten and reports that.
	if err := a.save(ctx, r, false); err != nil {
		view.Note = noteStorage
		return view, fmt.Errorf("record intent: %w", err)
	}
	r, err := a.authoriseAndWrite(ctx, c, info.Challenge, r, w)
	view.Outcome = r.Outcome
	view.Note = outcomeNote(r)
	return view, err
}

func outcomeNote(r topup.Record) *Note {
	switch {
	case r.Outcome == topup.OutcomeWritten:
		return noteWritten
	case r.Outcome == topup.OutcomeUnknown:
		return noteUnknown
	case r.Outcome == topup.OutcomeNotWritten && r.Reason == topup.ReasonCancelled:
		return noteCancelled
	case r.Outcome == topup.OutcomeNotWritten && r.Phase == topup.Closed:
		return noteRefused
	case r.Outcome == topup.OutcomeNotWritten:
		return noteNotWritten
	default:
		return nil
	}
}

// writer is what the kinds of card do differently.
type writer interface {
	// intend puts into the record what the first look gave.
	intend(r *topup.Record)
	// prepare makes sure that the card is the same and asks it for what 4006
	// needs. It changes no money and no gas.
	prepare(ctx context.Context, r *topup.Record, req *protocol.AuthorizeRequest) error
	// accept checks the answer and puts what the write needs into the record.
	accept(r *topup.Record, ans protocol.Authorization) error
	// write sends the first changing command and what follows, and observes.
	write(ctx context.Context, r *topup.Record) topup.Verdict
	// observe asks the card what became of r.
	observe(ctx context.Context, r *topup.Record) (topup.Verdict, error)
}

func (a *Agent) authoriseAndWrite(ctx context.Context, c *card, challenge string, r topup.Record, w writer) (topup.Record, error) {
	req := protocol.AuthorizeRequest{
		TransNo: string(r.TransNo), Challenge: challenge, OrderNo: r.OrderNo, TerminalNo: a.cfg.TerminalNo,
		CardNo: c.id.No, SubsCode: r.SubsCode, MeterCode: r.MeterCode, CardType: c.id.Type,
		LoadMode: protocol.ModeDraw, Amount: protocol.Fen(r.Amount), GasVolume: protocol.Volume(r.Volume), Kind: string(r.Kind),
	}
	if err := w.prepare(ctx, &r, &req); err != nil {
		return a.abandon(ctx, r, topup.ReasonCardGone, "card", err)
	}
	ans, sent, err := a.authorise(ctx, req)
	expires := time.Now().Add(time.Duration(ans.AuthExpire)*time.Second - authMargin) // monotonic
	switch {
	case err != nil && sent == 0:
		return a.drop(ctx, r, "unsent", err)
	case err != nil && sent == 1 && errors.Is(err, protocol.ErrBusiness):
		return a.drop(ctx, r, "refused", err)
	case err != nil:
		return a.abandon(ctx, r, topup.ReasonNoAnswer, "authorise", err)
	}
	r.AuthExpire = ans.AuthExpire
	if err := w.accept(&r, ans); err != nil {
		return a.abandon(ctx, r, topup.ReasonDevice, "order", err)
	}
	switch {
	case a.Screen.wasCancelled():
		return a.abandon(ctx, r, topup.ReasonCancelled, "cancelled", nil)
	case ctx.Err() != nil:
		return a.abandon(ctx, r, topup.ReasonDevice, "stopping", nil)
	case !time.Now().Before(expires):
		return a.abandon(ctx, r, topup.ReasonDevice, "expired", nil)
	}
	intent := r
	r.Phase = topup.Writing
	// Commit 2, the marker. Before it the card is untouched by proof of the
	// journal. After it only the card can tell: a restart asks the card.
	if err := a.save(ctx, r, false); err != nil {
		// Clean failure: the marker is not there, the card was not touched.
		// In doubt: the process ends and reads again.
		_, err2 := a.abandon(ctx, intent, topup.ReasonDevice, "storage", err)
		return intent, errors.Join(fmt.Errorf("record marker: %w", err), err2)
	}
	// From here to commit 3 a stop of the daemon waits.
	ctx = context.WithoutCancel(ctx)
	var v topup.Verdict
	if time.Now().Before(expires) {
		v = w.write(ctx, &r)
	} else { // the commit took longer than the authorisation had left
		v, err = w.observe(ctx, &r)
		if err != nil {
			a.log.Warn("card not observed", "card", logName(c.id), "err", err)
		}
	}
	// Commit 3: outcome and report are one transaction. Before it a restart
	// asks the card; after it the report is delivered until acknowledged.
	n, err := a.conclude(ctx, r, v)
	if err == nil {
		err = c.stuck
	}
	return n, err
}

// authorise calls 4006, once more if no usable answer came: same number, same
// content, so a platform that keeps its contract gives the same answer. It
// returns how many requests may have reached the platform.
func (a *Agent) authorise(ctx context.Context, req protocol.AuthorizeRequest) (ans protocol.Authorization, sent int, err error) {
	for range 2 {
		ans, err = a.client.Authorize(ctx, req)
		if !errors.Is(err, protocol.ErrNotSent) {
			sent++
		}
		if err == nil || errors.Is(err, protocol.ErrBusiness) || errors.Is(err, protocol.ErrPermanent) || ctx.Err() != nil {
			break
		}
		if a.Screen.wasCancelled() {
			break
		}
	}
	return ans, sent, err
}

// abandon concludes a record that never came to Writing: NotWritten by the
// journal's proof, told to the platform.
func (a *Agent) abandon(ctx context.Context, r topup.Record, why topup.Reason, code string, cause error) (topup.Record, error) {
	r.Reason, r.FailCode = why, code
	if cause != nil {
		a.log.Warn("top-up abandoned", "order", r.OrderNo, "card", logName(r.Card), "termTransNo", r.TransNo, "why", code, "err", cause)
	}
	n, err := a.conclude(ctx, r, topup.Decide(r, topup.Evidence{}))
	if err != nil {
		return r, err
	}
	if errors.Is(cause, cardreader.ErrStuck) {
		return n, cause
	}
	return n, nil
}

// drop closes a record the platform cannot be holding.
func (a *Agent) drop(ctx context.Context, r topup.Record, code string, cause error) (topup.Record, error) {
	if ce, ok := errors.AsType[*protocol.CodeError](cause); ok {
		code = ce.Code
	}
	n := topup.Drop(r, code, "authorise: "+code)
	n.Decided = millis(a.now())
	if err := a.saveWith(ctx, n, audit.TopupRefused, map[string]string{
		"order": n.OrderNo, "card": logName(n.Card), "termTransNo": string(n.TransNo), "code": code,
	}); err != nil {
		return r, err
	}
	a.log.Warn("top-up refused", "order", r.OrderNo, "card", logName(r.Card), "termTransNo", r.TransNo, "err", cause)
	return n, nil
}

func unhex(s string, dst []byte) error {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(dst) {
		return fmt.Errorf("%d hex digits instead of %d", len(s), 2*len(dst))
	}
	copy(dst, b)
	return nil
}
