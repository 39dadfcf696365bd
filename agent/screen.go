package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"vcckiosk/agent/topup"
)

// Stage is what the customer's screen shows.
type Stage string

// The stages. A customer may answer at StageChoose (Choose, Cancel) and
// StageConfirm (Confirm, Cancel); Cancel is also taken at StageWorking until
// the card is about to be changed.
const (
	StageOut     Stage = "outOfService"
	StageIdle    Stage = "idle"    // put a card in
	StageReading Stage = "reading" // do not take the card
	StageChoose  Stage = "choose"
	StageConfirm Stage = "confirm"
	StageWorking Stage = "working" // do not take the card
	StageRemove  Stage = "remove"  // finished or refused: take the card; Note says which
)

// Offer is one order a customer may choose.
type Offer struct {
	OrderNo string       `json:"orderNo"`
	Amount  topup.Fen    `json:"amount"`
	Volume  topup.Volume `json:"gasVolume"`
	PayTime string       `json:"payTime,omitempty"`
	Source  string       `json:"source,omitempty"`
}

// Note is a line for the customer. Code is stable and for programs.
type Note struct {
	Code string `json:"code"`
	ZH   string `json:"zh"`
	EN   string `json:"en"`
}

// View is one picture of the screen. Name and Address come masked from the
// platform and never reach a log.
type View struct {
	Serial  uint64        `json:"serial"`
	Stage   Stage         `json:"stage"`
	Card    string        `json:"card,omitempty"` // last four digits
	Name    string        `json:"name,omitempty"`
	Address string        `json:"address,omitempty"`
	Offers  []Offer       `json:"orders,omitempty"`
	Chosen  *Offer        `json:"chosen,omitempty"`
	Price   *Price        `json:"price,omitempty"`  // comes a little after the list, or not at all
	Expires time.Time     `json:"expires,omitzero"` // of the list
	TransNo topup.TransNo `json:"termTransNo,omitempty"`
	Outcome topup.Outcome `json:"outcome,omitempty"`
	Note    *Note         `json:"note,omitempty"`
}

// ErrNotNow: the screen is not where this answer fits.
var ErrNotNow = errors.New("not possible now")

type answer struct {
	order   string
	confirm bool
	cancel  bool
}

// Screen is the customer's side of the kiosk. All methods may be called from
// any goroutine.
type Screen struct {
	mu        sync.Mutex
	view      View
	since     time.Time // of the picture
	cards     uint64    // that have been looked at
	changed   chan struct{}
	answers   chan answer
	cancelled bool
}

func newScreen() *Screen {
	return &Screen{view: View{Serial: 1, Stage: StageOut, Note: noteStarting}, changed: make(chan struct{}), answers: make(chan answer, 1)}
}

// View is the present picture.
func (s *Screen) View() View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

// last is the present picture and when it came.
func (s *Screen) last() (View, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view, s.since
}

// Wait returns the first picture newer than serial, or ctx's error.
func (s *Screen) Wait(ctx context.Context, serial uint64) (View, error) {
	for {
		s.mu.Lock()
		v, changed := s.view, s.changed
		s.mu.Unlock()
		if v.Serial > serial {
			return v, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return View{}, ctx.Err()
		}
	}
}

// Choose picks an order from the list. ErrNotNow: no list is shown, or the
// order is not on it.
func (s *Screen) Choose(orderNo string) error {
	return s.say(answer{order: orderNo}, func(v View) bool {
		return v.Stage == StageChoose && slices.ContainsFunc(v.Offers, func(o Offer) bool { return o.OrderNo == orderNo })
	})
}

// Confirm starts the load of the chosen order.
func (s *Screen) Confirm() error {
	return s.say(answer{confirm: true}, func(v View) bool { return v.Stage == StageConfirm })
}

// Cancel gives up. Once the card is about to be changed it comes too late and
// the load goes on.
func (s *Screen) Cancel() error {
	s.mu.Lock()
	if s.view.Stage == StageWorking {
		s.cancelled = true
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	return s.say(answer{cancel: true}, func(v View) bool { return v.Stage == StageChoose || v.Stage == StageConfirm })
}

func (s *Screen) say(a answer, fits func(View) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !fits(s.view) {
		return ErrNotNow
	}
	select {
	case s.answers <- a:
		return nil
	default:
		return ErrNotNow // the last answer has not been taken up yet
	}
}

// show replaces the picture. Answers to an older picture are forgotten.
func (s *Screen) show(v View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replace(v)
}

// showIdle replaces the picture of a kiosk that no customer uses.
func (s *Screen) showIdle(v View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view.Stage == StageIdle || s.view.Stage == StageOut {
		s.replace(v)
	}
}

// replace needs s.mu.
func (s *Screen) replace(v View) {
	v.Serial = s.view.Serial + 1
	if v.Stage == StageReading {
		s.cards++
	}
	if v.Stage == StageConfirm { // one step on from the list
		v.Price = s.view.Price
	}
	s.view, s.since = v, time.Now()
	select {
	case <-s.answers:
	default:
	}
	if v.Stage != StageWorking {
		s.cancelled = false
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// quiet returns when nobody waits for the kiosk (who chooses is waited for), or
// after limit, or with ctx.
func (s *Screen) quiet(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	v := s.View()
	for v.Stage == StageReading || v.Stage == StageWorking {
		var err error
		if v, err = s.Wait(ctx, v.Serial); err != nil {
			return
		}
	}
}

// session names the present customer.
func (s *Screen) session() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cards
}

// setPrice adds a price to the picture, if that customer still chooses. Answers
// given meanwhile stay: the picture is the same but for it.
func (s *Screen) setPrice(session uint64, p *Price) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p == nil || session != s.cards || s.view.Stage != StageChoose && s.view.Stage != StageConfirm {
		return
	}
	s.view.Price = p
	s.view.Serial++
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Screen) wasCancelled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cancelled
}
