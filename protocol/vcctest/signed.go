package vcctest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"time"
)

// envelope writes a signed envelope, from the page of its format and by its own
// code.
func envelope(key ed25519.PrivateKey, purpose, device string, counter uint64, expires time.Time, next ed25519.PublicKey, payload []byte) string {
	out := []byte("VKE1\x01")
	for _, s := range []string{purpose, device} {
		out = append(append(out, byte(len(s))), s...)
	}
	var n [8]byte
	for _, v := range []uint64{counter, uint64(expires.Unix())} {
		binary.BigEndian.PutUint64(n[:], v)
		out = append(out, n[:]...)
	}
	public, _ := key.Public().(ed25519.PublicKey)
	out = append(out, keyID(public)...)
	if next == nil {
		out = append(out, make([]byte, 8)...)
	} else {
		out = append(out, keyID(next)...)
	}
	binary.BigEndian.PutUint32(n[:4], uint32(len(payload)))
	out = append(append(out, n[:4]...), payload...)
	sig := ed25519.Sign(key, append([]byte("vcckiosk/"+purpose+"/1\x00"), out...))
	return base64.RawURLEncoding.EncodeToString(append(out, sig...))
}

func keyID(public ed25519.PublicKey) []byte {
	sum := sha256.Sum256(append([]byte("vcckiosk/key/1\x00\x01"), public...))
	return sum[:8]
}

// Order is a command to one kiosk.
type Order struct {
	DeviceID string
	ID       string // cmdId; empty: the platform makes one
	Cmd      string
	Args     map[string]string
	Life     time.Duration // until it expires; 0 means an hour
	// The rest is for tests of what a kiosk must refuse.
	Counter uint64              // 0: the next of this device
	Key     ed25519.PrivateKey  // nil: Options.CommandKey, or the next one after RollCommandKey
	Next    ed25519.PublicKey   // announced beside it
	Purpose string              // "" means command
	For     string              // device id in the envelope; "" means DeviceID
	Edit    func(string) string // changes the envelope's text
}

// Ack is one acknowledgement of a command as a heartbeat brought it.
type Ack struct {
	DeviceID string    `json:"deviceId"`
	CmdID    string    `json:"cmdId"`
	Result   string    `json:"result"`
	Reason   string    `json:"reason,omitempty"`
	KCV      string    `json:"kcv,omitempty"`
	At       time.Time `json:"at"`
}

// queued is a command that waits for its acknowledgement.
type queued struct{ id, signed string }

// commands are the platform's side of 6004 besides the state told.
type commands struct {
	counters map[string]uint64
	queues   map[string][]queued
	acks     []Ack
	n        int
}

// Command signs a command and gives it out with every heartbeat of the kiosk
// until it is acknowledged. It returns the command's id.
func (p *Platform) Command(o Order) (string, error) {
	defer p.open()()
	c := &p.commands
	if !nameForm.MatchString(o.DeviceID) || o.Cmd == "" {
		return "", errors.New("command: device or command missing")
	}
	if o.Key == nil {
		o.Key = p.b.o.CommandKey
	}
	if o.Key == nil {
		return "", errors.New("command: the platform has no key for commands")
	}
	if o.ID == "" {
		c.n++
		o.ID = "C" + itoa(int64(c.n))
	}
	if o.Counter == 0 {
		c.counters[o.DeviceID]++
		o.Counter = c.counters[o.DeviceID]
	}
	c.counters[o.DeviceID] = max(c.counters[o.DeviceID], o.Counter)
	if o.Life == 0 {
		o.Life = time.Hour
	}
	if o.Purpose == "" {
		o.Purpose = "command"
	}
	if o.For == "" {
		o.For = o.DeviceID
	}
	payload, err := json.Marshal(struct {
		ID   string            `json:"cmdId"`
		Cmd  string            `json:"cmd"`
		Args map[string]string `json:"args,omitempty"`
	}{o.ID, o.Cmd, o.Args})
	if err != nil {
		return "", err
	}
	text := envelope(o.Key, o.Purpose, o.For, o.Counter, p.b.now.Add(o.Life), o.Next, payload)
	if o.Edit != nil {
		text = o.Edit(text)
	}
	c.queues[o.DeviceID] = append(c.queues[o.DeviceID], queued{o.ID, text})
	return o.ID, nil
}

// QueueCommand gives out what is no command of ours: an id and any text in
// place of an envelope, none at all when it is empty.
func (p *Platform) QueueCommand(deviceID, id, signed string) {
	defer p.open()()
	p.commands.queues[deviceID] = append(p.commands.queues[deviceID], queued{id, signed})
}

// Acks are all acknowledgements that arrived, repeats included, in order.
func (p *Platform) Acks() []Ack {
	defer p.open()()
	return slices.Clone(p.commands.acks)
}

// Waiting are the ids of a kiosk's commands that are not acknowledged yet.
func (p *Platform) Waiting(deviceID string) (ids []string) {
	defer p.open()()
	for _, q := range p.commands.queues[deviceID] {
		ids = append(ids, q.id)
	}
	return ids
}

// acknowledge takes a heartbeat's acks.
func (c *commands) acknowledge(deviceID string, acks []Ack, now time.Time) {
	for _, a := range acks {
		a.DeviceID, a.At = deviceID, now
		c.acks = append(c.acks, a)
		c.queues[deviceID] = slices.DeleteFunc(c.queues[deviceID], func(q queued) bool { return q.id == a.CmdID })
	}
}

// give is what a heartbeat is answered with, at most 32.
func (c *commands) give(deviceID string) []map[string]string {
	out := []map[string]string{}
	for _, q := range c.queues[deviceID] {
		if len(out) == 32 {
			break
		}
		m := map[string]string{"cmdId": q.id}
		if q.signed != "" {
			m["signed"] = q.signed
		}
		out = append(out, m)
	}
	return out
}

// CommandKeyHex is a public key as a kiosk's configuration has it.
func CommandKeyHex(key ed25519.PrivateKey) string {
	public, _ := key.Public().(ed25519.PublicKey)
	return hex.EncodeToString(public)
}
