package mirror

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"go.etcd.io/bbolt"

	"vcckiosk/protocol"
	"vcckiosk/protocol/table"
	"vcckiosk/protocol/vcctest"
)

const (
	baseKey = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6"
	org     = "WJ0105"
)

type key string

func (k key) Sign(m []byte) string { return fmt.Sprintf("%X", md5.Sum(append(slices.Clone(m), k...))) }
func (key) Generation() uint64     { return 1 }

type serials struct{ n atomic.Uint64 }

func (s *serials) Next(context.Context) (uint64, error) { return s.n.Add(1), nil }

// world is a platform and a mirror of it, in a bubble.
type world struct {
	t        *testing.T
	platform *vcctest.Platform
	client   *protocol.Client
	path     string
	m        *Mirror
	stop     func()
}

func newWorld(t *testing.T, o vcctest.Options) *world {
	t.Helper()
	o.Good, o.BaseKey = true, baseKey
	w := &world{t: t, platform: vcctest.New(o), path: filepath.Join(t.TempDir(), "mirror.db")}
	w.client = newClient(t, "https://platform.invalid/vcc-openapi", w.platform)
	// A bubble begins with the century, which no stamp may precede; noon in
	// China is far from the maintenance window.
	time.Sleep(90*24*time.Hour + 4*time.Hour)
	return w
}

func newClient(t testing.TB, addr string, p *vcctest.Platform) *protocol.Client {
	t.Helper()
	d := protocol.Deps{Seq: &serials{}, Key: func() (protocol.BaseKey, error) { return key(baseKey), nil }}
	if p != nil {
		d.Transport = p.RoundTripper()
	}
	c, err := protocol.NewClient(protocol.Config{BaseURL: addr, AppID: "APP1", DeviceID: "K1", OrgCode: org}, d)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// start runs a mirror over the world's file.
func (w *world) start(edit ...func(*Config, *Deps)) {
	w.t.Helper()
	c, d := Config{Path: w.path, DeviceID: "K0001"}, Deps{Source: w.client}
	for _, f := range edit {
		f(&c, &d)
	}
	m, err := New(c, d)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.Run(ctx); err != nil {
			w.t.Error(err)
		}
	}()
	w.m, w.stop = m, func() { cancel(); <-done }
	w.t.Cleanup(w.stop)
	synctest.Wait()
}

func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func subscriber(n int, name, state string) vcctest.Subscriber {
	return vcctest.Subscriber{
		Code: strconv.Itoa(1400000000 + n), Name: name, AddrCode: "3205053690", Detail: "2单元301室", Type: "1", State: state,
		Tel: "051287654321", Mobile: "13612345678", OrgCode: org,
	}
}

func meter(n int, kind, subs string) vcctest.Meter {
	return vcctest.Meter{
		Code: strconv.Itoa(8800000000 + n), Type: kind, Model: "01", Direction: "1", State: "A", Position: "厨房", SubsCode: subs, Mode: "1", Factory: "10086", OrgCode: org,
	}
}

// held is everything in a closed mirror's file.
func (w *world) held() map[string]string {
	w.t.Helper()
	all := map[string]string{}
	db, err := bbolt.Open(w.path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Millisecond})
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		root := tx.Bucket(bucket)
		for _, code := range []string{addresses, supplyPoints, subscribers, meters, string(ownerBucket)} {
			if err := root.Bucket([]byte(code)).ForEach(func(k, v []byte) error {
				all[code+" "+string(k)] = string(v)
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// books is what held must be for the platform's books, worked out by other
// means: split and join, and the layout as the documentation has it.
func (w *world) books() map[string]string {
	all := map[string]string{}
	put := func(code, k string, fields ...string) {
		v := appendSum([]byte(k+strings.Join(fields, "|")+"|"), 0)
		all[code+" "+k] = string(v[len(k):])
	}
	for _, line := range w.platform.Entries("3003") {
		f := strings.Split(line, "|")
		put("3003", f[0], string([]rune(f[1])[:1])+"***", f[2], string([]rune(f[3])[:len([]rune(f[3]))/2])+"***", f[4], f[5])
	}
	for _, line := range w.platform.Entries("3004") {
		f := strings.Split(line, "|")
		put("3004", f[0]+"\x00"+f[1], f[6], f[2], f[4], f[7], f[8])
		all["owners "+f[6]+"\x00"+f[0]+"\x00"+f[1]] = ""
	}
	return all
}

func (w *world) compare() {
	w.t.Helper()
	w.stop()
	got, want := w.held(), w.books()
	if maps.Equal(got, want) {
		return
	}
	for k, v := range want {
		if got[k] != v {
			w.t.Errorf("%q is %q, the books say %q", k, got[k], v)
		}
	}
	for k := range got {
		if _, has := want[k]; !has {
			w.t.Errorf("%q is not in the books", k)
		}
	}
}

func TestAMirrorFollowsTheBooks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vcctest.Options{})
		w.platform.AddEntries(subscriber(1, "张三", "A"), subscriber(2, "李四", "A"), meter(1, "01", "1400000001"), meter(1, "02", "1400000001"))
		w.pass(time.Minute)
		w.start()
		if st := w.m.Status(); st.State != Empty {
			t.Errorf("before the first pull: %+v", st)
		}
		w.pass(16 * time.Minute) // a new mirror does not wait for its hour
		if st := w.m.Status(); st.State != Current || st.Tables[0].Rows != 2 || st.Tables[1].Rows != 2 {
			t.Errorf("after the first: %+v", st)
		}
		s, err := w.m.Subscriber("1400000001")
		if want := (Subscriber{Code: "1400000001", Name: "张***", AddrCode: "3205053690", Address: "2单元***", Kind: "1", State: "A"}); err != nil || s != want {
			t.Errorf("%+v %v, want %+v", s, err, want)
		}
		if l, err := w.m.Meters("1400000001"); err != nil || len(l) != 2 || l[0] != (Meter{"8800000001", "01", "01", "A", "1", "10086"}) || l[1].Type != "02" {
			t.Errorf("%+v %v", l, err)
		}
		if _, err := w.m.Subscriber("1400000009"); !errors.Is(err, ErrNotHeld) {
			t.Errorf("an unknown one: %v", err)
		}
		// A change, a meter that moves, a new account.
		w.platform.AddEntries(subscriber(1, "张三", "X"), meter(1, "02", "1400000003"), subscriber(3, "王五", "A"))
		w.pass(70 * time.Minute)
		if s, err := w.m.Subscriber("1400000001"); err != nil || s.State != "X" {
			t.Errorf("a change: %+v %v", s, err)
		}
		if l, err := w.m.Meters("1400000001"); err != nil || len(l) != 1 {
			t.Errorf("a moved meter: %+v %v", l, err)
		}
		if l, err := w.m.Meters("1400000003"); err != nil || len(l) != 1 || l[0].Type != "02" {
			t.Errorf("where it moved: %+v %v", l, err)
		}
		w.compare()
		if _, err := w.m.Subscriber("1400000001"); !errors.Is(err, ErrOff) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestNoTelephoneAndNoNameReachesTheDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vcctest.Options{})
		for i := range 200 {
			s := subscriber(i, "欧阳建国", "A")
			w.platform.AddEntries(s, meter(i, "01", s.Code), vcctest.SupplyPoint{Code: strconv.Itoa(i), Type: "1", Gas: "1", Building: "7", Detail: "秘密室", Through: "N", OrgCode: org})
		}
		w.pass(time.Minute)
		w.start(func(c *Config, _ *Deps) { c.Tables = []string{"3003", "3004", "3001", "3002"} })
		w.pass(20 * time.Minute)
		w.stop()
		b, err := os.ReadFile(w.path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), "欧***") {
			t.Error("the masked name is not there: this test would prove nothing")
		}
		for _, secret := range []string{"阳建国", "13612345678", "051287654321", "301室", "厨房", "秘密"} {
			if strings.Contains(string(b), secret) {
				t.Errorf("%s is in the file", secret)
			}
		}
		if st, err := os.Stat(w.path); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("mode %v %v", st.Mode(), err)
		}
	})
}

func TestMasks(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ name, addr, wantName, wantAddr string }{
		{"张三", "2单元301室", "张***", "2单元***"},
		{"张", "1", "***", "***"},
		{"", "", "***", "***"},
		{"John Smith", "Flat 12B", "J***", "Flat***"},
		{"\u202e三", "a\u0085b", "***", "a***"},
		{"😀名", "😀😀", "😀***", "😀***"},
	} {
		if got := string(maskName(nil, []byte(x.name))); got != x.wantName {
			t.Errorf("name %q: %q", x.name, got)
		}
		if got := string(maskAddress(nil, []byte(x.addr))); got != x.wantAddr {
			t.Errorf("address %q: %q", x.addr, got)
		}
	}
}

func TestPrintableIsTheLibrarys(t *testing.T) {
	t.Parallel()
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if printable(r) != unicode.IsPrint(r) {
			t.Fatalf("%U", r)
		}
	}
}

// A change that becomes visible four minutes after its date, and one dated at
// the very end of a window, are caught by the overlap.
func TestTheOverlapCatchesWhatComesLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vcctest.Options{Download: vcctest.DownloadOptions{Lag: 4 * time.Minute}})
		w.start()
		w.pass(16 * time.Minute)
		for i := range 600 { // one every ten seconds, whatever the pulls' times are
			w.platform.AddEntries(subscriber(i, "张三", "A"))
			w.pass(10 * time.Second)
		}
		w.pass(80 * time.Minute)
		w.compare()
	})
}

func TestPlan(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 10, 12, 0, 0, 500, time.UTC)
	sec := now.Truncate(time.Second)
	floor := sec.Add(-reach)
	ago := func(d time.Duration) time.Time { return sec.Add(-d) }
	day := 24 * time.Hour
	for _, x := range []struct {
		name     string
		m        mark
		slice    time.Duration
		from, to time.Time
		last     bool
		gap      *Gap
	}{
		{"never pulled", mark{}, reach, floor, sec, true, nil},
		{"an hour ago", mark{At: ago(time.Hour)}, reach, ago(time.Hour + overlap), sec, true, nil},
		{"a week ago, in days", mark{At: ago(7 * day)}, day, ago(7*day + overlap), ago(6*day + overlap), false, nil},
		{"a month ago less the overlap", mark{At: ago(reach - time.Minute)}, reach, floor, sec, true, nil},
		{"a month ago", mark{At: floor}, reach, floor, sec, true, nil},
		{"a second too long ago", mark{At: floor.Add(-time.Second)}, reach, floor, sec, true, &Gap{floor.Add(-time.Second), floor}},
		{"a second gap", mark{At: ago(40 * day), Gap: &Gap{ago(100 * day), ago(60 * day)}}, reach, floor, sec, true, &Gap{ago(100 * day), floor}},
		{"a gap stays", mark{At: ago(time.Hour), Gap: &Gap{ago(100 * day), ago(60 * day)}}, reach, ago(time.Hour + overlap), sec, true, &Gap{ago(100 * day), ago(60 * day)}},
		{"from a clock that was ahead", mark{At: sec.Add(2 * day)}, reach, floor, sec, true, nil},
		{"a little ahead", mark{At: sec.Add(time.Minute)}, reach, ago(4 * time.Minute), sec, true, nil},
		{"slices are never shorter than an hour", mark{At: ago(day)}, time.Second, ago(day + overlap), ago(23*time.Hour + overlap), false, nil},
	} {
		w, next, last := plan(x.m, now, x.slice)
		if !w.From.Equal(x.from) || !w.To.Equal(x.to) || last != x.last || !next.At.Equal(w.To) {
			t.Errorf("%s: %v to %v, last %v, next %v", x.name, w.From, w.To, last, next.At)
		}
		if (next.Gap == nil) != (x.gap == nil) || x.gap != nil && *next.Gap != *x.gap {
			t.Errorf("%s: gap %+v", x.name, next.Gap)
		}
		if w.To.Sub(w.From) > protocol.MaxWindow {
			t.Errorf("%s: window of %v", x.name, w.To.Sub(w.From))
		}
	}
}

// TestPlanAlwaysGetsThere walks from any mark to the present: no window is over
// a month, none leaves a second between two, and each asks again for the overlap.
func TestPlanAlwaysGetsThere(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	for _, slice := range []time.Duration{0, time.Hour, 7 * time.Hour, 25 * time.Hour, reach} {
		for _, age := range []time.Duration{time.Second, time.Hour, 29 * time.Hour, reach - time.Second, reach, 2 * reach} {
			m, steps := mark{At: now.Add(-age)}, 0
			for {
				w, next, last := plan(m, now, slice)
				if w.To.Sub(w.From) > protocol.MaxWindow || !w.To.After(w.From) || w.To.After(now) || w.From.After(m.At.Add(-overlap)) && next.Gap == nil && w.From.After(now.Add(-reach)) {
					t.Fatalf("slice %v, age %v: %+v after %v", slice, age, w, m.At)
				}
				if m = next; last {
					break
				}
				if steps++; steps > 1000 {
					t.Fatalf("slice %v, age %v: does not end", slice, age)
				}
			}
		}
	}
}

func TestMoreThanAMonthAwayIsSaidUntilAPersonActs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vcctest.Options{Download: vcctest.DownloadOptions{Recent: true}})
		w.platform.AddEntries(subscriber(1, "张三", "A"), subscriber(2, "李四", "A"))
		w.pass(time.Minute)
		w.start()
		w.pass(20 * time.Minute)
		w.stop()
		w.platform.AddEntries(subscriber(1, "张三", "X")) // nobody will be told
		w.pass(40 * 24 * time.Hour)
		w.platform.AddEntries(subscriber(2, "李四", "X"))
		w.pass(time.Minute)
		w.start()
		w.pass(20 * time.Minute)
		for range 2 {
			st := w.m.Status()
			if st.State != ResyncNeeded || st.Tables[0].Gap == nil || !strings.Contains(st.Next, "kioskctl mirror resync") {
				t.Fatalf("%+v", st)
			}
			if s, err := w.m.Subscriber("1400000001"); err != nil || s.State != "A" {
				t.Errorf("kept as it was: %+v %v", s, err)
			}
			if s, err := w.m.Subscriber("1400000002"); err != nil || s.State != "X" {
				t.Errorf("what can be had is had: %+v %v", s, err)
			}
			w.stop()
			w.start() // it stands across a restart
			w.pass(20 * time.Minute)
		}
		w.m.Resync()
		w.pass(3 * time.Minute)
		if st := w.m.Status(); st.State != Current || st.Dropped == nil || st.Next != "" {
			t.Errorf("after resync: %+v", st)
		}
		if _, err := w.m.Subscriber("1400000001"); !errors.Is(err, ErrNotHeld) {
			t.Errorf("a row that may be out of date: %v", err)
		}
		if s, err := w.m.Subscriber("1400000002"); err != nil || s.State != "X" {
			t.Errorf("%+v %v", s, err)
		}
	})
}

// A power cut between any two transactions: the copy taken there is opened by a
// new mirror, which ends with the platform's books.
func TestACutBetweenAnyTwoBatchesRepeatsAWindowAndLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vcctest.Options{})
		const n = 5*batchRows + 17
		for i := range n {
			w.platform.AddEntries(subscriber(i, "张三", "A"))
		}
		for i := range 2*batchRows + 5 {
			w.platform.AddEntries(meter(i, "01", strconv.Itoa(1400000000+i)))
		}
		w.pass(time.Minute)
		w.platform.AddEntries(subscriber(0, "张三", "X"), meter(0, "01", "1400000009")) // the same rows again, later in the window
		w.pass(time.Minute)
		var cuts []string
		w.start(func(_ *Config, d *Deps) {
			d.Source = &cutting{Source: w.client, at: func() {
				b, err := os.ReadFile(w.path)
				if err != nil {
					t.Error(err)
				}
				cut := filepath.Join(t.TempDir(), "cut.db")
				if err := os.WriteFile(cut, b, 0o600); err != nil {
					t.Error(err)
				}
				cuts = append(cuts, cut)
			}}
		})
		w.pass(20 * time.Minute)
		w.compare()
		if len(cuts) < 8 {
			t.Fatalf("only %d cuts", len(cuts))
		}
		// Meanwhile the books change once more.
		w.platform.AddEntries(subscriber(3, "李四", "X"), meter(1, "01", "1400000777"))
		w.pass(time.Minute)
		for i, cut := range cuts {
			w.path = cut
			w.start()
			w.pass(20 * time.Minute)
			if st := w.m.Status(); st.State != Current || st.Dropped != nil {
				t.Errorf("cut %d: %+v", i, st)
			}
			w.compare()
		}
	})
}

// cutting calls at before every few hundred rows, outside any transaction, and
// once at the end of each table.
type cutting struct {
	Source
	at func()
}

func (c *cutting) Download(ctx context.Context, code string, w protocol.Window, use func(*table.Reader) error) (table.Summary, error) {
	n := 0
	s, err := c.Source.Download(ctx, code, w, func(r *table.Reader) error {
		if n++; n%(batchRows/2+1) == 0 {
			c.at()
		}
		return use(r)
	})
	c.at()
	return s, err
}

func TestADamagedFileIsDeletedAndPulledAgain(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name   string
		damage func(t *testing.T, path string)
	}{
		{"not a database", func(t *testing.T, path string) { write(t, path, []byte("nonsense")) }},
		{"empty", func(t *testing.T, path string) { write(t, path, nil) }},
		{"cut short", func(t *testing.T, path string) {
			b := read(t, path)
			write(t, path, b[:len(b)/2])
		}},
		{"a page of zeros", func(t *testing.T, path string) {
			b := read(t, path)
			clear(b[len(b)/2:][:4096])
			for p := 2 * 4096; p < len(b); p += 3 * 4096 {
				clear(b[p:][:4096])
			}
			write(t, path, b)
		}},
		{"readable by others", func(t *testing.T, path string) {
			if err := os.Chmod(path, 0o644); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, vcctest.Options{})
				for i := range 3000 {
					w.platform.AddEntries(subscriber(i, "张三", "A"))
				}
				w.pass(time.Minute)
				w.start()
				w.pass(20 * time.Minute)
				w.stop()
				x.damage(t, w.path)
				w.start()
				w.pass(20 * time.Minute)
				if st := w.m.Status(); st.State != Current || st.Dropped == nil {
					t.Errorf("%+v", st)
				}
				w.compare()
			})
		})
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A bit that turns while the file is open is found by whoever asks, never told
// as a fact, and the file is pulled again.
func TestARottenRowIsFoundByALookup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vcctest.Options{})
		w.platform.AddEntries(subscriber(1, "张三", "A"))
		w.pass(time.Minute)
		w.start()
		w.pass(20 * time.Minute)
		b := read(t, w.path)
		turned := strings.ReplaceAll(string(b), "张***", "王***")
		if turned == string(b) {
			t.Fatal("the row was not found")
		}
		f, err := os.OpenFile(w.path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte(turned), 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err := w.m.Subscriber("1400000001"); err == nil || s.Name != "" {
			t.Errorf("a turned bit was told: %+v", s)
		}
		w.pass(3 * time.Minute)
		if s, err := w.m.Subscriber("1400000001"); err != nil || s.Name != "张***" || w.m.Status().Dropped == nil {
			t.Errorf("%+v %v %+v", s, err, w.m.Status())
		}
	})
}
