package localapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"vcckiosk/agent"
	"vcckiosk/agent/localapi"
	"vcckiosk/agent/topup"
	"vcckiosk/keystore"
	"vcckiosk/protocol/vcctest"
	"vcckiosk/queue"
)

// raw speaks to a socket without the package's client.
func raw(t *testing.T, socket, method, path, body string) (status int, header http.Header, text string) {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://k"+path, strings.NewReader(body))
	must(t, err)
	resp, err := (&http.Client{Transport: tr}).Do(req)
	must(t, err)
	defer resp.Body.Close()
	return resp.StatusCode, resp.Header, readAll(t, resp.Body)
}

func TestEveryRefusalIsAProblem(t *testing.T) {
	t.Parallel()
	k := start(t)
	long := `{"orderNo":"` + strings.Repeat("x", 5000) + `"}`
	for _, c := range []struct {
		name, socket, method, path, body string
		want                             int
		detail                           string
	}{
		{"unknown path", "t", "GET", "/v1/nothing", "", 404, "no such path"},
		{"root", "t", "GET", "/", "", 404, "no such path"},
		{"wrong method", "t", "DELETE", "/v1/status", "", 405, "GET, HEAD"},
		{"post where one looks", "t", "POST", "/v1/queue/7", "", 405, "GET, HEAD"},
		{"look where one posts", "t", "GET", "/v1/provision", "", 405, "POST"},
		{"no message", "t", "GET", "/v1/queue/7", "", 404, "no such item"},
		{"no number", "t", "GET", "/v1/queue/seven", "", 400, "not a number"},
		{"number too large", "t", "GET", "/v1/queue/99999999999999999999999", "", 400, "not a number"},
		{"no record", "t", "GET", "/v1/journal/" + strings.Repeat("A", 32), "", 404, ""},
		{"requeue of nothing", "t", "POST", "/v1/queue/7/requeue", "", 404, "no such item"},
		{"requeue by an operator", "o", "POST", "/v1/queue/7/requeue", "", 403, "technician"},
		{"key by an operator", "o", "POST", "/v1/provision", `{"key":"` + baseKey + `"}`, 403, "technician"},
		{"call by an operator", "o", "POST", "/v1/call", `{"code":"3005"}`, 403, "technician"},
		{"call of what changes something", "t", "POST", "/v1/call", `{"code":"4006"}`, 403, "only interfaces that read"},
		{"call of nothing", "t", "POST", "/v1/call", `{"code":"9999"}`, 422, "no such interface"},
		{"call with a bad field", "t", "POST", "/v1/call", `{"code":"3005","fields":{"subsCode":"a b"}}`, 422, "subsCode"},
		{"mirror where there is none", "o", "GET", "/v1/mirror", "", 503, "the mirror is off"},
		{"account where there is no mirror", "t", "GET", "/v1/mirror/1400123456", "", 503, "the mirror is off"},
		{"account by an operator", "o", "GET", "/v1/mirror/1400123456", "", 403, "technician"},
		{"pull by an operator", "o", "POST", "/v1/mirror/pull", "", 403, "technician"},
		{"pull where there is no mirror", "t", "POST", "/v1/mirror/pull", "", 503, "the mirror is off"},
		{"resync by an operator", "o", "POST", "/v1/mirror/resync", "", 403, "technician"},
		{"resync where there is no mirror", "t", "POST", "/v1/mirror/resync", "", 503, "the mirror is off"},
		{"body is garbage", "t", "POST", "/v1/provision", `}{`, 400, "not the JSON"},
		{"body is of another type", "t", "POST", "/v1/provision", `{"key":17}`, 400, "not the JSON"},
		{"body is empty", "t", "POST", "/v1/session/choose", ``, 400, "not the JSON"},
		{"two bodies", "t", "POST", "/v1/session/choose", `{"orderNo":"a"}{"orderNo":"b"}`, 400, "not the JSON"},
		{"body is too long", "o", "POST", "/v1/session/choose", long, 413, "too long"},
		{"body is too long and not wanted", "o", "POST", "/v1/session/confirm", long, 413, "too long"},
		{"confirm at the wrong time", "o", "POST", "/v1/session/confirm", "", 409, "not possible now"},
		{"choose at the wrong time", "o", "POST", "/v1/session/choose", `{"orderNo":"O1"}`, 409, "not possible now"},
		{"no key", "t", "POST", "/v1/provision", `{}`, 422, ""},
		{"key too short", "t", "POST", "/v1/provision", `{"key":"A1"}`, 422, ""},
		{"key with an escape that is no letter", "t", "POST", "/v1/provision", `{"key":"\u20ac"}`, 400, "not the JSON"},
		{"check value of another key", "t", "POST", "/v1/provision", `{"key":"` + baseKey + `","kcv":"000000"}`, 422, "check value"},
	} {
		status, h, text := raw(t, filepath.Join(k.dir, c.socket), c.method, c.path, c.body)
		var p struct {
			Type, Title, Detail string
			Status              int
		}
		if err := json.Unmarshal([]byte(text), &p); err != nil || h.Get("Content-Type") != "application/problem+json" || p.Status != status || p.Title == "" || p.Type == "" {
			t.Errorf("%s: no problem of RFC 9457: %s %v", c.name, text, err)
		}
		if status != c.want || !strings.Contains(p.Detail, c.detail) {
			t.Errorf("%s: %d %q, want %d with %q", c.name, status, p.Detail, c.want, c.detail)
		}
		if strings.Contains(text, baseKey) {
			t.Errorf("%s: the answer quotes the key", c.name)
		}
	}
	if _, h, _ := raw(t, filepath.Join(k.dir, "t"), "DELETE", "/v1/status", ""); h.Get("Allow") != "GET, HEAD" {
		t.Errorf("405 with Allow %q", h.Get("Allow"))
	}
	if strings.Contains(k.log.String(), baseKey) {
		t.Error("the log quotes the key")
	}
}

func TestNothingIsAnEmptyListAndNotNull(t *testing.T) {
	t.Parallel()
	k := start(t)
	for _, path := range []string{"/v1/queue", "/v1/journal"} {
		if status, _, text := raw(t, filepath.Join(k.dir, "o"), "GET", path, ""); status != 200 || strings.TrimSpace(text) != "[]" {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
}

func TestManyOffersOfOneKeyEndWithOneKeyInUse(t *testing.T) {
	t.Parallel()
	k := start(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			key := []byte(baseKey)
			got, err := k.tech.Provision(t.Context(), key, keystore.KCV([]byte(baseKey)))
			if err != nil || !got.Active && got.Why == "" {
				t.Errorf("offer: %+v, %v", got, err)
			}
			if !bytes.Equal(key, make([]byte, len(baseKey))) {
				t.Error("the caller's key is not cleared")
			}
		})
	}
	wg.Wait()
	var st localapi.Status
	must(t, k.tech.Get(t.Context(), "/v1/status", &st))
	if st.Key != "active" || st.KCV != keystore.KCV([]byte(baseKey)) {
		t.Errorf("key %q %s", st.Key, st.KCV)
	}
	if strings.Contains(k.log.String(), baseKey) {
		t.Error("the log has the key")
	}
}

func TestDifferentOffersAtOnceLeaveAProvenKey(t *testing.T) {
	t.Parallel()
	k := start(t)
	wrong := "Z" + baseKey[1:]
	var wg sync.WaitGroup
	for n := range 6 {
		key := baseKey
		if n%2 == 1 {
			key = wrong
		}
		wg.Go(func() {
			got, err := k.tech.Provision(t.Context(), []byte(key), "")
			if err != nil && strings.Contains(err.Error(), key) {
				t.Error("the error quotes the key")
			}
			if key == wrong && got.Active {
				t.Error("a key the platform refuses is in use")
			}
		})
	}
	wg.Wait()
	// Whichever came last, the right one may be offered again, and then it is used.
	if got, err := k.tech.Provision(t.Context(), []byte(baseKey), ""); err != nil {
		t.Errorf("offer: %+v, %v", got, err)
	}
	var st localapi.Status
	must(t, k.tech.Get(t.Context(), "/v1/status", &st))
	if st.Key != "active" || st.KCV != keystore.KCV([]byte(baseKey)) {
		t.Errorf("key %q %s", st.Key, st.KCV)
	}
}

func TestAKeyTravelsAsJSONWhateverIsInIt(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	var got struct{ Key, KCV string }
	serve(t, filepath.Join(dir, "s"), func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		_, _ = w.Write([]byte(`{"kcv":"1"}`))
	})
	c := localapi.Dial(filepath.Join(dir, "s"))
	for _, key := range []string{baseKey, `"},"kcv":"`, `back\slash`, "a\nb\x00", `","key":"other`} {
		if _, err := c.Provision(t.Context(), []byte(key), `C3"`+"\t"); err != nil || got.Key != key || got.KCV != `C3"`+"\t" {
			t.Errorf("%q arrived as %q, %q: %v", key, got.Key, got.KCV, err)
		}
	}
	if _, err := c.Provision(t.Context(), []byte{0xFF, 'A'}, ""); err != nil || got.Key != "\u00ffA" {
		t.Errorf("not UTF-8 arrived as %q: %v", got.Key, err)
	}
}

// serve answers at a socket until the test ends.
func serve(t *testing.T, socket string, f http.HandlerFunc) {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	l, err := localapi.Listen(ctx, socket, "")
	must(t, err)
	ended := make(chan error, 1)
	go func() { ended <- localapi.Serve(ctx, l, f) }()
	t.Cleanup(func() { stop(); must(t, <-ended) })
}

func TestClientTellsWhatItWasAnswered(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(shortDir(t), "s")
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	serve(t, socket, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/problem":
			w.WriteHeader(409)
			_, _ = w.Write([]byte(`{"detail":"not possible now"}`))
		case "/bare":
			w.WriteHeader(502)
			_, _ = w.Write([]byte(`<html>`))
		case "/garbage":
			_, _ = w.Write([]byte(`{`))
		case "/cut":
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte(`{`))
		case "/silent":
			select {
			case <-r.Context().Done():
			case <-ended:
			}
		case "/v1/events":
			w.WriteHeader(503)
			_, _ = w.Write([]byte(`{"detail":"files are damaged"}`))
		}
	})
	c := localapi.Dial(socket)
	var out any
	if p, is := errors.AsType[*localapi.Problem](c.Get(t.Context(), "/problem", &out)); !is || p.Status != 409 || p.Error() != "not possible now" {
		t.Errorf("problem: %v", p)
	}
	if p, is := errors.AsType[*localapi.Problem](c.Get(t.Context(), "/bare", &out)); !is || p.Error() != "Bad Gateway" {
		t.Errorf("bare status: %v", p)
	}
	if err := c.Get(t.Context(), "/garbage", &out); err == nil || errors.Is(err, localapi.ErrUnreachable) {
		t.Errorf("garbage: %v", err)
	}
	if err := c.Get(t.Context(), "/cut", &out); !errors.Is(err, localapi.ErrUnreachable) {
		t.Errorf("answer cut short: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Get(ctx, "/silent", &out); !errors.Is(err, context.Canceled) || errors.Is(err, localapi.ErrUnreachable) {
		t.Errorf("caller gave up: %v", err)
	}
	if err := c.Events(t.Context(), func(agent.View) bool { return true }); err == nil || err.Error() != "files are damaged" {
		t.Errorf("events of a kiosk with a fault: %v", err)
	}
	none := localapi.Dial(socket + "none")
	if err := none.Get(t.Context(), "/v1/status", &out); !errors.Is(err, localapi.ErrUnreachable) {
		t.Errorf("no daemon: %v", err)
	}
	if err := none.Events(t.Context(), func(agent.View) bool { return true }); !errors.Is(err, localapi.ErrUnreachable) {
		t.Errorf("events of no daemon: %v", err)
	}
}

func TestEventsBeginWithThePresentPictureAndEndWithTheDaemon(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(shortDir(t), "s")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	l, err := localapi.Listen(ctx, socket, "")
	must(t, err)
	k := newAgent(t)
	ended := make(chan error, 1)
	go func() { ended <- localapi.Serve(ctx, l, localapi.Handler(k.agent, localapi.Operator)) }()
	var first agent.View
	err = localapi.Dial(socket).Events(t.Context(), func(v agent.View) bool {
		first = v
		stop() // the daemon ends while somebody listens
		return true
	})
	if !errors.Is(err, localapi.ErrUnreachable) || first.Stage != agent.StageOut || first.Note == nil {
		t.Errorf("first picture %+v, end %v", first, err)
	}
	must(t, <-ended)
}

// TestASecretNeverLeaves puts a record with a load code and a parked report
// into the files and reads them back over the socket.
func TestASecretNeverLeaves(t *testing.T) {
	t.Parallel()
	k := newAgent(t)
	k.serve(t) // not running: nothing is sent in between
	id := uint64(0)
	must(t, k.writer.Do(t.Context(), func(tx *bbolt.Tx) error {
		var err error
		if id, err = k.outbox.Put(tx, queue.Item{Kind: "6002", Ref: "A1", Rev: 1, Lane: "L"}); err != nil {
			return err
		}
		return k.outbox.Park(tx, id, "refused")
	}))
	var items []queue.Item
	must(t, k.op.Get(t.Context(), "/v1/queue", &items))
	if len(items) != 1 || items[0].Parked != "refused" || items[0].Ref != "A1" {
		t.Fatalf("queue: %+v", items)
	}
	var one queue.Item
	must(t, k.op.Get(t.Context(), "/v1/queue/"+strconv.FormatUint(id, 10), &one))
	if one != items[0] {
		t.Errorf("item: %+v", one)
	}
	must(t, k.tech.Post(t.Context(), "/v1/queue/"+strconv.FormatUint(id, 10)+"/requeue", nil, nil))
	rec := topup.Record{Load: &topup.LoadPlan{MAC2: "1A2B3C4D"}}
	if m := localapi.Masked(rec); m.Load.MAC2 != "[redacted]" || rec.Load.MAC2 != "1A2B3C4D" {
		t.Errorf("masked %q, original %q", m.Load.MAC2, rec.Load.MAC2)
	}
}

func TestASocketIsForItsGroupOnly(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	for _, group := range []string{"", "no-such-group-here"} {
		path := filepath.Join(dir, "sub", "s"+group)
		l, err := localapi.Listen(t.Context(), path, group)
		must(t, err)
		if st, err := os.Lstat(path); err != nil || st.Mode() != os.ModeSocket|0o600 {
			t.Errorf("group %q: mode %v, %v", group, st.Mode(), err)
		}
		must(t, l.Close())
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("left behind: %v", err)
		}
	}
	if os.Getuid() != 0 {
		t.Log("not root: the mode with a group is not looked at")
		return
	}
	l, err := localapi.Listen(t.Context(), filepath.Join(dir, "g"), "root")
	must(t, err)
	defer l.Close()
	if st, err := os.Lstat(filepath.Join(dir, "g")); err != nil || st.Mode() != os.ModeSocket|0o660 {
		t.Errorf("with a group: mode %v, %v", st.Mode(), err)
	}
}

func TestListenTakesOverOnlyWhatNobodyServes(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	path := filepath.Join(dir, "s")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	must(t, err)
	if _, err := localapi.Listen(t.Context(), path, ""); !errors.Is(err, localapi.ErrInUse) {
		t.Errorf("a socket in use: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as a kill -9 leaves it
	must(t, l.Close())
	l, err = localapi.Listen(t.Context(), path, "")
	must(t, err)
	must(t, l.Close())

	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, []byte("precious"), 0o600))
	if _, err := localapi.Listen(t.Context(), file, ""); err == nil {
		t.Error("a file was taken for a socket")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file is %q, %v", b, err)
	}
	if _, err := localapi.Listen(t.Context(), filepath.Join(file, "s"), ""); err == nil {
		t.Error("a socket inside a file")
	}
	if _, err := localapi.Listen(t.Context(), filepath.Join(dir, strings.Repeat("x", 120)), ""); err == nil {
		t.Error("a path that does not fit")
	}
}

func TestAKioskWithAFaultTellsItAndRefusesTheRest(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(shortDir(t), "s")
	st := localapi.Status{Status: agent.Status{State: "storage", Note: &agent.Note{Code: "storage", ZH: "暂停服务", EN: "Out of service"}}, Fault: "agent.db is damaged"}
	serve(t, socket, localapi.Faulty(st).ServeHTTP)
	c := localapi.Dial(socket)
	var got localapi.Status
	must(t, c.Get(t.Context(), "/v1/status", &got))
	if got.State != "storage" || got.Fault != st.Fault {
		t.Errorf("status %+v", got)
	}
	seen := 0
	ctx, cancel := context.WithCancel(t.Context())
	err := c.Events(ctx, func(v agent.View) bool {
		if seen++; v.Stage != agent.StageOut {
			t.Errorf("stage %s", v.Stage)
		}
		cancel()
		return true
	})
	if seen != 1 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d pictures, %v", seen, err)
	}
	for _, path := range []string{"/v1/queue", "/v1/journal", "/v1/queue/1"} {
		if p, is := errors.AsType[*localapi.Problem](c.Get(t.Context(), path, nil)); !is || p.Status != 503 || !strings.Contains(p.Detail, st.Fault) {
			t.Errorf("%s: %v", path, p)
		}
	}
	key := []byte(baseKey)
	if _, err := c.Provision(t.Context(), key, ""); err == nil || !strings.Contains(err.Error(), st.Fault) || strings.Contains(err.Error(), baseKey) {
		t.Errorf("provision: %v", err)
	}
}

func TestMoreConnectionsThanAKioskNeedsAreClosed(t *testing.T) {
	t.Parallel()
	k := start(t)
	socket := filepath.Join(k.dir, "o")
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	closed := 0
	for range 64 + 8 {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "unix", socket)
		must(t, err)
		open = append(open, c)
	}
	for _, c := range open[64:] { // nothing was sent: only a close ends this
		_ = c.SetReadDeadline(time.Now().Add(4 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			closed++
		}
	}
	if closed != 8 {
		t.Errorf("%d of 8 too many were closed", closed)
	}
	var st localapi.Status
	must(t, k.tech.Get(t.Context(), "/v1/status", &st)) // the other socket serves
	for _, c := range open {
		_ = c.Close()
	}
	open = nil
	for { // and this one does again
		if k.op.Get(t.Context(), "/v1/status", &st) == nil {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal("never served again")
		}
	}
}

func TestMetricsAreOnBothSockets(t *testing.T) {
	t.Parallel()
	k := start(t)
	for _, socket := range []string{"o", "t"} {
		status, h, text := raw(t, filepath.Join(k.dir, socket), "GET", "/metrics", "")
		if status != 200 || !strings.HasPrefix(h.Get("Content-Type"), "text/plain") || !strings.Contains(text, "\nkioskd_serving 0\n") {
			t.Errorf("%s: %d %s\n%s", socket, status, h.Get("Content-Type"), text)
		}
	}
}

// TestACallByHandIsBoundedAndRecorded.
func TestACallByHandIsBoundedAndRecorded(t *testing.T) {
	t.Parallel()
	k := start(t)
	must(t, k.platform.AddRows("3007", vcctest.Row{"subsCode": "1400", "name": "张**", "orgCode": "SU0105"}))
	if _, err := k.tech.Provision(t.Context(), []byte(baseKey), ""); err != nil {
		t.Fatal(err)
	}
	ask := map[string]any{"code": "3005", "fields": map[string]string{"subsCode": "1400"}}
	var got struct{ Name string }
	must(t, k.tech.Post(t.Context(), "/v1/call", ask, &got))
	if got.Name != "张**" {
		t.Errorf("answered %+v", got)
	}
	err := k.tech.Post(t.Context(), "/v1/call", map[string]any{"code": "3005", "fields": map[string]string{"subsCode": "9"}}, &got)
	if err == nil || !strings.Contains(err.Error(), "20040") {
		t.Errorf("nothing found: %v", err)
	}
	for range 20 { // what is not sent costs nothing
		if err := k.tech.Post(t.Context(), "/v1/call", map[string]any{"code": "3005"}, &got); err == nil || !strings.Contains(err.Error(), "subsCode") {
			t.Fatalf("without a field: %v", err)
		}
	}
	refused := 0
	for range 10 {
		if err := k.tech.Post(t.Context(), "/v1/call", ask, &got); err != nil {
			if p, is := errors.AsType[*localapi.Problem](err); !is || p.Status != 429 {
				t.Fatal(err)
			}
			refused++
		}
	}
	if refused < 5 {
		t.Errorf("only %d of 10 calls at once were refused", refused)
	}
	if n := k.platform.Calls()["3005"]; n > 7 {
		t.Errorf("%d calls reached the platform", n)
	}
}

// TestAKeyThatCannotBeAskedForSaysWhy: a platform that answers that the call is
// wrong is no platform that is away.
func TestAKeyThatCannotBeAskedForSaysWhy(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.platform.SetHook(func(c vcctest.Call) vcctest.Action { return vcctest.Action{Code: "30002"} })
	got, err := k.tech.Provision(t.Context(), []byte(baseKey), "")
	must(t, err)
	if got.Active || !strings.Contains(got.Why, "30002") || !strings.Contains(got.Why, "[api.endpoints]") {
		t.Errorf("%+v", got)
	}
	var st localapi.Status
	must(t, k.tech.Get(t.Context(), "/v1/status", &st))
	if !slices.Contains(st.Alarms, "platform.config") {
		t.Errorf("alarms %v", st.Alarms)
	}
}
