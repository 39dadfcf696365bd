// Kioskctl is the technician's and support's tool: it talks to a running
// kioskd over its unix socket. Exit codes: 0 ok, 1 failed, 2 usage, 3 degraded,
// 10 not provisioned, 11 daemon unreachable, 12 no reader or card, 130
// interrupted.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"vcckiosk/agent/localapi"
)

const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitDegraded    = 3
	exitNoKey       = 10
	exitUnreachable = 11
	exitNoCard      = 12
	exitInterrupted = 130
)

// coded is an error with its exit code.
type coded struct {
	code int
	err  error
}

func (e *coded) Error() string { return e.err.Error() }
func (e *coded) Unwrap() error { return e.err }

func usage(what string) error { return &coded{exitUsage, errors.New(what)} }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second Ctrl-C ends at once
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	t := &tool{in: stdin, out: stdout, prompt: stderr}
	root := t.command()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code := exitFailed
	if c, is := errors.AsType[*coded](err); is {
		code = c.code
	}
	switch {
	case errors.Is(err, context.Canceled):
		code, err = exitInterrupted, errors.New("interrupted")
	case errors.Is(err, localapi.ErrUnreachable):
		code = exitUnreachable
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w; are you in group kiosk-tech or kiosk-operator?", err)
		} else {
			err = fmt.Errorf("%w; does it run? systemctl status kioskd", err)
		}
	case !t.ran:
		code = exitUsage
	}
	if t.json {
		_ = json.NewEncoder(stderr).Encode(map[string]any{"error": err.Error(), "code": code})
	} else {
		fmt.Fprintln(stderr, "kioskctl:", plain(err.Error()))
	}
	return code
}

type tool struct {
	in     io.Reader
	out    io.Writer
	prompt io.Writer
	socket string
	json   bool
	ran    bool // past flags and arguments: errors are no usage errors any more
}

func (t *tool) api() *localapi.Client { return localapi.Dial(t.socket) }

// show prints v as JSON, or by text as a table: cells end with tabs.
func (t *tool) show(v any, text func(w io.Writer)) {
	if t.json {
		e := json.NewEncoder(t.out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		_ = e.Encode(v)
		return
	}
	var w table
	text(&w)
	_, _ = w.WriteTo(t.out)
}

// step prints one of several objects: JSON on one line each.
func (t *tool) step(v any, text func(w io.Writer)) {
	if !t.json {
		t.show(v, text)
		return
	}
	e := json.NewEncoder(t.out)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
}

const socketDir = "/run/kioskd"

// defaultSocket is the technician's if this user may use it: it can do all
// that the operator's can.
func defaultSocket() string {
	if s := os.Getenv("KIOSKD_SOCKET"); s != "" {
		return s
	}
	tech, operator := filepath.Join(socketDir, "technician.sock"), filepath.Join(socketDir, "operator.sock")
	if unix.Access(tech, unix.W_OK) != nil && unix.Access(operator, unix.W_OK) == nil {
		return operator
	}
	return tech
}

func (t *tool) command() *cobra.Command {
	root := t.group("kioskctl", "Look at and look after a kiosk", `Kioskctl talks to the running kioskd over its unix socket: the technician's, or the
operator's where the technician's may not be used. An operator may look and serve
customers; a technician may also provision keys and requeue messages.

What it prints is for people; with --json it is for programs, and so is an error
then: {"code":11,"error":"..."} on standard error. See "kioskctl help exit-codes".`)
	root.Example = `  kioskctl status
  kioskctl topup --yes
  kioskctl --json queue ls`
	root.PersistentFlags().StringVar(&t.socket, "socket", defaultSocket(), "the daemon's `socket`; KIOSKD_SOCKET sets it too")
	root.PersistentFlags().BoolVar(&t.json, "json", false, "print JSON")
	prov := t.group("provision", "Base key", "A base key is made by the platform and given to a kiosk by a technician.")
	card := t.group("card", "The card in the reader", "What the kiosk sees of the card in its reader.")
	q := t.group("queue", "What waits for delivery", `Results of top-ups wait here until the platform has acknowledged them. Nothing is dropped
for its age or number. A message that needs a person is parked: kept with its reason,
and sent again after "queue requeue".`)
	j := t.group("journal", "Top-ups", "The journal has every top-up of this kiosk and all that became known of it.")
	cfg := t.group("config", "Configuration", "The configuration file of kioskd.")
	prov.AddCommand(t.provisionSet())
	card.AddCommand(t.leaf("read", "What the kiosk sees of the card", `Tells which card is in the reader and what the kiosk said about it. The card itself is
not asked again: the kiosk has read it when it was put in.

Ends with 12 without a reader or a card, with 1 when the card cannot be read or is none
of this gas company's.`, "  kioskctl card read", cobra.NoArgs, t.cardRead))
	q.AddCommand(
		t.leaf("ls", "List, oldest first", "Lists all messages, parked ones included, oldest first.", "  kioskctl queue ls", cobra.NoArgs, t.queueList),
		t.leaf("show N", "Show one message", "Shows one message. N is its number in queue ls.", "  kioskctl queue show 7", cobra.ExactArgs(1), t.queueShow),
		t.leaf("requeue N", "Send a parked message again", `Makes a parked message live again, once the reason it was parked for is gone. Who did it
is recorded.`, "  kioskctl queue requeue 7", cobra.ExactArgs(1), t.queueRequeue))
	j.AddCommand(
		t.leaf("ls", "List, newest first", "Lists the last 100 top-ups, newest first.", "  kioskctl journal ls", cobra.NoArgs, t.journalList),
		t.leaf("show NUMBER", "Show one top-up with its versions", `Shows one top-up as it stands, and every stored version of it, oldest first. NUMBER is its
32 hex digits, as the receipt, the platform and journal ls have them.`,
			"  kioskctl journal show 0123456789ABCDEF0123456789ABCDEF", cobra.ExactArgs(1), t.journalShow))
	cfg.AddCommand(t.leaf("check [FILE]", "Check a configuration, as kioskd -check does", `Runs "kioskd -check" on FILE: unknown keys and wrong types are told with line, column and an
excerpt, and what the file names (certificates, PIN, the kiosk's own files) is looked at
too. Nothing is changed, and no daemon is needed.
Without FILE it is /etc/kioskd/kioskd.toml.`, "  kioskctl config check\n  kioskctl config check ./kioskd.toml", cobra.MaximumNArgs(1), t.configCheck))
	root.AddCommand(t.leaf("status", "State, reader, key, outbox, alarms", `Tells whether the kiosk serves customers, and if not, why and what to do.

Ends with 0 when it serves and nothing is wrong, with 3 when it is out of service or an
alarm stands, with 10 when it has no base key in use.`, "  kioskctl status\n  kioskctl --json status", cobra.NoArgs, t.status),
		prov, t.register(), card, t.topup(), q, j, t.mirrorCommand(), cfg, t.doctorCommand(), t.qualifyCommand(), t.callCommand(), exitCodes())
	root.AddCommand(t.reconcileCommand(), t.mediaCommand())
	return root
}

// exitCodes is a help topic.
func exitCodes() *cobra.Command {
	return &cobra.Command{Use: "exit-codes", Short: "What kioskctl's and kioskd's exit codes mean", Long: `kioskctl
    0  ok
    1  failed; for topup: nothing was loaded, or it is not known yet
    2  wrong usage; nothing was done
    3  done, but the kiosk is degraded or out of service
   10  the kiosk has no base key in use
   11  kioskd cannot be reached
   12  no reader, or no card in it
   13  no modem
  130  interrupted

kioskd
    0  stopped
    1  failed; start it again
    2  bad configuration; starting it again does not help
    4  its files or its sockets are in use by another kioskd
   70  a commit is in doubt; start it again, it reads what is true
   75  a card call is stuck; start it again`}
}

// group is a command that only has others; anything else after it is a
// mistake, not a reason to print help and succeed.
func (t *tool) group(use, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long, SilenceUsage: true, SilenceErrors: true, SuggestionsMinimumDistance: 2,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			hint := ""
			if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
				hint = "; did you mean " + strings.Join(like, " or ") + "?"
			}
			return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), hint)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fmt.Errorf("which of them? see %s --help", cmd.CommandPath())
		},
	}
}

func (t *tool) leaf(use, short, long, example string, args cobra.PositionalArgs, f func(ctx context.Context, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long, Example: example, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			t.ran = true
			return f(cmd.Context(), args)
		},
	}
}

// configCheck asks the daemon's program, which owns the file's schema.
func (t *tool) configCheck(ctx context.Context, args []string) error {
	path := "/etc/kioskd/kioskd.toml"
	if len(args) > 0 {
		path = args[0]
	}
	out, err := exec.CommandContext(ctx, daemonProgram(), "-check", "-config", path).CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	said := strings.TrimSpace(string(out))
	if err != nil {
		if said == "" {
			return fmt.Errorf("run kioskd: %w", err)
		}
		return &coded{exitFailed, errors.New(said)}
	}
	t.show(struct {
		OK    bool   `json:"ok"`
		Hints string `json:"hints,omitempty"`
	}{true, said}, func(w io.Writer) {
		if said != "" {
			fmt.Fprintln(w, said)
		}
		fmt.Fprintln(w, "configuration is good")
	})
	return nil
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
