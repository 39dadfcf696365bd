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
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"vcckiosk/agent"
	"vcckiosk/agent/localapi"
	"vcckiosk/agent/topup"
	"vcckiosk/queue"
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
		code = exitInterrupted
	case errors.Is(err, localapi.ErrUnreachable):
		code = exitUnreachable
	case !t.ran:
		code = exitUsage
	}
	if t.json {
		_ = json.NewEncoder(stderr).Encode(map[string]any{"error": err.Error(), "code": code})
	} else {
		fmt.Fprintln(stderr, "kioskctl:", err)
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

// show prints v as JSON, or by text.
func (t *tool) show(v any, text func(w io.Writer)) {
	if t.json {
		e := json.NewEncoder(t.out)
		e.SetIndent("", "  ")
		_ = e.Encode(v)
		return
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	text(w)
	_ = w.Flush()
}

func (t *tool) command() *cobra.Command {
	root := t.group("kioskctl", "Look at and look after a kiosk")
	socket := os.Getenv("KIOSKD_SOCKET")
	if socket == "" {
		socket = "/run/kioskd/technician.sock"
	}
	root.PersistentFlags().StringVar(&t.socket, "socket", socket, "the daemon's `socket`")
	root.PersistentFlags().BoolVar(&t.json, "json", false, "print JSON")
	prov, card := t.group("provision", "Base key"), t.group("card", "The card in the reader")
	q, j, cfg := t.group("queue", "What waits for delivery"), t.group("journal", "Top-ups"), t.group("config", "Configuration")
	prov.AddCommand(t.provisionSet())
	card.AddCommand(t.leaf("read", "What the kiosk sees of the card", cobra.NoArgs, t.cardRead))
	q.AddCommand(t.leaf("ls", "List, oldest first", cobra.NoArgs, t.queueList),
		t.leaf("show N", "Show one message", cobra.ExactArgs(1), t.queueShow),
		t.leaf("requeue N", "Send a parked message again", cobra.ExactArgs(1), t.queueRequeue))
	j.AddCommand(t.leaf("ls", "List, newest first", cobra.NoArgs, t.journalList),
		t.leaf("show NUMBER", "Show one top-up with its versions", cobra.ExactArgs(1), t.journalShow))
	cfg.AddCommand(t.leaf("check FILE", "Check a configuration, as kioskd -check does", cobra.ExactArgs(1), t.configCheck))
	root.AddCommand(t.leaf("status", "State, reader, key, outbox, alarms", cobra.NoArgs, t.status), prov, card, t.topup(), q, j, cfg)
	return root
}

// group is a command that only has others; anything else after it is a
// mistake, not a reason to print help and succeed.
func (t *tool) group(use, short string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fmt.Errorf("which of them? see %s --help", cmd.CommandPath())
		},
	}
}

func (t *tool) leaf(use, short string, args cobra.PositionalArgs, f func(ctx context.Context, args []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: args, RunE: func(cmd *cobra.Command, args []string) error {
		t.ran = true
		return f(cmd.Context(), args)
	}}
}

func (t *tool) status(ctx context.Context, _ []string) error {
	var st agent.Status
	if err := t.api().Get(ctx, "/v1/status", &st); err != nil {
		return err
	}
	t.show(st, func(w io.Writer) {
		state := st.State
		if st.Note != nil {
			state += "  " + st.Note.ZH + " / " + st.Note.EN
		}
		alarms := strings.Join(st.Alarms, ", ")
		if alarms == "" {
			alarms = "none"
		}
		fmt.Fprintf(w, "state\t%s\ndevice\t%s, terminal %s, program %s\nreader\t%s: %s\nkey\t%s %s\noutbox\t%d to deliver, oldest %v; %d for another day; %d parked\n",
			state, st.Device, st.Terminal, st.Firmware, st.Reader.Name, st.Reader.State, st.Key, st.KCV,
			st.Outbox.Depth, st.Outbox.OldestAge.Round(time.Second), st.Outbox.Scheduled, st.Outbox.Parked)
		fmt.Fprintf(w, "journal\t%d open, %d damaged lines\nalarms\t%s\ndisk\t%d MB free\n", st.Journal.Open, st.Journal.Damaged, alarms, st.DiskFree>>20)
	})
	switch {
	case st.State == "needsKey":
		return &coded{exitNoKey, errors.New("not provisioned: no base key in use")}
	case st.State != "serving" || len(st.Alarms) > 0:
		return &coded{exitDegraded, errors.New("degraded")}
	}
	return nil
}

func (t *tool) provisionSet() *cobra.Command {
	var stdin bool
	var kcv string
	c := t.leaf("set", "Offer a base key, read from standard input", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		if !stdin {
			return usage("a key is never an argument: give --stdin and pipe or type it in")
		}
		kcv = strings.ToUpper(kcv)
		if kcv != "" && !isKCV(kcv) {
			return usage("--kcv: want 6 hex digits")
		}
		key, err := readKey(ctx, t.in, t.prompt)
		if err != nil {
			return err
		}
		got, err := t.api().Provision(ctx, key, kcv) // clears the key
		if err != nil {
			return err
		}
		t.show(got, func(w io.Writer) {
			if got.Active {
				fmt.Fprintf(w, "key in use\tcheck value %s\t%s\n", got.KCV, got.Why)
				return
			}
			fmt.Fprintf(w, "key stored, not in use yet\tcheck value %s\t%s\n", got.KCV, got.Why)
		})
		return nil
	})
	c.Flags().BoolVar(&stdin, "stdin", false, "read the key from standard input")
	c.Flags().StringVar(&kcv, "kcv", "", "key check value, 6 hex `digits`; a mismatch changes nothing")
	return c
}

func (t *tool) cardRead(ctx context.Context, _ []string) error {
	var r agent.ReaderStatus
	if err := t.api().Get(ctx, "/v1/card", &r); err != nil {
		return err
	}
	t.show(r, func(w io.Writer) {
		fmt.Fprintf(w, "reader\t%s: %s\n", r.Name, r.State)
		if r.Last != nil {
			fmt.Fprintf(w, "card\t%s %s, read %s\n", r.Last.Type, r.Last.Card, r.Last.At.Local().Format(time.DateTime))
		}
	})
	if r.State != "card in" {
		return &coded{exitNoCard, errors.New("no card in the reader")}
	}
	return nil
}

func (t *tool) topup() *cobra.Command {
	var order string
	var yes bool
	c := t.leaf("topup", "Serve the card in the reader from here", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		var last agent.View
		var failed error
		first, mine := true, false // a customer before us may still be told to take the card: that is not our result
		err := t.api().Events(ctx, func(v agent.View) bool {
			old := first
			last, first = v, false
			t.show(v, func(w io.Writer) { printView(w, v) })
			switch v.Stage {
			case agent.StageChoose:
				no := order
				if no == "" && len(v.Offers) == 1 {
					no = v.Offers[0].OrderNo
				}
				if no == "" {
					failed = usage("several orders: choose one with --order")
					_ = t.api().Post(ctx, "/v1/session/cancel", nil, nil)
					return false
				}
				failed = t.api().Post(ctx, "/v1/session/choose", map[string]string{"orderNo": no}, nil)
			case agent.StageConfirm:
				if !yes {
					_ = t.api().Post(ctx, "/v1/session/cancel", nil, nil)
					failed = usage("nothing was loaded: give --yes to load")
					return false
				}
				failed = t.api().Post(ctx, "/v1/session/confirm", nil, nil)
				mine = failed == nil
			case agent.StageRemove:
				return old
			case agent.StageOut:
				failed = &coded{exitDegraded, errors.New("out of service")}
			}
			return failed == nil
		})
		switch {
		case failed != nil:
			return failed
		case err != nil:
			return err
		case !mine || last.Outcome != topup.OutcomeWritten:
			return errors.New("nothing was loaded")
		}
		return nil
	})
	c.Flags().StringVar(&order, "order", "", "order `number`; not needed when there is one")
	c.Flags().BoolVar(&yes, "yes", false, "load without asking")
	return c
}

func printView(w io.Writer, v agent.View) {
	fmt.Fprintf(w, "%s", v.Stage)
	if v.Note != nil {
		fmt.Fprintf(w, "  %s / %s", v.Note.ZH, v.Note.EN)
	}
	fmt.Fprintln(w)
	for _, o := range v.Offers {
		fmt.Fprintf(w, "  %s\t%s\t%s m³\n", o.OrderNo, yuan(int64(o.Amount)), hundredths(int64(o.Volume)))
	}
}

func hundredths(n int64) string { return fmt.Sprintf("%d.%02d", n/100, n%100) }
func yuan(n int64) string       { return hundredths(n) + " 元" }

func (t *tool) queueList(ctx context.Context, _ []string) error {
	var items []queue.Item
	if err := t.api().Get(ctx, "/v1/queue", &items); err != nil {
		return err
	}
	t.show(items, func(w io.Writer) {
		fmt.Fprintln(w, "N\tkind\tnumber\trev\tcreated\ttries\tstate")
		for _, it := range items {
			fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s\t%d\t%s\n", it.ID, it.Kind, it.Ref, it.Rev, it.Created.Local().Format(time.DateTime), it.Attempts, itemState(it))
		}
	})
	return nil
}

func itemState(it queue.Item) string {
	switch {
	case it.Parked != "":
		return "parked: " + it.Parked
	case it.NotBefore.After(time.Now()):
		return "due " + it.NotBefore.Local().Format(time.DateTime)
	case it.LastError != "":
		return "waits: " + it.LastError
	default:
		return "waits"
	}
}

func needNumber(s string) error {
	if _, err := strconv.ParseUint(s, 10, 64); err != nil {
		return usage("want the N of queue ls")
	}
	return nil
}

func (t *tool) queueShow(ctx context.Context, args []string) error {
	if err := needNumber(args[0]); err != nil {
		return err
	}
	var it queue.Item
	if err := t.api().Get(ctx, "/v1/queue/"+args[0], &it); err != nil {
		return err
	}
	t.show(it, func(w io.Writer) {
		fmt.Fprintf(w, "message\t%d, %s revision %d\nnumber\t%s\ncreated\t%s\ntries\t%d\nstate\t%s\n",
			it.ID, it.Kind, it.Rev, it.Ref, it.Created.Local().Format(time.DateTime), it.Attempts, itemState(it))
	})
	return nil
}

func (t *tool) queueRequeue(ctx context.Context, args []string) error {
	if err := needNumber(args[0]); err != nil {
		return err
	}
	if err := t.api().Post(ctx, "/v1/queue/"+args[0]+"/requeue", nil, nil); err != nil {
		return err
	}
	t.show(map[string]string{"requeued": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "message %s is live again\n", args[0]) })
	return nil
}

func (t *tool) journalList(ctx context.Context, _ []string) error {
	var rs []topup.Record
	if err := t.api().Get(ctx, "/v1/journal", &rs); err != nil {
		return err
	}
	t.show(rs, func(w io.Writer) {
		fmt.Fprintln(w, "number\torder\tamount\tcard\tphase\toutcome\tplatform\tparked")
		for _, r := range rs {
			fmt.Fprintf(w, "%s\t%s\t%s\t…%s\t%s\t%s\t%s\t%s\n", r.TransNo, r.OrderNo, yuan(int64(r.Amount)), lastFour(r.Card.No), r.Phase, r.Outcome, r.AckState, r.Parked)
		}
	})
	return nil
}

func lastFour(s string) string { return s[max(0, len(s)-4):] }

func (t *tool) journalShow(ctx context.Context, args []string) error {
	no := topup.TransNo(strings.ToUpper(args[0]))
	if !no.Valid() {
		return usage("want the 32 hex digits of a top-up")
	}
	var out struct {
		Record   topup.Record      `json:"record"`
		Versions []json.RawMessage `json:"versions"`
	}
	if err := t.api().Get(ctx, "/v1/journal/"+string(no), &out); err != nil {
		return err
	}
	t.show(out, func(w io.Writer) {
		r := out.Record
		fmt.Fprintf(w, "number\t%s\norder\t%s, %s, %s m³\ncard\t%s …%s\nphase\t%s\noutcome\t%s, by %s, revision %d\nplatform\t%s to revision %d\nwhy\t%s %s\nparked\t%s\n",
			r.TransNo, r.OrderNo, yuan(int64(r.Amount)), hundredths(int64(r.Volume)), r.Card.Type, lastFour(r.Card.No), r.Phase,
			r.Outcome, r.Basis, r.Rev, r.AckState, r.AckRev, r.FailCode, r.FailReason, r.Parked)
		for _, v := range out.Versions {
			fmt.Fprintf(w, "  %s\n", v)
		}
	})
	return nil
}

// configCheck asks the daemon's program, which owns the file's schema.
func (t *tool) configCheck(ctx context.Context, args []string) error {
	name := "kioskd"
	if self, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(self), name); fileExists(beside) {
			name = beside
		}
	}
	out, err := exec.CommandContext(ctx, name, "-check", "-config", args[0]).CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		if len(out) == 0 {
			return fmt.Errorf("run kioskd: %w", err)
		}
		return &coded{exitFailed, errors.New(strings.TrimSpace(string(out)))}
	}
	t.show(map[string]bool{"ok": true}, func(w io.Writer) { fmt.Fprintln(w, "configuration is good") })
	return nil
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
