package simtest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"maps"

	"go.etcd.io/bbolt"

	"vcckiosk/agent"
	"vcckiosk/agent/audit"
	"vcckiosk/agent/command"
	"vcckiosk/protocol/signed"
)

// commandKey signs the back office's commands.
var commandKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

// strangerKey is nobody this kiosk knows.
var strangerKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize))

func (k *Kiosk) commandKeys() signed.Ring {
	signers := k.signers
	if signers == nil {
		signers = []ed25519.PrivateKey{commandKey}
	}
	if len(signers) == 0 {
		return signed.Ring{}
	}
	var keys []ed25519.PublicKey
	for _, s := range signers {
		public, _ := s.Public().(ed25519.PublicKey)
		keys = append(keys, public)
	}
	r, err := signed.NewRing(keys...)
	if err != nil {
		panic(err) // a fixed key
	}
	return r
}

// taskList is what this kiosk can do on command. Each is an effect on the
// world, so that the power can go before and after it.
func (k *Kiosk) taskList() map[command.Name]agent.Task {
	if k.Mirror != nil || k.w.files != nil { // the agent's own
		return nil
	}
	task := func(name string) agent.Task {
		return func(context.Context, map[string]string) error {
			id, err := k.p.begin("task " + name)
			if err != nil {
				return err
			}
			k.w.mu.Lock()
			k.w.tasks[name]++
			k.w.mu.Unlock()
			return k.p.end(id)
		}
	}
	return map[command.Name]agent.Task{command.SyncNow: task("syncNow"), command.UploadLog: task("uploadLog"), command.Reload: func(context.Context, map[string]string) error {
		return agent.Refusal("no word\n") // a task with a loose tongue
	}}
}

// done is how often each task was carried out.
func (w *World) done() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.tasks)
}

// events counts the audit log's entries of an event, by cmdId.
func (k *Kiosk) events(e audit.Event) map[string]int {
	out := map[string]int{}
	err := k.db.View(func(tx *bbolt.Tx) error {
		list, err := audit.List(tx, 1000)
		for _, x := range list {
			if x.Event == e {
				out[x.Attrs["cmdId"]]++
			}
		}
		return err
	})
	if err != nil {
		k.w.t.Errorf("kiosk %s: %v", k.name, err)
	}
	return out
}

// agentOn is the agent of a kiosk that is switched on if it was not.
func (k *Kiosk) agentOn() *agent.Agent {
	if k.done == nil {
		k.On()
	}
	return k.Agent
}
