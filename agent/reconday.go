package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"vcckiosk/agent/audit"
	"vcckiosk/agent/daybook"
	"vcckiosk/agent/journal"
	"vcckiosk/agent/topup"
	"vcckiosk/protocol/reconcile"
	"vcckiosk/protocol/reconcile/sftp"
)

// DayResult is a day's reconciliation: its numbers, and the three lists once
// the platform has answered.
type DayResult struct {
	daybook.Day
	Result *reconcile.Result `json:"result,omitempty"`
	// Faults are the answer's rows that could not be used, the first 100; Left
	// are our top-ups that could not be written.
	FaultRows []reconcile.Fault `json:"faultRows,omitempty"`
	LeftRows  []reconcile.Fault `json:"leftRows,omitempty"`
	// Closed are the top-ups without a known outcome that this answer has
	// settled.
	Closed []topup.TransNo `json:"closed,omitempty"`
}

// shipment is a day file that has arrived.
type shipment struct {
	day  daybook.Day
	d    reconcile.Day
	nos  map[topup.TransNo]bool
	high uint64 // newest line of the journal when it was made
	next reconcile.Day
}

// dayRow is a record as a row.
func (a *Agent) dayRow(r topup.Record) reconcile.Row {
	row := reconcile.Row{
		TransNo: string(r.TransNo), OrderNo: r.OrderNo, DeviceID: a.device(), OrgCode: a.cfg.OrgCode, SubsCode: r.SubsCode,
		CardNo: r.Card.No, Amount: reconcile.Fen(r.Amount), Volume: reconcile.Volume(r.Volume), State: dayState(r),
	}
	if r.Outcome != topup.NoOutcome {
		n := r.ResultCode()
		row.Result = &n
	}
	if l := r.Load; l != nil && l.Random != "" {
		n := int(l.Seq)
		row.Count = &n
	}
	if r.Image != nil {
		n := r.Image.Count
		row.Count = &n
	}
	if r.Payment != nil {
		row.PayType = r.Payment.Type
	}
	if r.Decided != 0 {
		row.WriteTime = time.UnixMilli(int64(r.Decided)).In(china).Format("20060102150405")
	}
	row.Reversed = row.State == reconcile.GivenBack
	return row
}

func dayState(r topup.Record) reconcile.State {
	switch {
	case r.Conflict != nil:
		return reconcile.Conflict
	case r.Rev == 0 || r.AckRev < r.Rev && r.Parked == "":
		return reconcile.Waiting
	case r.Parked != "" && !r.Manual:
		return reconcile.Parked
	case r.Outcome == topup.OutcomeNotWritten && r.Phase == topup.Closed && !r.Awaiting:
		return reconcile.GivenBack // by 6002, 6003 or 6006
	case r.Outcome == topup.OutcomeWritten && r.Phase == topup.Closed && !r.Awaiting, r.AckState == topup.SettledState:
		return reconcile.Settled
	case r.AckState == topup.GivenBack:
		return reconcile.GivenBack
	case r.AckState == topup.Pending:
		return reconcile.Pending
	}
	return reconcile.Nowhere
}

// ship makes a day's file, keeps it and puts it on the server, its sum last.
// fresh: made anew even if one is kept. A kept file is sent again as it is, so
// that an upload that was cut goes on where it was.
func (r *recon) ship(ctx context.Context, d reconcile.Day, fresh bool) (shipment, error) {
	if was, ok := r.book.Get(string(d)); ok && !fresh {
		fresh = was.SHA256 != "" // shipped before: somebody wants it again
	}
	if err := reconcile.CheckNames(r.cfg.Folder, r.a.cfg.OrgCode, r.a.device()); err != nil {
		return shipment{}, err // not registered yet, or by a name that is none
	}
	r.closeDay(d)
	records, high, err := r.a.journal.Day(string(d))
	if err != nil {
		return shipment{}, err
	}
	s := shipment{d: d, nos: map[topup.TransNo]bool{}, high: high}
	var rows []reconcile.Row
	for _, rec := range records {
		s.nos[rec.TransNo] = true
		rows = append(rows, r.a.dayRow(rec))
	}
	if was, ok := r.book.Get(string(d)); ok && len(rows) < was.Rows+was.Left {
		return shipment{}, fmt.Errorf("%s: %d of %d: %w", d, len(rows), was.Rows+was.Left, ErrDayShrunk)
	}
	body, totals, left := reconcile.Write(rows)
	n := reconcile.NamesOf(r.a.device(), d)
	if kept, t, ok := r.kept(n); ok && !fresh && sameNumbers(t.Rows, rows, left) {
		body, totals = kept, t.Totals
	} else if err := errors.Join(r.keep(n.File, body), r.keep(n.Sum, totals.Line()), r.keepJSON(d, DayResult{LeftRows: left})); err != nil {
		return shipment{}, err
	}
	for _, f := range []struct {
		name    string
		content []byte
	}{{n.File, body}, {n.Sum, totals.Line()}} { // a reader that finds the sum has the file
		if err := r.put(ctx, d, f.name, f.content); err != nil {
			return shipment{}, err
		}
	}
	r.a.alarms.clear(string(audit.ReconHost))
	s.day = daybook.Day{
		Day: string(d), Shipped: millis(r.a.now()), Rows: totals.Rows, Amount: topup.Fen(totals.Amount),
		Volume: topup.Volume(totals.Volume), SHA256: totals.SHA256, Left: len(left),
	}
	s.next = r.passed(d.Add(1))
	r.tidy()
	r.a.log.Info("day file delivered", "day", d, "rows", totals.Rows, "amount", totals.Amount, "left", len(left))
	return s, nil
}

// put sends one file; a line that is cut is tried again at once, as what has
// arrived counts.
func (r *recon) put(ctx context.Context, d reconcile.Day, name string, content []byte) (err error) {
	to := path.Join(reconcile.Folder(r.cfg.Folder, r.a.cfg.OrgCode, r.a.device(), d), name)
	for range 3 {
		if err = r.files.Put(ctx, to, content); !errors.Is(err, sftp.ErrLost) || ctx.Err() != nil {
			return err
		}
	}
	return err
}

func sameNumbers(kept, rows []reconcile.Row, left []reconcile.Fault) bool {
	if len(kept) != len(rows)-len(left) {
		return false
	}
	have := map[string]bool{}
	for _, k := range kept {
		have[k.TransNo] = true
	}
	for _, row := range rows {
		if !have[row.TransNo] && !slices.ContainsFunc(left, func(f reconcile.Fault) bool { return f.TransNo == row.TransNo }) {
			return false
		}
	}
	return true
}

// shipped records that a day's file has arrived, and plans what comes next: its
// answer, the next day's file, and another look at answers that may close what
// no card will. Before this commit a restart sends the same file again, which
// finds it there; after it the day is known to be out.
func (r *recon) shipped(tx *bbolt.Tx, s shipment) error {
	since, err := r.a.journal.DaySince(tx, s.high, string(s.d))
	if err != nil {
		return err
	}
	for _, no := range since {
		if !s.nos[no] { // entered between the reading of the clock and closeDay
			return r.replan(tx, kindDayFile, s.d, 10*time.Minute)
		}
	}
	if err := r.book.Put(tx, s.day); err != nil {
		return err
	}
	if err := r.replan(tx, kindDayAnswer, s.d, r.cfg.AnswerAfter); err != nil {
		return err
	}
	if err := r.planOld(tx, s.d); err != nil {
		return err
	}
	it, planned := r.a.outbox.Find(kindDayFile, string(s.d))
	if !planned { // a person's run of another day: the plan stands
		return nil
	}
	return r.plan(tx, it, s.next)
}

func (r *recon) replan(tx *bbolt.Tx, kind string, d reconcile.Day, wait time.Duration) error {
	_, err := r.a.outbox.Put(tx, r.item(kind, d, r.a.now().Add(wait)))
	return err
}

// planOld looks again for the answers of days whose Unknown the platform has
// given back, once their cards are no longer waited for.
func (r *recon) planOld(tx *bbolt.Tx, today reconcile.Day) error {
	seen := map[string]bool{string(today): true}
	for _, rec := range r.a.journal.Unsettled() {
		if rec.Phase != topup.Unknown || rec.AckState != topup.GivenBack || rec.Manual || !r.gone(rec) || seen[rec.ReconDay] {
			continue
		}
		seen[rec.ReconDay] = true
		day, ok := r.book.Get(rec.ReconDay)
		if !ok || time.UnixMilli(int64(day.Answered)).Sub(time.UnixMilli(int64(rec.Decided))) > cardGone {
			continue
		}
		if err := r.replan(tx, kindDayAnswer, reconcile.Day(rec.ReconDay), r.cfg.AnswerAfter); err != nil {
			return err
		}
	}
	return nil
}

// answered is an answer that was read and compared; its records are fed.
type answered struct {
	day daybook.Day
}

// feedStep is how many records one transaction settles: customers do not wait
// behind a whole day.
const feedStep = 50

// fetch gets a day's answer, compares it, and gives its word to the records
// that wait for one. What it returns is still to be stored.
func (r *recon) fetch(ctx context.Context, d reconcile.Day) (answered, error) {
	day, ok := r.book.Get(string(d))
	if !ok {
		return answered{}, ErrNoDay
	}
	n := reconcile.NamesOf(r.a.device(), d)
	table, err := r.answer(ctx, d, n)
	if err != nil {
		return answered{}, err
	}
	records, _, err := r.a.journal.Day(string(d))
	if err != nil {
		return answered{}, err
	}
	var ours []reconcile.Row
	for _, rec := range records {
		// What has become of it since belongs to the day it became so.
		if now, ok := r.a.journal.Get(rec.TransNo); ok && now.ReconDay == string(d) {
			ours = append(ours, r.a.dayRow(now))
		}
	}
	res := reconcile.Compare(d, ours, table.Rows, func(no string) (reconcile.Row, bool) {
		rec, ok := r.a.journal.Get(topup.TransNo(no))
		return r.a.dayRow(rec), ok
	})
	if err := r.feed(ctx, res.Match); err != nil {
		return answered{}, err
	}
	var closed []topup.TransNo
	for no := range res.Match {
		// Only a day file marks an outcome nobody knows as reconciled.
		if rec, ok := r.a.journal.Get(topup.TransNo(no)); ok && rec.Reconciled && rec.Outcome == topup.OutcomeUnknown {
			closed = append(closed, rec.TransNo)
		}
	}
	slices.Sort(closed)
	day.Answered, day.AnswerHash = millis(r.a.now()), table.Totals.SHA256
	day.Agreed, day.Pending, day.Faults, day.Alarms = res.Agreed, res.Pending, table.Bad, res.Alarms()
	day.OnlyOurs, day.OnlyTheirs, day.Differ = len(res.OnlyOurs), len(res.OnlyTheirs), len(res.Differ)
	if table.Bad > 0 { // a row nobody could read may be any top-up
		day.Alarms++
	}
	out := DayResult{Day: day, Result: &res, FaultRows: table.Faults, Closed: closed}
	if was, err := r.result(d); err == nil {
		out.LeftRows = was.LeftRows
	}
	// The lists first: they can be made again, the book says that they exist.
	if err := r.keepJSON(d, out); err != nil {
		return answered{}, err
	}
	r.a.log.Info("day reconciled", "day", d, "agreed", res.Agreed, "pending", res.Pending, "onlyOurs", day.OnlyOurs,
		"onlyTheirs", day.OnlyTheirs, "differ", day.Differ, "faults", day.Faults, "closed", len(closed))
	return answered{day}, nil
}

// answer reads the platform's file and holds it against its sum.
func (r *recon) answer(ctx context.Context, d reconcile.Day, n reconcile.Names) (*reconcile.Table, error) {
	at := reconcile.Folder(r.cfg.Folder, r.a.cfg.OrgCode, r.a.device(), d)
	body, err := r.files.Get(ctx, path.Join(at, n.Answer), reconcile.MaxFile)
	if err != nil {
		return nil, err
	}
	table, err := reconcile.Read(body)
	if err != nil {
		return nil, err
	}
	if !r.cfg.NoSum {
		line, err := r.files.Get(ctx, path.Join(at, n.AnswerSum), reconcile.MaxSum)
		if err != nil {
			return nil, err
		}
		if err := table.Check(line); err != nil {
			return nil, err
		}
	}
	return table, r.keep(n.Answer, body)
}

// feed gives the platform's word to the records both sides have alike. A crash
// in the middle leaves some of them fed, and the same answer feeds the rest.
func (r *recon) feed(ctx context.Context, match map[string]reconcile.State) error {
	word := func(rec topup.Record) (topup.Next, bool) {
		return topup.SettleDay(rec, topup.DayWord{State: topup.State(match[string(rec.TransNo)]), Gone: r.gone(rec)})
	}
	var todo []topup.TransNo
	for no := range match {
		if rec, ok := r.a.journal.Get(topup.TransNo(no)); ok {
			if _, changes := word(rec); changes {
				todo = append(todo, rec.TransNo)
			}
		}
	}
	slices.Sort(todo)
	for part := range slices.Chunk(todo, feedStep) {
		err := r.a.writer.Do(ctx, func(tx *bbolt.Tx) error {
			for _, no := range part {
				rec, ok, err := r.a.journal.GetTx(tx, no)
				if err != nil || !ok {
					continue // damaged since: there is nothing to settle
				}
				next, changes := word(rec)
				if !changes {
					continue
				}
				if err := r.a.settleDay(tx, next); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("settle by day file: %w", err)
		}
	}
	return nil
}

// settleDay stores what a day file has settled, and takes back the questions
// nobody has to ask any more.
func (a *Agent) settleDay(tx *bbolt.Tx, next topup.Next) error {
	no := string(next.Record.TransNo)
	if journal.Settled(next.Record) {
		if q, waits := a.outbox.Find(string(topup.Query), no); waits {
			if err := a.outbox.Remove(tx, q.ID); err != nil {
				return err
			}
		}
		next.Record.Observed.SealedImage = nil // reported; earlier versions keep it
	}
	if err := a.journal.Put(tx, next.Record); err != nil {
		return err
	}
	for _, al := range next.Alarms {
		if err := audit.Append(tx, time.Now(), audit.Event(al), map[string]string{"termTransNo": no, "order": next.Record.OrderNo, "by": "day file"}); err != nil {
			return err
		}
	}
	tx.OnCommit(func() {
		for _, al := range next.Alarms {
			a.alarms.raise(string(al))
		}
	})
	return nil
}

// store records how a day came out. Before this commit a restart reads the
// answer again; after it the day is done.
func (r *recon) store(tx *bbolt.Tx, ans answered) error {
	if it, planned := r.a.outbox.Find(kindDayAnswer, ans.day.Day); planned {
		if err := r.a.outbox.Remove(tx, it.ID); err != nil {
			return err
		}
	}
	if ans.day.Alarms > 0 {
		if err := audit.Append(tx, time.Now(), audit.ReconDiffers, map[string]string{
			"day": ans.day.Day, "onlyOurs": fmt.Sprint(ans.day.OnlyOurs), "onlyTheirs": fmt.Sprint(ans.day.OnlyTheirs),
			"differ": fmt.Sprint(ans.day.Differ), "faults": fmt.Sprint(ans.day.Faults),
		}); err != nil {
			return err
		}
		tx.OnCommit(func() { r.a.alarms.raise(string(audit.ReconDiffers)) })
	}
	return r.book.Put(tx, ans.day)
}

// --- files of our own ---

func resultName(d reconcile.Day) string { return fmt.Sprintf("RS_%s.json", d) }

// keep writes a file whole: temporary name, fsync, rename, fsync of the folder.
func (r *recon) keep(name string, content []byte) error {
	if err := os.MkdirAll(r.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("keep %s: %w", name, err)
	}
	temp := filepath.Join(r.cfg.Dir, name+".tmp")
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("keep %s: %w", name, err)
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(temp, filepath.Join(r.cfg.Dir, name))
	}
	if err != nil {
		_ = os.Remove(temp)
		return fmt.Errorf("keep %s: %w", name, err)
	}
	dir, err := os.Open(r.cfg.Dir)
	if err != nil {
		return fmt.Errorf("keep %s: %w", name, err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("keep %s: %w", name, err)
	}
	return nil
}

func (r *recon) keepJSON(d reconcile.Day, v DayResult) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	return r.keep(resultName(d), append(b, '\n'))
}

// kept reads back a day's file of an earlier try, if it is whole.
func (r *recon) kept(n reconcile.Names) ([]byte, *reconcile.Table, bool) {
	body, err1 := os.ReadFile(filepath.Join(r.cfg.Dir, n.File))
	line, err2 := os.ReadFile(filepath.Join(r.cfg.Dir, n.Sum))
	if err1 != nil || err2 != nil {
		return nil, nil, false
	}
	t, err := reconcile.Read(body)
	if err != nil || t.Bad > 0 || t.Check(line) != nil {
		return nil, nil, false
	}
	return body, t, true
}

// result is what there is of a day: the book's numbers and the lists beside
// them. Lists of another answer than the book's are left out.
func (r *recon) result(d reconcile.Day) (DayResult, error) {
	day, ok := r.book.Get(string(d))
	if !ok {
		return DayResult{}, ErrNoDay
	}
	out := DayResult{Day: day}
	b, err := os.ReadFile(filepath.Join(r.cfg.Dir, resultName(d)))
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	var v DayResult
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		return out, fmt.Errorf("lists of %s: %w; kioskctl reconcile run --day %s makes them again", d, err, d)
	}
	out.LeftRows = v.LeftRows
	if v.Answered == day.Answered && day.Answered != 0 {
		out.Result, out.FaultRows, out.Closed = v.Result, v.FaultRows, v.Closed
	}
	return out, nil
}

// keptDays is how many days files are kept.
const keptDays = 60

var keptName = regexp.MustCompile(`^(?:Q[CR]_.*|RS)_(\d{8})\.(?:txt|sum|json)(?:\.tmp)?$`)

// tidy removes files of days long past.
func (r *recon) tidy() {
	oldest := string(reconcile.DayOf(r.a.now()).Add(-keptDays))
	entries, err := os.ReadDir(r.cfg.Dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if m := keptName.FindStringSubmatch(e.Name()); m != nil && m[1] < oldest {
			_ = os.Remove(filepath.Join(r.cfg.Dir, e.Name()))
		}
	}
}
