package agent

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"vcckiosk/agent/audit"
	"vcckiosk/agent/registration"
	"vcckiosk/protocol"
)

// Registering says that this kiosk gets its name from the platform (6001).
type Registering struct {
	// Request is what is told; DeviceSN is required, OrgCode and the ids of the
	// enterprise are filled in by the client.
	Request protocol.RegisterRequest
	// Key returns the enterprise key, for the caller to clear; nil: a technician
	// registers the kiosk with a one-time code.
	Key func() ([]byte, error)
}

// Registrar registers the kiosk, by itself when there is an enterprise key, or
// when a technician asks for it.
type Registrar struct {
	a      *Agent
	c      Registering
	turn   chan struct{}
	record atomic.Pointer[registration.Record]
}

// RegistrationStatus is what may be shown of the registration.
type RegistrationStatus struct {
	State    registration.State   `json:"state"`
	DeviceSN string               `json:"deviceSn"`
	DeviceID string               `json:"deviceId,omitempty"`
	Reason   *registration.Reason `json:"reason,omitempty"`
}

// ErrNoRegistration: this kiosk's name is configured, not registered.
var ErrNoRegistration = errors.New("this kiosk is not registered with the platform: its device id stands in the configuration; [register] there would change that")

// IsRefusal tells whether an error of Register is a reason that Status tells:
// the platform's refusal, or something that a person has to mend first.
func IsRefusal(err error) bool {
	if errors.Is(err, protocol.ErrTransport) {
		return false
	}
	_, coded := errors.AsType[*protocol.CodeError](err)
	return coded || errors.Is(err, protocol.ErrPermanent) || errors.Is(err, errNoCredential) || errors.Is(err, ErrNoKeystore)
}

func newRegistrar(a *Agent, c Registering) (*Registrar, error) {
	r := &Registrar{a: a, c: c, turn: make(chan struct{}, 1)}
	rec, err := registration.Load(a.writer.View, c.Request.DeviceSN)
	if err != nil {
		return nil, err
	}
	if rec.DeviceID != "" {
		if err := a.client.SetDeviceID(rec.DeviceID); err != nil {
			return nil, err
		}
	}
	r.record.Store(&rec)
	return r, nil
}

// Status tells how far the registration has come; nil on a kiosk that does not
// register.
func (r *Registrar) Status() *RegistrationStatus {
	if r == nil {
		return nil
	}
	rec := r.record.Load()
	st := &RegistrationStatus{State: rec.State, DeviceSN: rec.DeviceSN, DeviceID: rec.DeviceID}
	if why := rec.Why(); why.Code != "" {
		st.Reason = &why
	}
	return st
}

func (r *Registrar) deviceID() string { return r.record.Load().DeviceID }

// Register asks the platform, with a technician's one-time code or, when it is
// empty, with the enterprise key. The slice is cleared. A kiosk that is
// registered stays it, unless the key that came then could not be kept.
//
// protocol.ErrTransport: nobody knows what became of it; do it again. Other
// errors are told by Status as well, with what to do.
func (r *Registrar) Register(ctx context.Context, code []byte, who string) (*RegistrationStatus, error) {
	defer clear(code)
	if r == nil {
		return nil, ErrNoRegistration
	}
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return r.Status(), ctx.Err()
	}
	err := r.register(ctx, code, who)
	return r.Status(), err
}

var errNoCredential = errors.New("register: neither a code nor an enterprise key")

func (r *Registrar) register(ctx context.Context, secret []byte, who string) error {
	rec := *r.record.Load()
	if rec.State == registration.Registered {
		return nil
	}
	if len(secret) == 0 {
		if r.c.Key == nil {
			return errors.Join(errNoCredential, r.refused(ctx, rec, registration.NoCredential))
		}
		var err error
		if secret, err = r.c.Key(); err != nil {
			return errors.Join(errNoCredential, err, r.refused(ctx, rec, registration.NoCredential))
		}
		defer clear(secret)
	}
	// The intent. A cut before it: nothing was asked. A cut after it: a request
	// may have left; it is made again, and the platform gives the same answer.
	if rec.State == registration.None {
		rec.State = registration.Asked
		if err := r.save(ctx, rec, audit.RegisterAsked, map[string]string{"who": who}); err != nil {
			return err
		}
	}
	got, err := r.a.client.Register(ctx, r.c.Request, secret)
	defer got.Clear()
	if err != nil {
		if e, is := errors.AsType[*protocol.CodeError](err); is && !errors.Is(err, protocol.ErrTransport) {
			return errors.Join(err, r.refused(ctx, rec, e.Code))
		}
		if errors.Is(err, protocol.ErrPermanent) {
			r.a.log.Error("not registered", "err", err) // names the field
			return errors.Join(err, r.refused(ctx, rec, registration.Field))
		}
		return err
	}
	if err := r.a.client.SetDeviceID(got.DeviceID); err != nil {
		return err
	}
	rec.State, rec.Code, rec.DeviceID, rec.CreateTime = registration.Registered, "", got.DeviceID, got.CreateTime
	if got.BaseKey != nil {
		// The key first: a cut between it and the commit below asks once more,
		// and the same key is then already there.
		_, err := r.a.Rotator.Offer(ctx, got.BaseKey, "", "registration")
		switch {
		case errors.Is(err, protocol.ErrKeyRefused):
			rec.Code = registration.KeyRefused
		case err != nil:
			rec.State, rec.DeviceID, rec.CreateTime = registration.Asked, "", ""
			return errors.Join(err, r.refused(ctx, rec, registration.Keystore))
		}
	}
	if got.Token != nil && r.a.keys != nil {
		if sealed, err := r.a.keys.Seal("register", []byte(got.DeviceID), got.Token); err == nil {
			rec.Token = sealed
		}
	}
	// Known now: a cut before this commit asks again and is answered the same.
	if err := r.save(context.WithoutCancel(ctx), rec, audit.RegisterDone, map[string]string{"device": got.DeviceID, "who": who}); err != nil {
		return err
	}
	r.a.alarms.clear(string(audit.RegisterRefused))
	r.a.log.Info("registered", "device", got.DeviceID)
	r.a.refreshIdle()
	return nil
}

// refused stores why it did not work, if that is news.
func (r *Registrar) refused(ctx context.Context, rec registration.Record, code string) error {
	r.a.alarms.raise(string(audit.RegisterRefused))
	if rec.State == registration.Refused && rec.Code == code {
		return nil
	}
	rec.State, rec.Code = registration.Refused, code
	r.a.log.Warn("not registered", "code", code)
	return r.save(context.WithoutCancel(ctx), rec, audit.RegisterRefused, map[string]string{"code": code})
}

// save stores the record with its event; memory follows.
func (r *Registrar) save(ctx context.Context, rec registration.Record, e audit.Event, attrs map[string]string) error {
	rec.At = time.Now().UnixMilli()
	err := r.a.writer.Do(ctx, func(tx *bbolt.Tx) error {
		if err := registration.Save(tx, rec); err != nil {
			return err
		}
		return audit.Append(tx, time.Now(), e, attrs)
	})
	if err == nil {
		r.record.Store(&rec)
	}
	return err
}

// run registers with the enterprise key until it has worked: transport errors
// after 1, 5, 15 and then every 60 minutes, a refusal every hour, since the back
// office may have mended it. Nothing is written while nothing changes.
func (r *Registrar) run(ctx context.Context) error {
	if r == nil || r.c.Key == nil {
		<-ctx.Done()
		return nil
	}
	for tries := 0; r.record.Load().State != registration.Registered; tries++ {
		wait := proofWaits[min(tries, len(proofWaits)-1)]
		if _, err := r.Register(protocol.Backlog(ctx), nil, "kioskd"); err != nil && ctx.Err() == nil {
			r.a.log.Info("not registered yet", "err", err)
			wait = max(wait, protocol.RetryAfter(err))
		}
		switch r.record.Load().State {
		case registration.Registered:
			continue
		case registration.Refused:
			wait = max(wait, proofWaits[len(proofWaits)-1])
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
	<-ctx.Done()
	return nil
}
