package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"vcckiosk/agent/audit"
	"vcckiosk/agent/command"
	"vcckiosk/agent/journal"
	"vcckiosk/agent/media"
	"vcckiosk/agent/mirror"
	"vcckiosk/agent/topup"
	"vcckiosk/cardreader"
	"vcckiosk/cardreader/epurse"
	"vcckiosk/cardreader/memcard"
	"vcckiosk/keystore"
	"vcckiosk/protocol"
	"vcckiosk/protocol/signed"
	"vcckiosk/queue"
)

// Config is what an agent must know of its kiosk. The zero value of each
// optional field is the documented default.
type Config struct {
	DeviceID   string
	OrgCode    string
	TerminalNo string // 12 upper hex digits, unique in the fleet: a purse's log names its loads by it
	Firmware   string

	// Purse describes the CPU cards served here, nil for none. Terminal is
	// filled from TerminalNo.
	Purse *epurse.Params
	// Memory describes the memory cards served here, nil for none.
	Memory *MemoryProfile

	Heartbeat    time.Duration // default 300 s, phased by a hash of DeviceID; negative: none
	ChoiceTime   time.Duration // how long an order list may be chosen from; default 60 s
	ReturnWindow time.Duration // how long after start a torn card is waited for; default 10 s
	MinDisk      int64         // bytes that must be free to sell; default 8 MB
	MaxDepth     int           // undelivered messages above which nothing is sold; default 10,000
	// BuildTime bounds what clock is believed: earlier, or more than ten years
	// later, is unsane and nothing is sold. Zero: not checked.
	BuildTime time.Time
	// Prices: a customer who looks at the list for a second is shown what gas
	// costs (interface 3019).
	Prices bool
	// Keep is how many closed records the journal holds; default 20,000.
	Keep int

	// Reconcile is the daily reconciliation, nil for none.
	Reconcile *ReconConfig
}

// MemoryProfile says where a memory card keeps what.
type MemoryProfile struct {
	Family memcard.Family
	Layout topup.Layout
	// CardNo is the field with the card's number; its hex digits are the number.
	CardNo topup.Field
	Type   string // field cardType; default SLE4442
}

func (c *Config) defaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.Heartbeat, 300*time.Second)
	def(&c.ChoiceTime, 60*time.Second)
	def(&c.ReturnWindow, 10*time.Second)
	if c.MinDisk == 0 {
		c.MinDisk = 8 << 20
	}
	if c.MaxDepth == 0 {
		c.MaxDepth = 10_000
	}
	if c.Keep == 0 {
		c.Keep = 20_000
	}
	if c.Memory != nil && c.Memory.Type == "" {
		c.Memory.Type = "SLE4442"
	}
}

// Parts is the opened hardware and files an agent works with. It owns none of
// them: whoever opened a part closes it after Run has returned.
type Parts struct {
	Config  Config
	Reader  cardreader.Reader
	Writer  *queue.Writer
	Outbox  *queue.Outbox
	Journal *journal.Journal
	// Keys may be nil: the kiosk then starts in state "needs key" and says
	// KeysProblem.
	Keys        *keystore.Store
	KeysProblem string
	Client      *protocol.Client
	// CommandKeys are whose signature a command needs; the zero Ring: no command
	// is taken.
	CommandKeys signed.Ring
	// Tasks carry out commands; one whose task is not there is answered
	// "notAvailable". Disable, enable and keyCheck need none.
	Tasks map[command.Name]Task
	// Register, when set, says that the device id comes from the platform;
	// Config.DeviceID is not used then, and the client must have Registers set.
	Register *Registering
	// Modem tells the modem's state for the heartbeat; nil: there is none.
	Modem func() *protocol.ModemState
	// Mirror is how master data is mirrored; nil: it is not. The mirror opens and
	// closes its file itself, which it may delete.
	Mirror *mirror.Config
	// Media keeps files to upload; nil: none are taken.
	Media *media.Store
	// Disk tells the bytes free where agent.db lives; nil: not asked.
	Disk func() (int64, error)
	// Files is the way to the platform's file server; required by
	// Config.Reconcile.
	Files Files
	Log   *slog.Logger
}

// Agent is one kiosk.
type Agent struct {
	cfg     Config
	reader  cardreader.Reader
	writer  *queue.Writer
	outbox  *queue.Outbox
	journal *journal.Journal
	keys    *keystore.Store
	client  *protocol.Client
	media   *media.Store
	disk    func() (int64, error)
	log     *slog.Logger

	// Screen is what a customer sees and answers.
	Screen *Screen
	// Rotator is the one door for a base key.
	Rotator *Rotator
	// Registrar registers the kiosk; nil when its name is configured.
	Registrar *Registrar
	// Mirror is the copy of master data; nil when there is none.
	Mirror *mirror.Mirror
	lane   *lane // of the backlog

	commands *commander
	modem    func() *protocol.ModemState

	errands chan func()
	jobs    chan func(context.Context)
	recon   *recon // nil: no daily reconciliation
	power   string // name of this power session
	keysWhy string
	alarms  alarms
	calls   callGuard
	reading atomic.Pointer[Reading]
	state   atomic.Pointer[readerState]
	started time.Time
	// mediaTurn: one file is taken in at a time.
	mediaTurn sync.Mutex
	// pinRefused are the cards that refused the PIN; only the session goroutine
	// uses it.
	pinRefused map[string]struct{}
}

type readerState struct {
	kind cardreader.EventKind
	at   time.Time
}

// ErrStuck: a card call never returned; its outcome is on record as unknown.
// The process must end (exit code 75) for the driver to be usable again.
var ErrStuck = cardreader.ErrStuck

// New builds an agent; nothing moves before Run.
func New(p Parts) (*Agent, error) {
	p.Config.defaults()
	if p.Reader == nil || p.Writer == nil || p.Outbox == nil || p.Journal == nil || p.Client == nil {
		return nil, errors.New("agent: reader, writer, outbox, journal and client are required")
	}
	if p.Config.Purse == nil && p.Config.Memory == nil {
		return nil, errors.New("agent: no kind of card is configured")
	}
	terminal, err := hex.DecodeString(p.Config.TerminalNo)
	if err != nil || len(terminal) != 6 {
		return nil, fmt.Errorf("agent: terminal number must be 12 hex digits, has %d characters", len(p.Config.TerminalNo))
	}
	if p.Config.Purse != nil {
		purse := *p.Config.Purse
		copy(purse.Terminal[:], terminal)
		p.Config.Purse = &purse
	}
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	var power [8]byte
	_, _ = rand.Read(power[:])
	a := &Agent{
		cfg: p.Config, reader: p.Reader, writer: p.Writer, outbox: p.Outbox, journal: p.Journal,
		keys: p.Keys, keysWhy: p.KeysProblem, client: p.Client, media: p.Media, disk: p.Disk, log: p.Log,
		Screen: newScreen(), lane: newLane(), power: hex.EncodeToString(power[:]), pinRefused: map[string]struct{}{}, started: time.Now(),
		errands: make(chan func(), 1), jobs: make(chan func(context.Context), 1),
	}
	a.Rotator = newRotator(a)
	a.modem = p.Modem
	if p.Register != nil {
		if a.Registrar, err = newRegistrar(a, *p.Register); err != nil {
			return nil, fmt.Errorf("agent: %w", err)
		}
	}
	ledger, err := command.Open(p.Writer.View)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	a.commands = &commander{a: a, ring: p.CommandKeys, tasks: map[command.Name]Task{}, ledger: ledger, recorded: map[string]time.Time{}}
	maps.Copy(a.commands.tasks, p.Tasks)
	if p.Config.Reconcile != nil {
		if a.recon, err = newRecon(a, *p.Config.Reconcile, p.Files); err != nil {
			return nil, fmt.Errorf("agent: %w", err)
		}
	}
	if err := a.newMirror(p.Mirror); err != nil {
		return nil, err
	}
	a.ownTasks()
	return a, nil
}

// Run serves until ctx ends (nil), or until only a new process can go on:
// queue.ErrInDoubt (exit code 70) or ErrStuck (exit code 75). A write that has
// begun is finished and recorded before Run returns.
func (a *Agent) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if a.keys == nil {
		a.alarms.raise(string(audit.KeystoreLocked))
	}
	if len(a.journal.Damage()) > 0 {
		a.alarms.raise(string(audit.JournalDamaged))
	}
	if a.commands.ledger.Damaged() {
		a.alarms.raise(string(audit.CommandLedger))
	}
	var wg sync.WaitGroup
	actor := func(name string, run func(context.Context) error) {
		wg.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				stop(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	// The writer outlives the others: its last act is to flush what they left.
	wctx, wstop := context.WithCancel(context.WithoutCancel(ctx))
	var ww sync.WaitGroup
	ww.Go(func() {
		if err := a.writer.Run(wctx); err != nil && wctx.Err() == nil {
			stop(fmt.Errorf("writer: %w", err))
		}
	})
	actor("poisoned", func(ctx context.Context) error {
		select {
		case <-a.writer.Poisoned():
			return queue.ErrInDoubt
		case <-ctx.Done():
			return nil
		}
	})
	if a.recon != nil {
		actor("reconcile", a.recon.run)
	}
	actor("outbox", func(ctx context.Context) error {
		return a.outbox.Run(ctx, a.backlog)
	})
	actor("sessions", a.serve)
	actor("errands", a.runErrands)
	actor("jobs", a.runJobs)
	actor("rotator", a.Rotator.run)
	actor("heartbeat", a.heartbeat)
	actor("registrar", a.Registrar.run)
	if a.Mirror != nil {
		actor("mirror", a.Mirror.Run)
	}
	<-ctx.Done()
	wg.Wait()
	wstop()
	ww.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// now is the platform's time as far as it is known: the wall clock corrected
// by the skew learnt from answers.
func (a *Agent) now() time.Time {
	t := time.Now()
	if skew, ok := a.client.Skew(); ok {
		t = t.Add(skew)
	}
	return t
}

// china is where all dates on the wire live. A fixed zone: China has had no
// daylight saving since 1991, and a kiosk may have no time zone database.
var china = time.FixedZone("CST", 8*3600)

// device is this kiosk's name at the platform, empty before it is registered.
func (a *Agent) device() string {
	if a.Registrar != nil {
		return a.Registrar.deviceID()
	}
	return a.cfg.DeviceID
}

func (a *Agent) stamp() string { return a.now().In(china).Format("20060102150405") }

func millis(t time.Time) topup.Millis { return topup.Millis(t.UnixMilli()) }
