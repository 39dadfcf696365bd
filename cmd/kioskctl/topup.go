package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"vcckiosk/agent"
	"vcckiosk/agent/localapi"
	"vcckiosk/agent/topup"
)

// desk serves customers from a terminal.
type desk struct {
	*tool
	api   *localapi.Client
	order string
	yes   bool
	wait  time.Duration

	first bool       // no picture was seen yet
	mine  bool       // the load was confirmed here
	asked bool       // a customer's session was answered, or asked about, here
	last  agent.View // the newest picture
	ask   string     // what the next line answers: "", "choose", "confirm"
	lines chan string
}

func (t *tool) topup() *cobra.Command {
	d := &desk{tool: t}
	c := t.leaf("topup", "Serve the card in the reader from here", `Serves one card from the terminal, in place of a screen: tells what the kiosk does, asks
which order is to be loaded and whether, and ends when the card may be taken.

On a terminal it asks; elsewhere the order must be the only one or named with --order,
and nothing is loaded without --yes. Ctrl-C cancels: until the card is about to be changed
nothing happens to it, after that the kiosk finishes by itself and keeps the result.

Ends with 0 when the gas is on the card, 1 when nothing was loaded or that is not known
yet, 3 when the kiosk is out of service, 10 without a base key, 12 without reader or card.`,
		"  kioskctl topup\n  kioskctl topup --order D1 --yes", cobra.NoArgs, func(ctx context.Context, _ []string) error {
			d.api = t.api()
			return d.serve(ctx)
		})
	c.Flags().StringVar(&d.order, "order", "", "order `number`; not needed when there is one")
	c.Flags().BoolVar(&d.yes, "yes", false, "load without asking")
	c.Flags().DurationVar(&d.wait, "wait", time.Minute, "how long a card is waited for")
	return c
}

// errEnd ends the stream of pictures: the result is in the desk.
var errEnd = errors.New("end")

func (d *desk) serve(ctx context.Context) error {
	sctx, stop := context.WithCancel(ctx)
	defer stop()
	views, ended := make(chan agent.View), make(chan error, 1)
	go func() {
		ended <- d.api.Events(sctx, func(v agent.View) bool {
			select {
			case views <- v:
				return true
			case <-sctx.Done():
				return false
			}
		})
	}()
	d.first = true
	if f, is := d.in.(*os.File); is && term.IsTerminal(int(f.Fd())) && !d.json {
		d.lines = make(chan string)
		go readLines(sctx, f, d.lines)
	}
	noCard := time.NewTimer(d.wait)
	defer noCard.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return d.interrupted(ctx)
		case err = <-ended:
		case <-noCard.C:
			if !d.asked && d.last.Stage != agent.StageReading {
				return &coded{exitNoCard, errors.New("no card was put in")}
			}
		case v := <-views:
			err = d.picture(ctx, v)
		case line := <-d.lines:
			err = d.answer(ctx, line)
		}
		switch {
		case err != nil && ctx.Err() != nil:
			return d.interrupted(ctx)
		case errors.Is(err, errEnd):
			return d.result()
		case err != nil:
			return err
		}
	}
}

func readLines(ctx context.Context, in io.Reader, to chan<- string) {
	for s := bufio.NewScanner(in); s.Scan(); {
		select {
		case to <- s.Text():
		case <-ctx.Done():
			return
		}
	}
}

// interrupted gives up what this desk has begun. A load that has reached the
// card goes on without us.
func (d *desk) interrupted(ctx context.Context) error {
	if !d.asked || d.last.Stage == agent.StageRemove {
		return ctx.Err()
	}
	cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	d.cancel(cctx)
	if d.mine {
		fmt.Fprintf(d.prompt, "cancel asked; a load that has reached the card is finished by the kiosk: kioskctl journal show %s\n", d.last.TransNo)
	}
	return ctx.Err()
}

func (d *desk) cancel(ctx context.Context) { _ = d.api.Post(ctx, "/v1/session/cancel", nil, nil) }

// giveUp cancels the customer's session for a mistake made here.
func (d *desk) giveUp(ctx context.Context, why string) error {
	d.cancel(ctx)
	return usage(why)
}

// picture follows the screen. A customer before us may still be told to take
// the card: that is not our result.
func (d *desk) picture(ctx context.Context, v agent.View) error {
	old := d.first
	if v.Price != nil && d.last.Price == nil && v.Stage == d.last.Stage && !old { // nothing else is new: the question stands
		d.last = v
		d.step(v, func(w io.Writer) { printView(w, v) })
		return nil
	}
	d.last, d.first, d.ask = v, false, ""
	d.step(v, func(w io.Writer) { printView(w, v) })
	switch v.Stage {
	case agent.StageChoose:
		d.asked = true
		return d.choose(ctx, v)
	case agent.StageConfirm:
		d.asked = true
		if d.yes {
			return d.confirm(ctx)
		}
		if d.lines == nil {
			return d.giveUp(ctx, "nothing was loaded: give --yes to load")
		}
		d.ask = "confirm"
		fmt.Fprint(d.prompt, "load it 确认充值? [y/N] ")
	case agent.StageRemove:
		if !old {
			return errEnd
		}
	case agent.StageIdle:
		if d.asked { // the card was taken out
			return errEnd
		}
	case agent.StageOut:
		return d.out(v)
	}
	return nil
}

func (d *desk) choose(ctx context.Context, v agent.View) error {
	no := d.order
	if no == "" && len(v.Offers) == 1 {
		no = v.Offers[0].OrderNo
	}
	if no != "" {
		return d.post(ctx, "/v1/session/choose", map[string]string{"orderNo": no})
	}
	if d.lines == nil {
		return d.giveUp(ctx, "several orders: choose one with --order")
	}
	d.ask = "choose"
	fmt.Fprintf(d.prompt, "which one 请选择 [1-%d]? ", len(v.Offers))
	return nil
}

// post answers the screen. A screen that has moved on meanwhile is no
// mistake: its next picture tells.
func (d *desk) post(ctx context.Context, path string, in any) error {
	err := d.api.Post(ctx, path, in, nil)
	if p, is := errors.AsType[*localapi.Problem](err); is && p.Status == 409 && d.order == "" {
		err = nil
	}
	return err
}

func (d *desk) confirm(ctx context.Context) error {
	d.mine = true // also when the answer does not reach us
	err := d.api.Post(ctx, "/v1/session/confirm", nil, nil)
	if _, refused := errors.AsType[*localapi.Problem](err); refused {
		d.mine = false
	}
	return err
}

// answer takes a line typed at the terminal.
func (d *desk) answer(ctx context.Context, line string) error {
	line = strings.TrimSpace(line)
	switch d.ask {
	case "choose":
		n, _ := strconv.Atoi(line) // 0 when it is no number
		if n < 1 || n > len(d.last.Offers) {
			fmt.Fprintf(d.prompt, "which one 请选择 [1-%d]? ", len(d.last.Offers))
			return nil
		}
		d.ask = ""
		return d.post(ctx, "/v1/session/choose", map[string]string{"orderNo": d.last.Offers[n-1].OrderNo})
	case "confirm":
		d.ask = ""
		if line == "y" || line == "Y" || line == "是" {
			return d.confirm(ctx)
		}
		d.cancel(ctx)
	}
	return nil
}

// out tells why nothing can be sold.
func (d *desk) out(v agent.View) error {
	code, what := exitDegraded, "out of service"
	if v.Note != nil {
		what = v.Note.EN
		switch v.Note.Code {
		case "starting":
			return nil
		case "needsKey":
			code = exitNoKey
		case "noReader":
			code = exitNoCard
		}
	}
	return &coded{code, errors.New(what)}
}

func (d *desk) result() error {
	code := ""
	if d.last.Note != nil {
		code = d.last.Note.Code
	}
	switch {
	case d.mine && d.last.Outcome == topup.OutcomeWritten:
		return nil
	case code == "restored": // the card came back, its earlier load is confirmed
		return nil
	case d.mine && (d.last.Outcome == topup.OutcomeUnknown || d.last.Stage == agent.StageIdle):
		return errors.New("it is not known yet whether it was loaded: put the same card in again")
	}
	return errors.New("nothing was loaded")
}

// stageWords are the lines of a desk for pictures without a note.
func stageWords(s agent.Stage) (zh, en string) {
	switch s {
	case agent.StageIdle:
		return "请插卡", "Put the card in"
	case agent.StageReading:
		return "正在读卡，请勿取卡", "Reading, do not take the card"
	case agent.StageChoose:
		return "请选择订单", "Choose an order"
	case agent.StageConfirm:
		return "请确认", "Confirm"
	case agent.StageWorking:
		return "正在充值，请勿取卡", "Loading, do not take the card"
	case agent.StageRemove:
		return "请取卡", "Take the card"
	case agent.StageOut:
		return "暂停服务", "Out of service"
	}
	return "", ""
}

func printView(w io.Writer, v agent.View) {
	zh, en := stageWords(v.Stage)
	if v.Note != nil {
		zh, en = v.Note.ZH, v.Note.EN
	}
	fmt.Fprintf(w, "%s  %s / %s\n", v.Stage, zh, en)
	offers := v.Offers
	if v.Stage == agent.StageConfirm && v.Chosen != nil {
		offers = []agent.Offer{*v.Chosen}
	}
	for i, o := range offers {
		fmt.Fprintf(w, "  %d\t%s\t%s\t%s m³\n", i+1, o.OrderNo, yuan(int64(o.Amount)), hundredths(int64(o.Volume)))
	}
	if v.Price != nil {
		for _, s := range v.Price.Steps {
			fmt.Fprintf(w, "  单价 price %s %s\t%s – %s\n", s.Price, v.Price.Unit, s.Lower, s.Upper)
		}
	}
}
