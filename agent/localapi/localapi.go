// Package localapi is the kiosk's local API: HTTP/1.1 with JSON on unix
// sockets. The socket's group and mode decide who connects; the peer's uid
// names the person in the audit log. Errors are RFC 9457 problems. Nothing in
// an answer is secret, and there is no call that signs a caller's text.
package localapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"vcckiosk/agent"
	"vcckiosk/agent/journal"
	"vcckiosk/agent/media"
	"vcckiosk/agent/metrics"
	"vcckiosk/agent/mirror"
	"vcckiosk/agent/topup"
	"vcckiosk/keystore"
	"vcckiosk/protocol"
	"vcckiosk/queue"
)

// Role is what a socket's users may do. Everybody may look; the screen and
// operators answer for customers; technicians offer keys and requeue.
type Role int

// The roles, one socket each.
const (
	Operator Role = iota
	Technician
)

// Status is what GET /v1/status answers.
type Status struct {
	agent.Status
	// Fault tells why the kiosk could not open its files and what to do.
	Fault string `json:"fault,omitempty"`
}

// Card is what GET /v1/card answers. Last is the card last read, which need
// not be the one in the reader; Note is the last word about that one.
type Card struct {
	agent.ReaderStatus
	Note *agent.Note `json:"note,omitempty"`
}

// Detail is what GET /v1/journal/{termTransNo} answers: a top-up as it stands
// and every stored version of it, oldest first.
type Detail struct {
	Record   topup.Record    `json:"record"`
	Versions []journal.Entry `json:"versions"`
}

// Handler serves the API of one socket.
func Handler(a *agent.Agent, role Role) http.Handler {
	mux := http.NewServeMux()
	get := func(path string, f func(*call) (any, error)) { mux.HandleFunc("GET "+path, answer(f)) }
	post := func(path string, f func(*call) (any, error)) { mux.HandleFunc("POST "+path, answer(f)) }
	tech := func(path string, f func(*call) (any, error)) {
		if role != Technician {
			f = func(*call) (any, error) { return nil, errRole }
		}
		post(path, f)
	}
	get("/v1/status", func(*call) (any, error) { return Status{Status: a.Status()}, nil })
	get("/v1/session", func(*call) (any, error) { return a.Screen.View(), nil })
	get("/v1/card", func(*call) (any, error) {
		c := Card{ReaderStatus: a.Status().Reader}
		if v := a.Screen.View(); v.Stage == agent.StageRemove {
			c.Note = v.Note
		}
		return c, nil
	})
	get("/v1/queue", func(*call) (any, error) { return list(a.Queue()), nil })
	get("/v1/queue/{n}", func(c *call) (any, error) {
		n, err := c.number()
		if err != nil {
			return nil, err
		}
		for _, it := range a.Queue() {
			if it.ID == n {
				return it, nil
			}
		}
		return nil, queue.ErrNoItem
	})
	get("/v1/media", func(*call) (any, error) { return list(a.MediaFiles()), nil })
	mux.HandleFunc("POST /v1/media", upload(a, role))
	tech("/v1/media/{id}/drop", func(c *call) (any, error) {
		return done, a.DropMedia(c.Context(), c.PathValue("id"), c.peer())
	})
	get("/v1/journal", func(*call) (any, error) {
		rs := list(a.Records(100))
		for i := range rs {
			rs[i] = masked(rs[i])
		}
		return rs, nil
	})
	get("/v1/journal/{no}", func(c *call) (any, error) {
		rec, versions, err := a.Record(topup.TransNo(c.PathValue("no")))
		if err != nil {
			return nil, err
		}
		for i := range versions {
			versions[i].Record = masked(versions[i].Record)
		}
		return Detail{masked(rec), list(versions)}, nil
	})
	reconcileRoutes(a, get, tech)
	mux.Handle("GET /metrics", metrics.Handler(a))
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) {
		events(w, r, a.Screen.View, a.Screen.Wait)
	})
	post("/v1/session/choose", func(c *call) (any, error) {
		var in struct {
			OrderNo string `json:"orderNo"`
		}
		if err := c.json(&in); err != nil {
			return nil, err
		}
		return done, a.Screen.Choose(in.OrderNo)
	})
	post("/v1/session/confirm", func(*call) (any, error) { return done, a.Screen.Confirm() })
	post("/v1/session/cancel", func(*call) (any, error) { return done, a.Screen.Cancel() })
	tech("/v1/queue/{n}/requeue", func(c *call) (any, error) {
		n, err := c.number()
		if err != nil {
			return nil, err
		}
		return done, a.Requeue(c.Context(), n, c.peer())
	})
	tech("/v1/call", func(c *call) (any, error) {
		var in struct {
			Code   string            `json:"code"`
			Fields map[string]string `json:"fields"`
		}
		if err := c.json(&in); err != nil {
			return nil, err
		}
		v, err := a.Call(c.Context(), in.Code, in.Fields, c.peer())
		if e, is := errors.AsType[*protocol.CodeError](err); is && e.Msg != "" {
			err = fmt.Errorf("%w: %s", err, e.Msg) // shown to who asked, kept nowhere
		}
		return v, err
	})
	tech("/v1/register", func(c *call) (any, error) { return register(a, c) })
	mirrored(a, role, get, tech)
	// One offer at a time: a technician is told what became of the key given
	// here, not of one that somebody else has put in its place meanwhile.
	turn := make(chan struct{}, 1)
	tech("/v1/provision", func(c *call) (any, error) {
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
			return provision(a, c)
		case <-c.Context().Done():
			return nil, c.Context().Err()
		}
	})
	return problems(mux)
}

// Faulty serves the API of a kiosk that could not open its files: it tells
// its state and its fault, shows the customer that it is out of service, and
// refuses the rest with 503.
func Faulty(st Status) http.Handler {
	view := agent.View{Serial: 1, Stage: agent.StageOut, Note: st.Note}
	mux := http.NewServeMux()
	for path, v := range map[string]any{"/v1/status": st, "/v1/session": view, "/v1/card": Card{ReaderStatus: st.Reader, Note: st.Note}} {
		mux.HandleFunc("GET "+path, answer(func(*call) (any, error) { return v, nil }))
	}
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) {
		events(w, r, func() agent.View { return view }, func(ctx context.Context, serial uint64) (agent.View, error) {
			if serial < view.Serial {
				return view, nil
			}
			<-ctx.Done()
			return agent.View{}, ctx.Err()
		})
	})
	mux.HandleFunc("/v1/", answer(func(*call) (any, error) { return nil, faulty(st.Fault) }))
	return problems(mux)
}

var done = map[string]bool{"ok": true}

// list makes an empty list of none: a reader of JSON wants [] there.
func list[T any](in []T) []T {
	if in == nil {
		return []T{}
	}
	return in
}

// masked is a record without the code that lets a card be loaded.
func masked(r topup.Record) topup.Record {
	if r.Load != nil && r.Load.MAC2 != "" {
		l := *r.Load
		l.MAC2 = "[redacted]"
		r.Load = &l
	}
	return r
}

func provision(a *agent.Agent, c *call) (any, error) {
	var in struct {
		Key secretText `json:"key"`
		KCV string     `json:"kcv"`
	}
	defer func() { in.Key.wipe() }()
	if err := c.json(&in); err != nil {
		return nil, err
	}
	return a.Rotator.Offer(c.Context(), in.Key, in.KCV, "technician "+c.peer())
}

// badRequest is the caller's mistake.
type badRequest string

func (e badRequest) Error() string { return string(e) }

// faulty: the kiosk's files could not be opened.
type faulty string

func (e faulty) Error() string { return "out of service: " + string(e) }

var (
	errRole    = errors.New("only on the technician's socket: as a member of group kiosk-tech, with --socket /run/kioskd/technician.sock")
	errTooLong = errors.New("body is too long")
	errTooSlow = errors.New("body did not come in time")
	errNoPath  = errors.New("no such path")
	errMethod  = errors.New("not with this method")
)

func (c *call) number() (uint64, error) {
	n, err := strconv.ParseUint(c.PathValue("n"), 10, 64)
	if err != nil {
		return 0, badRequest("not a number")
	}
	return n, nil
}

func statusOf(err error) int {
	if _, is := errors.AsType[badRequest](err); is {
		return http.StatusBadRequest
	}
	if _, is := errors.AsType[faulty](err); is {
		return http.StatusServiceUnavailable
	}
	if _, is := errors.AsType[*protocol.FieldError](err); is {
		return http.StatusUnprocessableEntity
	}
	if status, is := reconcileStatus(err); is {
		return status
	}
	switch {
	case errors.Is(err, agent.ErrTooOften):
		return http.StatusTooManyRequests
	case errors.Is(err, errTooLong), errors.Is(err, media.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, errTooSlow):
		return http.StatusRequestTimeout
	case errors.Is(err, errMethod):
		return http.StatusMethodNotAllowed
	case errors.Is(err, queue.ErrNoItem), errors.Is(err, agent.ErrNoRecord), errors.Is(err, media.ErrUnknown), errors.Is(err, errNoPath), errors.Is(err, mirror.ErrNotHeld):
		return http.StatusNotFound
	case errors.Is(err, media.ErrFull):
		return http.StatusInsufficientStorage
	case errors.Is(err, agent.ErrNotNow), errors.Is(err, agent.ErrNoRegistration):
		return http.StatusConflict
	case errors.Is(err, keystore.ErrBadKey), errors.Is(err, agent.ErrKCV):
		return http.StatusUnprocessableEntity
	case errors.Is(err, protocol.ErrKeyRefused), errors.Is(err, errRole), errors.Is(err, agent.ErrNotReading):
		return http.StatusForbidden
	case errors.Is(err, protocol.ErrTransport), errors.Is(err, protocol.ErrAuth):
		return http.StatusBadGateway
	case errors.Is(err, protocol.ErrBusiness):
		return http.StatusUnprocessableEntity
	case errors.Is(err, agent.ErrNoKeystore), errors.Is(err, agent.ErrNoMedia), errors.Is(err, mirror.ErrOff):
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}
