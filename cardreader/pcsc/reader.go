package pcsc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"vcckiosk/cardreader"
)

// Config says which reader to use.
type Config struct {
	// Name is the reader's name, or its beginning, as pcscd lists it. pcscd appends two numbers which may change when the
	// reader is plugged in again; a name given with numbers that are not there is looked for without the first of them, and
	// taken if exactly one reader fits. Empty takes the first reader.
	Name string
	// Log hears of the service and the reader going and coming back, and why. Nil keeps silent.
	Log *slog.Logger
}

const (
	// watchdog is how long a call about a card may take before the driver gives up with cardreader.ErrStuck: longer than
	// any gas card needs, shorter than the patience of a customer.
	watchdog = 15 * time.Second
	// overdue is how long the service may be silent beyond what it was asked for before it counts as away.
	overdue = 5 * time.Second
	// waitLimit bounds a wait. Each return costs a burst of some 25 context switches in the process and more on a busy
	// machine, which is most of what an idle kiosk does: four a second is what it may.
	waitLimit = 10 * time.Second
	// freshLimit bounds a wait while something has just happened, and while the reader is away: pcscd does not tell of every
	// change, and a wait for readers does not see one that came just before.
	freshLimit = time.Second
	// fresh is how long something has just happened.
	fresh = 15 * time.Second
	// settle is how long Open waits for a card call of before, or for another program that has the card.
	settle = time.Second
	// afterCure is how long nobody gets a card that a cure has found: longer than pcscd's poll (400 ms). If the card was just
	// put in, the poll finds it once more and powers it anew, whoever has it then.
	afterCure = 500 * time.Millisecond
	// farewell is how long Close waits for the library to take leave.
	farewell = 2 * time.Second
)

// Reader is one PC/SC reader for the life of the process. New starts its goroutines, Close ends them.
type Reader struct {
	lib  library
	want string
	log  *slog.Logger

	stop chan struct{} // closed by Close
	once sync.Once
	done chan struct{}   // closed when watch has ended
	hand *hand           // makes watch's calls
	left <-chan struct{} // closed when hand has made its last call
	turn chan struct{}   // full while a session, or what it left behind, or a cure uses the card

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every change
	open    bool          // a session is open or being opened
	told    sight
	now     sight
	name    string
	atr     []byte // of the card that is in; nil: none, or mute
	counter uint32 // pcscd's, of the insertion now.card
	cards   int    // insertions so far
	problem error
}

// sight is a state of the reader. Service and reader are counted: even is there, odd is away, so that an absence that is
// over is still seen.
type sight struct {
	known      bool
	down, gone int
	card       int // number of the insertion, 0: empty, -1: to be told again
}

func (s sight) isDown() bool { return s.down&1 == 1 }
func (s sight) isGone() bool { return s.gone&1 == 1 }

// New starts to watch for the reader; that it, or pcscd, is not there yet is no error but an event. Without PC/SC in this
// program it fails with ErrNotBuilt.
func New(c Config) (*Reader, error) {
	lib, err := newLibrary()
	if err != nil {
		return nil, fmt.Errorf("open reader: %w", err)
	}
	return start(lib, c), nil
}

func start(lib library, c Config) *Reader {
	r := &Reader{
		lib: lib, want: c.Name, log: c.Log,
		stop: make(chan struct{}), done: make(chan struct{}), changed: make(chan struct{}),
		turn: make(chan struct{}, 1), hand: newHand(),
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	go r.watch()
	return r
}

// List names the readers pcscd knows now; with none it is empty. It fails with ErrNotBuilt, cardreader.ErrServiceDown or
// ctx's error. A pcscd that hangs is left behind with the goroutine that asked.
func List(ctx context.Context) ([]string, error) {
	lib, err := newLibrary()
	if err != nil {
		return nil, fmt.Errorf("list readers: %w", err)
	}
	return list(ctx, lib)
}

func list(ctx context.Context, lib library) ([]string, error) {
	var names []string
	var err error
	done := newHand().finish(func() {
		var c libContext
		if c, err = lib.establish(); err == nil {
			names, err = c.readers()
			_ = c.release() // nothing hangs on it
		}
	})
	select {
	case <-done:
	case <-ctx.Done():
		return nil, fmt.Errorf("list readers: %w", ctx.Err())
	}
	if errors.Is(err, codeNoReaders) {
		return nil, nil
	}
	if err != nil {
		return nil, explain("list readers", err, ofReader)
	}
	return names, nil
}

// Name is the reader's name as pcscd lists it, or what was asked for while it has not been seen.
func (r *Reader) Name() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.name != "":
		return r.name
	case r.want != "":
		return r.want
	}
	return "first reader"
}

// Problem says why the service or the reader is away, for a person; nil while both are there. It is safe at any time.
func (r *Reader) Problem() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.problem
}

// Close ends the watching. An open session lives on until its own Close. A pcscd that hangs is left behind after two
// seconds, with cardreader.ErrStuck. A second call does the same.
func (r *Reader) Close() error {
	r.once.Do(func() { close(r.stop) })
	<-r.done
	r.mu.Lock()
	r.change()
	r.mu.Unlock()
	t := time.NewTimer(farewell)
	defer t.Stop()
	select {
	case <-r.left:
		return nil
	case <-t.C:
		return fmt.Errorf("close reader: %w", cardreader.ErrStuck)
	}
}

func (r *Reader) stopped() bool {
	select {
	case <-r.stop:
		return true
	default:
		return false
	}
}

// change wakes every waiter; the caller holds mu.
func (r *Reader) change() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Next returns the next event; the first call tells the present state as soon as the service has been asked, or has not
// answered in 5 s. What came and went between two calls is told as two events where it concerns service, reader or card;
// after Close it fails with os.ErrClosed.
func (r *Reader) Next(ctx context.Context) (cardreader.Event, error) {
	for {
		if err := ctx.Err(); err != nil {
			return cardreader.Event{}, err
		}
		if r.stopped() {
			return cardreader.Event{}, fmt.Errorf("wait for card: %w", os.ErrClosed)
		}
		r.mu.Lock()
		ev, ok := r.event()
		wait := r.changed
		r.mu.Unlock()
		if ok {
			return ev, nil
		}
		select {
		case <-wait:
		case <-r.stop:
		case <-ctx.Done():
			return cardreader.Event{}, ctx.Err()
		}
	}
}

// event steps what was told by one event towards what is; the caller holds mu.
func (r *Reader) event() (cardreader.Event, bool) {
	now, told := r.now, &r.told
	if !now.known {
		return cardreader.Event{}, false
	}
	if !told.known { // an absence that was over before anybody asked is nobody's news
		*told = sight{known: true, down: now.down &^ 1, gone: now.gone &^ 1, card: -1}
	}
	kind := cardreader.EventKind(0)
	switch {
	case told.down != now.down && !told.isDown():
		told.down = now.down - (now.down+1)&1
		told.card = -1
		kind = cardreader.ServiceDown
	case told.down != now.down:
		told.down = now.down
		kind = cardreader.ServiceUp
	case now.isDown():
	case told.gone != now.gone && !told.isGone():
		told.gone = now.gone - (now.gone+1)&1
		told.card = -1
		kind = cardreader.ReaderGone
	case told.gone != now.gone:
		told.gone = now.gone
		kind = cardreader.ReaderBack
	case now.isGone(), told.card == now.card:
	case now.card == 0, told.card > 0: // a card exchanged for another was out in between
		told.card = 0
		kind = cardreader.CardOut
	default:
		told.card = now.card
		return cardreader.Event{Kind: cardreader.CardIn, ATR: slices.Clone(r.atr)}, true
	}
	return cardreader.Event{Kind: kind}, kind != 0
}

// choose picks the wanted reader out of the list; "" is none.
func choose(names []string, want string) string {
	for _, n := range names {
		if n == want || want == "" {
			return n
		}
	}
	for _, n := range names {
		if strings.HasPrefix(n, want) {
			return n
		}
	}
	model, slot, ok := unnumbered(want)
	if !ok {
		return ""
	}
	found := ""
	for _, n := range names {
		if m, s, ok := unnumbered(n); ok && m == model && s == slot {
			if found != "" {
				return "" // two of a kind: which one it is, is for a person to say
			}
			found = n
		}
	}
	return found
}

// unnumbered takes "Model 01 00" apart into model and slot; the number between them is the order of plugging in.
func unnumbered(name string) (model, slot string, ok bool) {
	const tail = len(" 00 00")
	if len(name) <= tail {
		return "", "", false
	}
	model, end := name[:len(name)-tail], name[len(name)-tail:]
	for i, c := range []byte(end) {
		if i%3 == 0 && c != ' ' || i%3 != 0 && !strings.ContainsRune("0123456789ABCDEF", rune(c)) {
			return "", "", false
		}
	}
	return model, end[4:], true
}
