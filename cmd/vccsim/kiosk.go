//go:build sim

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"vcckiosk/agent"
	"vcckiosk/agent/localapi"
	"vcckiosk/agent/topup"
	"vcckiosk/cardreader/simcard"
	"vcckiosk/protocol/vcctest"
)

// kiosk is a real kioskd process with a simulated reader.
type kiosk struct {
	program        string // kioskd
	name, terminal string
	platform       string // its address
	dir, reader    string
	config, log    string
	dialect        string // of the platform
	cmd            *exec.Cmd
	exited         chan error
	operator, tech *localapi.Client
	plug           *simcard.Plug
}

// startKiosk writes a configuration and starts the daemon next to this binary.
func startKiosk(ctx context.Context, dir, name, terminal, baseURL string) (*kiosk, error) {
	k := &kiosk{name: name, terminal: terminal, platform: baseURL, dir: filepath.Join(dir, name)}
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return nil, fmt.Errorf("kiosk %s: %w", name, err)
	}
	k.config, k.log = filepath.Join(k.dir, "kioskd.toml"), filepath.Join(k.dir, "kioskd.log")
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find kioskd: %w", err)
	}
	k.program = filepath.Join(filepath.Dir(self), "kioskd")
	k.dial()
	return k, k.start(ctx)
}

func (k *kiosk) dial() {
	k.operator = localapi.Dial(filepath.Join(k.dir, "run", "operator.sock"))
	k.tech = localapi.Dial(filepath.Join(k.dir, "run", "technician.sock"))
}

// configure gives the kiosk's reader an address that was free a moment ago.
func (k *kiosk) configure(ctx context.Context) error {
	addr, err := freePort(ctx)
	if err != nil {
		return err
	}
	k.reader = addr
	l := vcctest.DefaultLayout()
	text := fmt.Sprintf(`[device]
id = "QC000%s"
org_code = "SU0105"
terminal_no = "%s"
[api]
base_url = "%s"
dialect = "%s"
[auth]
app_id = "APP%s"
[seq]
partition = %d
[reader]
driver = "sim"
name = "%s"
[card.purse]
[card.memory]
card_no = [%d, %d]
count = [%d, %d]
gas = [%d, %d]
[state]
dir = "%s"
[local]
dir = "%s"
`, k.name, k.terminal, k.platform, k.dialect, k.name, int(k.name[0]-'A')+1, addr, simCardNo.Offset, simCardNo.Len, l.Count.Offset, l.Count.Len,
		l.Gas.Offset, l.Gas.Len, filepath.Join(k.dir, "state"), filepath.Join(k.dir, "run"))
	if err := os.WriteFile(k.config, []byte(text), 0o600); err != nil {
		return fmt.Errorf("kiosk %s: %w", k.name, err)
	}
	return nil
}

func freePort(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// start starts the daemon. Somebody else may have taken the reader's address
// meanwhile: then it gets another.
func (k *kiosk) start(ctx context.Context) error {
	var err error
	for range 3 {
		if k.reader == "" {
			if err := k.configure(ctx); err != nil {
				return err
			}
		}
		if err = k.launch(ctx); !errors.Is(err, errEnded) {
			return err
		}
		k.reader = ""
	}
	return err
}

// errEnded: the daemon ended before it served.
var errEnded = errors.New("ended at once")

func (k *kiosk) launch(ctx context.Context) error {
	log, err := os.OpenFile(k.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("kiosk %s: %w", k.name, err)
	}
	defer log.Close() //nolint:errcheck // the process has its own copy
	k.cmd = exec.CommandContext(context.WithoutCancel(ctx), k.program, "--config", k.config)
	k.cmd.Stderr = log
	// A Ctrl-C is for the demo, which ends its kiosks in order; one that is
	// killed takes them with it.
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	if err := k.cmd.Start(); err != nil {
		k.cmd = nil
		return fmt.Errorf("start kioskd (build it beside vccsim): %w", err)
	}
	cmd, exited := k.cmd, make(chan error, 1)
	k.exited = exited
	go func() { exited <- cmd.Wait() }()
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, fmt.Errorf("kiosk %s does not answer; see %s", k.name, k.log))
	defer cancel()
	for {
		var st agent.Status
		if k.operator.Get(ctx, "/v1/status", &st) == nil && k.tech.Get(ctx, "/v1/status", &st) == nil {
			return nil
		}
		select {
		case err := <-exited:
			k.cmd = nil
			return fmt.Errorf("kiosk %s %w: %w; see %s", k.name, errEnded, err, k.log)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends the daemon: SIGTERM, or SIGKILL as a power cut would.
func (k *kiosk) stop(sig syscall.Signal) error {
	if k.cmd == nil {
		return nil
	}
	cmd := k.cmd
	k.cmd = nil
	err := cmd.Process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil // how it ended, exited tells
	}
	select {
	case werr := <-k.exited:
		if sig != syscall.SIGKILL {
			err = errors.Join(err, werr)
		}
		return err
	case <-time.After(20 * time.Second):
		return errors.Join(fmt.Errorf("kiosk %s does not end: killed; see %s", k.name, k.log), cmd.Process.Kill())
	}
}

// insert puts a card in and follows the screen until the card may be taken or
// is torn out. What the customer would press, this presses.
func (k *kiosk) insert(ctx context.Context, c simcard.Card) (agent.View, error) {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	var before agent.View
	if err := k.operator.Get(ctx, "/v1/session", &before); err != nil {
		return agent.View{}, err
	}
	plug, err := simcard.Dial(ctx, k.reader, c)
	if err != nil {
		return agent.View{}, fmt.Errorf("insert card: %w", err)
	}
	k.plug = plug
	var last agent.View
	var failed error
	torn := false
	go func() { // a torn card ends the visit
		<-plug.Done()
		time.AfterFunc(2*time.Second, cancel)
	}()
	err = k.operator.Events(ctx, func(v agent.View) bool {
		if v.Serial <= before.Serial {
			return true
		}
		switch v.Stage {
		case agent.StageChoose:
			failed = k.operator.Post(ctx, "/v1/session/choose", map[string]string{"orderNo": v.Offers[0].OrderNo}, nil)
		case agent.StageConfirm:
			failed = k.operator.Post(ctx, "/v1/session/confirm", nil, nil)
		case agent.StageRemove:
			last = v
			return false
		case agent.StageIdle, agent.StageOut:
			select {
			case <-plug.Done():
				torn = true
				return false
			default:
			}
		}
		last = v
		return failed == nil
	})
	plug.Remove()
	if failed != nil {
		return last, failed
	}
	if err != nil && !torn {
		select {
		case <-plug.Done():
		default:
			return last, fmt.Errorf("kiosk %s: %w", k.name, err)
		}
	}
	return last, nil
}

// idle waits until the kiosk has seen that its reader is empty.
func (k *kiosk) idle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return k.operator.Events(ctx, func(v agent.View) bool { return v.Stage != agent.StageIdle && v.Stage != agent.StageOut })
}

// provision gives the kiosk its base key and waits until it is in use.
func (k *kiosk) provision(ctx context.Context) (kcv string, err error) {
	got, err := k.tech.Provision(ctx, []byte(simKey), "")
	if err != nil {
		return "", fmt.Errorf("provision kiosk %s: %w", k.name, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 15*time.Second, fmt.Errorf("provision kiosk %s: %s", k.name, got.Why))
	defer cancel()
	return got.KCV, k.until(ctx, func(st agent.Status) bool { return st.Key == "active" && st.KCV == got.KCV })
}

// until asks for the status until it is as wanted, or for ctx's cause.
func (k *kiosk) until(ctx context.Context, wanted func(agent.Status) bool) error {
	for {
		var st agent.Status
		if err := k.operator.Get(ctx, "/v1/status", &st); err != nil {
			return fmt.Errorf("kiosk %s: %w", k.name, err)
		}
		if wanted(st) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// delivered waits until the kiosk has nothing left to tell.
func (k *kiosk) delivered(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, fmt.Errorf("kiosk %s: outbox did not drain", k.name))
	defer cancel()
	return k.until(ctx, func(st agent.Status) bool { return st.Outbox.Depth == 0 })
}

// records are the kiosk's top-ups, newest first.
func (k *kiosk) records(ctx context.Context) ([]topup.Record, error) {
	var out []topup.Record
	return out, k.operator.Get(ctx, "/v1/journal", &out)
}
