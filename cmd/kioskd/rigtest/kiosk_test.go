//go:build rig

package rigtest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"vcckiosk/agent"
	"vcckiosk/agent/localapi"
	"vcckiosk/agent/simtest/judge"
	"vcckiosk/agent/topup"
	"vcckiosk/cardreader/simcard"
	"vcckiosk/protocol/vcctest"
)

const baseKey = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6" // vccsim's; opens nothing else

var (
	dlk = [16]byte{0xEB, 0x9B, 0xC6, 0xDC, 0xDF, 0x74, 0xFF, 0x4E, 0x4B, 0x43, 0xF2, 0xE3, 0x4A, 0x67, 0x27, 0xB6}
	dtk = [16]byte{0xCE, 0xB7, 0x26, 0xED, 0xC0, 0x1B, 0x79, 0x3B, 0xC3, 0x7D, 0xC0, 0x9E, 0x2F, 0x76, 0x85, 0x34}
	psc = [3]byte{0x12, 0x34, 0x56}
)

// card is a customer's card, with its meter if it is a memory card.
type card struct {
	no    string
	purse *simcard.Purse
	image *simcard.SLE4442
	meter *simcard.Meter
}

func (c *card) sim() simcard.Card {
	if c.purse != nil {
		return c.purse
	}
	return c.image
}

func (c *card) arm(f simcard.Fault) {
	if c.purse != nil {
		c.purse.Arm(f)
	} else {
		c.image.Arm(f)
	}
}

// disarm also tells how often the card was torn so far.
func (c *card) disarm() {
	if c.purse != nil {
		c.purse.Disarm()
	} else {
		c.image.Disarm()
	}
}

func (c *card) struck() int {
	if c.purse != nil {
		return c.purse.Struck()
	}
	return c.image.Struck()
}

// gone lets the meter have what is on the card.
func (c *card) home() {
	if c.meter != nil {
		c.meter.Insert(c.image)
	}
}

func (c *card) loaded(o vcctest.OrderView) (loads, takes int) {
	if c.purse != nil {
		n := judge.Purse(c.purse, o)
		return n, n
	}
	return judge.Image(c.image, c.meter, o)
}

func newPurse(n byte, t0 bool) *card {
	serial := [8]byte{0x86, 0, 0, 0, 0x12, 0x34, 0x56, n}
	return &card{
		no:    strings.ToUpper(hex.EncodeToString(serial[:])),
		purse: simcard.NewPurse(simcard.PurseConfig{Serial: serial, DLK: dlk, DTK: dtk, T0: t0}),
	}
}

// cardNo is where the rig's memory cards have their number.
var cardNo = topup.Field{Offset: 0x20, Len: 8}

func newImage(n byte) *card {
	var content [256]byte
	for i := range 32 {
		content[i] = byte(0xA0 + i)
	}
	no := [8]byte{0x31, 0, 0, 0, 0, 0, 0x10, n}
	copy(content[cardNo.Offset:], no[:])
	return &card{
		no:    strings.ToUpper(hex.EncodeToString(no[:])),
		image: simcard.NewSLE4442(content, psc),
		meter: simcard.NewMeter(simcard.Strict, simcard.DefaultLayout()),
	}
}

func (c *card) book() vcctest.CardBook {
	b := vcctest.CardBook{
		CardNo: c.no, SubsCode: "1400" + c.no[10:], Name: "张*", Addr: "木岭小区**", MeterCode: "M" + c.no[8:],
		Kind: vcctest.KindLoad, DLK: dlk, DTK: dtk,
	}
	if c.image != nil {
		b.Kind, b.PSC = vcctest.KindImage, psc
	}
	return b
}

// kiosk is a kioskd process with what belongs to its cabinet: a card service
// and a line of its own.
type kiosk struct {
	name, dir, config string
	line              *line
	pcscd             *pcscd
	disk              *smallDisk // nil: the state is on this machine's own
	operator, tech    *localapi.Client

	mu       sync.Mutex
	p        *process
	started  atomic.Int64
	problems []string // ends of the process that nobody caused
}

func newKiosk(t testing.TB, dir, name, terminal, upstream string, certs string) *kiosk {
	t.Helper()
	k := &kiosk{name: name, dir: filepath.Join(dir, name), line: newLine(t, upstream)}
	must(t, os.MkdirAll(k.dir, 0o700))
	if name == "B" {
		k.disk = newSmallDisk(t, filepath.Join(k.dir, "state"))
	}
	reader := `driver = "pcsc"`
	if os.Getenv("RIG_READER") == "sim" { // without a card service, for a look at everything else
		k.pcscd = &pcscd{card: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
		reader = fmt.Sprintf("driver = \"sim\"\nname = %q", k.pcscd.card)
	} else {
		k.pcscd = newPcscd(t, k.dir)
	}
	l := vcctest.DefaultLayout()
	text := fmt.Sprintf(`[device]
id = "QC000%[1]s"
org_code = "SU0105"
terminal_no = "%[2]s"
[api]
base_url = "https://%[3]s/vcc-openapi"
ca_file = "%[4]s/ca.pem"
cert_file = "%[4]s/kiosk.pem"
key_file = "%[4]s/kiosk.key"
[auth]
app_id = "APP%[1]s"
[seq]
partition = %[5]d
[reader]
%[13]s
[card.purse]
[card.memory]
card_no = [%[6]d, %[7]d]
count = [%[8]d, %[9]d]
gas = [%[10]d, %[11]d]
[state]
dir = "%[12]s/state"
[local]
dir = "%[12]s/run"
`, name, terminal, k.line.addr, certs, int(name[0]-'A')+1, cardNo.Offset, cardNo.Len, l.Count.Offset, l.Count.Len, l.Gas.Offset, l.Gas.Len, k.dir,
		reader)
	k.config = filepath.Join(k.dir, "kioskd.toml")
	must(t, os.WriteFile(k.config, []byte(text), 0o600))
	k.operator = localapi.Dial(filepath.Join(k.dir, "run", "operator.sock"))
	k.tech = localapi.Dial(filepath.Join(k.dir, "run", "technician.sock"))
	must(t, k.on(t))
	t.Cleanup(func() {
		if k.p != nil {
			_ = k.p.end(syscall.SIGTERM)
		}
	})
	return k
}

// on starts the daemon.
func (k *kiosk) on(t testing.TB) error {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	run := []string{}
	if s := os.Getenv("RIG_KIOSKD"); s != "" { // another architecture's, under its emulator
		run = strings.Fields(s)
	} else {
		run = append(run, program(t, "kioskd"))
	}
	cmd := exec.Command(run[0], append(run[1:], "--config", k.config)...)
	cmd.Env = append(os.Environ(), "PCSCLITE_CSOCK_NAME="+k.pcscd.socket)
	cmd.Env = append(cmd.Env, unitEnvironment(t)...)
	var err error
	k.p, err = launch(filepath.Join(k.dir, "kioskd.log"), cmd)
	k.started.Add(1)
	return err
}

// kill is a power cut, and the power coming back.
func (k *kiosk) kill(t testing.TB) error {
	t.Helper()
	return errors.Join(k.p.end(syscall.SIGKILL), k.on(t))
}

// supervise starts a daemon that has ended by itself with one of the codes that
// ask for it; any other end is a fault of its own.
func (k *kiosk) supervise(t testing.TB) {
	t.Helper()
	if k.p.alive() {
		return
	}
	code := k.p.cmd.ProcessState.ExitCode()
	if code != 70 && code != 75 {
		k.problems = append(k.problems, fmt.Sprintf("kiosk %s ended with %d by itself", k.name, code))
	}
	must(t, k.on(t))
}

func (k *kiosk) status(ctx context.Context) (agent.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var st agent.Status
	return st, k.operator.Get(ctx, "/v1/status", &st)
}

func (k *kiosk) records(ctx context.Context) ([]topup.Record, error) {
	var out []topup.Record
	return out, k.operator.Get(ctx, "/v1/journal", &out)
}

// serving waits until the kiosk could take a card.
func (k *kiosk) serving(t testing.TB) {
	t.Helper()
	await(t, "kiosk "+k.name+" is to serve", func() error {
		st, err := k.status(t.Context())
		if err == nil && st.State != "serving" {
			err = fmt.Errorf("state %s", st.State)
		}
		return err
	})
}

// drained waits until every report is delivered.
func (k *kiosk) drained(t testing.TB) {
	t.Helper()
	await(t, "outbox of kiosk "+k.name+" is to drain", func() error {
		st, err := k.status(t.Context())
		if err == nil && st.Outbox.Depth > 0 {
			err = fmt.Errorf("%d messages wait", st.Outbox.Depth)
		}
		return err
	})
}

// provision gives the kiosk its key.
func (k *kiosk) provision(t testing.TB) {
	t.Helper()
	await(t, "provision "+k.name, func() error {
		got, err := k.tech.Provision(t.Context(), []byte(baseKey), "")
		if err == nil && !got.Active {
			err = errors.New(got.Why)
		}
		return err
	})
}

// visit is a customer: card in, the first order, card out. It ends when the
// screen asks to take the card, when the card is torn out, or when patience
// ends. done is the time from card in to that, and last what the screen said.
func (k *kiosk) visit(ctx context.Context, c *card, patience time.Duration) (last agent.View, done time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var before agent.View
	for k.operator.Get(ctx, "/v1/session", &before) != nil { // starting
		select {
		case <-ctx.Done():
			return last, 0, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	plug, err := simcard.Dial(ctx, k.pcscd.card, c.sim())
	if err != nil {
		return last, 0, err
	}
	defer plug.Remove()
	from := time.Now()
	go func() { // nothing more happens on the screen once the card is gone
		select {
		case <-plug.Done():
			select {
			case <-time.After(time.Second):
				cancel()
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
	}()
	seen := before.Serial
	for ctx.Err() == nil {
		// A stream that ends early is a killed daemon: ask again.
		_ = k.operator.Events(ctx, func(v agent.View) bool {
			if v.Serial <= seen {
				return true
			}
			seen = v.Serial
			switch v.Stage {
			case agent.StageChoose:
				_ = k.operator.Post(ctx, "/v1/session/choose", map[string]string{"orderNo": v.Offers[0].OrderNo}, nil)
			case agent.StageConfirm:
				_ = k.operator.Post(ctx, "/v1/session/confirm", nil, nil)
			case agent.StageRemove:
				last, done = v, time.Since(from)
				return false
			}
			return true
		})
		if done != 0 {
			return last, done, nil
		}
		seen = 0 // a killed daemon counts its pictures from one again
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return last, 0, ctx.Err()
}
