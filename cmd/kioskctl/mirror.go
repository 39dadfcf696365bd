package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"vcckiosk/agent"
	"vcckiosk/agent/mirror"
)

// because puts a reason behind a state.
func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

func (t *tool) mirrorCommand() *cobra.Command {
	m := t.group("mirror", "The copy of master data", `The mirror is a copy of subscribers and meters for when the platform cannot be asked. It is
off unless [mirror] in the configuration says otherwise, and no top-up depends on it.
Telephone numbers are not in it; names and addresses were masked before they were stored.`)
	m.AddCommand(
		t.leaf("status", "How far it is", `Tells for each table how far it has been pulled, what was set aside and what went wrong.

"resync needed" means: the kiosk was away for more than a month, and the platform gives
changes of the last month only. What is held may be out of date until "mirror resync".`, "  kioskctl mirror status", cobra.NoArgs, t.mirrorStatus),
		t.leaf("lookup CODE", "One gas account and its meters", `Looks up an account by its number, on the technician's socket. "Not held" does not mean that
there is no such account. Who asked is recorded.`, "  kioskctl mirror lookup 1400123456", cobra.ExactArgs(1), t.mirrorLookup),
		t.leaf("pull", "Pull now", "Asks for a pull now; it begins within half a minute, or when a back-off ends.", "  kioskctl mirror pull", cobra.NoArgs, t.mirrorPull),
		t.leaf("resync", "Drop all rows and pull the last month", `Drops every row and pulls what has changed in the last month. Rows older than that come back
when they change. This is what "resync needed" asks for. Who did it is recorded.`, "  kioskctl mirror resync", cobra.NoArgs, t.mirrorResync))
	return m
}

func (t *tool) mirrorStatus(ctx context.Context, _ []string) error {
	var st mirror.Status
	if err := t.api().Get(ctx, "/v1/mirror", &st); err != nil {
		return err
	}
	at := func(x time.Time) string {
		if x.IsZero() {
			return "never"
		}
		return x.Local().Format(time.DateTime)
	}
	t.show(st, func(w io.Writer) {
		fmt.Fprintf(w, "state\t%s%s\n", st.State, because(st.Fault))
		if st.Next != "" {
			fmt.Fprintf(w, "next\t%s\n", st.Next)
		}
		if d := st.Dropped; d != nil {
			fmt.Fprintf(w, "dropped\t%s: %s\n", at(d.At), d.Why)
		}
		for _, x := range st.Tables {
			fmt.Fprintf(w, "%s\t%s, pulled up to %s, holds changes since %s\n", x.Code, x.State, at(x.Watermark), at(x.Since))
			fmt.Fprintf(w, "\t%d rows taken, %d set aside\n", x.Rows, x.Bad)
			if x.Gap != nil {
				fmt.Fprintf(w, "\tchanges from %s to %s were missed\n", at(x.Gap.From), at(x.Gap.To))
			}
			if x.Error != "" {
				fmt.Fprintf(w, "\tlast try: %s\n", x.Error)
			}
			for _, b := range x.Aside {
				fmt.Fprintf(w, "\tline %d: %s\n", b.Line, b.Why)
			}
		}
	})
	return nil
}

var accountForm = regexp.MustCompile(`^[0-9A-Za-z._-]{1,20}$`)

func (t *tool) mirrorLookup(ctx context.Context, args []string) error {
	if !accountForm.MatchString(args[0]) {
		return usage("want the number of a gas account")
	}
	var a agent.Account
	if err := t.api().Get(ctx, "/v1/mirror/"+url.PathEscape(args[0]), &a); err != nil {
		return err
	}
	t.show(a, func(w io.Writer) {
		word := func(appendix, code string) string {
			if s := a.Words[appendix+code]; s != "" {
				return code + " " + s
			}
			return code
		}
		fmt.Fprintf(w, "account\t%s, kind %s, state %s\nname\t%s\naddress\t%s %s (%s)\n", a.Code, a.Kind, word("D", a.State), a.Name, a.Street, a.Address, a.AddrCode)
		for _, m := range a.Meters {
			fmt.Fprintf(w, "meter\t%s, type %s, model %s, state %s, maker %s\n", m.Code, word("E", m.Type), word("F", m.Model), m.State, m.Factory)
		}
	})
	return nil
}

func (t *tool) mirrorPull(ctx context.Context, _ []string) error {
	return t.mirrorAsk(ctx, "pull", "a pull is asked for; kioskctl mirror status tells when it is done")
}

func (t *tool) mirrorResync(ctx context.Context, _ []string) error {
	return t.mirrorAsk(ctx, "resync", "the rows are dropped and the last month is pulled; kioskctl mirror status tells when it is done")
}

func (t *tool) mirrorAsk(ctx context.Context, what, said string) error {
	if err := t.api().Post(ctx, "/v1/mirror/"+what, nil, nil); err != nil {
		return err
	}
	t.show(map[string]bool{"ok": true}, func(w io.Writer) { fmt.Fprintln(w, said) })
	return nil
}
