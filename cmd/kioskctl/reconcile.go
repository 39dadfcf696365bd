package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"vcckiosk/agent"
	"vcckiosk/agent/daybook"
	"vcckiosk/protocol/reconcile"
)

var dayForm = regexp.MustCompile(`^\d{8}$`)

func (t *tool) reconcileCommand() *cobra.Command {
	g := t.group("reconcile", "Daily reconciliation", `Each night the kiosk sends a file of the day's top-ups to the platform and compares the
platform's answer with its own books.`)
	day := ""
	check := func() error {
		if day != "" && !dayForm.MatchString(day) {
			return usage("--day: want a day such as 20260801")
		}
		return nil
	}
	run := t.leaf("run", "Send a day's file now, and look at the answer", `Makes a day's file anew, sends it in the place of the one that is there, and compares the
platform's answer if it is there already. Without --day: yesterday. Only a day that is
over can be run, and not in the platform's maintenance window. Who did it is recorded.`,
		"  kioskctl reconcile run --day 20260801", cobra.NoArgs, func(ctx context.Context, _ []string) error {
			if err := check(); err != nil {
				return err
			}
			var d agent.DayResult
			if err := t.api().Post(ctx, "/v1/reconcile/run", map[string]string{"day": day}, &d); err != nil {
				return err
			}
			return t.showDay(d)
		})
	show := t.leaf("show", "What differs, with the evidence of both sides and what to do", `Shows a day's reconciliation: what only the kiosk has, what only the platform has, and
what they have differently. Without --day: the newest day with an answer.

Ends with 3 when a difference needs a person.`,
		"  kioskctl reconcile show\n  kioskctl reconcile show --day 20260801", cobra.NoArgs, func(ctx context.Context, _ []string) error {
			if err := check(); err != nil {
				return err
			}
			which := day
			if which == "" {
				which = "latest"
			}
			var d agent.DayResult
			if err := t.api().Get(ctx, "/v1/reconcile/"+which, &d); err != nil {
				return err
			}
			return t.showDay(d)
		})
	ls := t.leaf("ls", "Days, newest first", "Lists the days that were sent, newest first.", "  kioskctl reconcile ls", cobra.NoArgs, t.dayList)
	for _, c := range []*cobra.Command{run, show} {
		c.Flags().StringVar(&day, "day", "", "the `day`, yyyyMMdd in China")
	}
	g.AddCommand(run, show, ls)
	return g
}

func (t *tool) dayList(ctx context.Context, _ []string) error {
	days := []daybook.Day{}
	if err := t.api().Get(ctx, "/v1/reconcile", &days); err != nil {
		return err
	}
	t.show(days, func(w io.Writer) {
		fmt.Fprintln(w, "day\ttop-ups\tamount\tsent\tanswer\tonly ours\tonly theirs\tdiffer\talarms")
		for _, d := range days {
			answer := "none yet"
			if d.Answered != 0 {
				answer = wall(d.Answered)
			}
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%d\t%d\t%d\t%d\n", d.Day, d.Rows, yuan(int64(d.Amount)), wall(d.Shipped), answer,
				d.OnlyOurs, d.OnlyTheirs, d.Differ, d.Alarms)
		}
	})
	return nil
}

func (t *tool) showDay(d agent.DayResult) error {
	t.show(d, func(w io.Writer) {
		fmt.Fprintf(w, "day\t%s\n", d.Day.Day)
		fmt.Fprintf(w, "sent\t%s, %d top-ups, %s, %s m³\n", wall(d.Shipped), d.Rows, yuan(int64(d.Amount)), hundredths(int64(d.Volume)))
		for _, f := range d.LeftRows {
			fmt.Fprintf(w, "left out\t%s: %s\n", f.TransNo, f.What)
		}
		if d.Answered == 0 {
			fmt.Fprintf(w, "answer\t平台尚未应答 / none yet\n")
			return
		}
		fmt.Fprintf(w, "answer\t%s, %d agree, %d wait on both sides\n", wall(d.Answered), d.Agreed, d.Pending)
		for _, f := range d.FaultRows {
			fmt.Fprintf(w, "unusable\tline %d: %s\n", f.Line, f.What)
		}
		if more := d.Faults - len(d.FaultRows); more > 0 {
			fmt.Fprintf(w, "unusable\t%d more lines\n", more)
		}
		for _, no := range d.Closed {
			fmt.Fprintf(w, "closed\t%s, by the platform's word\n", no)
		}
		if d.Result == nil {
			fmt.Fprintf(w, "lists\tnot kept; kioskctl reconcile run --day %s makes them again\n", d.Day.Day)
		}
	})
	if d.Result != nil && !t.json {
		for _, l := range []struct {
			zh, en string
			list   []reconcile.Difference
		}{{"仅本机有", "only ours", d.Result.OnlyOurs}, {"仅平台有", "only theirs", d.Result.OnlyTheirs}, {"不一致", "differ", d.Result.Differ}} {
			t.show(nil, func(w io.Writer) { fmt.Fprintf(w, "\n%s / %s: %d\n", l.zh, l.en, len(l.list)) })
			if len(l.list) > 0 {
				t.show(nil, func(w io.Writer) { printDifferences(w, l.list) })
			}
			t.show(nil, func(w io.Writer) { printAdvice(w, l.list) })
		}
	}
	if d.Alarms > 0 {
		return &coded{exitDegraded, errors.New("the books differ; a person has to look")}
	}
	return nil
}

func printDifferences(w io.Writer, list []reconcile.Difference) {
	fmt.Fprintln(w, "class\tnumber\torder\tcard\tours\ttheirs\twhat")
	for _, d := range list {
		have := d.Ours
		if have == nil {
			have = d.Theirs
		}
		if have == nil {
			have = &reconcile.Row{}
		}
		what := d.ZH + " / " + d.EN
		if len(d.Fields) > 0 {
			what += ": " + strings.Join(d.Fields, ", ")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t…%s\t%s\t%s\t%s\n", d.Code, d.TransNo, have.OrderNo, lastFour(have.CardNo), evidence(d.Ours), evidence(d.Theirs), what)
	}
}

// evidence is one side's row in short.
func evidence(r *reconcile.Row) string {
	if r == nil {
		return "-"
	}
	s := yuan(int64(r.Amount)) + " " + hundredths(int64(r.Volume)) + " m³"
	if r.Count != nil {
		s += fmt.Sprintf(" #%d", *r.Count)
	}
	if r.Result != nil && *r.Result >= 0 && *r.Result < 4 {
		s += " " + []string{"written", "not written", "unknown", "written, code not changed"}[*r.Result]
	}
	return s + " " + string(r.State)
}

// printAdvice tells once for each case what to do.
func printAdvice(w io.Writer, list []reconcile.Difference) {
	var told []string
	for _, d := range list {
		if d.NextEN == "" || slices.Contains(told, d.Name) {
			continue
		}
		told = append(told, d.Name)
		fmt.Fprintf(w, "下一步 / next, %s: %s / %s\n", d.Code, d.NextZH, d.NextEN)
	}
}
