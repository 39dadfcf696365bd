package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"vcckiosk/agent/audit"
	"vcckiosk/agent/topup"
	"vcckiosk/cardreader"
	"vcckiosk/protocol"
	"vcckiosk/queue"
)

// serve is the life of the reader: one card after the other, each in a session
// of its own. Only this goroutine touches cards and makes or concludes
// records, so a record never has two hands on it.
func (a *Agent) serve(ctx context.Context) error {
	if err := a.sweepIntents(ctx); err != nil {
		return err
	}
	// One goroutine waits for the reader. It passes facts on one by one, so
	// that a removal can end a customer's choice.
	events := make(chan cardreader.Event)
	failed := make(chan error, 1)
	wctx, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	defer func() { stop(); <-watched }()
	go func() {
		defer close(watched)
		for {
			ev, err := a.reader.Next(wctx)
			if err != nil {
				failed <- err
				return
			}
			select {
			case events <- ev:
			case <-wctx.Done():
				return
			}
		}
	}()

	// Torn cards are waited for before their records become Unknown.
	var torn <-chan time.Time
	if a.tornRecords() > 0 {
		torn = time.After(a.cfg.ReturnWindow * 6) // even if the reader never comes up
	}
	usable := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watch reader: %w", err)
		case <-torn:
			torn = nil
			if err := a.sweepTorn(ctx, ""); err != nil {
				return err
			}
		case ev := <-events:
			a.state.Store(&readerState{kind: ev.Kind, at: time.Now()})
			if !usable && (ev.Kind == cardreader.CardIn || ev.Kind == cardreader.CardOut) {
				usable = true
				if torn != nil {
					torn = time.After(a.cfg.ReturnWindow)
				}
			}
			if ev.Kind != cardreader.CardIn {
				a.idle()
				continue
			}
			if err := a.insertion(ctx, events); err != nil {
				return err
			}
		}
	}
}

// idle shows what a kiosk without a card shows.
func (a *Agent) idle() {
	v := View{Stage: StageIdle}
	if n := a.blocked(); n != nil {
		v = View{Stage: StageOut, Note: n}
	}
	a.Screen.show(v)
}

// insertion serves one inserted card and returns only what must end the
// process. Everything else has been said on the screen and in the log.
func (a *Agent) insertion(ctx context.Context, events <-chan cardreader.Event) error {
	a.Screen.show(View{Stage: StageReading})
	view, err := a.session(ctx, events)
	switch {
	case errors.Is(err, queue.ErrInDoubt), errors.Is(err, cardreader.ErrStuck):
		return err
	case ctx.Err() != nil:
		return nil //nolint:nilerr // stopped: what the card did is on record
	case errors.Is(err, cardreader.ErrNoCard), errors.Is(err, errGone):
		a.idle()
		return nil
	case err != nil:
		a.log.Warn("card session ended", "err", err)
		if view.Note == nil {
			view.Note = noteFor(err)
		}
	}
	view.Stage = StageRemove
	if view.Note == nil {
		view.Note = noteTakeCard
	}
	a.Screen.show(view)
	return nil
}

func noteFor(err error) *Note {
	switch {
	case errors.Is(err, errForeign):
		return noteForeign
	case errors.Is(err, errSwapped):
		return noteSwapped
	case errors.Is(err, cardreader.ErrReaderGone), errors.Is(err, cardreader.ErrServiceDown):
		return noteNoReader
	case errors.Is(err, queue.ErrFull):
		return noteNoDisk
	default:
		return noteUnreadable
	}
}

// errGone: the card left while the customer was asked; nothing was begun.
var errGone = errors.New("card taken out")

// session is one inserted card from the first look to the last word on the
// screen. The reader's transaction is held throughout; a database transaction
// never is.
func (a *Agent) session(ctx context.Context, events <-chan cardreader.Event) (View, error) {
	sess, err := a.reader.Open(ctx)
	if err != nil {
		return View{}, fmt.Errorf("open card: %w", err)
	}
	defer sess.Close() //nolint:errcheck // the card is left as it is; nothing can be done about a reader that is gone
	c, err := a.look(ctx, sess)
	if err != nil {
		if ctx.Err() == nil {
			a.event(ctx, audit.CardUnreadable, map[string]string{"err": err.Error()})
		}
		return View{}, err
	}
	a.reading.Store(&Reading{Card: logName(c.id), Type: c.id.Type, At: time.Now()})
	view := View{Card: c.tail()}
	if err := a.sweepIntents(ctx); err != nil {
		return view, err
	}
	if err := a.sweepTorn(ctx, c.id.Hash); err != nil {
		return view, err
	}
	// What this card's earlier top-ups still have to tell, the platform should
	// know before it is asked about the card. One try: an outage must not keep
	// the evidence on the card from being read.
	a.outbox.Now(ctx, c.id.Hash, a.deliver) //nolint:errcheck // what was not delivered stays in the outbox

	restored, err := a.recoverCard(ctx, c)
	if err != nil {
		return view, err
	}
	for _, r := range a.journal.ByCard(c.id.Hash) {
		if r.BlocksCard() {
			view.Note, view.TransNo, view.Outcome = noteUnfinished, r.TransNo, topup.OutcomeUnknown
			return view, nil
		}
	}
	if restored != nil {
		a.outbox.Now(ctx, c.id.Hash, a.deliver) //nolint:errcheck // as above
	}
	if n := a.preflight(ctx); n != nil {
		view.Note = orRestored(n, restored)
		return view, nil
	}
	info, err := a.cardInfo(ctx, c)
	if err != nil {
		a.log.Warn("card not known", "card", logName(c.id), "err", err)
		view.Note = orRestored(noteForCall(err), restored)
		return view, nil
	}
	view.Name, view.Address = info.Name, info.DisplayAddr
	if n := a.deny(c, info); n != nil {
		// A card that has just got its gas may be refused for holding it: what
		// became of the last top-up is the news.
		view.Note = orRestored(n, restored)
		return view, nil
	}
	offers := a.offers(c, info)
	if len(offers) == 0 {
		view.Note = orRestored(noteNoOrders, restored)
		return view, nil
	}
	offer, note, err := a.ask(ctx, events, view, offers, info.SubsCode, c.id.No)
	if err != nil || note != nil {
		view.Note = note
		return view, err
	}
	return a.topUp(ctx, c, info, offer, view)
}

func orRestored(n *Note, r *topup.Record) *Note {
	switch {
	case r == nil:
		return n
	case r.Outcome == topup.OutcomeWritten:
		return noteRestored
	case r.Outcome == topup.OutcomeNotWritten:
		return noteRestoredNone
	default:
		return n
	}
}

func noteForCall(err error) *Note {
	if errors.Is(err, protocol.ErrBusiness) {
		return noteDenied
	}
	return noteOffline
}

// cardInfo asks 3010 with everything the card said.
func (a *Agent) cardInfo(ctx context.Context, c *card) (protocol.CardInfo, error) {
	req := protocol.CardInfoRequest{
		TerminalNo: a.cfg.TerminalNo, CardType: c.id.Type, ATR: upper(c.sess.ATR()), CardNo: c.id.No,
		Balance: protocol.Fen(c.balance), Log: c.loads(),
	}
	if c.mem != nil {
		req.CardData = upper(c.content)
	}
	return a.client.CardInfo(ctx, req)
}

// deny tells why this card is not served, nil if it is.
func (a *Agent) deny(c *card, info protocol.CardInfo) *Note {
	if info.CanCharge == "N" || info.DenyCode != "" {
		if n, ok := denyNotes[info.DenyCode]; ok {
			return n
		}
		return noteDenied
	}
	if c.mem != nil {
		if gas, ok := a.cfg.Memory.Layout.GasOf(c.content); !ok || gas != 0 {
			return noteHoldsGas
		}
	}
	return nil
}

// offers are the listed orders that may be authorised here: an order with a
// Written record, an open one or a conflict is not, whatever 3010 lists.
func (a *Agent) offers(c *card, info protocol.CardInfo) []Offer {
	var out []Offer
	for _, o := range info.PendingOrders {
		if o.Amount <= 0 || o.Amount > 1<<31 {
			continue
		}
		if slices.ContainsFunc(a.journal.ByOrder(o.OrderNo), topup.Record.BlocksOrder) {
			a.log.Info("order not offered", "order", o.OrderNo, "card", logName(c.id))
			continue
		}
		out = append(out, Offer{o.OrderNo, topup.Fen(o.Amount), topup.Volume(o.GasVolume), o.PayTime, o.Source})
	}
	return out
}

// ask lets the customer choose and confirm. A note means that the session is
// over without anything begun.
func (a *Agent) ask(
	ctx context.Context, events <-chan cardreader.Event, v View, offers []Offer, subs, cardNo string,
) (Offer, *Note, error) {
	timer := time.NewTimer(a.cfg.ChoiceTime)
	defer timer.Stop()
	v.Stage, v.Offers, v.Expires = StageChoose, offers, time.Now().Add(a.cfg.ChoiceTime)
	a.Screen.show(v)
	pctx, enough := context.WithCancel(ctx)
	defer enough() // nothing runs beside the authorisation
	var price <-chan time.Time
	if a.cfg.Prices && a.cfg.ChoiceTime > priceAfter {
		price = time.After(priceAfter)
	}
	for {
		select {
		case <-ctx.Done():
			return Offer{}, nil, ctx.Err()
		case <-price:
			a.findPrice(pctx, subs, cardNo)
		case <-timer.C:
			return Offer{}, noteTimeout, nil
		case ev := <-events:
			a.state.Store(&readerState{kind: ev.Kind, at: time.Now()})
			if ev.Kind != cardreader.CardIn {
				return Offer{}, nil, errGone
			}
			return Offer{}, noteSwapped, nil // out and in again: not the session we had
		case say := <-a.Screen.answers:
			switch {
			case say.cancel:
				return Offer{}, noteCancelled, nil
			case say.confirm && v.Chosen != nil:
				return *v.Chosen, nil, nil
			case say.order != "":
				i := slices.IndexFunc(offers, func(o Offer) bool { return o.OrderNo == say.order })
				if i < 0 {
					continue
				}
				v.Stage, v.Chosen = StageConfirm, &offers[i]
				a.Screen.show(v)
			}
		}
	}
}

// save stores a record and, when it has a new report, puts that into the
// outbox in the same transaction: what happened on the card and the duty to
// tell it are one fact.
func (a *Agent) save(ctx context.Context, r topup.Record, report bool) error {
	// A customer's session may end at any moment; what the card did may not
	// be lost with it.
	return a.writer.Do(context.WithoutCancel(ctx), func(tx *bbolt.Tx) error {
		if err := a.journal.Put(tx, r); err != nil {
			return err
		}
		if !report {
			return nil
		}
		return a.put(tx, r, topup.Report, 0)
	})
}

// conclude stores what v makes of r, with its report. The returned record is
// the stored one.
func (a *Agent) conclude(ctx context.Context, r topup.Record, v topup.Verdict) (topup.Record, error) {
	n, changed := topup.Conclude(r, v)
	if !changed {
		return r, nil
	}
	if n.Image != nil && n.Outcome != topup.OutcomeUnknown {
		// The plan has served: earlier versions of the record keep it.
		im := *n.Image
		im.Sealed, im.Plan = nil, nil
		n.Image = &im
	}
	n.Decided = millis(a.now())
	n.ReconDay = a.reconDay()
	if err := a.save(ctx, n, n.Rev > r.Rev); err != nil {
		return r, fmt.Errorf("record outcome of %s: %w", r.TransNo, err)
	}
	if n.Manual && !r.Manual {
		a.alarms.raise(string(topup.AlarmManual))
	}
	a.log.Info("top-up concluded", "order", n.OrderNo, "card", logName(n.Card), "termTransNo", n.TransNo,
		"outcome", n.Outcome, "basis", n.Basis, "rev", n.Rev, "why", v.Why)
	return n, nil
}

// sweepIntents concludes every record that never came to Writing: nothing was
// sent to the card, so the journal itself is the proof.
func (a *Agent) sweepIntents(ctx context.Context) error {
	for _, r := range a.journal.Unsettled() {
		if r.Phase != topup.Intent {
			continue
		}
		if r.Reason == "" {
			r.Reason = topup.ReasonDevice
		}
		if _, err := a.conclude(ctx, r, topup.Decide(r, topup.Evidence{})); err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) tornRecords() (n int) {
	for _, r := range a.journal.Unsettled() {
		if r.Phase == topup.Writing {
			n++
		}
	}
	return n
}

// sweepTorn gives up waiting for the cards of Writing records, except the one
// that is here: they become Unknown and are reported so. A revision follows if
// the card comes later.
func (a *Agent) sweepTorn(ctx context.Context, here string) error {
	for _, r := range a.journal.Unsettled() {
		if r.Phase != topup.Writing || r.Card.Hash == here {
			continue
		}
		v := topup.Decide(r, topup.Evidence{})
		if _, err := a.conclude(ctx, r, v); err != nil {
			return err
		}
	}
	return nil
}
