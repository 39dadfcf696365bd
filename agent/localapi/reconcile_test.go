package localapi_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"vcckiosk/agent"
	"vcckiosk/agent/audit"
	"vcckiosk/agent/daybook"
	"vcckiosk/protocol/reconcile"
	"vcckiosk/protocol/reconcile/sftp"
)

// shelf is a file server in memory.
type shelf struct {
	mu    sync.Mutex
	files map[string][]byte
	fail  error
}

func (s *shelf) Put(_ context.Context, name string, content []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.files[path.Base(name)] = slices.Clone(content)
	return nil
}

func (s *shelf) Get(_ context.Context, name string, _ int64) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, ok := s.files[path.Base(name)]; ok {
		return b, s.fail
	}
	return nil, fmt.Errorf("get: %w", fs.ErrNotExist)
}

func TestReconcileOverTheSockets(t *testing.T) {
	t.Parallel()
	s := &shelf{files: map[string][]byte{}}
	k := start(t, func(p *agent.Parts) {
		// No maintenance window: this test runs at any hour.
		p.Config.Reconcile = &agent.ReconConfig{Dir: filepath.Join(t.TempDir(), "recon"), QuietFrom: 1, QuietTo: 1}
		p.Files = s
	})
	yesterday := reconcile.DayOf(time.Now()).Add(-1)
	run := func(socket, body string) (int, string) {
		status, _, text := raw(t, filepath.Join(k.dir, socket), "POST", "/v1/reconcile/run", body)
		return status, text
	}
	if status, text := run("t", `{}`); status != 409 || !strings.Contains(text, "time is not known") {
		t.Errorf("before the platform has told the time: %d %s", status, text)
	}
	if _, err := k.tech.Provision(t.Context(), []byte(baseKey), ""); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, socket, body, detail string
		want                       int
	}{
		{"an operator", "o", `{}`, "technician", 403},
		{"no day", "t", `{"day":"tomorrow"}`, "not a day", 400},
		{"another form", "t", `{"day":17}`, "not the JSON", 400},
		{"today", "t", `{"day":"` + string(yesterday.Add(1)) + `"}`, "not over", 409},
		{"long before this kiosk", "t", `{"day":"20200101"}`, "not replaced", 409},
	} {
		if status, text := run(c.socket, c.body); status != c.want || !strings.Contains(text, c.detail) {
			t.Errorf("%s: %d %s", c.name, status, text)
		}
	}
	for _, c := range []struct {
		path string
		want int
	}{{"latest", 404}, {string(yesterday), 404}, {"run", 400}, {"2026", 400}} {
		if status, _, text := raw(t, filepath.Join(k.dir, "o"), "GET", "/v1/reconcile/"+c.path, ""); status != c.want {
			t.Errorf("look at %s: %d %s", c.path, status, text)
		}
	}
	// Yesterday is the day before this kiosk's first plan: a file without rows
	// would replace one that may be full.
	if status, text := run("t", `{}`); status != 409 {
		t.Errorf("yesterday: %d %s", status, text)
	}
}

// TestReconcileShowsWhatABookHas: a book with a day in it, and an answer.
func TestReconcileShowsWhatABookHas(t *testing.T) {
	t.Parallel()
	s := &shelf{files: map[string][]byte{}}
	k := start(t, func(p *agent.Parts) {
		p.Config.Reconcile = &agent.ReconConfig{Dir: filepath.Join(t.TempDir(), "recon"), QuietFrom: 1, QuietTo: 1}
		p.Files = s
		book, err := daybook.Open(p.Writer)
		must(t, err)
		must(t, p.Writer.Do(t.Context(), func(tx *bbolt.Tx) error {
			return book.Put(tx, daybook.Day{Day: string(reconcile.DayOf(time.Now()).Add(-1)), Shipped: 1, SHA256: "old"})
		}))
	})
	_, err := k.tech.Provision(t.Context(), []byte(baseKey), "")
	must(t, err)
	day := string(reconcile.DayOf(time.Now()).Add(-1))
	answer := []byte("终端流水号|订单号|金额(分)|气量|上报状态\n" + strings.Repeat("F", 32) + "|O9|100|33|S\n")
	s.files["QR_K1_"+day+".txt"] = answer
	s.files["QR_K1_"+day+".sum"] = fmt.Appendf(nil, "1|100|33|%x\n", sha256.Sum256(answer))
	s.fail = fmt.Errorf("h has shown another key: %w", sftp.ErrHostKey)
	if status, _, text := raw(t, filepath.Join(k.dir, "t"), "POST", "/v1/reconcile/run", "{}"); status != 502 || !strings.Contains(text, "host key has changed") {
		t.Errorf("another server: %d %s", status, text)
	}
	if !slices.Contains(k.agent.Status().Alarms, string(audit.ReconHost)) {
		t.Errorf("another server: alarms %v", k.agent.Status().Alarms)
	}
	s.fail = nil
	var ran, seen agent.DayResult
	must(t, k.tech.Post(t.Context(), "/v1/reconcile/run", map[string]string{"day": day}, &ran))
	must(t, k.op.Get(t.Context(), "/v1/reconcile/latest", &seen))
	for _, d := range []agent.DayResult{ran, seen} {
		if d.Day.Day != day || d.Answered == 0 || d.Alarms != 1 || d.Result == nil || len(d.Result.OnlyTheirs) != 1 || d.Result.OnlyTheirs[0].Code != "4010" {
			b, _ := json.Marshal(d)
			t.Errorf("%s", b)
		}
	}
	var days []daybook.Day
	must(t, k.op.Get(t.Context(), "/v1/reconcile", &days))
	if len(days) != 1 || days[0].OnlyTheirs != 1 {
		t.Errorf("%+v", days)
	}
	if slices.Contains(k.agent.Status().Alarms, string(audit.ReconHost)) {
		t.Error("the alarm stands though the pinned server was there")
	}
	if len(s.files["QC_K1_"+day+".txt"]) == 0 || len(s.files["QC_K1_"+day+".sum"]) == 0 {
		t.Error("nothing was sent")
	}
	var entries []audit.Entry
	must(t, k.writer.View(func(tx *bbolt.Tx) (err error) { entries, err = audit.List(tx, 10); return err }))
	if !slices.ContainsFunc(entries, func(e audit.Entry) bool {
		return e.Event == audit.OperatorRecon && e.Attrs["day"] == day && e.Attrs["who"] != ""
	}) {
		t.Errorf("who ran it is not recorded: %+v", entries)
	}
}

func TestReconcileOffSaysSo(t *testing.T) {
	t.Parallel()
	k := start(t)
	for _, path := range []string{"/v1/reconcile", "/v1/reconcile/latest"} {
		if status, _, text := raw(t, filepath.Join(k.dir, "o"), "GET", path, ""); status != 409 || !strings.Contains(text, "not configured") {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	if status, _, text := raw(t, filepath.Join(k.dir, "t"), "POST", "/v1/reconcile/run", "{}"); status != 409 || !strings.Contains(text, "not configured") {
		t.Errorf("run: %d %s", status, text)
	}
}
