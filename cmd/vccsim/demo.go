//go:build sim

package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"vcckiosk/agent"
	"vcckiosk/agent/topup"
	"vcckiosk/cardreader/simcard"
	"vcckiosk/protocol/vcctest"
)

// errBooks: the demo went through and its books do not agree.
var errBooks = errors.New("the books do not agree")

func demoCommand() *cobra.Command {
	var open, asJSON bool
	c := &cobra.Command{
		Use: "demo", Short: "Play the story of a kiosk with real processes and compare the books", Args: cobra.NoArgs,
		Long: `Starts the platform and two kiosks, plays loads, torn cards, a power cut and an outage, and
compares what card, meter, platform and journal remember. Ends with 0 only if they agree,
with 130 when it was interrupted; with --open, Ctrl-C is its ordinary end.`,
		Example: "  vccsim demo\n  vccsim demo --open\n  vccsim demo --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := folder()
			if err != nil {
				return err
			}
			d := &demo{out: cmd.OutOrStdout(), json: asJSON, dir: dir}
			err = d.run(cmd.Context(), open)
			if err != nil && cmd.Context().Err() != nil {
				err = cmd.Context().Err() // whatever an interrupted step made of it
			}
			if err == nil || errors.Is(err, context.Canceled) {
				return errors.Join(err, os.RemoveAll(dir))
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "logs and files are kept in %s\n", dir)
			return err
		},
	}
	c.Flags().BoolVar(&open, "open", false, "leave everything running at the end, with its addresses")
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object per step")
	return c
}

// folder makes one for the files of the kiosks. A socket's path has at most 107
// bytes, and not every TMPDIR can be written to.
func folder() (string, error) {
	var errs []error
	for _, base := range []string{os.TempDir(), "/tmp", "/dev/shm"} {
		if len(base) > 70 {
			errs = append(errs, fmt.Errorf("%s: too long for a socket", base))
			continue
		}
		dir, err := os.MkdirTemp(base, "kiosk-demo-")
		if err == nil {
			return dir, nil
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("make a folder, TMPDIR says where: %w", errors.Join(errs...))
}

type demo struct {
	out     io.Writer
	json    bool
	dir     string
	step    int
	p       platform
	a, b    *kiosk
	outage  atomic.Bool
	purse   *simcard.Purse
	image   *simcard.SLE4442
	meter   *simcard.Meter
	purseNo string
	imageNo string
}

// say tells one step's outcome as it happens.
func (d *demo) say(what, saw string) {
	d.step++
	if d.json {
		d.object(map[string]any{"what": what, "saw": saw})
		return
	}
	if wide := terminalWidth(d.out); wide > 0 && wide < 120 {
		fmt.Fprintf(d.out, "%2d  %s\n    %s\n", d.step, what, saw)
		return
	}
	fmt.Fprintf(d.out, "%2d  %-58s %s\n", d.step, what, saw)
}

// object prints a step's JSON on a line.
func (d *demo) object(v map[string]any) {
	v["step"] = d.step
	e := json.NewEncoder(d.out)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
}

// terminalWidth is 0 for what is no terminal.
func terminalWidth(out io.Writer) int {
	f, is := out.(*os.File)
	if !is {
		return 0
	}
	w, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return w
}

// note is what the screen said last.
func note(v agent.View) string {
	if v.Note == nil {
		return string(v.Stage)
	}
	return v.Note.ZH + " / " + v.Note.EN
}

func (d *demo) run(ctx context.Context, open bool) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := vcctest.New(vcctest.Options{Good: true, BaseKey: simKey, Hook: func(vcctest.Call) vcctest.Action {
		return vcctest.Action{DropRequest: d.outage.Load()}
	}})
	if d.p, err = listen(ctx, "127.0.0.1:0", p); err != nil {
		return err
	}
	d.purse, d.purseNo = newPurse(1)
	d.image, d.imageNo = newImage(1)
	d.meter = simcard.NewMeter(simcard.Strict, simcard.DefaultLayout())
	if err := errors.Join(p.AddCard(book(d.purseNo, vcctest.KindLoad)), p.AddCard(book(d.imageNo, vcctest.KindImage))); err != nil {
		return err
	}
	d.say("platform started", d.p.url+simPrefix)
	defer func() { err = errors.Join(err, d.stop()) }()
	for _, k := range []struct {
		at             **kiosk
		name, terminal string
	}{{&d.a, "A", "112233445566"}, {&d.b, "B", "665544332211"}} {
		if *k.at, err = startKiosk(ctx, d.dir, k.name, k.terminal, d.p.url+simPrefix); err != nil {
			return err
		}
		kcv, err := (*k.at).provision(ctx)
		if err != nil {
			return err
		}
		d.say("kiosk "+k.name+" started and given its base key", "key check value "+kcv)
	}
	if err := d.story(ctx); err != nil {
		return err
	}
	if err := d.drain(ctx); err != nil {
		return err
	}
	agreed, err := d.books(ctx)
	if err != nil {
		return err
	}
	if open {
		d.leave()
		<-ctx.Done()
	}
	if !agreed {
		return errBooks
	}
	return nil
}

// leave says how to look at what is left running, and how to end it.
func (d *demo) leave() {
	d.step++
	type place struct {
		Name   string `json:"name"`
		Reader string `json:"reader"`
		Socket string `json:"socket"`
		Log    string `json:"log"`
	}
	var places []place
	for _, k := range []*kiosk{d.a, d.b} {
		places = append(places, place{k.name, k.reader, filepath.Join(k.dir, "run", "technician.sock"), k.log})
	}
	if d.json {
		d.object(map[string]any{"what": "left running", "platform": d.p.url + simPrefix, "books": d.p.url + "/sim/books", "kiosks": places})
		return
	}
	fmt.Fprintf(d.out, "\nleft running; Ctrl-C ends it and takes its files away\n  platform  %s\n  books     curl %s/sim/books\n", d.p.url+simPrefix, d.p.url)
	for _, p := range places {
		fmt.Fprintf(d.out, "  kiosk %s   kioskctl --socket %s status\n            vccsim card --addr %s    puts a card in\n            tail -f %s\n", p.Name, p.Socket, p.Reader, p.Log)
	}
}

// stop ends the daemons in good order.
func (d *demo) stop() error {
	var errs []error
	for _, k := range []*kiosk{d.a, d.b} {
		if k != nil {
			errs = append(errs, k.stop(syscall.SIGTERM))
		}
	}
	return errors.Join(errs...)
}

func (d *demo) pay(cardNo, order string, fen int64) error {
	return d.p.AddOrder(vcctest.OrderBook{OrderNo: order, CardNo: cardNo, Amount: fen, Volume: fen / 3, PayTime: time.Now(), Source: "wechat"})
}

// story plays what happens at kiosks, step by step.
func (d *demo) story(ctx context.Context) error {
	visit := func(k *kiosk, c simcard.Card, what, want string) error {
		v, err := k.insert(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		saw := note(v)
		if want == "" {
			saw = "card gone, outcome not known yet"
		}
		d.say(what, saw)
		if code := codeOf(v); want != "" && code != want {
			return fmt.Errorf("%s: the screen said %q, not %q", what, code, want)
		}
		return k.idle(ctx)
	}
	steps := []func() error{
		func() error { return d.pay(d.purseNo, "D1", 5000) },
		func() error { return visit(d.a, d.purse, "A: purse card, order D1 of 50.00 yuan", "written") },

		func() error { return d.pay(d.purseNo, "D2", 3000) },
		func() error {
			d.purse.Arm(simcard.Fault{INS: 0x52, When: simcard.After, Kind: simcard.Tear})
			return visit(d.a, d.purse, "A: order D2, card torn out after 80 52", "")
		},
		func() error {
			if err := d.a.stop(syscall.SIGKILL); err != nil {
				return err
			}
			if err := d.a.start(ctx); err != nil {
				return err
			}
			// What is known of D2 is told before the card is shown elsewhere:
			// else the platform may settle it by the card's log first.
			if err := d.a.delivered(ctx); err != nil {
				return err
			}
			d.say("A: power cut (SIGKILL) and start", "records read, nothing forgotten")
			return nil
		},
		func() error { return visit(d.b, d.purse, "B: the same card and order D2 at another kiosk", "noOrders") },
		func() error { return visit(d.a, d.purse, "A: the card is put back", "restored") },

		func() error { return d.pay(d.imageNo, "D3", 4200) },
		func() error {
			d.image.Arm(simcard.Fault{INS: 0xD0, At: 1, When: simcard.Byte, N: 3, Rest: simcard.Erased, Kind: simcard.Tear})
			return visit(d.a, d.image, "A: memory card, order D3, torn at the 4th byte", "")
		},
		func() error { return visit(d.b, d.image, "B: the same order tried at another kiosk", "refused") },
		func() error { return visit(d.a, d.image, "A: the card is put back, the image is finished", "restored") },
		func() error {
			m := d.meter.Insert(d.image)
			d.say("meter at home", fmt.Sprintf("took %d.%02d m³, count %d", m.Volume/100, m.Volume%100, m.Count))
			if !m.Took {
				return errors.New("the meter took nothing")
			}
			return nil
		},

		func() error { return d.pay(d.purseNo, "D4", 800) },
		func() error {
			d.p.SetHook(func(c vcctest.Call) vcctest.Action { return vcctest.Action{DropRequest: c.Code == "6002"} })
			return visit(d.a, d.purse, "A: order D4, the line breaks before the report", "written")
		},
		func() error {
			st, err := d.status(ctx)
			if err != nil {
				return err
			}
			d.say("A: during the outage", fmt.Sprintf("%d result waits in the outbox", st.Outbox.Depth))
			if st.Outbox.Depth == 0 {
				return errors.New("nothing waits")
			}
			d.p.SetHook(nil)
			return nil
		},
	}
	for _, s := range steps {
		if err := s(); err != nil {
			return err
		}
	}
	return nil
}

func codeOf(v agent.View) string {
	if v.Note == nil {
		return ""
	}
	return v.Note.Code
}

func (d *demo) status(ctx context.Context) (agent.Status, error) {
	var st agent.Status
	return st, d.a.operator.Get(ctx, "/v1/status", &st)
}

// drain waits until both outboxes are empty.
func (d *demo) drain(ctx context.Context) error {
	for _, k := range []*kiosk{d.a, d.b} {
		if err := k.delivered(ctx); err != nil {
			return err
		}
	}
	d.say("the line is back", "every result is delivered")
	return nil
}

// books compares what card, meter, platform and journals remember.
func (d *demo) books(ctx context.Context) (bool, error) {
	records := map[string][]topup.Record{}
	for _, k := range []*kiosk{d.a, d.b} {
		rs, err := k.records(ctx)
		if err != nil {
			return false, err
		}
		for _, r := range rs {
			records[r.OrderNo] = append(records[r.OrderNo], r)
		}
	}
	type row struct {
		OrderNo  string `json:"orderNo"`
		Amount   int64  `json:"amount"`
		Card     int    `json:"cardLoads"`
		Meter    string `json:"meter"`
		Platform string `json:"platform"`
		Journal  int    `json:"journalWritten"`
		Agree    bool   `json:"agree"`
	}
	var rows []row
	agreed := true
	for _, o := range d.p.Orders() {
		r := row{OrderNo: o.OrderNo, Amount: o.Amount, Platform: o.State}
		r.Card, r.Meter = d.loads(o)
		for _, rec := range records[o.OrderNo] {
			if rec.Outcome == topup.OutcomeWritten {
				r.Journal++
			}
		}
		r.Agree = r.Card == 1 && r.Journal == 1 && o.State == vcctest.StateSettled && (r.Meter == "-" || r.Meter == "1x")
		agreed = agreed && r.Agree
		rows = append(rows, r)
	}
	agreed = agreed && len(rows) > 0
	says := "card, meter, platform and journal agree"
	if !agreed {
		says = "card, meter, platform and journal do NOT agree"
	}
	if d.json {
		d.step++
		d.object(map[string]any{"what": "books", "saw": says, "agree": agreed, "orders": rows})
		return agreed, nil
	}
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "order\tamount\tcard\tmeter\tplatform\tjournal\t")
	for _, r := range rows {
		mark := "ok"
		if !r.Agree {
			mark = "DIFFERS"
		}
		fmt.Fprintf(w, "%s\t%d.%02d\tloaded %dx\t%s\t%s\twritten %dx\t%s\n", r.OrderNo, r.Amount/100, r.Amount%100, r.Card, r.Meter, r.Platform, r.Journal, mark)
	}
	_ = w.Flush()
	fmt.Fprintf(d.out, "\n%s\n%s\n", table.String(), says)
	return agreed, nil
}

// loads counts how often an order is on its card by the card's own memory.
func (d *demo) loads(o vcctest.OrderView) (n int, meter string) {
	if o.CardNo == d.purseNo {
		for _, l := range d.purse.Loads() {
			for _, i := range o.Issued {
				if i.MAC2 == strings.ToUpper(hex.EncodeToString(l.MAC2[:])) {
					n++
				}
			}
		}
		return n, "-"
	}
	l := simcard.DefaultLayout()
	h := d.image.History()
	for i := 1; i < len(h); i++ {
		for _, is := range o.Issued {
			if int(l.Count.Get(h[i])) == is.Count && int(l.Count.Get(h[i-1])) != is.Count {
				n++
			}
		}
	}
	takes := 0
	for _, v := range d.meter.Visits() {
		if v.Took && len(o.Issued) > 0 && v.Count == o.Issued[0].Count {
			takes++
		}
	}
	return n, fmt.Sprintf("%dx", takes)
}
