//go:build sim

package main

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"vcckiosk/agent/localapi"
	"vcckiosk/agent/mirror"
)

// TestAMirrorIsThereWhenWantedAndGoneWhenNot: its file is private, a damaged one
// is replaced and keeps nobody from starting, and none is left when it is off.
func TestAMirrorIsThereWhenWantedAndGoneWhenNot(t *testing.T) {
	t.Parallel()
	k := newKiosk(t)
	file := filepath.Join(k.state, "mirror.db")
	client := localapi.Dial(filepath.Join(k.run, "technician.sock"))
	k.configure(processConfig + "[mirror]\nenabled = true\ntables = [\"3003\"]\n")
	st, up := k.start()
	if !up || st.Mirror == nil || len(st.Mirror.Tables) != 1 || st.Mirror.Tables[0].Code != "3003" || st.Mirror.State != mirror.Empty {
		t.Fatalf("%+v %s", st.Mirror, &k.stderr)
	}
	settled := func(ok func(mirror.Status) bool) (st mirror.Status) {
		for {
			if err := client.Get(t.Context(), "/v1/mirror", &st); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(file); err == nil && ok(st) {
				return st
			}
			select {
			case <-t.Context().Done():
				t.Fatalf("%+v", st)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	settled(func(mirror.Status) bool { return true })
	if s, err := os.Stat(file); err != nil || s.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", s, err)
	}
	k.stop()
	k.write(file, []byte("nonsense"), 0o600)
	if st, up := k.start(); !up || st.State == "storage" {
		t.Fatalf("a damaged mirror keeps the kiosk from serving: %+v %s", st, &k.stderr)
	}
	settled(func(st mirror.Status) bool { return st.Dropped != nil && st.Fault == "" })
	k.stop()
	k.configure(processConfig)
	if st, up := k.start(); !up || st.Mirror != nil {
		t.Fatalf("%+v %s", st.Mirror, &k.stderr)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the mirror is off and its file is there: %v", err)
	}
	var problem *localapi.Problem
	if err := client.Get(t.Context(), "/v1/mirror", nil); !errors.As(err, &problem) || problem.Status != http.StatusServiceUnavailable {
		t.Errorf("%v", err)
	}
	k.stop()
}
