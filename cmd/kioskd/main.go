// Kioskd is the agent inside a gas IC-card load kiosk. It reads its
// configuration, opens reader and files, serves customers and the local API,
// and ends with exit code 0 when stopped, 2 for a bad configuration, 4 when
// its files or sockets are in use, 70 when a commit is in doubt, 75 when a card call is
// stuck. After 70 and 75 it is to be started again: it reads what is true.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"vcckiosk/agent"
	"vcckiosk/agent/localapi"
	"vcckiosk/keystore"
	"vcckiosk/queue"
)

const (
	exitOK      = 0
	exitFailed  = 1
	exitConfig  = 2
	exitInUse   = 4
	exitInDoubt = 70
	exitStuck   = 75
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("kioskd", flag.ContinueOnError)
	flags.SetOutput(stderr)
	path := flags.String("config", "/etc/kioskd/kioskd.toml", "configuration `file`")
	check := flags.Bool("check", false, "check the configuration and what it names, change nothing, and exit")
	aside := flags.Bool("set-keystore-aside", false, "rename a keystore that does not open, so that the next start makes an empty one, and exit")
	doctor := flags.Bool("doctor", false, "print as JSON what can be seen without the daemon, and exit")
	var q qualifying
	flags.StringVar(&q.transcript, "qualify", "", "hold the card reader against what this program relies on, with a person as its hands; keep a transcript in `file`, and exit")
	flags.BoolVar(&q.fixedCable, "qualify-fixed-cable", false, "with -qualify: the reader cannot be unplugged")
	flags.BoolVar(&q.overwrite, "qualify-overwrite-card", false, "with -qualify: write to the bench card, which may be lost by it")
	if err := flags.Parse(args); err != nil {
		return exitConfig
	}
	if q.transcript != "" {
		if err := qualifyReader(ctx, *path, q, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(stderr, "kioskd:", err)
			return codeOf(err, exitFailed)
		}
		return exitOK
	}
	if *doctor {
		if err := diagnose(ctx, *path, os.Stdout); err != nil {
			fmt.Fprintln(stderr, "kioskd:", err)
			return exitFailed
		}
		return exitOK
	}
	cfg, err := readConfig(*path)
	if err != nil {
		fmt.Fprintln(stderr, "kioskd:", err)
		return exitConfig
	}
	if *check {
		if err := checkConfig(cfg, stderr); err != nil {
			fmt.Fprintln(stderr, "kioskd:", err)
			return exitConfig
		}
		return exitOK
	}
	if *aside {
		if err := keystore.SetAside(cfg.State.Dir, time.Now()); err != nil {
			fmt.Fprintln(stderr, "kioskd:", err)
			return codeOf(err, exitFailed)
		}
		fmt.Fprintln(stderr, "kioskd: keystore set aside, nothing is deleted; start kioskd and provision the kiosk again")
		return exitOK
	}
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Log.Level)) // checked with the configuration
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	o, err := open(ctx, cfg, log)
	if isFault(err) {
		if err = serveFault(ctx, cfg, err, log); err == nil {
			return exitOK
		}
	}
	if err != nil {
		fmt.Fprintln(stderr, "kioskd:", err)
		return codeOf(err, exitConfig)
	}
	err = serve(ctx, cfg, o, log)
	if cerr := o.Close(); cerr != nil {
		log.Warn("close", "err", cerr)
	}
	if err != nil {
		fmt.Fprintln(stderr, "kioskd:", err)
		return codeOf(err, exitFailed)
	}
	return exitOK
}

func codeOf(err error, otherwise int) int {
	switch {
	case errors.Is(err, queue.ErrInUse), errors.Is(err, keystore.ErrInUse), errors.Is(err, localapi.ErrInUse):
		return exitInUse
	case errors.Is(err, queue.ErrInDoubt):
		return exitInDoubt
	case errors.Is(err, agent.ErrStuck):
		return exitStuck
	case errors.Is(err, errLocal):
		return exitConfig
	default:
		return otherwise
	}
}

// serve runs the agent and the two sockets; the agent's end ends all.
func serve(ctx context.Context, c Config, o *opened, log *slog.Logger) error {
	a, err := agent.New(o.parts)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	if err := serveAPI(ctx, c, &wg, log, func(r localapi.Role) http.Handler { return localapi.Handler(a, r) }); err != nil {
		return err
	}
	if err := servePush(ctx, c, o.parts.Client, a, &wg, log); err != nil {
		return err
	}
	wg.Go(func() { supervise(ctx, a, log) })
	wg.Go(func() { giveBack(ctx) })
	log.Info("serving", "device", c.Device.ID, "reader", o.parts.Reader.Name(), "driver", c.Reader.Driver)
	return a.Run(ctx)
}

// errLocal: a socket cannot be made where the configuration wants it.
var errLocal = errors.New("local.dir")

// serveAPI serves both sockets until ctx ends; wg waits for that.
func serveAPI(ctx context.Context, c Config, wg *sync.WaitGroup, log *slog.Logger, handler func(localapi.Role) http.Handler) error {
	for _, s := range []struct {
		name, group string
		role        localapi.Role
	}{{"operator.sock", "kiosk-operator", localapi.Operator}, {"technician.sock", "kiosk-tech", localapi.Technician}} {
		l, err := localapi.Listen(ctx, filepath.Join(c.Local.Dir, s.name), s.group)
		if err != nil {
			return fmt.Errorf("%w: %w", errLocal, err)
		}
		wg.Go(func() {
			// A broken socket keeps no customer from the gas.
			if err := localapi.Serve(ctx, l, handler(s.role)); err != nil {
				log.Error("local API ended", "socket", s.name, "err", err)
			}
		})
	}
	return nil
}
