package simtest

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// errOff is what everything answers once the power is gone.
var errOff = errors.New("power is off")

// side of an effect at which the power is cut.
type side int

const (
	before side = iota // the effect does not happen
	after              // it happens, nobody hears of it
)

func (s side) String() string {
	if s == before {
		return "before"
	}
	return "after"
}

// cut is where the power goes out: before or after the n-th effect, never when n
// is 0.
type cut struct {
	n  int
	at side
}

// effect is one that has begun.
type effect struct {
	kind string // "commit", "card 52", "http /iccard/recharge"
	at   time.Time
	took time.Duration
}

// power is one kiosk's supply. It numbers the effects of the kiosk on the
// world (commit, APDU, HTTP request) in order, and can go out before or after
// one of them. From then on every effect fails without acting.
type power struct {
	mu    sync.Mutex
	n     int // effects so far, over all boots
	next  cut
	later []cut // counted from the cut before
	off   bool
	seen  []effect
	onCut func()
	cuts  int // that have happened

	refusals int // answers of the platform with a result code
}

func (p *power) begin(kind string) (id int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.off {
		return 0, errOff
	}
	p.n++
	p.seen = append(p.seen, effect{kind: kind, at: time.Now()})
	if p.n == p.next.n && p.next.at == before {
		p.cut()
		return p.n, errOff
	}
	return p.n, nil
}

func (p *power) end(id int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := &p.seen[id-1]
	e.took = time.Since(e.at)
	if !p.off && id == p.next.n && p.next.at == after {
		p.cut()
	}
	if p.off {
		return errOff
	}
	return nil
}

// cut needs p.mu.
func (p *power) cut() {
	p.off, p.next = true, cut{}
	p.cuts++
	if len(p.later) > 0 {
		p.next = cut{p.n + p.later[0].n, p.later[0].at}
		p.later = p.later[1:]
	}
	if p.onCut != nil {
		p.onCut()
	}
}

func (p *power) isOff() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.off
}

// store is agent.db on a kiosk that can lose power.
type store struct {
	db *bbolt.DB
	p  *power
}

func (s *store) View(fn func(*bbolt.Tx) error) error { return s.db.View(fn) }

func (s *store) Update(fn func(*bbolt.Tx) error) error {
	id, err := s.p.begin("commit")
	if err != nil {
		return err
	}
	if err := s.db.Update(fn); err != nil {
		return err
	}
	return s.p.end(id)
}

// network is the way to the platform.
type network struct {
	next http.RoundTripper
	p    *power
	down func() bool
}

func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	id, err := n.p.begin("http " + r.URL.Path)
	if err != nil {
		return nil, err
	}
	if n.down() {
		return nil, errors.New("network is unreachable")
	}
	resp, err := n.next.RoundTrip(r)
	if err == nil {
		n.note(resp)
	}
	if off := n.p.end(id); off != nil {
		if err == nil {
			_ = resp.Body.Close()
		}
		return nil, off
	}
	return resp, err
}

// note counts the platform's refusals. The answer is in memory and comes whole.
func (n *network) note(resp *http.Response) {
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	refused := bytes.Contains(body, []byte(`"resultCode":`)) ||
		bytes.Contains(body, []byte(`"respondState":`)) && !bytes.Contains(body, []byte(`"respondState":"SUCCESS"`))
	if err == nil && refused {
		n.p.mu.Lock()
		n.p.refusals++
		n.p.mu.Unlock()
	}
}
