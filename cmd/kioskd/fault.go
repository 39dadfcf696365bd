package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"vcckiosk/agent"
	"vcckiosk/agent/localapi"
	"vcckiosk/keystore"
	"vcckiosk/keystore/fileslot"
	"vcckiosk/protocol"
	"vcckiosk/protocol/reconcile/sftp"
	"vcckiosk/queue"
)

// isFault reports whether agent.db is there and must not be worked with. The
// kiosk then serves no customer and changes nothing, but it stays up and says
// so: to the screen, to kioskctl and to the platform.
func isFault(err error) bool {
	return errors.Is(err, queue.ErrDamaged) || errors.Is(err, queue.ErrNewer) || errors.Is(err, queue.ErrPermissions)
}

// faultAdvice is what a technician does about it. A damaged agent.db may hold
// the only word of a load that the platform has not heard of.
func faultAdvice(err error, dir string) string {
	if !errors.Is(err, queue.ErrDamaged) {
		return "; nothing was changed; then start kioskd again"
	}
	return "; it may hold results the platform has not heard of, so do not delete or replace it: stop kioskd, copy " + dir + " whole and give the copy to support"
}

func keystoreAdvice(err error) string {
	if errors.Is(err, keystore.ErrLocked) || errors.Is(err, keystore.ErrDamaged) {
		return "; stop kioskd, run kioskd -set-keystore-aside, start it again and provision the kiosk"
	}
	return "; nothing was changed; then start kioskd again"
}

// fault is the kiosk while its files do not open.
type fault struct{ st agent.Status }

func (f fault) Alive() error         { return nil }
func (f fault) Status() agent.Status { return f.st }

// alarmStorage is the alarm of a kiosk whose agent.db does not open.
const alarmStorage = "storage.fault"

// serveFault tells the fault until ctx ends.
func serveFault(ctx context.Context, c Config, why error, log *slog.Logger) error {
	text := why.Error() + faultAdvice(why, c.State.Dir)
	log.Error("out of service", "why", text)
	st := agent.Status{
		State: "storage", Note: &agent.Note{Code: "storage", ZH: "设备故障，暂停服务", EN: "Kiosk fault, out of service"},
		Device: c.Device.ID, Terminal: c.Device.TerminalNo, Firmware: version(), Alarms: []string{alarmStorage}, Key: "not looked at",
		Reader: agent.ReaderStatus{Name: c.Reader.Name, State: "not opened"},
	}
	st.DiskFree, _ = freeBytes(c.State.Dir)()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	h := localapi.Faulty(localapi.Status{Status: st, Fault: text})
	if err := serveAPI(ctx, c, &wg, log, func(localapi.Role) http.Handler { return h }); err != nil {
		return err
	}
	wg.Go(func() { supervise(ctx, fault{st}, log) })
	wg.Go(func() { faultBeat(ctx, c, st, log) })
	<-ctx.Done()
	return nil
}

// faultBeat tells the platform. The key is read where it is; a keystore that is
// not there is not made.
func faultBeat(ctx context.Context, c Config, st agent.Status, log *slog.Logger) {
	every := time.Duration(c.Beat.Interval)
	if every == 0 {
		every = 5 * time.Minute
	}
	if every < 0 {
		return
	}
	if _, err := os.Stat(filepath.Join(c.State.Dir, "keystore.db")); err != nil {
		log.Warn("the platform is not told: no keystore", "err", err)
		return
	}
	keys, err := keystore.Open(c.State.Dir, fileslot.New(fileslot.Options{KeyFile: c.State.KeyFile, HardwareID: hardwareID()}), keystore.Options{})
	if err != nil {
		log.Warn("the platform is not told: no key", "err", err)
		return
	}
	defer keys.Close() //nolint:errcheck // only read
	client, err := newClient(c, &drawn{}, keys, log)
	if err != nil {
		log.Warn("the platform is not told", "err", err)
		return
	}
	for {
		_, err := client.Heartbeat(protocol.Backlog(ctx), protocol.HeartbeatRequest{
			State: st.State, Alarms: st.Alarms, Firmware: st.Firmware, DiskFree: st.DiskFree,
		})
		if err != nil && ctx.Err() == nil {
			log.Info("heartbeat not delivered", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
	}
}

// drawn are serials where no block can be reserved: drawn by lot, since
// nothing is looked up by them.
type drawn struct{}

// Next draws one.
func (*drawn) Next(context.Context) (uint64, error) { return 1 + rand.Uint64N(99_999_999_999_999), nil }

// unopened is a source of serials for a client that is made to check its
// configuration.
type unopened struct{}

// Next never gives one.
func (unopened) Next(context.Context) (uint64, error) { return 0, errors.New("no files are open") }

// checkConfig looks at what a good configuration names. An error is what
// kioskd would end with; what it would start with out of service is a hint.
func checkConfig(c Config, hints io.Writer) error {
	if _, err := agentConfig(c); err != nil {
		return err
	}
	if err := checkShape(c); err != nil {
		return err
	}
	if c.Reconcile != nil {
		if _, err := sftp.New(c.Reconcile.server().c); err != nil {
			return fmt.Errorf("reconcile: %w", err)
		}
	}
	hint := func(text string) { fmt.Fprintln(hints, "kioskd: hint:", text) }
	db := filepath.Join(c.State.Dir, "agent.db")
	if _, err := os.Lstat(db); err == nil {
		switch err := queue.CheckFile(db); {
		case isFault(err):
			hint(err.Error() + faultAdvice(err, c.State.Dir))
		case errors.Is(err, queue.ErrInUse):
			hint(db + " is in use, by a running kioskd, and was not looked at")
		case err != nil:
			hint(err.Error())
		}
	}
	if st, err := os.Stat(c.State.KeyFile); err == nil && st.Mode().Perm()&0o077 != 0 {
		hint(fmt.Sprintf("state.key_file: %s has mode %04o, others may use it, and the keystore will not open; run chmod 0600 on it, and change the key if others may have read it",
			c.State.KeyFile, st.Mode().Perm()))
	}
	return nil
}
