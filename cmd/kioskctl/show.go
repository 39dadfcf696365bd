package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vcckiosk/agent/audit"
	"vcckiosk/agent/localapi"
	"vcckiosk/agent/topup"
	"vcckiosk/queue"
)

func (t *tool) status(ctx context.Context, _ []string) error {
	var st localapi.Status
	if err := t.api().Get(ctx, "/v1/status", &st); err != nil {
		return err
	}
	t.show(st, func(w io.Writer) { printStatus(w, st) })
	switch {
	case st.State == "needsKey":
		return &coded{exitNoKey, errors.New("not provisioned: no base key in use")}
	case st.State != "serving" || len(st.Alarms) > 0:
		return &coded{exitDegraded, errors.New("degraded")}
	}
	return nil
}

func printStatus(w io.Writer, st localapi.Status) {
	state := st.State
	if st.Note != nil {
		state += "  " + st.Note.ZH + " / " + st.Note.EN
	}
	fmt.Fprintf(w, "state\t%s\ndevice\t%s, terminal %s, program %s\n", state, st.Device, st.Terminal, st.Firmware)
	if st.Fault != "" {
		fmt.Fprintf(w, "fault\t%s\n", st.Fault)
		return
	}
	if st.Disabled != nil {
		fmt.Fprintf(w, "disabled\tby command %s since %s; %s\n", st.Disabled.ID, wall(topup.Millis(st.Disabled.Since)), st.Disabled.Reason)
	}
	if st.Registration != nil {
		printRegistration(w, *st.Registration)
	}
	fmt.Fprintf(w, "reader\t%s: %s\nkey\t%s %s\noutbox\t%d to deliver, oldest %v; %d for another day; %d parked\n",
		st.Reader.Name, st.Reader.State, st.Key, st.KCV,
		st.Outbox.Depth, st.Outbox.OldestAge.Round(time.Second), st.Outbox.Scheduled, st.Outbox.Parked)
	alarms := strings.Join(st.Alarms, ", ")
	if alarms == "" {
		alarms = "none"
	}
	fmt.Fprintf(w, "journal\t%d open, %d damaged lines\nalarms\t%s\n", st.Journal.Open, st.Journal.Damaged, alarms)
	for _, a := range st.Alarms {
		if d, known := audit.Lookup(audit.Event(a)); known {
			fmt.Fprintf(w, "  %s\t%s / %s; %s\n", a, d.ZH, d.EN, d.Next)
		}
	}
	fmt.Fprintf(w, "disk\t%d MB free\n", st.DiskFree>>20)
	if st.Mirror != nil {
		fmt.Fprintf(w, "mirror\t%s%s\n", st.Mirror.State, because(st.Mirror.Fault))
	}
}

func (t *tool) provisionSet() *cobra.Command {
	var stdin bool
	var kcv string
	c := t.leaf("set", "Offer a base key, read from standard input", `Offers a base key of 32 letters and digits. It is used only after the platform has answered
with it; when the platform cannot be asked now, the kiosk keeps the key and tries again
for 24 hours. The key is typed unseen, or piped in; it is never an argument.

The key check value (KCV) is read to you by whoever issued the key. A mismatch changes
nothing.`, "  kioskctl provision set --stdin --kcv 1A2B3C < key.txt", cobra.NoArgs, func(ctx context.Context, _ []string) error {
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
	var c localapi.Card
	if err := t.api().Get(ctx, "/v1/card", &c); err != nil {
		return err
	}
	var said error
	switch {
	case c.State == "card out":
		said = &coded{exitNoCard, errors.New("no card in the reader")}
	case c.State != "card in":
		said = &coded{exitNoCard, errors.New("no card reader")}
	case c.Note != nil && (c.Note.Code == "foreign" || c.Note.Code == "unreadable"):
		said = errors.New(c.Note.EN)
	}
	t.show(c, func(w io.Writer) {
		fmt.Fprintf(w, "reader\t%s: %s\n", c.Name, c.State)
		if c.Last != nil {
			what := "card"
			if said != nil {
				what = "last card"
			}
			fmt.Fprintf(w, "%s\t%s %s, read %s\n", what, c.Last.Type, c.Last.Card, c.Last.At.Local().Format(time.DateTime))
		}
		if c.Note != nil {
			fmt.Fprintf(w, "says\t%s / %s\n", c.Note.ZH, c.Note.EN)
		}
	})
	return said
}

func hundredths(n int64) string {
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	return fmt.Sprintf("%s%d.%02d", sign, n/100, n%100)
}

func yuan(n int64) string { return hundredths(n) + " 元" }

func (t *tool) queueList(ctx context.Context, _ []string) error {
	items := []queue.Item{}
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

func number(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, usage("want the N of queue ls")
	}
	return n, nil
}

func (t *tool) queueShow(ctx context.Context, args []string) error {
	n, err := number(args[0])
	if err != nil {
		return err
	}
	var it queue.Item
	if err := t.api().Get(ctx, fmt.Sprintf("/v1/queue/%d", n), &it); err != nil {
		return err
	}
	t.show(it, func(w io.Writer) {
		fmt.Fprintf(w, "message\t%d, %s revision %d\nnumber\t%s\ncreated\t%s\ntries\t%d\nstate\t%s\n",
			it.ID, it.Kind, it.Rev, it.Ref, it.Created.Local().Format(time.DateTime), it.Attempts, itemState(it))
	})
	return nil
}

func (t *tool) queueRequeue(ctx context.Context, args []string) error {
	n, err := number(args[0])
	if err != nil {
		return err
	}
	if err := t.api().Post(ctx, fmt.Sprintf("/v1/queue/%d/requeue", n), nil, nil); err != nil {
		return err
	}
	t.show(map[string]uint64{"requeued": n}, func(w io.Writer) { fmt.Fprintf(w, "message %d is live again\n", n) })
	return nil
}

func (t *tool) journalList(ctx context.Context, _ []string) error {
	rs := []topup.Record{}
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
	var d localapi.Detail
	if err := t.api().Get(ctx, "/v1/journal/"+string(no), &d); err != nil {
		return err
	}
	t.show(d, func(w io.Writer) {
		r := d.Record
		fmt.Fprintf(w, "number\t%s\norder\t%s, %s, %s m³\ncard\t%s …%s\nbegun\t%s\nphase\t%s\noutcome\t%s, by %s, revision %d\nplatform\t%s to revision %d\nwhy\t%s %s\nparked\t%s\n",
			r.TransNo, r.OrderNo, yuan(int64(r.Amount)), hundredths(int64(r.Volume)), r.Card.Type, lastFour(r.Card.No),
			wall(r.Begun), r.Phase, r.Outcome, r.Basis, r.Rev, r.AckState, r.AckRev, r.FailCode, r.FailReason, r.Parked)
		for _, v := range d.Versions {
			fmt.Fprintf(w, "line %d\t%s\t%s\t%s\n", v.Line, v.Record.Phase, v.Record.Outcome, wall(v.Record.Decided))
		}
	})
	return nil
}

func wall(ms topup.Millis) string {
	if ms == 0 {
		return ""
	}
	return time.UnixMilli(int64(ms)).Local().Format(time.DateTime)
}
