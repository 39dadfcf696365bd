package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"vcckiosk/agent/audit"
	"vcckiosk/agent/journal"
	"vcckiosk/agent/topup"
	"vcckiosk/protocol"
	"vcckiosk/queue"
)

// put makes sure that message m about r is in the outbox, due after the given
// number of seconds. There is one item per message and record: a queued
// revision is replaced by the next, sent or not.
func (a *Agent) put(tx *bbolt.Tx, r topup.Record, m topup.Message, after int) error {
	it := queue.Item{Kind: string(m), Ref: string(r.TransNo), Rev: r.Rev, Lane: r.Card.Hash, Created: time.Now()}
	if after > 0 {
		it.NotBefore = time.Now().Add(time.Duration(after) * time.Second)
	}
	if m == topup.Query {
		it.Lane = "query/" + r.Card.Hash // a question for tomorrow must not hold up a report of today
	}
	_, err := a.outbox.Put(tx, it)
	return err
}

// saveWith stores a record and an audit event in one transaction.
func (a *Agent) saveWith(ctx context.Context, r topup.Record, e audit.Event, attrs map[string]string) error {
	return a.writer.Do(context.WithoutCancel(ctx), func(tx *bbolt.Tx) error {
		if err := a.journal.Put(tx, r); err != nil {
			return err
		}
		return audit.Append(tx, time.Now(), e, attrs)
	})
}

// event writes an audit event by itself. A kiosk that cannot write it goes on.
func (a *Agent) event(ctx context.Context, e audit.Event, attrs map[string]string) {
	err := a.writer.Do(context.WithoutCancel(ctx), func(tx *bbolt.Tx) error {
		return audit.Append(tx, time.Now(), e, attrs)
	})
	if err != nil {
		a.log.Error("event not recorded", "event", e, "err", err)
	}
}

// deliver sends one message. What is sent is derived from the record as it is
// now, never from a stored copy, and signed with the present token.
func (a *Agent) deliver(ctx context.Context, it queue.Item) queue.Outcome {
	if it.Kind == kindDayFile || it.Kind == kindDayAnswer {
		return a.deliverDay(ctx, it)
	}
	if it.Kind == mediaKind {
		return a.deliverMedia(ctx, it)
	}
	r, ok, err := a.record(topup.TransNo(it.Ref))
	if err != nil {
		return retry(err)
	}
	if !ok {
		return queue.Outcome{Settle: func(tx *bbolt.Tx, it queue.Item) error {
			return a.park(tx, it, "no record of this number", audit.OutboxOrphan)
		}}
	}
	reply, err := a.send(ctx, topup.Message(it.Kind), r)
	if err != nil {
		return a.undelivered(ctx, it, err)
	}
	next := topup.Settle(r, topup.Message(it.Kind), it.Rev, reply)
	return queue.Outcome{Lazy: next.Lazy, Settle: func(tx *bbolt.Tx, it queue.Item) error {
		return a.settle(tx, it, reply)
	}}
}

// record reads the newest stored version of a record.
func (a *Agent) record(no topup.TransNo) (topup.Record, bool, error) {
	r, ok := a.journal.Get(no)
	return r, ok, nil
}

func retry(err error) queue.Outcome { return queue.Outcome{Retry: &queue.Retry{Err: err}} }

// settle carries out what a reply means, in the transaction that removes the
// message: a crash before it repeats the message, a crash after it finds the
// consequence complete.
func (a *Agent) settle(tx *bbolt.Tx, it queue.Item, reply topup.Reply) error {
	r, ok, err := a.journal.GetTx(tx, topup.TransNo(it.Ref))
	if err != nil || !ok {
		return fmt.Errorf("settle %s of %s: record: %w", it.Kind, it.Ref, errors.Join(err, ErrNoRecord))
	}
	next := topup.Settle(r, topup.Message(it.Kind), it.Rev, reply)
	if next.Park != "" {
		if err := a.park(tx, it, next.Park, audit.Event(next.Alarms[0])); err != nil {
			return err
		}
	} else if err := a.outbox.Remove(tx, it.ID); err != nil {
		return err
	}
	if journal.Settled(next.Record) {
		// A question about it that waits for tomorrow has been answered.
		if q, waits := a.outbox.Find(string(topup.Query), it.Ref); waits && q.ID != it.ID {
			if err := a.outbox.Remove(tx, q.ID); err != nil {
				return err
			}
		}
	}
	for _, s := range next.Send {
		if err := a.put(tx, next.Record, s.Message, s.After); err != nil {
			return err
		}
	}
	if journal.Settled(next.Record) {
		next.Record.Observed.SealedImage = nil // reported; earlier versions keep it
	}
	if err := a.journal.Put(tx, next.Record); err != nil {
		return err
	}
	if next.Park == "" {
		for _, al := range next.Alarms {
			if err := audit.Append(tx, time.Now(), audit.Event(al), map[string]string{"termTransNo": it.Ref, "order": r.OrderNo}); err != nil {
				return err
			}
		}
	}
	tx.OnCommit(func() {
		for _, al := range next.Alarms {
			a.alarms.raise(string(al))
		}
		a.log.Info("delivered", "kind", it.Kind, "order", r.OrderNo, "termTransNo", it.Ref, "rev", it.Rev,
			"state", reply.State, "phase", next.Record.Phase, "parked", next.Park)
	})
	return nil
}

// ErrNoRecord: the journal has no top-up of this number.
var ErrNoRecord = errors.New("no such record")

// park keeps a message with its reason. It delays nobody else.
func (a *Agent) park(tx *bbolt.Tx, it queue.Item, reason string, e audit.Event) error {
	if err := a.outbox.Park(tx, it.ID, reason); err != nil {
		return err
	}
	r, ok, err := a.journal.GetTx(tx, topup.TransNo(it.Ref))
	if err != nil {
		return err
	}
	if ok && r.Parked != reason {
		r.Parked = reason
		if err := a.journal.Put(tx, r); err != nil {
			return err
		}
	}
	tx.OnCommit(func() { a.alarms.raise(string(e)) })
	return audit.Append(tx, time.Now(), e, map[string]string{
		"kind": it.Kind, "termTransNo": it.Ref, "rev": fmt.Sprint(it.Rev), "reason": reason, "order": r.OrderNo,
	})
}

// Refused reports are tried this often, over at least this long, before they
// are parked: a platform in trouble may refuse what it later takes.
const (
	refusedTries = 3
	refusedSpan  = 10 * time.Minute
)

// undelivered tells what an error means for a message. Token and key trouble
// never parks a report; no usable answer means to send the same again.
func (a *Agent) undelivered(ctx context.Context, it queue.Item, err error) queue.Outcome {
	wait := protocol.RetryAfter(err)
	switch {
	case errors.Is(err, protocol.ErrAuth):
		a.alarms.raise(string(audit.PlatformAuth))
		return queue.Outcome{Retry: &queue.Retry{Err: err, After: wait, All: true}}
	case errors.Is(err, protocol.ErrBusiness):
		if it.Attempts+1 >= refusedTries && !it.FirstTry.IsZero() && time.Since(it.FirstTry) >= refusedSpan {
			reason := "refused: " + err.Error()
			return queue.Outcome{Settle: func(tx *bbolt.Tx, it queue.Item) error {
				return a.park(tx, it, reason, audit.ReportParked)
			}}
		}
		return queue.Outcome{Retry: &queue.Retry{Err: err, After: max(wait, refusedSpan/(refusedTries-1))}}
	case errors.Is(err, protocol.ErrPermanent):
		a.alarms.raise(string(audit.PlatformConfig))
		return queue.Outcome{Retry: &queue.Retry{Err: err, After: max(wait, time.Minute)}}
	default:
		return queue.Outcome{Retry: &queue.Retry{Err: err, After: wait, All: wait > 0}}
	}
}

// send makes one call and puts its answer into the terms of topup.
func (a *Agent) send(ctx context.Context, m topup.Message, r topup.Record) (topup.Reply, error) {
	switch m {
	case topup.Report:
		req, err := a.report(r)
		if err != nil {
			return topup.Reply{}, err
		}
		ans, err := a.client.Report(ctx, req)
		return reply(topup.State(ans.State), false, err)
	case topup.Reverse:
		ans, err := a.client.Reverse(ctx, protocol.ReverseRequest{
			TransNo: string(r.TransNo), OrderNo: r.OrderNo, Reason: string(r.Reason), Time: a.stamp(),
			CardNo: r.Card.No, Amount: protocol.Fen(r.Amount), GasVolume: protocol.Volume(r.Volume),
		})
		return reply(topup.State(ans.State), false, err)
	case topup.Query:
		ans, err := a.client.QueryOrder(ctx, protocol.QueryOrderRequest{TransNo: string(r.TransNo), OrderNo: r.OrderNo})
		return reply(topup.State(ans.State), ans.Holder == string(r.TransNo), err)
	default:
		return topup.Reply{}, fmt.Errorf("message %q: %w", m, protocol.ErrPermanent)
	}
}

// reply: two business codes are states in disguise.
func reply(s topup.State, ours bool, err error) (topup.Reply, error) {
	switch {
	case errors.Is(err, protocol.ErrUnknownOrder):
		return topup.Reply{State: topup.UnknownOrder}, nil
	case errors.Is(err, protocol.ErrGivenBack):
		return topup.Reply{State: topup.GivenBack}, nil
	case err != nil:
		return topup.Reply{}, err
	}
	return topup.Reply{State: s, Ours: ours}, nil
}

// report derives 6002 from a record.
func (a *Agent) report(r topup.Record) (protocol.ReportRequest, error) {
	at := func(m topup.Millis) time.Time { return time.UnixMilli(int64(m)) }
	decided := r.Decided
	if decided == 0 {
		decided = r.Begun
	}
	req := protocol.ReportRequest{
		TransNo: string(r.TransNo), Rev: r.Rev, OrderNo: r.OrderNo, TerminalNo: a.cfg.TerminalNo, CardNo: r.Card.No,
		Kind: string(r.Kind), Amount: protocol.Fen(r.Amount), GasVolume: protocol.Volume(r.Volume), Result: r.ResultCode(),
		Evidence: string(r.Basis), NoAttempt: "N", TAC: r.Observed.TAC, FailCode: r.FailCode, FailReason: r.FailReason,
		WriteTime:      at(decided).In(china).Format("20060102150405"),
		OfflineSeconds: max(0, int64(a.now().Sub(at(decided))/time.Second)), Firmware: a.cfg.Firmware,
	}
	if req.Evidence == "" {
		req.Evidence = string(topup.ByJournal) // all we have is the marker
	}
	if r.NoAttempt {
		req.NoAttempt = "Y"
	}
	if l := r.Load; l != nil && l.Random != "" {
		seq := int(l.Seq)
		req.OnlineSeqBefore, req.HostDate, req.HostTime = &seq, l.HostDate, l.HostTime
	}
	if s := r.Observed.SeqAfter; s != nil {
		n := int(*s)
		req.OnlineSeqAfter = &n
	}
	if b := r.Observed.BalanceAfter; b != nil {
		n := protocol.Fen(*b)
		req.BalanceAfter = &n
	}
	if l := r.Observed.LogRecord; l != nil {
		e := wireLog(*l)
		req.LogRecord = &e
	}
	if len(r.Observed.SealedImage) > 0 && a.keys != nil {
		// Without the keystore the report still goes, only poorer.
		if content, err := a.keys.Open("record", sealAAD(r), r.Observed.SealedImage); err == nil {
			req.CardDataAfter = upper(content)
		}
	}
	return req, nil
}
