package pcsc

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
	"time"

	"vcckiosk/cardreader"
)

// errorMap is the map, written a second time: what a code means while opening and in a session. It holds every code that
// code.go names, and some that nobody has met.
var errorMap = map[code][2]error{
	codeInternal:           {cardreader.ErrServiceDown, cardreader.ErrServiceDown},
	codeCancelled:          {cardreader.ErrReaderGone, cardreader.ErrReaderGone},
	codeInvalidHandle:      {cardreader.ErrServiceDown, cardreader.ErrServiceDown},
	codeNoMemory:           {cardreader.ErrBusy, cardreader.ErrReaderGone},
	codeInsufficientBuffer: {cardreader.ErrReaderGone, cardreader.ErrReaderGone},
	codeUnknownReader:      {cardreader.ErrReaderGone, cardreader.ErrReaderGone},
	codeTimeout:            {cardreader.ErrReaderGone, cardreader.ErrReaderGone},
	codeSharing:            {cardreader.ErrBusy, cardreader.ErrBusy},
	codeNoCard:             {cardreader.ErrNoCard, cardreader.ErrCardRemoved},
	codeUnknownCard:        {ErrMute, cardreader.ErrReaderGone},
	codeProtocol:           {ErrMute, cardreader.ErrReaderGone},
	codeInvalidValue:       {cardreader.ErrReaderGone, cardreader.ErrReaderGone},
	codeCommError:          {cardreader.ErrServiceDown, cardreader.ErrServiceDown},
	codeInvalidATR:         {ErrMute, cardreader.ErrReaderGone},
	codeNotTransacted:      {ErrMute, cardreader.ErrCardRemoved},
	codeReaderUnavailable:  {cardreader.ErrReaderGone, cardreader.ErrReaderGone},
	codeShutdown:           {cardreader.ErrServiceDown, cardreader.ErrServiceDown},
	codeCardUnsupported:    {ErrMute, cardreader.ErrReaderGone},
	codeNoService:          {cardreader.ErrServiceDown, cardreader.ErrServiceDown},
	codeServiceStopped:     {cardreader.ErrServiceDown, cardreader.ErrServiceDown},
	codeNoReaders:          {cardreader.ErrReaderGone, cardreader.ErrReaderGone},
	codeTooBusy:            {cardreader.ErrBusy, cardreader.ErrReaderGone},
	codeUnsupportedCard:    {ErrMute, cardreader.ErrReaderGone},
	codeUnresponsive:       {ErrMute, cardreader.ErrCardRemoved},
	codeUnpowered:          {ErrMute, cardreader.ErrCardRemoved},
	codeReset:              {cardreader.ErrBusy, cardreader.ErrCardRemoved},
	codeRemoved:            {cardreader.ErrNoCard, cardreader.ErrCardRemoved},
	codeDenied:             {cardreader.ErrServiceDown, cardreader.ErrServiceDown},
	0x80100004:             {cardreader.ErrReaderGone, cardreader.ErrReaderGone},
	0x8010001F:             {cardreader.ErrReaderGone, cardreader.ErrReaderGone},
	0x8010FFFF:             {cardreader.ErrReaderGone, cardreader.ErrReaderGone},
	1:                      {cardreader.ErrReaderGone, cardreader.ErrReaderGone},
}

func TestEveryNamedCodeIsInTheMap(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "code.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Names) != 1 || !strings.HasPrefix(spec.Names[0].Name, "code") {
			return true
		}
		named++
		if len(spec.Values) != 1 {
			t.Errorf("%s has no value of its own", spec.Names[0])
		}
		return true
	})
	const strangers = 4
	if named < 28 || named != len(errorMap)-strangers {
		t.Errorf("code.go names %d codes, the map of this test has %d", named, len(errorMap)-strangers)
	}
}

func TestEveryCodeHasAMeaningTheCallerKnows(t *testing.T) {
	t.Parallel()
	known := func(err error, list ...error) bool {
		for _, e := range list {
			if errors.Is(err, e) {
				return true
			}
		}
		return false
	}
	for c := code(0x80100000); c < 0x80100100; c++ {
		if err := whileOpening(c); !known(err, cardreader.ErrNoCard, cardreader.ErrReaderGone, cardreader.ErrServiceDown, cardreader.ErrBusy, ErrMute) {
			t.Errorf("%v while opening: %v", c, err)
		}
		if err := inSession(c); !known(err, cardreader.ErrCardRemoved, cardreader.ErrReaderGone, cardreader.ErrServiceDown, cardreader.ErrBusy) {
			t.Errorf("%v in a session: %v", c, err)
		}
		if !strings.Contains(c.Error(), "PC/SC 801000") {
			t.Errorf("%d says %q", uint32(c), c.Error())
		}
	}
}

// failing is a hook that answers c to one call by name, times times; 0 is for ever.
func (w *world) failing(call string, c code, times int) (lift func()) {
	n := 0
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	w.f.hook = func(this string) error {
		if this != call || times > 0 && n == times {
			return nil
		}
		n++
		return c
	}
	return func() {
		w.f.mu.Lock()
		defer w.f.mu.Unlock()
		w.f.hook = nil
	}
}

func TestEveryCodeFromEveryCallOfOpen(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"establish", "readers", "connect", "begin", "status"} {
		for c, want := range errorMap {
			bubble(t, func(w *world) {
				card := newCard()
				w.put(card)
				time.Sleep(time.Millisecond)
				lift := w.failing(call, c, 0)
				s, err := w.r.Open(w.Context())
				if s != nil || !errors.Is(err, want[0]) || !errors.Is(err, c) {
					w.Errorf("%s says %v: open %v, want %v", call, c, err, want[0])
				}
				lift()
				if len(card.ran()) != 0 {
					w.Errorf("%s says %v: the card got %X", call, c, card.ran())
				}
				// Nothing is left behind: the next customer is served.
				time.Sleep(3 * time.Second)
				s = w.open()
				w.works(s)
				w.close(s)
			})
		}
	}
}

func TestEveryCodeFromTransmitEndsTheSession(t *testing.T) {
	t.Parallel()
	for c, want := range errorMap {
		bubble(t, func(w *world) {
			card := newCard()
			w.put(card)
			s := w.open()
			w.works(s)
			lift := w.failing("transmit", c, 0)
			got, err := s.Transmit(w.Context(), someCommand)
			if got != nil || !errors.Is(err, want[1]) || !errors.Is(err, c) {
				w.Errorf("transmit says %v: %X, %v; want %v", c, got, err, want[1])
			}
			lift()
			w.fails(s, want[1]) // though the library would go on
			w.close(s)
			if n := len(card.ran()); n != 1 {
				w.Errorf("after %v the card got %d commands, want 1", c, n)
			}
			s = w.open()
			w.works(s)
			w.close(s)
		})
	}
}

func TestEveryCodeAtTheEndOfASessionLeavesTheReaderFree(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"end", "disconnect", "release"} {
		for c := range errorMap {
			bubble(t, func(w *world) {
				w.put(newCard())
				s := w.open()
				lift := w.failing(call, c, 1)
				w.close(s)
				lift()
				s = w.open()
				w.works(s)
				w.close(s)
			})
		}
	}
}

// However long a code lasts, the waiting goroutine neither spins nor gives up.
func TestEveryCodeFromEveryCallOfTheWatch(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"establish", "readers", "wait"} {
		for c := range errorMap {
			bubble(t, func(w *world) {
				w.put(newCard())
				before := w.f.count(call)
				lift := w.failing(call, c, 0)
				w.f.remove() // the running wait returns, the next calls fail
				time.Sleep(10 * time.Second)
				if n := w.f.count(call) - before; n > 120 {
					w.Errorf("%s says %v: asked %d times in 10 s", call, c, n)
				}
				lift()
				w.f.insert(newCard())
				time.Sleep(3 * time.Second)
				for {
					if ev, err := w.r.Next(w.Context()); err != nil {
						w.Fatal(err)
					} else if ev.Kind == cardreader.CardIn {
						break
					}
				}
				s := w.open()
				w.works(s)
				w.close(s)
				if w.r.Problem() != nil {
					w.Errorf("%s says %v: problem %v after all is well", call, c, w.r.Problem())
				}
			})
		}
	}
}

func TestAnEndedWaitIsNoEvent(t *testing.T) {
	t.Parallel()
	for _, c := range []code{codeTimeout, codeCancelled, codeUnknownReader} {
		bubble(t, func(w *world) {
			w.put(newCard())
			lift := w.failing("wait", c, 1)
			w.quiet(5 * time.Second)
			lift()
		})
	}
}
