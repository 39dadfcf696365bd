package localapi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"vcckiosk/agent"
	"vcckiosk/agent/journal"
	"vcckiosk/agent/localapi"
	"vcckiosk/agent/media"
	"vcckiosk/cardreader/epurse"
	"vcckiosk/cardreader/simcard"
	"vcckiosk/keystore"
	"vcckiosk/keystore/fileslot"
	"vcckiosk/protocol"
	"vcckiosk/protocol/vcctest"
	"vcckiosk/queue"
)

const baseKey = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6"

// kiosk is a running agent with its two sockets.
type kiosk struct {
	agent    *agent.Agent
	writer   *queue.Writer
	outbox   *queue.Outbox
	slot     *simcard.Slot
	platform *vcctest.Platform
	log      *logText
	dir      string // of the sockets
	op, tech *localapi.Client
}

// logText is a log several goroutines write.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// shortDir is a folder whose sockets' paths are short enough.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newAgent makes an agent that does not run yet.
func newAgent(t testing.TB, edit ...func(*agent.Parts)) *kiosk {
	t.Helper()
	return newAgentWith(t, vcctest.Options{Good: true, BaseKey: baseKey}, nil, edit...)
}

// newAgentWith is newAgent at such a platform; with register it has no name yet.
func newAgentWith(t testing.TB, o vcctest.Options, register *agent.Registering, edit ...func(*agent.Parts)) *kiosk {
	t.Helper()
	device := "K1"
	if register != nil {
		device = ""
	}
	k := &kiosk{log: &logText{}, slot: simcard.NewSlot("R"), dir: shortDir(t)}
	state := t.TempDir()
	log := slog.New(slog.NewTextHandler(k.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	k.platform = vcctest.New(o)
	db, err := queue.OpenFile(t.Context(), filepath.Join(state, "agent.db"), queue.FileOptions{NoSync: true, Reserve: -1})
	must(t, err)
	k.writer = queue.NewWriter(db, queue.WriterOptions{Log: log})
	k.outbox, err = queue.NewOutbox(k.writer, queue.Options{})
	must(t, err)
	records, err := journal.Open(k.writer)
	must(t, err)
	slot := fileslot.New(fileslot.Options{KeyFile: filepath.Join(state, "slot.key"), HardwareID: []byte("T"), CreateIfMissing: true})
	keys, err := keystore.Open(state, slot, keystore.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, errors.Join(keys.Close(), db.Close())) })
	files, err := media.Open(filepath.Join(state, "media"), k.writer.View, media.Options{})
	must(t, err)
	body := protocol.BodyConfig{}
	if o.Body.Encrypted {
		body.Cipher = "aes-256-gcm"
	}
	client, err := protocol.NewClient(protocol.Config{
		BaseURL: "http://127.0.0.1/vcc-openapi", AppID: "APP", DeviceID: device, OrgCode: "SU0105", Body: body, Registers: register != nil,
	}, protocol.Deps{
		Transport: k.platform.RoundTripper(), Key: func() (protocol.BaseKey, error) { return keys.Active() },
		Seq: &protocol.SeqBlocks{Reserve: k.writer.Do}, Log: log,
	})
	must(t, err)
	parts := agent.Parts{
		Config: agent.Config{
			DeviceID: device, OrgCode: "SU0105", TerminalNo: "112233445566", Purse: &epurse.Params{KeyIndex: 1}, Heartbeat: -1,
		},
		Reader: k.slot, Writer: k.writer, Outbox: k.outbox, Journal: records, Keys: keys, Client: client, Media: files, Log: log, Register: register,
	}
	for _, f := range edit {
		f(&parts)
	}
	k.agent, err = agent.New(parts)
	must(t, err)
	return k
}

// start runs the agent and serves both sockets until the test ends.
func start(t testing.TB, edit ...func(*agent.Parts)) *kiosk {
	t.Helper()
	k := newAgent(t, edit...)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- k.agent.Run(ctx) }()
	t.Cleanup(func() { stop(); must(t, <-ended) })
	_, err := k.agent.Screen.Wait(ctx, 1) // the reader has been seen
	must(t, err)
	k.serve(t)
	return k
}

// serve serves both sockets of an agent, running or not.
func (k *kiosk) serve(t testing.TB) {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	t.Cleanup(func() { stop(); wg.Wait() })
	for name, role := range map[string]localapi.Role{"o": localapi.Operator, "t": localapi.Technician} {
		l, err := localapi.Listen(ctx, filepath.Join(k.dir, name), "")
		must(t, err)
		wg.Go(func() {
			if err := localapi.Serve(ctx, l, localapi.Handler(k.agent, role)); err != nil {
				t.Error(err)
			}
		})
	}
	k.op, k.tech = localapi.Dial(filepath.Join(k.dir, "o")), localapi.Dial(filepath.Join(k.dir, "t"))
}

// readAll is a body as text.
func readAll(t testing.TB, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	must(t, err)
	return string(b)
}
