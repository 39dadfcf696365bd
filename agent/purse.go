package agent

import (
	"context"
	"errors"
	"fmt"

	"vcckiosk/agent/topup"
	"vcckiosk/cardreader"
	"vcckiosk/cardreader/epurse"
	"vcckiosk/protocol"
)

// purseWriter loads a PBOC purse: 80 50, 4006, 80 52.
type purseWriter struct {
	a *Agent
	c *card
}

func (w *purseWriter) intend(r *topup.Record) {
	p := w.a.cfg.Purse
	r.Kind = topup.Load
	r.Load = &topup.LoadPlan{
		Type: loadType(p), KeyIndex: p.KeyIndex, Terminal: w.a.cfg.TerminalNo, Amount: uint32(r.Amount),
		Balance: w.c.balance, LogSeen: w.c.logs == topup.LogFull || w.c.logs == topup.LogRoom,
	}
	if len(w.c.log) > 0 {
		newest := w.c.log[0]
		r.Load.Newest = &newest
	}
}

func loadType(p *epurse.Params) byte {
	if p.Type == 0 {
		return epurse.TypePurseLoad
	}
	return p.Type
}

func (w *purseWriter) prepare(ctx context.Context, r *topup.Record, req *protocol.AuthorizeRequest) error {
	if err := w.c.again(ctx); err != nil {
		return err
	}
	in, err := w.initialise(ctx, r.Load.Amount)
	if err != nil {
		return w.c.saw(fmt.Errorf("initialise load: %w", err))
	}
	l := *r.Load
	l.Balance, l.Seq, l.Random = in.Balance, in.Seq, upper(in.Random[:])
	l.KeyVersion, l.AlgID = in.KeyVersion, in.AlgID
	r.Load = &l
	req.Load = &protocol.LoadRequest{
		Type: int(l.Type), KeyIndex: int(l.KeyIndex), KeyVersion: int(l.KeyVersion), AlgID: int(l.AlgID),
		Balance: protocol.Fen(l.Balance), OnlineSeq: int(l.Seq), Random: l.Random, MAC1: upper(in.MAC1[:]),
	}
	return nil
}

// errPINRefused: this card has refused the PIN before; it is not shown again.
var errPINRefused = errors.New("card has refused the PIN before")

// initialise sends 80 50. A card that has refused the PIN is not asked again in
// this power session: its tries are its life.
func (w *purseWriter) initialise(ctx context.Context, amount uint32) (epurse.Init, error) {
	if _, refused := w.a.pinRefused[w.c.id.Hash]; refused {
		return epurse.Init{}, errPINRefused
	}
	in, err := w.c.purse.Init(ctx, amount)
	if _, is := errors.AsType[*epurse.PINError](err); is {
		w.a.pinRefused[w.c.id.Hash] = struct{}{}
	}
	return in, err
}

func (w *purseWriter) accept(r *topup.Record, ans protocol.Authorization) error {
	if ans.Load == nil {
		return errors.New("answer without a load")
	}
	l := *r.Load
	l.HostDate, l.HostTime, l.MAC2 = ans.Load.HostDate, ans.Load.HostTime, ans.Load.MAC2
	var date [4]byte
	var tm [3]byte
	var mac [4]byte
	for _, f := range []struct {
		name, hex string
		dst       []byte
	}{{"hostDate", l.HostDate, date[:]}, {"hostTime", l.HostTime, tm[:]}, {"mac2", l.MAC2, mac[:]}} {
		if err := unhex(f.hex, f.dst); err != nil {
			return fmt.Errorf("field %s: %w", f.name, err)
		}
	}
	r.Load = &l
	return nil
}

func (w *purseWriter) write(ctx context.Context, r *topup.Record) topup.Verdict {
	var date [4]byte
	var tm [3]byte
	var mac [4]byte
	if unhex(r.Load.HostDate, date[:]) != nil || unhex(r.Load.HostTime, tm[:]) != nil || unhex(r.Load.MAC2, mac[:]) != nil {
		return topup.Decide(*r, topup.Evidence{}) // accept has checked this
	}
	credit, err := w.c.purse.Credit(ctx, date, tm, mac)
	ev := topup.PurseEvidence{}
	switch {
	case err == nil:
		ev.Answer = topup.Committed
		if credit.HasTAC {
			r.Observed.TAC = upper(credit.TAC[:])
		}
		return topup.Decide(*r, topup.Evidence{Purse: &ev})
	case refused(err):
		ev.Answer = topup.Refused
	}
	_ = w.c.saw(err)
	w.a.log.Warn("load not confirmed", "order", r.OrderNo, "card", logName(r.Card), "termTransNo", r.TransNo, "err", err)
	v, err := w.ask(ctx, r, ev)
	if err != nil {
		w.a.log.Warn("card not observed", "card", logName(r.Card), "err", err)
	}
	return v
}

func refused(err error) bool {
	_, ok := errors.AsType[*epurse.RefusedError](err)
	return ok
}

func (w *purseWriter) observe(ctx context.Context, r *topup.Record) (topup.Verdict, error) {
	return w.ask(ctx, r, topup.PurseEvidence{})
}

// ask questions the card about r, in the order that keeps its proof: identity,
// log, 80 5A, and 80 50 only when the verdict still needs the sequence.
func (w *purseWriter) ask(ctx context.Context, r *topup.Record, ev topup.PurseEvidence) (topup.Verdict, error) {
	nothing := topup.Decide(*r, topup.Evidence{})
	if w.c.stuck != nil {
		return nothing, w.c.stuck
	}
	if err := w.c.again(ctx); err != nil {
		return nothing, w.c.saw(err)
	}
	ev.Log, ev.State = w.c.readLog(ctx)
	v := topup.Decide(*r, topup.Evidence{Purse: &ev})
	if v.Judgement == topup.NeedsSequence {
		// Some cards give their proof only once: it is stored before anything
		// else is asked.
		if err := w.prove(ctx, r); err != nil {
			return nothing, err
		}
		ev.TAC = r.Observed.TAC
		in, err := w.initialise(ctx, r.Load.Amount)
		if err != nil {
			return nothing, w.c.saw(fmt.Errorf("read sequence: %w", err))
		}
		ev.Seq, ev.SeqRead = in.Seq, true
		seq, balance := in.Seq, in.Balance
		r.Observed.SeqAfter, r.Observed.BalanceAfter = &seq, &balance
		v = topup.Decide(*r, topup.Evidence{Purse: &ev})
	}
	r.Observed.LogRecord = v.Record
	return v, nil
}

// prove asks 80 5A for the sequence after and before it was counted up; cards
// differ in which they keep a load under. Reading it changes no money.
func (w *purseWriter) prove(ctx context.Context, r *topup.Record) error {
	if r.Observed.TAC != "" {
		return nil
	}
	for _, seq := range []uint16{r.Load.Seq + 1, r.Load.Seq} {
		p, ok, err := w.c.purse.Prove(ctx, seq)
		if err != nil && !isStatus(err) {
			return w.c.saw(fmt.Errorf("read proof: %w", err))
		}
		if !ok {
			continue
		}
		r.Observed.TAC = upper(p.TAC[:])
		// After this commit the TAC is ours even if the card never answers again.
		if err := w.a.save(ctx, *r, false); err != nil {
			return fmt.Errorf("record proof: %w", err)
		}
		return nil
	}
	return nil
}

// saw remembers a stuck reader, which nothing but a new process cures.
func (c *card) saw(err error) error {
	if errors.Is(err, cardreader.ErrStuck) {
		c.stuck = err
	}
	return err
}
