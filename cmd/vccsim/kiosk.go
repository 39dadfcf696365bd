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
	name, dir, reader string
	config, log       string
	cmd               *exec.Cmd
	exited            chan error
	operator, tech    *localapi.Client
	plug              *simcard.Plug
}

// startKiosk writes a configuration and starts the daemon next to this binary.
func startKiosk(ctx context.Context, dir, name, terminal, baseURL string) (*kiosk, error) {
	k := &kiosk{name: name, dir: filepath.Join(dir, name)}
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return nil, fmt.Errorf("kiosk %s: %w", name, err)
	}
	addr, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	k.reader = addr
	l := vcctest.DefaultLayout()
	text := fmt.Sprintf(`[device]
id = "QC000%s"
org_code = "SU0105"
terminal_no = "%s"
[api]
base_url = "%s"
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
`, name, terminal, baseURL, name, int(name[0]-'A')+1, addr, simCardNo.Offset, simCardNo.Len, l.Count.Offset, l.Count.Len, l.Gas.Offset, l.Gas.Len,
		filepath.Join(k.dir, "state"), filepath.Join(k.dir, "run"))
	k.config, k.log = filepath.Join(k.dir, "kioskd.toml"), filepath.Join(k.dir, "kioskd.log")
	if err := os.WriteFile(k.config, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("kiosk %s: %w", name, err)
	}
	k.operator = localapi.Dial(filepath.Join(k.dir, "run", "operator.sock"))
	k.tech = localapi.Dial(filepath.Join(k.dir, "run", "technician.sock"))
	return k, k.start(ctx)
}

func freePort(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

func (k *kiosk) start(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find kioskd: %w", err)
	}
	log, err := os.OpenFile(k.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("kiosk %s: %w", k.name, err)
	}
	defer log.Close() //nolint:errcheck // the process has its own copy
	k.cmd = exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(filepath.Dir(self), "kioskd"), "--config", k.config)
	k.cmd.Stderr = log
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := k.cmd.Start(); err != nil {
		return fmt.Errorf("start kioskd (build it beside vccsim): %w", err)
	}
	k.exited = make(chan error, 1)
	go func() { k.exited <- k.cmd.Wait() }()
	for {
		var st agent.Status
		if k.operator.Get(ctx, "/v1/status", &st) == nil && k.tech.Get(ctx, "/v1/status", &st) == nil {
			return nil
		}
		select {
		case err := <-k.exited:
			return fmt.Errorf("kiosk %s ended at once: %w; see %s", k.name, err, k.log)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends the daemon: SIGTERM, or SIGKILL as a power cut would.
func (k *kiosk) stop(sig syscall.Signal) error {
	if k.cmd == nil {
		return nil
	}
	err := k.cmd.Process.Signal(sig)
	werr := <-k.exited
	k.cmd = nil
	if sig == syscall.SIGKILL {
		return err
	}
	return errors.Join(err, werr)
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

// records are the kiosk's top-ups, newest first.
func (k *kiosk) records(ctx context.Context) ([]topup.Record, error) {
	var out []topup.Record
	return out, k.operator.Get(ctx, "/v1/journal", &out)
}
