package simtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"vcckiosk/agent"
	"vcckiosk/agent/topup"
	"vcckiosk/cardreader/simcard"
	"vcckiosk/protocol/reconcile"
	"vcckiosk/protocol/reconcile/sftp"
	"vcckiosk/protocol/vcctest"
)

// reconWorld is a world with a file server, kiosk A on, at 08:00 in China.
func reconWorld(t *testing.T, o vcctest.Options) (*World, *fileServer) {
	w := NewWorld(t, o, nil)
	s := newFileServer(w)
	w.A.On()
	return w, s
}

// until sleeps until an hour of a day in China, given as in "20000102 05:00".
func until(t *testing.T, at string) {
	t.Helper()
	when, err := time.ParseInLocation("20060102 15:04", at, china)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(when))
}

// load is a plain load of one customer.
func load(w *World, n byte, amount int64) *Card {
	c := w.AddPurse(n)
	w.Pay(c, fmt.Sprintf("O%d", n), amount)
	w.A.Visit(c, Visit{})
	return c
}

func result(t *testing.T, k *Kiosk, day string) agent.DayResult {
	t.Helper()
	got, err := k.Agent.ReconDay(day)
	if err != nil {
		t.Fatalf("day %s: %v", day, err)
	}
	return got
}

func has(list []string, want string) bool { return slices.Contains(list, want) }

func TestReconcileADayIsReconciled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, s := reconWorld(t, vcctest.Options{Good: true})
		defer w.Close()
		load(w, 1, 5000)
		load(w, 2, 700)
		c := w.AddPurse(3)
		w.Pay(c, "O3", 900)
		w.A.Visit(c, Visit{Cancel: agent.StageWorking})
		until(t, "20000102 00:59")
		if len(s.sent()) != 0 {
			t.Errorf("sent before the window: %v", s.sent())
		}
		until(t, "20000102 03:01")
		sent := s.sent()
		if len(sent) != 2 || !strings.HasSuffix(sent[0], "QC_QC000A_20000101.txt") || !strings.HasSuffix(sent[1], "QC_QC000A_20000101.sum") {
			t.Fatalf("sent %v", sent)
		}
		until(t, "20000102 08:00")
		d := result(t, w.A, "")
		if d.Day.Day != "20000101" || d.Rows < 2 || d.Answered == 0 || d.Agreed != d.Rows || len(d.Result.OnlyOurs)+len(d.Result.OnlyTheirs)+len(d.Result.Differ) != 0 {
			t.Errorf("result %+v %+v", d.Day, d.Result)
		}
		for _, o := range []string{"O1", "O2"} {
			rs := w.A.journal.ByOrder(o)
			if len(rs) != 1 || !rs[0].Reconciled || rs[0].Phase != topup.Closed {
				t.Errorf("%s: %+v", o, rs)
			}
		}
		// A day without customers: a file without rows, few commits, one line in
		// the outbox that is no result that waits.
		from := w.A.count()
		until(t, "20000103 08:00")
		if got := result(t, w.A, "20000102"); got.Rows != 0 || got.Answered == 0 || got.Alarms != 0 {
			t.Errorf("idle day: %+v", got.Day)
		}
		if n := w.A.count().commits - from.commits; n > 4 {
			t.Errorf("%d commits for an idle day", n)
		}
		if st := w.A.Agent.Status(); st.Outbox.Depth != 0 || st.Outbox.Scheduled != 1 || len(st.Alarms) != 0 {
			t.Errorf("outbox %+v, alarms %v", st.Outbox, st.Alarms)
		}
		if len(s.sent()) != 4 {
			t.Errorf("sent %v", s.sent())
		}
		left, err := os.ReadDir(filepath.Join(w.A.dir, "recon"))
		if err != nil || len(left) != 8 { // two days of QC txt and sum, QR, RS
			t.Errorf("kept: %v %v", left, err)
		}
	})
}

// TestReconcileUnknownIsSettledByTheDayFile: the card was torn out after the load and
// never comes back here; another kiosk shows its log, and the platform books it.
func TestReconcileUnknownIsSettledByTheDayFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, _ := reconWorld(t, vcctest.Options{Good: true})
		defer w.Close()
		until(t, "20000101 20:00")
		c := w.AddPurse(1)
		w.Pay(c, "O1", 5000)
		c.Arm(tornPurse(simcard.After))
		w.A.Visit(c, Visit{})
		r := w.A.journal.ByOrder("O1")[0]
		if r.Phase != topup.Unknown {
			t.Fatalf("the story does not begin: %s", r.Phase)
		}
		w.B.On()
		w.B.Visit(c, Visit{})
		w.B.Off() // it would ship a day of its own
		until(t, "20000102 08:00")
		r = w.A.journal.ByOrder("O1")[0]
		if r.Phase != topup.Closed || !r.Reconciled || r.AckState != topup.SettledState {
			t.Errorf("record %s, %s, reconciled %t", r.Phase, r.AckState, r.Reconciled)
		}
		d := result(t, w.A, "20000101")
		if len(d.Closed) != 1 || d.Closed[0] != r.TransNo || d.Alarms != 0 || len(d.Result.Differ) != 1 || d.Result.Differ[0].Name != "unknownSettled" {
			t.Errorf("%+v %+v", d, d.Result)
		}
		if st := w.A.Agent.Status(); st.Journal.Open != 0 || st.Outbox.Scheduled != 1 {
			t.Errorf("left: %+v, %+v", st.Journal, st.Outbox) // the daily question is taken back
		}
		w.Aftermath(c)
		if b := w.Judge(); !b.clean() {
			t.Error(b)
		}
	})
}

// TestReconcileADifferenceIsAnAlarmUntilItIsMended and a person can run the day again.
func TestReconcileADifferenceIsAnAlarmUntilItIsMended(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, s := reconWorld(t, vcctest.Options{Good: true})
		defer w.Close()
		load(w, 1, 5000)
		load(w, 2, 700)
		no := string(w.A.journal.ByOrder("O1")[0].TransNo)
		s.editing(func(file []byte) []byte {
			lost := strings.Repeat("F", 32) + "|O9|QC000A|SU0105|||1|100|33|0|20000101090000|N|S\n"
			return append(bytes.Replace(file, []byte("|5000|"), []byte("|4000|"), 1), lost...)
		})
		until(t, "20000102 09:00")
		d := result(t, w.A, "20000101")
		if d.Alarms != 2 || len(d.Result.Differ) != 1 || d.Result.Differ[0].TransNo != no || d.Result.Differ[0].Code != "4005" ||
			len(d.Result.OnlyTheirs) != 1 || d.Result.OnlyTheirs[0].Code != "4010" {
			t.Errorf("%+v %+v", d.Day, d.Result)
		}
		if r := w.A.journal.ByOrder("O1")[0]; r.Reconciled {
			t.Error("a record with another amount counts as reconciled")
		}
		if !has(w.A.Agent.Status().Alarms, "recon.differs") {
			t.Errorf("alarms %v", w.A.Agent.Status().Alarms)
		}
		w.A.Reboot() // the alarm is on disk
		time.Sleep(2 * time.Hour)
		if !has(w.A.Agent.Status().Alarms, "recon.differs") {
			t.Errorf("alarms after a restart %v", w.A.Agent.Status().Alarms)
		}
		s.editing(nil)
		got, err := w.A.Agent.Reconcile(t.Context(), "20000101", "technician")
		if err != nil || got.Alarms != 0 || got.Agreed != 2 || has(w.A.Agent.Status().Alarms, "recon.differs") {
			t.Errorf("run again: %+v, %v, alarms %v", got.Day, err, w.A.Agent.Status().Alarms)
		}
		if r := w.A.journal.ByOrder("O1")[0]; !r.Reconciled {
			t.Error("not reconciled after the mended run")
		}
		// What a person may not run.
		for day, want := range map[string]error{
			"20000102": agent.ErrDayOpen, "20000110": agent.ErrDayOpen, "19991231": reconcile.ErrDay, "2000-01-01": reconcile.ErrDay,
		} {
			if _, err := w.A.Agent.Reconcile(t.Context(), day, "t"); !errors.Is(err, want) {
				t.Errorf("run of %s: %v, want %v", day, err, want)
			}
		}
		until(t, "20000104 23:45")
		if _, err := w.A.Agent.Reconcile(t.Context(), "20000103", "t"); !errors.Is(err, agent.ErrQuiet) {
			t.Errorf("in the maintenance window: %v", err)
		}
	})
}

// TestReconcileTheFileServerIsAway for two days: nothing else suffers, a person hears,
// and all days follow in order.
func TestReconcileTheFileServerIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, s := reconWorld(t, vcctest.Options{Good: true})
		defer w.Close()
		load(w, 1, 5000)
		s.failing(func(op, name string) error {
			if at := time.Now().In(china).Format("15:04"); at >= "23:30" || at < "00:30" {
				t.Errorf("%s %s at %s, in the maintenance window", op, name, at)
			}
			return fmt.Errorf("put: %w", sftp.ErrLost)
		})
		until(t, "20000102 00:30")
		for range 24 {
			from := w.A.count()
			time.Sleep(time.Hour)
			if n := w.A.count().commits - from.commits; n > 2 {
				t.Errorf("%d commits in one hour", n)
			}
		}
		if st := w.A.Agent.Status(); st.Outbox.Depth != 0 || has(st.Alarms, "recon.late") {
			t.Errorf("after a day: %+v %v", st.Outbox, st.Alarms)
		}
		load(w, 2, 700)
		time.Sleep(2 * time.Minute) // the acknowledgement rides on a commit
		if r := w.A.journal.ByOrder("O2")[0]; r.Phase != topup.Closed {
			t.Errorf("a report waits for the file server: %s", r.Phase)
		}
		w.A.Reboot()
		until(t, "20000103 14:00")
		if st := w.A.Agent.Status(); !has(st.Alarms, "recon.late") {
			t.Errorf("after 38 hours: %v", st.Alarms)
		}
		s.failing(nil)
		until(t, "20000103 23:00")
		for _, day := range []string{"20000101", "20000102"} {
			if d := result(t, w.A, day); d.Answered == 0 || d.Alarms != 0 {
				t.Errorf("%s: %+v", day, d.Day)
			}
		}
		if st := w.A.Agent.Status(); len(st.Alarms) != 0 {
			t.Errorf("afterwards: %v", st.Alarms)
		}
		// Changed keys are another kind of trouble.
		s.failing(func(string, string) error { return fmt.Errorf("put: %w", sftp.ErrHostKey) })
		until(t, "20000104 04:00")
		if st := w.A.Agent.Status(); !has(st.Alarms, "recon.host_key") {
			t.Errorf("alarms %v", st.Alarms)
		}
	})
}

// TestReconcileAnswersThatCannotBeUsed settle nothing; after three days a person hears.
func TestReconcileAnswersThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*fileServer, string){
		"none":          func(s *fileServer, id string) { delete(s.files, id+".txt") },
		"no sum":        func(s *fileServer, id string) { delete(s.files, id+".sum") },
		"cut in a line": func(s *fileServer, id string) { s.files[id+".txt"] = s.files[id+".txt"][:len(s.files[id+".txt"])-3] },
		"cut at a line": func(s *fileServer, id string) {
			b := s.files[id+".txt"]
			s.files[id+".txt"] = b[:bytes.LastIndexByte(b[:len(b)-1], '\n')+1]
		},
		"a web page":      func(s *fileServer, id string) { s.files[id+".txt"] = []byte("<html>\n") },
		"seventeen MB":    func(s *fileServer, id string) { s.files[id+".txt"] = make([]byte, 17<<20) },
		"a sum of 300 kB": func(s *fileServer, id string) { s.files[id+".sum"] = make([]byte, 300<<10) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, s := reconWorld(t, vcctest.Options{Good: true})
				defer w.Close()
				load(w, 1, 5000)
				load(w, 2, 700)
				until(t, "20000102 03:30")
				s.mu.Lock()
				spoil(s, "/recon/SU0105/20000101/QR_QC000A_20000101")
				s.mu.Unlock()
				until(t, "20000104 12:00")
				d := result(t, w.A, "20000101")
				if d.Answered != 0 || d.Result != nil || w.A.journal.ByOrder("O1")[0].Reconciled {
					t.Errorf("believed: %+v", d.Day)
				}
				if other := result(t, w.A, "20000102"); other.Answered == 0 {
					t.Error("the next day waits for this one")
				}
				until(t, "20000105 12:00")
				if st := w.A.Agent.Status(); st.Outbox.Parked != 1 || !has(st.Alarms, "recon.late") {
					t.Errorf("%+v %v", st.Outbox, st.Alarms)
				}
			})
		})
	}
}

// TestReconcileNoOutcomeIsEnteredUnderAShippedDay: the platform's clock, which is the
// kiosk's, was a day ahead and is set right.
func TestReconcileNoOutcomeIsEnteredUnderAShippedDay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, _ := reconWorld(t, vcctest.Options{Good: true, Lapses: vcctest.Lapses{ClockOff: true}})
		defer w.Close()
		load(w, 1, 5000) // on what is taken for the 2nd
		until(t, "20000102 09:00")
		first := w.A.journal.ByOrder("O1")[0]
		if d := result(t, w.A, ""); d.Day.Day != "20000102" || first.ReconDay != "20000102" {
			t.Fatalf("the story does not begin: %+v %s", d.Day, first.ReconDay)
		}
		w.Platform.SetLapses(vcctest.Lapses{})
		time.Sleep(2 * time.Hour) // a heartbeat tells the time
		load(w, 2, 700)
		if r := w.A.journal.ByOrder("O2")[0]; r.ReconDay != "20000103" {
			t.Errorf("entered under %s, and the 2nd is shipped", r.ReconDay)
		}
		w.A.Reboot()
		load(w, 3, 700)
		if r := w.A.journal.ByOrder("O3")[0]; r.ReconDay != "20000103" {
			t.Errorf("after a restart entered under %s", r.ReconDay)
		}
		until(t, "20000104 12:00")
		if d := result(t, w.A, "20000103"); d.Rows != 2 {
			t.Errorf("file of the 3rd: %+v", d.Day)
		}
		if d := result(t, w.A, "20000102"); d.Rows != 1 {
			t.Errorf("file of the 2nd: %+v", d.Day)
		}
	})
}

// TestReconcileWaitsForThePlatformsTime: a kiosk whose clock nobody has confirmed
// ends no day.
func TestReconcileWaitsForThePlatformsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := NewWorld(t, vcctest.Options{Good: true}, nil)
		defer w.Close()
		s := newFileServer(w)
		w.A.offline.Store(true)
		w.A.On()
		until(t, "20000102 12:00")
		if len(s.sent()) != 0 {
			t.Errorf("sent %v", s.sent())
		}
		w.A.offline.Store(false)
		until(t, "20000102 15:00")
		if len(s.sent()) != 2 {
			t.Errorf("sent %v", s.sent())
		}
	})
}

// TestReconcileTellsOfARevisionOnce: the card is put back after midnight, and the
// platform has the load under the new day.
func TestReconcileTellsOfARevisionOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, s := reconWorld(t, vcctest.Options{Good: true})
		defer w.Close()
		c := w.AddPurse(1)
		w.Pay(c, "O1", 5000)
		c.Arm(tornPurse(simcard.After))
		w.A.Visit(c, Visit{})
		until(t, "20000102 03:30")
		w.A.Visit(c, Visit{})
		s.mu.Lock()
		file, sum := w.Platform.DayAnswer("QC000A", "SU0105", "20000101")
		s.answer("/recon/SU0105/20000101", "QC000A", "20000101", file, sum)
		s.mu.Unlock()
		until(t, "20000103 12:00")
		first, second := result(t, w.A, "20000101"), result(t, w.A, "20000102")
		if first.Rows != 1 || first.Alarms != 0 || len(first.Result.OnlyOurs) != 0 || second.Rows != 1 || second.Agreed != 1 {
			t.Errorf("%+v %+v\n%+v %+v", first.Day, first.Result, second.Day, second.Result)
		}
		// The first day run again still has what was known on it.
		if again, err := w.A.Agent.Reconcile(t.Context(), "20000101", "t"); err != nil || again.Rows != 1 || again.Alarms != 0 {
			t.Errorf("%+v, %v", again.Day, err)
		}
	})
}

// TestReconcileSeesWhatWasEnteredMeanwhile: an outcome that looked at the clock
// before the day ended reaches the disk while the day's file is on its way.
func TestReconcileSeesWhatWasEnteredMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, s := reconWorld(t, vcctest.Options{Good: true})
		defer w.Close()
		load(w, 1, 5000)
		time.Sleep(2 * time.Minute)
		late := w.A.journal.ByOrder("O1")[0]
		late.TransNo, late.OrderNo, late.Reconciled = topup.NewTransNo(), "O2", false
		entered := false
		s.failing(func(op, name string) error {
			if op == "put" && strings.HasSuffix(name, ".sum") && !entered {
				entered = true
				if err := w.A.db.Update(func(tx *bbolt.Tx) error { return w.A.journal.Put(tx, late) }); err != nil {
					t.Error(err)
				}
			}
			return nil
		})
		until(t, "20000102 04:00")
		if d := result(t, w.A, "20000101"); d.Rows != 2 {
			t.Errorf("the file has %d rows", d.Rows)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if !bytes.Contains(s.files["/recon/SU0105/20000101/QC_QC000A_20000101.txt"], []byte(late.TransNo)) {
			t.Error("the file that stands there lacks the late one")
		}
	})
}

// TestReconcileKeepsNoReportWaiting: the file server takes the connection and says
// nothing.
func TestReconcileKeepsNoReportWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, s := reconWorld(t, vcctest.Options{Good: true})
		defer w.Close()
		hangs := make(chan struct{})
		var once sync.Once
		s.failing(func(string, string) error {
			once.Do(func() {
				close(hangs)
				time.Sleep(100 * time.Second)
			})
			return nil
		})
		<-hangs
		load(w, 1, 5000)
		time.Sleep(10 * time.Second)
		if o, _ := w.Platform.Order("O1"); o.State != vcctest.StateSettled {
			t.Errorf("order is %s: its report waits for the file server", o.State)
		}
		time.Sleep(10 * time.Minute)
		if len(s.sent()) != 2 {
			t.Errorf("sent %v", s.sent())
		}
	})
}

// TestReconcileWithCutsInTheNight: at every effect between the file and its answer,
// before and after.
func TestReconcileWithCutsInTheNight(t *testing.T) {
	t.Parallel()
	night := func(t *testing.T, n int, at side) (effects int) {
		synctest.Test(t, func(t *testing.T) {
			w, s := reconWorld(t, vcctest.Options{Good: true})
			defer w.Close()
			load(w, 1, 5000)
			c := w.AddPurse(2)
			w.Pay(c, "O2", 700)
			c.Arm(tornPurse(simcard.After))
			w.A.Visit(c, Visit{})
			w.B.On()
			w.B.Visit(c, Visit{})
			w.B.Off()
			until(t, "20000102 00:45")
			w.A.p.mu.Lock()
			from := w.A.p.n
			if n > 0 {
				w.A.p.next = cut{from + n, at}
			}
			w.A.p.mu.Unlock()
			for range 4 * 24 {
				time.Sleep(15 * time.Minute)
				w.A.revive()
			}
			w.A.p.mu.Lock()
			effects = w.A.p.n - from
			w.A.p.mu.Unlock()
			d := result(t, w.A, "20000101")
			if d.Rows != 2 || d.Answered == 0 || d.Alarms != 0 || len(d.Closed) != 1 {
				t.Errorf("cut %s effect %d: %+v, closed %v", at, n, d.Day, d.Closed)
			}
			s.mu.Lock()
			body, sum := s.files["/recon/SU0105/20000101/QC_QC000A_20000101.txt"], s.files["/recon/SU0105/20000101/QC_QC000A_20000101.sum"]
			s.mu.Unlock()
			if tab, err := reconcile.Read(body); err != nil || tab.Check(sum) != nil {
				t.Errorf("cut %s effect %d: file and sum do not fit: %v", at, n, err)
			}
			for _, o := range []string{"O1", "O2"} {
				if r := w.A.journal.ByOrder(o)[0]; !r.Reconciled || r.Phase != topup.Closed {
					t.Errorf("cut %s effect %d: %s is %s, reconciled %t", at, n, o, r.Phase, r.Reconciled)
				}
			}
			plans := 0
			for _, it := range w.A.Agent.Queue() {
				if it.Kind == "dayFile" {
					plans++
				}
			}
			if plans != 1 {
				t.Errorf("cut %s effect %d: %d day files planned", at, n, plans)
			}
		})
		return effects
	}
	all := min(night(t, 0, before), 40)
	if all < 10 {
		t.Fatalf("only %d effects in the night", all)
	}
	for n := 1; n <= all; n++ {
		for _, at := range []side{before, after} {
			night(t, n, at)
		}
	}
	t.Logf("%d effects, before and after", all)
}
