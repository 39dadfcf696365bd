// Package simtest is a small world around the agent: kiosks with cards, a
// meter, a platform and a power switch, in memory and on virtual time. It is
// judged from outside: by what the cards, the meter and the platform remember,
// after the faults have ended and a day has passed.
//
// It is used by tests only and runs inside a testing/synctest bubble.
package simtest

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"vcckiosk/agent"
	"vcckiosk/agent/journal"
	"vcckiosk/agent/mirror"
	"vcckiosk/agent/topup"
	"vcckiosk/cardreader/epurse"
	"vcckiosk/cardreader/simcard"
	"vcckiosk/keystore"
	"vcckiosk/keystore/fileslot"
	"vcckiosk/protocol"
	"vcckiosk/protocol/vcctest"
	"vcckiosk/queue"
)

const baseKey = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6"

// Kinds of card in a story.
const (
	purse = "purse"
	image = "image"
)

// World is everything there is.
type World struct {
	t        testing.TB
	Platform *vcctest.Platform
	A, B     *Kiosk
	cards    map[string]*Card // by number
	seed     uint64
	dialect  string
	mu       sync.Mutex
	requeued int            // reports that a person sent again
	reached  []string       // what a story says has happened in it
	log      *slog.Logger   // of both kiosks; one handler, so that their lines do not mix
	tasks    map[string]int // how often a command's task was carried out, by its name
	flush    time.Duration  // how long an acknowledgement waits for a commit; 0: as on a kiosk
	prices   bool
	files    *fileServer // of the daily reconciliation; nil: none
}

// Card is a customer's card with what the judge must know of it.
type Card struct {
	No    string
	Kind  string
	Purse *simcard.Purse
	Image *simcard.SLE4442
	Meter *simcard.Meter
	Shown bool // was it brought back after the faults ended
}

func (c *Card) sim() simcard.Card {
	if c.Purse != nil {
		return c.Purse
	}
	return c.Image
}

// Arm puts a fault into the card.
func (c *Card) Arm(f simcard.Fault) {
	if c.Purse != nil {
		c.Purse.Arm(f)
		return
	}
	c.Image.Arm(f)
}

// NewWorld makes a world with two kiosks that are still off. It must be called
// inside a synctest bubble; Close before the bubble ends. log takes what the
// kiosks log; nil: nobody reads it.
func NewWorld(t testing.TB, o vcctest.Options, log io.Writer) *World {
	t.Helper()
	o.BaseKey, o.CommandKey = baseKey, commandKey
	w := &World{t: t, seed: o.Seed, dialect: o.Dialect, tasks: map[string]int{}, Platform: vcctest.New(o), cards: map[string]*Card{}, log: slog.New(slog.DiscardHandler)}
	if log != nil {
		w.log = slog.New(slog.NewTextHandler(log, nil))
	}
	w.A = w.kiosk("A", "112233445566")
	w.B = w.kiosk("B", "665544332211")
	return w
}

var (
	dlk = [16]byte{0xEB, 0x9B, 0xC6, 0xDC, 0xDF, 0x74, 0xFF, 0x4E, 0x4B, 0x43, 0xF2, 0xE3, 0x4A, 0x67, 0x27, 0xB6}
	dtk = [16]byte{0xCE, 0xB7, 0x26, 0xED, 0xC0, 0x1B, 0x79, 0x3B, 0xC3, 0x7D, 0xC0, 0x9E, 0x2F, 0x76, 0x85, 0x34}
	psc = [3]byte{0x12, 0x34, 0x56}
)

// AddPurse gives a customer a purse card.
func (w *World) AddPurse(n byte, opts ...func(*simcard.PurseConfig)) *Card {
	cfg := simcard.PurseConfig{Serial: [8]byte{0x86, 0, 0, 0, 0x12, 0x34, 0x56, n}, DLK: dlk, DTK: dtk}
	for _, o := range opts {
		o(&cfg)
	}
	c := &Card{No: strings.ToUpper(hex.EncodeToString(cfg.Serial[:])), Kind: purse, Purse: simcard.NewPurse(cfg)}
	w.add(c, vcctest.CardBook{Kind: vcctest.KindLoad, DLK: dlk, DTK: dtk})
	return c
}

// idField is where the simulated memory card has its number.
var idField = topup.Field{Offset: 0x20, Len: 8}

// AddImage gives a customer a memory card that has had count purchases, and a
// meter that has taken them.
func (w *World) AddImage(n byte, mode simcard.Mode, count int) *Card {
	var content [256]byte
	for i := range content {
		content[i] = byte(i)
	}
	l := vcctest.DefaultLayout()
	clear(content[l.Count.Offset : l.Count.Offset+l.Count.Len])
	clear(content[l.Gas.Offset : l.Gas.Offset+l.Gas.Len])
	content[l.Count.Offset], content[l.Count.Offset+1] = byte(count>>8), byte(count)
	no := [8]byte{0x31, 0, 0, 0, 0, 0, 0x10, n}
	copy(content[idField.Offset:], no[:])
	c := &Card{
		No: strings.ToUpper(hex.EncodeToString(no[:])), Kind: image,
		Image: simcard.NewSLE4442(content, psc), Meter: simcard.NewMeter(mode, simcard.DefaultLayout()),
	}
	c.Meter.SetLast(count)
	w.add(c, vcctest.CardBook{Kind: vcctest.KindImage, PSC: psc})
	return c
}

// Reach notes that a story has come to its point.
func (w *World) Reach(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reached = append(w.reached, what)
}

// Reached reports whether a story has come to its point.
func (w *World) Reached(what string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.reached, what)
}

func (w *World) add(c *Card, b vcctest.CardBook) {
	b.CardNo, b.SubsCode, b.Name, b.Addr, b.MeterCode = c.No, "1400"+c.No[10:], "张*", "木岭小区**", "M"+c.No[8:]
	if err := w.Platform.AddCard(b); err != nil {
		w.t.Fatalf("add card: %v", err)
	}
	w.cards[c.No] = c
}

// Pay makes a paid order for a card.
func (w *World) Pay(c *Card, orderNo string, amount int64) {
	err := w.Platform.AddOrder(vcctest.OrderBook{
		OrderNo: orderNo, CardNo: c.No, Amount: amount, Volume: amount / 3, PayTime: time.Now(), Source: "wechat",
	})
	if err != nil {
		w.t.Fatalf("add order: %v", err)
	}
}

// Close switches everything off and waits for it.
func (w *World) Close() {
	w.A.Off()
	w.B.Off()
	for _, k := range []*Kiosk{w.A, w.B} {
		_ = os.RemoveAll(k.dir)
	}
}

// Kiosk is one kiosk: what survives its power cuts, and the running agent.
type Kiosk struct {
	w        *World
	name     string
	terminal string
	dir      string
	p        *power
	offline  atomic.Bool
	beat     time.Duration        // between heartbeats; default 1 h
	signers  []ed25519.PrivateKey // of commands, whose public keys it knows; default commandKey
	built    time.Time            // when its program was built; zero: any clock is believed
	register *agent.Registering   // how it gets its name; nil: it has one
	boots    uint64
	Slot     *simcard.Slot
	Agent    *agent.Agent
	Mirror   *mirror.Config // of the next boots; nil: none
	journal  *journal.Journal
	writer   *queue.Writer
	outbox   *queue.Outbox

	db   *bbolt.DB
	keys *keystore.Store
	stop context.CancelFunc
	done chan struct{}
	err  error
}

func tempDir() string {
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		return "/dev/shm"
	}
	return os.TempDir()
}

func (w *World) kiosk(name, terminal string) *Kiosk {
	dir, err := os.MkdirTemp(tempDir(), "kiosk"+name)
	if err != nil {
		w.t.Fatal(err)
	}
	k := &Kiosk{w: w, name: name, terminal: terminal, dir: dir, p: &power{}}
	keys, err := k.openKeys()
	if err != nil {
		w.t.Fatalf("create keystore: %v", err)
	}
	if err := errors.Join(keys.Stage([]byte(baseKey), "test", [32]byte{1}), keys.Promote(), keys.Close()); err != nil {
		w.t.Fatalf("provision: %v", err)
	}
	return k
}

func (k *Kiosk) openKeys() (*keystore.Store, error) {
	slot := fileslot.New(fileslot.Options{KeyFile: filepath.Join(k.dir, "slot.key"), HardwareID: []byte(k.name), CreateIfMissing: true})
	return keystore.Open(k.dir, slot, keystore.Options{})
}

// On boots the kiosk with whatever card is in its slot.
func (k *Kiosk) On() {
	t := k.w.t
	t.Helper()
	if k.done != nil {
		t.Fatalf("kiosk %s is on", k.name)
	}
	var inserted simcard.Card
	if k.Slot != nil {
		inserted = k.Slot.Card()
		k.Slot.Remove()
	}
	k.Slot = simcard.NewSlot("Kiosk " + k.name)
	k.Slot.Intercept = k.intercept()
	if inserted != nil {
		k.Slot.Insert(inserted)
	}
	k.p.mu.Lock()
	k.p.off = false
	k.p.mu.Unlock()

	var err error
	if k.db, err = queue.OpenFile(t.Context(), filepath.Join(k.dir, "agent.db"), queue.FileOptions{NoSync: true, Reserve: -1}); err != nil {
		t.Fatalf("kiosk %s: %v", k.name, err)
	}
	if k.keys, err = k.openKeys(); err != nil {
		t.Fatalf("kiosk %s: %v", k.name, err)
	}
	log := k.w.log.With("kiosk", k.name)
	writer := queue.NewWriter(&store{k.db, k.p}, queue.WriterOptions{Log: log, Flush: k.w.flush})
	k.boots++
	jitter := rand.New(rand.NewPCG(k.w.seed, uint64(k.name[0])<<32+k.boots)) // one seed, one schedule
	outbox, err := queue.NewOutbox(writer, queue.Options{Rand: jitter.Float64})
	if err != nil {
		t.Fatalf("kiosk %s: %v", k.name, err)
	}
	k.writer, k.outbox = writer, outbox
	if k.journal, err = journal.Open(writer); err != nil {
		t.Fatalf("kiosk %s: %v", k.name, err)
	}
	device := "QC000" + k.name
	if k.register != nil {
		device = ""
	}
	client, err := protocol.NewClient(protocol.Config{
		BaseURL: "http://127.0.0.1/vcc-openapi", Dialect: k.w.dialect, AppID: "APP" + k.name, DeviceID: device, OrgCode: "SU0105", Registers: k.register != nil,
	}, protocol.Deps{
		Transport: &network{next: k.w.Platform.RoundTripper(), p: k.p, down: k.offline.Load},
		Key:       func() (protocol.BaseKey, error) { return k.keys.Active() },
		Seq:       &protocol.SeqBlocks{Reserve: writer.Do}, Log: log,
	})
	if err != nil {
		t.Fatalf("kiosk %s: %v", k.name, err)
	}
	l := vcctest.DefaultLayout()
	field := func(f vcctest.Field) topup.Field { return topup.Field{Offset: f.Offset, Len: f.Len} }
	var recon *agent.ReconConfig
	var files agent.Files
	if k.w.files != nil {
		recon, files = &agent.ReconConfig{Dir: filepath.Join(k.dir, "recon")}, &wire{k.w.files, k.p}
	}
	k.Agent, err = agent.New(agent.Parts{
		Config: agent.Config{
			DeviceID: device, OrgCode: "SU0105", TerminalNo: k.terminal, Firmware: "test",
			Purse: &epurse.Params{KeyIndex: 1},
			Memory: &agent.MemoryProfile{
				Layout: topup.Layout{Size: 256, Identity: []topup.Field{{Offset: 0, Len: 32}, idField}, Count: field(l.Count), Gas: field(l.Gas)},
				CardNo: idField,
			},
			Heartbeat: cmp.Or(k.beat, time.Hour), BuildTime: k.built, Prices: k.w.prices, Reconcile: recon,
		},
		Files:  files,
		Reader: k.Slot, Writer: writer, Outbox: outbox, Journal: k.journal, Keys: k.keys, Client: client, Log: log, Mirror: k.Mirror,
		CommandKeys: k.commandKeys(), Tasks: k.taskList(), Register: k.register,
	})
	if err != nil {
		t.Fatalf("kiosk %s: %v", k.name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	k.stop, k.done = cancel, make(chan struct{})
	k.p.mu.Lock()
	k.p.onCut = cancel
	k.p.mu.Unlock()
	go func() {
		defer close(k.done)
		k.err = k.Agent.Run(ctx)
	}()
}

func (k *Kiosk) intercept() func(bool, []byte) error {
	var ids []int // commands come one at a time
	return func(isBefore bool, cmd []byte) error {
		if isBefore {
			ins := byte(0)
			if len(cmd) > 1 {
				ins = cmd[1]
			}
			id, err := k.p.begin(fmt.Sprintf("card %02X", ins))
			ids = append(ids[:0], id)
			return err
		}
		return k.p.end(ids[0])
	}
}

// Off switches the kiosk off, if it is on, and waits until nothing of it runs.
func (k *Kiosk) Off() {
	if k.done == nil {
		return
	}
	k.stop()
	<-k.done
	k.done = nil
	if err := errors.Join(k.db.Close(), k.keys.Close()); err != nil {
		k.w.t.Errorf("kiosk %s: close: %v", k.name, err)
	}
}

// Reboot brings a kiosk that lost its power back.
func (k *Kiosk) Reboot() {
	k.Off()
	k.On()
}

// revive reboots the kiosk if its power was cut or its process has ended.
func (k *Kiosk) revive() bool {
	select {
	case <-k.done:
	default:
		if !k.p.isOff() {
			return false
		}
	}
	time.Sleep(5 * time.Second)
	k.Reboot()
	return true
}

// Provision is a technician who brings a base key and stays until it is in use.
func (k *Kiosk) Provision(key string) {
	for range 5 {
		k.revive()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		out, err := k.Agent.Rotator.Offer(ctx, []byte(key), "", "technician")
		cancel()
		if err == nil && out.Active {
			return
		}
		time.Sleep(2 * time.Minute)
	}
}
