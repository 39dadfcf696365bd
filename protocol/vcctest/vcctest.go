package vcctest

import (
	"encoding/json"
	"errors"
	"net/http"
)

// Platform is the VCC platform. All methods may be called at any time from any
// goroutine.
type Platform struct {
}

// New makes a Platform with empty books. It starts no goroutine and needs no
// Close.
func New(o Options) *Platform { return &Platform{} }

// ServeHTTP answers one call. A dropped answer or request ends in
// panic(http.ErrAbortHandler), which net/http turns into a closed connection.
func (p *Platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {}

// RoundTripper is the Platform without a network: calls run in the caller's
// goroutine and delays use time.Timer, so it works in testing/synctest bubbles.
func (p *Platform) RoundTripper() http.RoundTripper { return nil }

// AddCard adds or replaces a card.
func (p *Platform) AddCard(c CardBook) error { return errors.New("todo") }

// AddOrder adds a paid order. The card must be known, the number new.
func (p *Platform) AddOrder(o OrderBook) error { return errors.New("todo") }

// AddAccount adds a holder of a base key.
func (p *Platform) AddAccount(a Account) {}

// SetBaseKey replaces the base key of Options and invalidates every token made with it.
func (p *Platform) SetBaseKey(key string) {}

// SetLapses changes the lapses from now on: SetLapses(Lapses{}) ends all faults.
func (p *Platform) SetLapses(l Lapses) {}

// SetHook replaces Options.Hook; nil removes it.
func (p *Platform) SetHook(h func(Call) Action) {}

// ReleaseLate executes now every request that is still on its way.
func (p *Platform) ReleaseLate() int { return 0 }

// Forget makes the platform forget the authorisation of this number.
func (p *Platform) Forget(transNo string) {}

// Evict makes every token given so far invalid, as another holder of the appId would.
func (p *Platform) Evict() {}

// Order returns a copy of one order's books.
func (p *Platform) Order(orderNo string) (OrderView, bool) { return OrderView{}, false }

// Orders returns copies of all orders, by number.
func (p *Platform) Orders() []OrderView { return nil }

// Trans returns what is known of a number, fences included.
func (p *Platform) Trans(transNo string) (TransView, bool) { return TransView{}, false }

// Calls returns how many calls of each interface arrived, lost ones included.
func (p *Platform) Calls() map[string]int { return nil }

// Conflicts returns what went against the contract, oldest first.
func (p *Platform) Conflicts() []Conflict { return nil }

// Books returns a copy of everything.
func (p *Platform) Books() Snapshot { return Snapshot{} }

// LastHeartbeat returns the body of the last 6004 of a device.
func (p *Platform) LastHeartbeat(deviceID string) (json.RawMessage, bool) { return nil, false }
