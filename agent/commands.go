package agent

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"vcckiosk/agent/audit"
	"vcckiosk/agent/command"
	"vcckiosk/protocol"
	"vcckiosk/protocol/signed"
)

// Task carries out what a command or a push asks for. It starts the work and
// returns: it has 30 s together with the other commands of its heartbeat. An
// error is acknowledged as failed, one that is a Refusal as refused. It is called
// from the heartbeat and from pushes, so perhaps twice at once; args are as
// command.Decode lets them pass.
type Task func(ctx context.Context, args map[string]string) error

// Refusal is why a task was not begun: a word of letters and digits for the
// acknowledgement, such as "busy".
type Refusal string

// Error is the word.
func (r Refusal) Error() string { return "refused: " + string(r) }

const (
	taskTime = 30 * time.Second
	// ackSoon is when the next heartbeat goes after one that brought commands:
	// whoever gave them waits for word.
	ackSoon = 15 * time.Second
	// maxRefusals bounds the acknowledgements of what did not verify; they are
	// kept in memory only, so that nobody without a key can make us write.
	maxRefusals = 16
	// refusalQuiet is how long the same reason is not recorded again.
	refusalQuiet = time.Hour
)

// commander takes signed commands, once each. Only the heartbeat's goroutine
// uses it, but for status.
type commander struct {
	a      *Agent
	ring   signed.Ring
	tasks  map[command.Name]Task
	ledger *command.Ledger

	mu       sync.Mutex
	refused  []protocol.CommandAck // not taken, not on disk
	recorded map[string]time.Time  // when a reason was recorded last
}

// opened is a command whose envelope has been verified.
type opened struct {
	command.Command
	envelope signed.Envelope
	digest   string
	expired  bool
	refusal  string // authentic, and not possible
}

// settleInterrupted acknowledges what was begun and whose end is not known: the
// power went, or the end could not be stored. It is not begun again.
func (c *commander) settleInterrupted(ctx context.Context) {
	for _, e := range c.ledger.Begun() {
		if err := c.finish(ctx, e, command.Failed, command.Interrupted); err != nil && ctx.Err() == nil {
			c.a.log.Error("end of a command not stored", "cmdId", e.ID, "err", err)
		}
	}
}

// acks are what the next heartbeat tells of commands.
func (c *commander) acks() (out []protocol.CommandAck) {
	for _, e := range c.ledger.Acks(command.MaxUntold) {
		out = append(out, protocol.CommandAck{ID: e.ID, Result: string(e.Result), Reason: e.Reason, KCV: e.KCV})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return append(out, c.refused...)
}

// told notes that a heartbeat with these acknowledgements was answered. The
// mark rides on the next commit: a cut before repeats them, which the platform
// takes as the same word again.
func (c *commander) told(acks []protocol.CommandAck) {
	var ids []string
	for _, a := range acks {
		ids = append(ids, a.ID)
	}
	c.mu.Lock()
	c.refused = slices.DeleteFunc(c.refused, func(a protocol.CommandAck) bool { return slices.Contains(acks, a) })
	if len(c.refused) == 0 {
		c.a.alarms.clear(string(audit.CommandRefused))
	}
	c.mu.Unlock()
	taken := slices.ContainsFunc(c.ledger.Acks(command.MaxUntold), func(e command.Entry) bool { return !e.Told })
	c.ledger.Hush(ids)
	if taken {
		c.a.writer.Later(func(tx *bbolt.Tx) error { return c.ledger.MarkTold(tx, ids) })
	}
}

// obey takes the commands of a heartbeat's answer, in the order of their
// counters. It reports whether there is something to tell soon.
func (c *commander) obey(ctx context.Context, list []protocol.Command) (tell bool) {
	var good []opened
	for _, w := range list {
		o, reason := c.open(w)
		switch {
		case reason != "":
			c.refuse(ctx, w.ID, reason)
		case c.ledger.Again(o.ID, o.digest):
			tell = true
		default:
			good = append(good, o)
		}
	}
	slices.SortStableFunc(good, func(a, b opened) int { return cmp.Compare(a.envelope.Counter, b.envelope.Counter) })
	tctx, cancel := context.WithTimeout(ctx, taskTime)
	defer cancel()
	for _, o := range good {
		if tctx.Err() != nil {
			break // the rest comes again
		}
		tell = c.take(tctx, o) || tell
	}
	return tell
}

// open verifies a command; reason says why it is not one, in a word.
func (c *commander) open(w protocol.Command) (o opened, reason string) {
	switch {
	case c.ring.Len() == 0:
		return o, "noKey"
	case w.Signed == "":
		return o, "unsigned"
	case c.ledger.Damaged():
		return o, "ledger"
	}
	if _, known := c.a.client.Skew(); !known && !c.a.clockSane() {
		return o, "clock" // whether it has expired cannot be said
	}
	raw, err := signed.FromText(w.Signed)
	if err != nil {
		return o, "format"
	}
	o.envelope, err = c.ring.Open(raw, signed.Want{Purpose: command.Purpose, Device: c.a.device(), Now: c.a.now()})
	for _, x := range []struct {
		is   error
		word string
	}{
		{signed.ErrFormat, "format"},
		{signed.ErrSuite, "suite"},
		{signed.ErrKey, "unknownKey"},
		{signed.ErrSignature, "signature"},
		{signed.ErrPurpose, "purpose"},
		{signed.ErrDevice, "device"},
	} {
		if errors.Is(err, x.is) {
			return o, x.word
		}
	}
	o.expired = errors.Is(err, signed.ErrExpired)
	if err != nil && !o.expired {
		return o, "format"
	}
	// A key that was changed does not come back: it may have been changed
	// because it leaked.
	if _, last := c.ledger.Counter(); last != "" {
		for at := c.ring.Position(o.envelope.Key) + 1; at < c.ring.Len(); at++ {
			if c.ring.At(at).String() == last {
				return o, "retiredKey"
			}
		}
	}
	o.Command, err = command.Decode(o.envelope.Payload)
	switch {
	case errors.Is(err, command.ErrUnknown):
		o.refusal = "unknownCommand"
	case errors.Is(err, command.ErrArgs):
		o.refusal = "arguments"
	case err != nil, o.ID != w.ID:
		return o, "form"
	}
	sum := sha256.Sum256(raw)
	o.digest = hex.EncodeToString(sum[:])
	if c.ring.Has(o.envelope.Next) {
		c.a.alarms.clear(string(audit.CommandNextKey))
	} else {
		c.a.alarms.raise(string(audit.CommandNextKey))
	}
	return o, ""
}

// take carries out one command. It reports whether there is something to tell.
func (c *commander) take(ctx context.Context, o opened) bool {
	a := c.a
	e := command.Entry{ID: o.ID, Name: o.Name, Counter: o.envelope.Counter, Digest: o.digest, At: time.Now().UnixMilli()}
	var task Task
	out, change := a.commands.ledger.Out(), false
	switch {
	case o.expired:
		e.Result = command.Expired
	case o.refusal != "":
		e.Result, e.Reason = command.Refused, o.refusal
	case o.Name == command.KeyCheck:
		e.Result, e.Reason = command.Failed, "noKey"
		if a.keys != nil {
			if k, err := a.keys.Active(); err == nil {
				e.Result, e.Reason, e.KCV = command.OK, "", k.KCV()
			}
		}
	case o.Name == command.Disable:
		out, change, e.Result = &command.Out{ID: o.ID, Since: e.At, Reason: o.Args["reason"]}, true, command.OK
	case o.Name == command.Enable:
		out, change, e.Result = nil, true, command.OK
	case c.tasks[o.Name] == nil:
		e.Result, e.Reason = command.Refused, "notAvailable"
	default:
		task = c.tasks[o.Name]
	}
	// The commit point. Before it nothing has happened and the platform sends
	// the command again. After it the command is on record with its counter and
	// is never begun a second time; disable, enable and key check are over.
	err := a.writer.Do(ctx, func(tx *bbolt.Tx) error {
		if err := c.ledger.Take(tx, e, o.envelope.Key.String()); err != nil {
			return err
		}
		if change {
			if err := c.ledger.SetOut(tx, out); err != nil {
				return err
			}
		}
		return audit.Append(tx, time.Now(), c.event(e, o.Name), c.attrs(e))
	})
	switch {
	case errors.Is(err, command.ErrReplayed):
		c.refuse(ctx, o.ID, "replayed")
		return false
	case errors.Is(err, command.ErrBusy):
		return false // it comes again
	case err != nil:
		if ctx.Err() == nil {
			a.log.Error("command not taken", "cmdId", o.ID, "err", err)
		}
		return false
	}
	a.log.Info("command taken", "cmdId", e.ID, "cmd", e.Name, "result", e.Result, "reason", e.Reason)
	if change {
		a.refreshIdle()
	}
	if task != nil {
		r, reason := outcome(task(ctx, maps.Clone(o.Args)))
		// A cut before this commit leaves it begun: it is acknowledged as
		// interrupted.
		if err := c.finish(ctx, e, r, reason); err != nil {
			a.log.Error("end of a command not stored", "cmdId", e.ID, "err", err)
		}
	}
	return true
}

func outcome(err error) (command.Result, string) {
	if r, refused := errors.AsType[Refusal](err); refused {
		if len(r) == 0 || len(r) > 32 || strings.Trim(strings.ToLower(string(r)), "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			r = "refused" // the wire takes words only, and one bad word would hold up every heartbeat
		}
		return command.Refused, string(r)
	}
	switch {
	case err == nil:
		return command.OK, ""
	case errors.Is(err, context.DeadlineExceeded):
		return command.Failed, "timeout"
	case errors.Is(err, context.Canceled):
		return command.Failed, command.Interrupted
	}
	return command.Failed, "failed"
}

// finish stores the end of a command that was begun. What is known is stored
// even while the kiosk is being stopped.
func (c *commander) finish(ctx context.Context, e command.Entry, r command.Result, reason string) error {
	e.Result, e.Reason = r, reason
	err := c.a.writer.Do(context.WithoutCancel(ctx), func(tx *bbolt.Tx) error {
		if err := c.ledger.Finish(tx, e.ID, r, reason); err != nil {
			return err
		}
		if r == command.OK {
			return nil // that it was taken is on record
		}
		return audit.Append(tx, time.Now(), audit.CommandFailed, c.attrs(e))
	})
	if err == nil {
		c.a.log.Info("command ended", "cmdId", e.ID, "cmd", e.Name, "result", r, "reason", reason)
	}
	return err
}

func (c *commander) event(e command.Entry, n command.Name) audit.Event {
	switch {
	case e.Result != command.OK:
		return audit.CommandTaken
	case n == command.Disable:
		return audit.CommandDisable
	case n == command.Enable:
		return audit.CommandEnable
	}
	return audit.CommandTaken
}

func (c *commander) attrs(e command.Entry) map[string]string {
	return map[string]string{"cmdId": e.ID, "cmd": string(e.Name), "result": string(e.Result), "reason": e.Reason}
}

// refuse notes a command that did not verify. It is told and alarmed, and
// recorded once an hour for each reason.
func (c *commander) refuse(ctx context.Context, id, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ack := protocol.CommandAck{ID: id, Result: string(command.Refused), Reason: reason}
	if len(c.refused) < maxRefusals && !slices.ContainsFunc(c.refused, func(a protocol.CommandAck) bool { return a.ID == id }) {
		c.refused = append(c.refused, ack)
	}
	c.a.alarms.raise(string(audit.CommandRefused))
	if at, before := c.recorded[reason]; before && time.Since(at) < refusalQuiet {
		return
	}
	c.recorded[reason] = time.Now()
	c.a.log.Warn("command refused", "cmdId", id, "reason", reason)
	c.a.event(ctx, audit.CommandRefused, map[string]string{"cmdId": id, "reason": reason})
}

// PullNow asks for master data at once, as the command syncNow does; code is
// the interface that has news, empty for all. It is what a push or an SMS comes
// down to. Refusal("notAvailable"): nothing here pulls.
func (a *Agent) PullNow(ctx context.Context, code string) error {
	task := a.commands.tasks[command.SyncNow]
	if task == nil {
		return Refusal("notAvailable")
	}
	args := map[string]string{}
	if code != "" {
		args["code"] = code
	}
	return task(ctx, args)
}

// refreshIdle shows anew what a kiosk without a customer shows.
func (a *Agent) refreshIdle() {
	v := View{Stage: StageIdle}
	if n := a.blocked(); n != nil {
		v = View{Stage: StageOut, Note: n}
	}
	a.Screen.showIdle(v)
}
