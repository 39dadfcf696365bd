package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"vcckiosk/agent/audit"
	"vcckiosk/agent/daybook"
	"vcckiosk/agent/topup"
	"vcckiosk/protocol/reconcile"
	"vcckiosk/protocol/reconcile/sftp"
	"vcckiosk/queue"
)

// ReconConfig is the daily reconciliation (clause 3.6). The zero value of each
// optional field is the documented default. Times of day are durations since
// midnight in China.
type ReconConfig struct {
	// Dir is where day files, answers and results are kept for 60 days, mode
	// 0700; required.
	Dir string
	// Folder is where they lie on the server; default
	// /recon/{orgCode}/{yyyyMMdd}.
	Folder string
	// From and To bound the time at which a day's file is first sent; default
	// 01:00 to 03:00. The place between them is a hash of the kiosk's id.
	From, To time.Duration
	// QuietFrom and QuietTo are the platform's maintenance window, in which
	// nothing is sent; default 23:30 to 00:30; equal and not zero: none.
	QuietFrom, QuietTo time.Duration
	// AnswerAfter is how long after its file a day's answer is first looked
	// for; default 4 h.
	AnswerAfter time.Duration
	// NoSum takes an answer without a sum beside it. Then a file that is cut
	// short between two lines cannot be told from a whole one.
	NoSum bool
}

// Files carries whole files to and from the platform's file server.
// *sftp.Client of protocol/reconcile/sftp is one.
type Files interface {
	// Put makes content the file at path; after an error the file there is the
	// old one, the new one or none.
	Put(ctx context.Context, path string, content []byte) error
	// Get reads a file of at most limit bytes; fs.ErrNotExist when there is none.
	Get(ctx context.Context, path string, limit int64) ([]byte, error)
}

// Kinds of the outbox's items; their Ref is the day.
const (
	kindDayFile   = "dayFile"
	kindDayAnswer = "dayAnswer"
)

const (
	// dayTime is what one try may take; what has arrived by then counts.
	dayTime = 2 * time.Minute
	// again and later are the pauses after a try that failed: two commits in
	// the first hour, one in each hour after.
	again, later = 30 * time.Minute, time.Hour
	// answerPatience is how long an answer is looked for by itself.
	answerPatience = 3 * 24 * time.Hour
	// fileLate is how long after its day a file may be missing before a person
	// hears.
	fileLate = 36 * time.Hour
	// passOver is how many days back a day without a record is still shipped.
	passOver = 31
	// cardGone is how long after the outcome a card is waited for.
	cardGone = 30 * 24 * time.Hour
	// alarmDays is how long a difference stands as an alarm.
	alarmDays = 7
)

// Errors of Reconcile and ReconDay.
var (
	ErrReconOff  = errors.New("daily reconciliation is not configured: it needs the table [reconcile]")
	ErrDayOpen   = errors.New("the day is not over")
	ErrQuiet     = errors.New("inside the platform's maintenance window")
	ErrDayShrunk = errors.New("the journal no longer holds all top-ups of that day; its file is not replaced")
	ErrNoDay     = errors.New("no reconciliation of that day")
	ErrNoTime    = errors.New("the platform's time is not known yet")
	errBusy      = errors.New("another day is on its way")
)

// recon is the daily reconciliation. Its schedule is two kinds of items in the
// outbox, so that it survives a restart: the next day's file waits there for
// its hour, and a file that has arrived leaves the question for its answer.
type recon struct {
	a     *Agent
	cfg   ReconConfig
	files Files
	book  *daybook.Book
	turn  chan struct{}   // one day at a time
	work  chan queue.Item // for the actor, one

	mu     sync.Mutex
	closed string           // latest day a file was begun for: it takes no more outcomes
	failed map[string]error // by kind and day: what the last try met
}

func newRecon(a *Agent, c ReconConfig, files Files) (*recon, error) {
	if files == nil || c.Dir == "" {
		return nil, errors.New("reconciliation needs a folder and a file server")
	}
	if c.Folder == "" {
		c.Folder = reconcile.DefaultFolder
	}
	if name := a.device(); name != "" { // else it is not registered yet
		if err := reconcile.CheckNames(c.Folder, a.cfg.OrgCode, name); err != nil {
			return nil, fmt.Errorf("reconciliation: %w", err)
		}
	}
	if c.From == 0 && c.To == 0 {
		c.From, c.To = time.Hour, 3*time.Hour
	}
	if c.QuietFrom == 0 && c.QuietTo == 0 {
		c.QuietFrom, c.QuietTo = 23*time.Hour+30*time.Minute, 30*time.Minute
	}
	if c.AnswerAfter == 0 {
		c.AnswerAfter = 4 * time.Hour
	}
	book, err := daybook.Open(a.writer)
	if err != nil {
		return nil, err
	}
	return &recon{
		a: a, cfg: c, files: files, book: book, turn: make(chan struct{}, 1), work: make(chan queue.Item, 1),
		closed: book.Last(), failed: map[string]error{},
	}, nil
}

// reconDay is the day an outcome of now belongs to. A day whose file has been
// begun takes no more: what is found out then belongs to the day after it, even
// if the clock has been set back.
func (a *Agent) reconDay() string {
	today := reconcile.DayOf(a.now())
	if a.recon == nil {
		return string(today)
	}
	a.recon.mu.Lock()
	defer a.recon.mu.Unlock()
	if closed := a.recon.closed; closed != "" && string(today) <= closed {
		return string(reconcile.Day(closed).Add(1))
	}
	return string(today)
}

// closeDay ends a day for outcomes.
func (r *recon) closeDay(d reconcile.Day) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = max(r.closed, string(d))
}

// hour is when the file of d is due: within the window of the day after it, at
// the kiosk's own place.
func (r *recon) hour(d reconcile.Day) time.Time {
	at := d.Add(1).Start().Add(r.cfg.From)
	if width := r.cfg.To - r.cfg.From; width > 0 {
		h := fnv.New64a()
		_, _ = h.Write([]byte(cmp.Or(r.a.device(), r.a.cfg.TerminalNo)))
		at = at.Add(time.Duration(h.Sum64() % uint64(width)))
	}
	return at
}

// quiet tells how long the maintenance window still lasts, 0 outside it.
func (r *recon) quiet(now time.Time) time.Duration {
	from, to := r.cfg.QuietFrom, r.cfg.QuietTo
	if from == to {
		return 0
	}
	day := reconcile.DayOf(now)
	in := now.Sub(day.Start())
	switch {
	case from < to && in >= from && in < to:
		return to - in
	case from > to && in >= from:
		return to + 24*time.Hour - in
	case from > to && in < to:
		return to - in
	}
	return 0
}

// item is a day's item, due at a time of the platform's clock.
func (r *recon) item(kind string, d reconcile.Day, due time.Time) queue.Item {
	it := queue.Item{Kind: kind, Ref: string(d), Lane: "recon/" + kind, Created: time.Now()}
	if wait := due.Sub(r.a.now()); wait > 0 {
		it.NotBefore = it.Created.Add(wait)
	}
	return it
}

// begin makes sure that a day's file is planned: the day after the last one
// shipped, or today.
func (r *recon) begin(ctx context.Context) error {
	for _, it := range r.a.outbox.List() {
		if it.Kind == kindDayFile {
			return nil
		}
	}
	d := r.planned()
	err := r.a.writer.Do(ctx, func(tx *bbolt.Tx) error { return r.plan(tx, queue.Item{}, d) })
	if errors.Is(err, queue.ErrInDoubt) {
		return err
	}
	if err != nil && ctx.Err() == nil {
		r.a.log.Error("day file not planned", "err", err)
	}
	return nil
}

// planned is the day whose file is to be made next: the first one not shipped
// after those that are, today on a new kiosk.
func (r *recon) planned() reconcile.Day {
	last := r.book.Last()
	if last == "" {
		return reconcile.DayOf(r.a.now())
	}
	return r.passed(reconcile.Day(last).Add(1))
}

// passed is d, or the first day after it that was not shipped. A kiosk that was
// off for long passes over the days on which it did nothing.
func (r *recon) passed(d reconcile.Day) reconcile.Day {
	if recent := reconcile.DayOf(r.a.now()).Add(-passOver); d < recent {
		switch first, err := r.a.journal.FirstDay(string(d)); {
		case err != nil: // then none is passed over
		case first == "" || first > string(recent):
			d = recent
		default:
			d = reconcile.Day(first)
		}
	}
	for {
		if _, done := r.book.Get(string(d)); !done {
			return d
		}
		d = d.Add(1)
	}
}

// plan puts the file of d in the place of item it.
func (r *recon) plan(tx *bbolt.Tx, it queue.Item, d reconcile.Day) error {
	if it.ID != 0 && it.Ref != string(d) {
		if err := r.a.outbox.Remove(tx, it.ID); err != nil {
			return err
		}
	}
	_, err := r.a.outbox.Put(tx, r.item(kindDayFile, d, r.hour(d)))
	return err
}

// deliverDay hands a day's item to the actor that talks to the file server:
// reports of top-ups do not wait behind it. The next try is on disk before this
// one begins, so that neither a crash nor a failure needs a commit of its own,
// and what waits for a file server does not count among the results that wait.
func (a *Agent) deliverDay(_ context.Context, it queue.Item) queue.Outcome {
	r := a.recon
	d, err := reconcile.ParseDay(it.Ref)
	if r == nil || err != nil { // switched off since
		return queue.Outcome{Settle: func(tx *bbolt.Tx, it queue.Item) error { return a.outbox.Remove(tx, it.ID) }}
	}
	why := r.lastError(it)
	_, timeKnown := a.client.Skew()
	switch {
	case r.quiet(a.now()) > 0:
		why = ErrQuiet
	case !timeKnown:
		why = ErrNoTime // a wrong clock must not close days that are still to come
	case it.Kind == kindDayFile && (r.passed(d) != d || d >= reconcile.DayOf(a.now())):
		// The clock was ahead or far behind when it was planned.
		due := r.planned()
		return queue.Outcome{Settle: func(tx *bbolt.Tx, it queue.Item) error { return r.plan(tx, it, due) }}
	default:
		select {
		case r.work <- it:
		default: // another day is on its way
			return queue.Outcome{Retry: &queue.Retry{Err: errBusy, After: time.Minute}}
		}
	}
	return queue.Outcome{Settle: func(tx *bbolt.Tx, it queue.Item) error { return r.putOff(tx, it, d, why) }}
}

// run is the actor.
func (r *recon) run(ctx context.Context) error {
	if err := r.begin(ctx); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case it := <-r.work:
			if err := r.try(ctx, it); errors.Is(err, queue.ErrInDoubt) {
				return err
			}
		}
	}
}

// try does what an item asks for. Its success is one transaction, which also
// takes the item out of the outbox.
func (r *recon) try(ctx context.Context, it queue.Item) error {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, dayTime)
	defer cancel()
	settle, err := r.one(ctx, it, reconcile.Day(it.Ref))
	if err == nil {
		err = r.a.writer.Do(context.WithoutCancel(ctx), settle)
	}
	r.noteError(it, err)
	if err != nil {
		r.a.log.Warn("reconciliation put off", "kind", it.Kind, "day", it.Ref, "tries", it.Rev+1, "err", err)
	}
	return err
}

func (r *recon) one(ctx context.Context, it queue.Item, d reconcile.Day) (func(*bbolt.Tx) error, error) {
	if it.Kind == kindDayAnswer {
		ans, err := r.fetch(ctx, d)
		if err != nil {
			return nil, err
		}
		return func(tx *bbolt.Tx) error { return r.store(tx, ans) }, nil
	}
	s, err := r.ship(ctx, d, false)
	if err != nil {
		return nil, err
	}
	return func(tx *bbolt.Tx) error { return r.shipped(tx, s) }, nil
}

// putOff plans the next try before this one; why is what the last one met. The
// platform's silence about an answer ends with a person.
func (r *recon) putOff(tx *bbolt.Tx, it queue.Item, d reconcile.Day, why error) error {
	wait := later
	if it.Rev == 0 {
		wait = again
	}
	now := r.a.now()
	if left := r.quiet(now); left > 0 {
		wait = left + time.Duration(r.hour(d).Unix()%600)*time.Second // not all kiosks at once
	}
	if errors.Is(why, ErrNoTime) {
		wait = 10 * time.Minute
	}
	if day, ok := r.book.Get(string(d)); it.Kind == kindDayAnswer && ok && it.Rev > 0 &&
		now.Sub(time.UnixMilli(int64(day.Shipped))) > answerPatience {
		return r.a.park(tx, it, fmt.Sprintf("no answer: %v", why), audit.ReconLate)
	}
	next := r.item(it.Kind, d, now.Add(wait))
	next.Rev, next.Created = it.Rev+1, it.Created
	if why != nil {
		next.LastError = why.Error()
	}
	_, err := r.a.outbox.Put(tx, next)
	return err
}

// lastError is what the last try of an item met since the start, nil for
// nothing.
func (r *recon) lastError(it queue.Item) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed[it.Kind+it.Ref]
}

func (r *recon) noteError(it queue.Item, err error) {
	r.noteHost(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.failed, it.Kind+it.Ref)
	if err != nil {
		r.failed[it.Kind+it.Ref] = err
	}
}

// noteHost raises the alarm of a server that is not the pinned one.
func (r *recon) noteHost(err error) {
	if errors.Is(err, sftp.ErrHostKey) || errors.Is(err, sftp.ErrUnknownHost) {
		r.a.alarms.raise(string(audit.ReconHost))
	}
}

// trouble tells what a person must hear of.
func (r *recon) trouble() (differs, tardy bool) {
	now := r.a.now()
	from := string(reconcile.DayOf(now).Add(-alarmDays))
	for _, d := range r.book.Days() {
		differs = differs || d.Day >= from && d.Alarms > 0
	}
	for _, it := range r.a.outbox.List() {
		if d, err := reconcile.ParseDay(it.Ref); err == nil && it.Kind == kindDayFile {
			tardy = tardy || now.Sub(d.Add(1).Start()) > fileLate
		}
		tardy = tardy || it.Kind == kindDayAnswer && it.Parked != ""
	}
	return differs, tardy
}

// Reconcile runs a day's reconciliation now, for a person: the file is made
// anew and replaces what is there, and the answer is looked at if it is there
// already. day may be "" for yesterday.
func (a *Agent) Reconcile(ctx context.Context, day, who string) (DayResult, error) {
	r := a.recon
	if r == nil {
		return DayResult{}, ErrReconOff
	}
	if _, known := a.client.Skew(); !known {
		return DayResult{}, ErrNoTime
	}
	today := reconcile.DayOf(a.now())
	d := today.Add(-1)
	if day != "" {
		var err error
		if d, err = reconcile.ParseDay(day); err != nil {
			return DayResult{}, err
		}
	}
	switch {
	case d >= today:
		return DayResult{}, fmt.Errorf("%s: %w", d, ErrDayOpen)
	case r.quiet(a.now()) > 0:
		return DayResult{}, fmt.Errorf("%w; it ends in %v", ErrQuiet, r.quiet(a.now()).Round(time.Minute))
	}
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return DayResult{}, ctx.Err()
	}
	if records, _, err := a.journal.Day(string(d)); err != nil {
		return DayResult{}, err
	} else if _, done := r.book.Get(string(d)); len(records) == 0 && !done && d < r.planned() {
		return DayResult{}, fmt.Errorf("%s: %w", d, ErrDayShrunk) // an empty file might replace a full one
	}
	s, err := r.ship(ctx, d, true)
	if err != nil {
		r.noteHost(err)
		return DayResult{}, err
	}
	err = a.writer.Do(ctx, func(tx *bbolt.Tx) error {
		if err := audit.Append(tx, time.Now(), audit.OperatorRecon, map[string]string{"who": who, "day": string(d)}); err != nil {
			return err
		}
		return r.shipped(tx, s)
	})
	if err != nil {
		return DayResult{}, err
	}
	ans, err := r.fetch(ctx, d)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r.result(d)
	case err != nil:
		return DayResult{}, fmt.Errorf("file delivered; answer: %w", err)
	}
	if err := a.writer.Do(ctx, func(tx *bbolt.Tx) error { return r.store(tx, ans) }); err != nil {
		return DayResult{}, err
	}
	a.review()
	return r.result(d)
}

// ReconDays are the days there is something to show of, newest first.
func (a *Agent) ReconDays() ([]daybook.Day, error) {
	if a.recon == nil {
		return nil, ErrReconOff
	}
	return a.recon.book.Days(), nil
}

// ReconDay is one day's reconciliation with its lists; "" is the newest day
// that has an answer, else the newest.
func (a *Agent) ReconDay(day string) (DayResult, error) {
	if a.recon == nil {
		return DayResult{}, ErrReconOff
	}
	if day == "" {
		days := a.recon.book.Days()
		if len(days) == 0 {
			return DayResult{}, ErrNoDay
		}
		day = days[0].Day
		for _, d := range days {
			if d.Answered != 0 {
				day = d.Day
				break
			}
		}
	}
	d, err := reconcile.ParseDay(day)
	if err != nil {
		return DayResult{}, err
	}
	return a.recon.result(d)
}

// gone tells whether r's card is no longer waited for.
func (r *recon) gone(rec topup.Record) bool {
	return rec.Decided != 0 && r.a.now().Sub(time.UnixMilli(int64(rec.Decided))) > cardGone
}
