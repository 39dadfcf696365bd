package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"vcckiosk/agent/audit"
	"vcckiosk/keystore"
	"vcckiosk/protocol"
)

// Rotator is the one door for a base key. Whoever brings one (a technician
// today, SMS and sealed bundles later) only knocks: the key is stored as
// pending, proven by a live getToken, and only then used.
type Rotator struct {
	a    *Agent
	wake chan struct{}
	turn chan struct{} // one proof at a time; whoever waits for it can be called off
}

// Offered is what became of an offered key.
type Offered struct {
	KCV    string `json:"kcv"`
	Active bool   `json:"active"`
	// Why tells, when the key is not active yet, what is being waited for.
	Why string `json:"why,omitempty"`
}

// ErrKCV: the key does not have the check value it came with. Nothing stored.
var ErrKCV = errors.New("key check value does not match")

// ErrNoKeystore: the keystore cannot be opened, so no key can be kept.
var ErrNoKeystore = errors.New("keystore is locked")

func newRotator(a *Agent) *Rotator {
	return &Rotator{a: a, wake: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
}

// Offer stores key as pending and tries to prove it at once, so that a
// technician who waits sees the first refusal. The key must be 32 letters and
// digits; kcv, six hex digits, may be empty. The slice is cleared.
//
// An answer of the platform that refuses the key drops it (error Is
// protocol.ErrKeyRefused) and leaves the active key alone. When the platform
// cannot be reached the key stays pending for 24 hours and is tried again
// after 1, 5, 15 and then every 60 minutes.
func (r *Rotator) Offer(ctx context.Context, key []byte, kcv, source string) (Offered, error) {
	defer clear(key)
	if err := keystore.ValidKey(key); err != nil {
		return Offered{}, err
	}
	out := Offered{KCV: keystore.KCV(key)}
	if kcv != "" && kcv != out.KCV {
		return out, ErrKCV
	}
	keys := r.a.keys
	if keys == nil {
		return out, fmt.Errorf("%w: %s", ErrNoKeystore, r.a.keysWhy)
	}
	if active, err := keys.Active(); err == nil && active.KCV() == out.KCV {
		if pending, err := keys.Pending(); err != nil || pending.KCV() == out.KCV {
			out.Active, out.Why = true, "this key is already in use"
			return out, nil
		}
	}
	digest := sha256.Sum256(key)
	if err := keys.Stage(key, source, digest); err != nil {
		return out, fmt.Errorf("store key: %w", err)
	}
	// From here on a crash leaves a pending key that the next start proves.
	r.a.event(ctx, audit.KeyStaged, map[string]string{"kcv": out.KCV, "source": source})
	err := r.prove(ctx)
	switch {
	case err == nil:
		out.Active = true
	case errors.Is(err, protocol.ErrKeyRefused):
		return out, err
	default:
		r.a.log.Warn("key not proven yet", "kcv", out.KCV, "err", err)
		out.Why = "the platform could not be asked yet; the key is kept and tried again"
		if errors.Is(err, protocol.ErrPermanent) && !errors.Is(err, protocol.ErrNoKey) {
			r.a.alarms.raise(string(audit.PlatformConfig))
			out.Why = "the platform does not take the question as it is configured (" + err.Error() + "): check [api.endpoints], [envelope] and [auth]; the key is kept and tried again"
		}
	}
	select { // run has a new key to look after
	case r.wake <- struct{}{}:
	default:
	}
	return out, nil
}

// prove asks the platform for a token with the pending key. nil: it is now the
// active key.
func (r *Rotator) prove(ctx context.Context) error {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return fmt.Errorf("prove key: %w", ctx.Err())
	}
	keys := r.a.keys
	k, err := keys.Pending()
	if err != nil {
		return err
	}
	err = r.a.client.ProveKey(ctx, k)
	switch {
	case err == nil:
		// A crash before Promote proves the same key again.
		if err := keys.Promote(); err != nil {
			return fmt.Errorf("promote key: %w", err)
		}
		// The session of the proof belongs to the key's generation: the client
		// goes on with it, and with none of an older one.
		r.a.event(ctx, audit.KeyPromoted, map[string]string{"kcv": k.KCV()})
		r.a.log.Info("base key in use", "kcv", k.KCV(), "generation", k.Generation())
		if s := r.a.Screen.View().Stage; s == StageOut {
			r.a.idle()
		}
		return nil
	case errors.Is(err, protocol.ErrKeyRefused):
		r.a.event(ctx, audit.KeyRefused, map[string]string{"kcv": k.KCV()})
		if derr := keys.DropPending("refused by the platform"); derr != nil {
			return fmt.Errorf("drop key: %w", errors.Join(derr, err))
		}
		return err
	default:
		return fmt.Errorf("prove key: %w", err) // proves nothing
	}
}

// proofWaits are the pauses between proofs; the last one repeats.
var proofWaits = [...]time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour}

// lapseCheck is how often it is looked whether an old key has outlived its time.
const lapseCheck = time.Hour

// run proves a pending key left by an earlier power session or by an Offer
// that could not reach the platform, and forgets keys that have lapsed. It
// sleeps while there is only the active one.
func (r *Rotator) run(ctx context.Context) error {
	if r.a.keys == nil {
		<-ctx.Done()
		return nil
	}
	tries := 0 // failed ones of the pending key, but for the first
	if _, err := r.a.keys.Pending(); err == nil {
		_ = r.prove(ctx) // told where it matters: it stays pending
	}
	for {
		r.lapse(ctx)
		var again <-chan time.Time
		_, noPending := r.a.keys.Pending()
		_, noPrevious := r.a.keys.Previous()
		switch {
		case noPending == nil:
			again = time.After(proofWaits[min(tries, len(proofWaits)-1)])
		case noPrevious == nil:
			again = time.After(lapseCheck)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
			tries = 0
		case <-again:
			if noPending != nil {
				continue
			}
			if err := r.prove(ctx); err != nil {
				r.a.log.Warn("key not proven yet", "err", err)
			}
			tries++
		}
	}
}

// lapse forgets what is too old, unless the clock cannot be believed.
func (r *Rotator) lapse(ctx context.Context) {
	if !r.a.clockSane() {
		return
	}
	pending, _, err := r.a.keys.Expire(time.Now())
	if err != nil {
		r.a.log.Error("keys not expired", "err", err)
		return
	}
	if pending {
		r.a.event(ctx, audit.KeyLapsed, nil)
		r.a.log.Warn("a key was offered and could not be proven in time; it is forgotten")
	}
}
