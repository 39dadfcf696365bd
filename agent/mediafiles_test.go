package agent

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"vcckiosk/agent/media"
	"vcckiosk/protocol"
	"vcckiosk/protocol/vcctest"
	"vcckiosk/queue"
)

const mediaKey = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6"

type mediaBase struct{}

func (mediaBase) Sign(m []byte) string {
	return fmt.Sprintf("%X", md5.Sum(append(append([]byte{}, m...), mediaKey...)))
}
func (mediaBase) Generation() uint64 { return 1 }

var errCut = errors.New("the power is off")

// plug cuts the power at one effect, before it or after it; from then on every
// effect fails without acting.
type plug struct {
	at, n  int // 0: never
	before bool
	off    bool
}

func (p *plug) effect(do func() error) error {
	if p.off {
		return errCut
	}
	p.n++
	mine := p.n == p.at // effects nest: a file goes in the commit that ends it
	if mine && p.before {
		p.off = true
		return errCut
	}
	err := do()
	if mine {
		p.off = true
		return errCut
	}
	return err
}

// power is agent.db behind the plug.
type power struct {
	db *bbolt.DB
	p  *plug
}

func (s power) Update(fn func(*bbolt.Tx) error) error {
	return s.p.effect(func() error { return s.db.Update(fn) })
}

func (s power) View(fn func(*bbolt.Tx) error) error {
	if s.p.off {
		return errCut
	}
	return s.db.View(fn)
}

// mediaWorld is what outlives a power session.
type mediaWorld struct {
	dir string
	p   *vcctest.Platform
	seq atomic.Uint64
}

func (w *mediaWorld) Next(context.Context) (uint64, error) { return w.seq.Add(1), nil }

type wire struct {
	next http.RoundTripper
	p    *plug
}

func (x wire) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	err = x.p.effect(func() (err error) { resp, err = x.next.RoundTrip(r); return err })
	return resp, err
}

func newMediaWorld(t *testing.T, o vcctest.Options) *mediaWorld {
	t.Helper()
	o.Good, o.BaseKey = true, mediaKey
	return &mediaWorld{dir: t.TempDir(), p: vcctest.New(o)}
}

// start is the kiosk after power came back, as far as files go.
func (w *mediaWorld) start(t *testing.T, p *plug, o media.Options) (*Agent, func()) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(w.dir, "agent.db"), 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	writer := queue.NewWriter(power{db, p}, queue.WriterOptions{})
	outbox, err := queue.NewOutbox(writer, queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o.Effect = p.effect
	store, err := media.Open(filepath.Join(w.dir, "media"), db.View, o)
	if err != nil {
		t.Fatal(err)
	}
	client, err := protocol.NewClient(protocol.Config{
		BaseURL: "https://platform.invalid/vcc-openapi", AppID: "APP1", DeviceID: "K1", OrgCode: "WJ0105",
	}, protocol.Deps{Transport: wire{w.p.RoundTripper(), p}, Seq: w, Key: func() (protocol.BaseKey, error) { return mediaBase{}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{writer: writer, outbox: outbox, client: client, media: store, log: slog.New(slog.DiscardHandler)}
	return a, func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func photo(n int) (media.Entry, string) {
	return media.Entry{Type: "image", Name: fmt.Sprintf("door-%d.gif", n), Purpose: "test"}, "GIF89a" + strings.Repeat(fmt.Sprint(n), 1000)
}

func (a *Agent) send1(t *testing.T, n int) (media.Entry, error) {
	t.Helper()
	e, content := photo(n)
	return a.SendMedia(t.Context(), e, strings.NewReader(content))
}

// The power goes at every effect of taking a file in and delivering it: each
// change of a file, each commit, each request, before and after. Afterwards the
// file is at the platform, whole, or was never taken.
func TestPowerCutsLoseNoFileAndSendNoHalfOne(t *testing.T) {
	t.Parallel()
	cuts := 0
	for at := 1; ; at++ {
		done := false
		for _, before := range []bool{true, false} {
			w := newMediaWorld(t, vcctest.Options{})
			p := &plug{at: at, before: before}
			a, stop := w.start(t, p, media.Options{})
			taken, err := a.send1(t, 7)
			_ = a.outbox.Now(t.Context(), mediaKind, a.deliver) // the cut ends it
			stop()
			if !p.off {
				done = true
				if err != nil || len(w.p.Media()) != 1 {
					t.Fatalf("without a cut: %v, %d files", err, len(w.p.Media()))
				}
				break
			}
			cuts++
			what := fmt.Sprintf("cut at %d, before %v", at, before)

			a, stop = w.start(t, &plug{}, media.Options{})
			all := a.MediaFiles()
			if err == nil && len(all) != 1 {
				t.Fatalf("%s: taken in, and %d files known", what, len(all))
			}
			if err := a.outbox.Now(t.Context(), mediaKind, a.deliver); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			_, content := photo(7)
			sent := w.p.Media()
			for _, m := range sent {
				if string(m.Content) != content {
					t.Errorf("%s: the platform has %d bytes", what, len(m.Content))
				}
			}
			if n := len(a.outbox.List()); n != 0 {
				t.Errorf("%s: %d messages left", what, n)
			}
			left, _ := os.ReadDir(filepath.Join(w.dir, "media"))
			switch all = a.MediaFiles(); len(all) {
			case 0:
				if err == nil || len(sent) != 0 || len(left) != 0 {
					t.Errorf("%s: nothing known, %v, %d sent, %d left", what, err, len(sent), len(left))
				}
			case 1:
				if len(sent) == 0 || all[0].MediaID != sent[len(sent)-1].ID || len(left) != 0 || err == nil && all[0].ID != taken.ID {
					t.Errorf("%s: %+v, %d sent, %d left", what, all[0], len(sent), len(left))
				}
			}
			// Once more the same content: its name is used again.
			again, err := a.send1(t, 7)
			if err != nil {
				t.Fatalf("%s: again: %v", what, err)
			}
			if len(all) == 1 && (again.MediaID != all[0].MediaID || len(a.outbox.List()) != 0) {
				t.Errorf("%s: again: %+v", what, again)
			}
			stop()
		}
		if done {
			break
		}
	}
	t.Logf("%d cuts", cuts)
	if cuts < 16 {
		t.Errorf("only %d cuts", cuts)
	}
}

func TestAFileThePlatformRefusesIsParkedAndDelaysNothing(t *testing.T) {
	t.Parallel()
	w := newMediaWorld(t, vcctest.Options{})
	a, stop := w.start(t, &plug{}, media.Options{})
	defer stop()
	if _, err := a.send1(t, 1); err != nil {
		t.Fatal(err)
	}
	w.p.SetHook(func(c vcctest.Call) vcctest.Action {
		if c.Code == "2001" {
			return vcctest.Action{Code: "20010"}
		}
		return vcctest.Action{}
	})
	if err := a.outbox.Now(t.Context(), mediaKind, a.deliver); err != nil {
		t.Fatal(err)
	}
	if st := a.outbox.Stats(); st.SpareParked != 1 || st.Parked != 0 || st.Depth != 0 {
		t.Errorf("%+v", st)
	}
	it := a.outbox.List()[0]
	if !strings.Contains(it.Parked, "20010") || len(a.alarms.list()) != 1 {
		t.Errorf("%q, alarms %v", it.Parked, a.alarms.list())
	}
	// Another one goes meanwhile, and the first when its reason is gone.
	w.p.SetHook(nil)
	if _, err := a.send1(t, 2); err != nil {
		t.Fatal(err)
	}
	if err := a.outbox.Now(t.Context(), mediaKind, a.deliver); err != nil || len(w.p.Media()) != 1 {
		t.Fatalf("%v, %d files", err, len(w.p.Media()))
	}
	if err := a.writer.Do(t.Context(), func(tx *bbolt.Tx) error { return a.outbox.Requeue(tx, it.ID) }); err != nil {
		t.Fatal(err)
	}
	if err := a.outbox.Now(t.Context(), mediaKind, a.deliver); err != nil || len(w.p.Media()) != 2 || len(a.outbox.List()) != 0 {
		t.Errorf("%v, %d files", err, len(w.p.Media()))
	}
}

func TestDamagedOrMissingContentIsParkedUnsent(t *testing.T) {
	t.Parallel()
	w := newMediaWorld(t, vcctest.Options{})
	a, stop := w.start(t, &plug{}, media.Options{})
	defer stop()
	for n := range 2 {
		e, err := a.send1(t, n)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(w.dir, "media", e.ID)
		if n == 0 {
			err = os.Remove(path)
		} else {
			_, content := photo(n)
			err = os.WriteFile(path, []byte(content[:len(content)-1]+"x"), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	_ = a.outbox.Now(t.Context(), mediaKind, a.deliver)
	if st := a.outbox.Stats(); st.SpareParked != 2 || w.p.Calls()["2001"] != 0 {
		t.Errorf("%+v, %d uploads", st, w.p.Calls()["2001"])
	}
	for _, e := range a.MediaFiles() {
		if err := a.DropMedia(t.Context(), e.ID, "technician"); err != nil {
			t.Error(err)
		}
	}
	left, _ := os.ReadDir(filepath.Join(w.dir, "media"))
	if len(a.outbox.List()) != 0 || len(a.MediaFiles()) != 0 || len(left) != 0 {
		t.Errorf("after dropping: %d messages, %d entries, %d files", len(a.outbox.List()), len(a.MediaFiles()), len(left))
	}
}

func TestWhatIsNotTakenLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newMediaWorld(t, vcctest.Options{})
	a, stop := w.start(t, &plug{}, media.Options{MaxFiles: 2, MaxBytes: 2100})
	defer stop()
	send := func(e media.Entry, content string) error {
		_, err := a.SendMedia(t.Context(), e, strings.NewReader(content))
		return err
	}
	gif := media.Entry{Type: "image", Name: "a.gif"}
	for _, x := range []struct {
		name    string
		e       media.Entry
		content io.Reader
		want    error
	}{
		{"video", media.Entry{Type: "video", Name: "a.mp4"}, strings.NewReader("x"), protocol.ErrPermanent},
		{"text", gif, strings.NewReader("hello"), protocol.ErrPermanent},
		{"empty", gif, strings.NewReader(""), protocol.ErrPermanent},
		{"too large", gif, io.MultiReader(strings.NewReader("GIF89a"), io.LimitReader(zeros{}, 2<<20)), media.ErrTooLarge},
		{"more bytes than may wait", gif, strings.NewReader("GIF89a" + strings.Repeat("x", 2100)), media.ErrFull},
	} {
		if _, err := a.SendMedia(t.Context(), x.e, x.content); !errors.Is(err, x.want) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(w.dir, "media")); len(left) != 0 || len(a.outbox.List()) != 0 {
		t.Errorf("%d files, %d messages are left", len(left), len(a.outbox.List()))
	}
	for n := range 3 {
		err := send(gif, fmt.Sprintf("GIF89a%d", n))
		if (n == 2) != errors.Is(err, media.ErrFull) || n < 2 && err != nil {
			t.Errorf("file %d: %v", n, err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A mediaId is used again for two days; of what was delivered no more than so
// many entries are kept.
func TestAMediaIDIsUsedAgainForAWhile(t *testing.T) {
	t.Parallel()
	w := newMediaWorld(t, vcctest.Options{Token: vcctest.TokenOptions{Life: 300 * time.Hour}})
	synctest.Test(t, func(t *testing.T) {
		a, stop := w.start(t, &plug{}, media.Options{Keep: 3})
		defer stop()
		send := func(n int) string {
			if _, err := a.send1(t, n); err != nil {
				t.Fatal(err)
			}
			if err := a.outbox.Now(t.Context(), mediaKind, a.deliver); err != nil {
				t.Fatal(err)
			}
			e, err := a.send1(t, n)
			if err != nil || e.MediaID == "" {
				t.Fatalf("%+v, %v", e, err)
			}
			return e.MediaID
		}
		first := send(1)
		time.Sleep(47 * time.Hour)
		if again := send(1); again != first {
			t.Error("uploaded again within two days")
		}
		time.Sleep(2 * time.Hour)
		if again := send(1); again == first {
			t.Error("an old name was used")
		}
		for n := range 6 {
			send(10 + n)
		}
		if n := len(a.MediaFiles()); n != 3 {
			t.Errorf("%d entries are kept", n)
		}
	})
}
