package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"

	"vcckiosk/agent/localapi"
)

// qualifyCommand hands the terminal to kioskd -qualify, which knows the reader.
func (t *tool) qualifyCommand() *cobra.Command {
	var config, out string
	var fixed, overwrite bool
	g := t.group("qualify", "Is a part fit for service", "Holds a part of the cabinet against what this program relies on.")
	c := t.leaf("reader", "Hold the card reader against what kioskd relies on", `Asks you to put a card in, take it out, pull it while it is read, unplug the reader and
restart the card service, and looks whether the reader tells the truth about each. Takes
about five minutes. kioskd must be stopped meanwhile. Keeps a transcript of every command
and answer, codes left out, and prints a line for docs/hardware.md.

Use a bench card, never a customer's. Nothing is written to it, unless you say
--overwrite-card: then the last 32 bytes of a memory card are written, once torn in the
middle, and put back, with its code presented; a wrong code costs one of its three tries.
A purse loses the proof of its last load. Either card may be lost by it.

Ends with 0 when no step failed, with 1 when one did.`, "  sudo systemctl stop kioskd && sudo kioskctl qualify reader --out acr39.transcript", cobra.NoArgs,
		func(ctx context.Context, _ []string) error {
			return t.qualifyReader(ctx, config, out, fixed, overwrite)
		})
	c.Flags().StringVar(&config, "config", "/etc/kioskd/kioskd.toml", "kioskd's configuration `file`")
	c.Flags().StringVar(&out, "out", "", "`file` for the transcript, which must not exist; default reader-DATE-TIME.transcript")
	c.Flags().BoolVar(&fixed, "fixed-cable", false, "the reader is built in and cannot be unplugged")
	c.Flags().BoolVar(&overwrite, "overwrite-card", false, "write to the bench card, which may be lost by it")
	g.AddCommand(c)
	return g
}

func (t *tool) qualifyReader(ctx context.Context, config, out string, fixed, overwrite bool) error {
	if t.json {
		return &coded{exitUsage, errors.New("qualify is a conversation: without --json")}
	}
	var st localapi.Status
	switch err := t.api().Get(ctx, "/v1/status", &st); {
	case err == nil:
		return errors.New("kioskd is running and would take each card: systemctl stop kioskd")
	case !errors.Is(err, localapi.ErrUnreachable):
		return err
	}
	if out == "" {
		out = time.Now().Format("reader-20060102-150405.transcript")
	}
	args := []string{"-config", config, "-qualify", out}
	if fixed {
		args = append(args, "-qualify-fixed-cable")
	}
	if overwrite {
		args = append(args, "-qualify-overwrite-card")
	}
	cmd := exec.CommandContext(ctx, daemonProgram(), args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = t.in, t.out, t.prompt
	// It ends by itself at Ctrl-C, which the terminal sends to both, and then leaves the card as it is.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if exit, is := errors.AsType[*exec.ExitError](err); is {
		code := exitFailed
		if exit.ExitCode() == exitUsage {
			code = exitUsage
		}
		return &coded{code, errors.New("not qualified")}
	}
	if err != nil {
		return fmt.Errorf("run kioskd: %w", err)
	}
	return nil
}
