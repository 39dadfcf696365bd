package simtest

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/agent"
	"vcckiosk/agent/audit"
	"vcckiosk/agent/registration"
	"vcckiosk/protocol"
	"vcckiosk/protocol/vcctest"
)

// give has the platform sign a command for kiosk A.
func give(w *World, o vcctest.Order) string {
	o.DeviceID = "QC000A"
	id, err := w.Platform.Command(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// commanded is what became of the commands of one run.
type commanded struct {
	effects  int
	kind     string
	once     int // commands that acted, each once
	never    int // begun and never acknowledged as done: interrupted
	acks     int // that arrived, repeats included
	heard    int // commands with a final word
	problems []string
}

// playCommands gives kiosk A one command of each kind, over two hours, with its
// power cut at one effect, and counts what each did.
func playCommands(t *testing.T, at cut, spoil func(vcctest.Call) vcctest.Action) (c commanded) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWorld(t, vcctest.Options{Good: true, Hook: spoil}, nil)
		defer w.Close()
		w.A.beat = 10 * time.Minute
		w.A.p.next = at
		w.A.On()
		want := map[string]string{} // id -> what must have happened
		order := func(cmd, result string, args map[string]string) {
			want[give(w, vcctest.Order{Cmd: cmd, Args: args, Life: 6 * time.Hour})] = cmd + " " + result
		}
		live := func(d time.Duration) {
			for range d / time.Minute {
				time.Sleep(time.Minute)
				w.A.revive()
			}
		}
		order("disable", "ok", map[string]string{"reason": "年检"})
		order("keyCheck", "ok", nil)
		order("syncNow", "ok", map[string]string{"code": "3003"})
		live(40 * time.Minute)
		order("uploadLog", "ok", nil)
		order("reconcile", "refused notAvailable", map[string]string{"day": "20261124"})
		order("enable", "ok", nil)
		order("selfDestruct", "refused unknownCommand", nil)
		want[give(w, vcctest.Order{Cmd: "disable", Life: time.Second})] = "disable expired" // before it can come
		live(80 * time.Minute)

		w.A.p.mu.Lock()
		c.effects = w.A.p.n
		if at.n > 0 && at.n <= len(w.A.p.seen) {
			c.kind = w.A.p.seen[at.n-1].kind
		}
		w.A.p.next = cut{}
		w.A.p.mu.Unlock()
		w.Platform.SetHook(nil)
		w.A.revive()
		live(time.Hour)

		problem := func(f string, args ...any) { c.problems = append(c.problems, fmt.Sprintf(f, args...)) }
		if left := w.Platform.Waiting("QC000A"); len(left) > 0 {
			problem("not acknowledged: %v", left)
		}
		words := map[string]map[string]bool{}
		for _, a := range w.Platform.Acks() {
			c.acks++
			if words[a.CmdID] == nil {
				words[a.CmdID] = map[string]bool{}
			}
			words[a.CmdID][strings.TrimSpace(a.Result+" "+a.Reason)] = true
			if want[a.CmdID] == "keyCheck ok" && a.KCV != w.A.Agent.Status().KCV {
				problem("check value %q", a.KCV)
			}
		}
		outs, ins := w.A.events(audit.CommandDisable), w.A.events(audit.CommandEnable)
		done := w.done()
		for id, what := range want {
			cmd, result, _ := strings.Cut(what, " ")
			got := slices.Collect(maps.Keys(words[id]))
			if len(got) != 1 {
				problem("%s %s has the words %v", id, cmd, got)
				continue
			}
			c.heard++
			acted := 0
			switch cmd {
			case "syncNow", "uploadLog":
				acted = done[cmd]
			case "disable":
				acted = outs[id]
			case "enable":
				acted = ins[id]
			case "keyCheck":
				acted = 1 // its word is all it does
			}
			switch {
			case got[0] == "failed interrupted" && (cmd == "syncNow" || cmd == "uploadLog"):
				// It may have acted before the power went; never twice.
				if acted > 1 {
					problem("%s %s was interrupted and acted %d times", id, cmd, acted)
				}
				c.never++
			case got[0] != result:
				problem("%s %s: %q, want %q", id, cmd, got[0], result)
			case result == "ok" && acted != 1:
				problem("%s %s is ok and acted %d times", id, cmd, acted)
			case result != "ok" && acted != 0:
				problem("%s %s is %s and acted %d times", id, cmd, result, acted)
			case result == "ok":
				c.once++
			}
		}
		if st := w.A.Agent.Status(); st.State != "serving" || st.Disabled != nil {
			problem("in the end the kiosk is %s, %+v", st.State, st.Disabled)
		}
	})
	return c
}

// TestCommandsCutAtEveryEffect cuts the power before and after every effect
// while commands are carried out: each acts once, or at most once and says that
// it was interrupted, and each is acknowledged with one and the same word.
func TestCommandsCutAtEveryEffect(t *testing.T) {
	t.Parallel()
	whole := playCommands(t, cut{}, nil)
	if len(whole.problems) > 0 || whole.once != 5 || whole.heard != 8 {
		t.Fatalf("without a cut: %+v", whole)
	}
	cuts, once, never, acks, kinds := 0, 0, 0, 0, map[string]int{}
	for i := range 2 * whole.effects {
		at := cut{1 + i/2, side(i % 2)}
		c := playCommands(t, at, nil)
		for _, p := range c.problems {
			t.Errorf("cut %v effect %d (%s): %s", at.at, at.n, c.kind, p)
		}
		cuts, once, never, acks = cuts+1, once+c.once, never+c.never, acks+c.acks
		kinds[strings.Fields(c.kind)[0]]++
	}
	fmt.Printf("commands: cuts=%d (%d at commits, %d at calls, %d at tasks) commands=%d once=%d interrupted=%d twice=0 acks=%d\n",
		cuts, kinds["commit"], kinds["http"], kinds["task"], 8*cuts, once, never, acks)
	// Four places lie between the two commits of a task: behind the first, on
	// both sides of the task itself, before the second. Two tasks are given.
	if never != 8 || once+never != 5*cuts {
		t.Errorf("%d interrupted, %d done, of %d", never, once, 5*cuts)
	}
}

// TestCommandsOverLostAnswers: the answer that brings commands, or takes their
// acknowledgement, is lost again and again.
func TestCommandsOverLostAnswers(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]vcctest.Action{
		"answer lost": {DropAnswer: true}, "request lost": {DropRequest: true}, "{}": {Status: 200, Body: "{}"}, "HTML": {Status: 200, Body: "<html>"}, "wrong sign": {WrongSign: true},
	} {
		c := playCommands(t, cut{}, func(c vcctest.Call) vcctest.Action {
			if c.Code == "6004" && c.N%3 != 0 {
				return a
			}
			return vcctest.Action{}
		})
		if len(c.problems) > 0 || c.once != 5 {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// TestDisableLetsTheCustomerFinish: the order chosen is loaded, the next card
// is refused, a torn card is still mended, and enable serves again.
func TestDisableLetsTheCustomerFinish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := NewWorld(t, good, nil)
		defer w.Close()
		w.A.beat = 10 * time.Second
		w.A.On()
		first, next, torn := w.AddPurse(1), w.AddPurse(2), w.AddPurse(3)
		w.Pay(first, "O1", 5000)
		w.Pay(next, "O2", 5000)
		w.Pay(torn, "O3", 5000)
		torn.Arm(tornPurse(1))
		w.A.Visit(torn, Visit{})
		w.A.Visit(first, Visit{AtList: func() {
			give(w, vcctest.Order{Cmd: "disable", Args: map[string]string{"reason": "检修"}})
			time.Sleep(30 * time.Second)
			if st := w.A.Agent.Status(); st.State != "disabled" || st.Disabled == nil || st.Disabled.Reason != "检修" {
				t.Errorf("status %+v", st)
			}
		}})
		if n := len(first.Purse.Loads()); n != 1 {
			t.Errorf("the customer who stood there has %d loads", n)
		}
		if v := w.A.Agent.Screen.View(); v.Stage != agent.StageOut || v.Note == nil || v.Note.Code != "disabled" || v.Note.ZH == "" {
			t.Errorf("the screen shows %+v", v)
		}
		if v := w.A.Visit(next, Visit{}); v.Note == nil || v.Note.Code != "disabled" || len(next.Purse.Loads()) != 0 {
			t.Errorf("the next customer sees %+v", v.Note)
		}
		w.A.Reboot()
		w.A.Visit(torn, Visit{})
		time.Sleep(time.Minute)
		if len(w.A.records()) != 0 {
			t.Errorf("open records: %+v", w.A.records())
		}
		if w.A.Agent.Status().State != "disabled" {
			t.Error("the command is forgotten by a restart")
		}
		give(w, vcctest.Order{Cmd: "enable"})
		time.Sleep(time.Minute)
		if v := w.A.Agent.Screen.View(); v.Stage != agent.StageIdle {
			t.Errorf("the screen shows %+v", v)
		}
		w.A.Visit(next, Visit{})
		if len(next.Purse.Loads()) != 1 {
			t.Error("not served after enable")
		}
	})
}

// TestHostileCommands: what is not signed by the right key for this kiosk, now,
// does nothing, is told in a word, and costs no more writes than one an hour.
func TestHostileCommands(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := NewWorld(t, good, nil)
		defer w.Close()
		w.A.beat = 10 * time.Minute
		w.A.On()
		time.Sleep(11 * time.Minute)
		want := map[string]string{}
		bad := func(reason string, o vcctest.Order) {
			o.ID, o.Cmd = "X"+reason, "disable"
			want[give(w, o)] = "refused " + reason
		}
		bad("unsigned", vcctest.Order{Edit: func(string) string { return "" }})
		bad("format", vcctest.Order{Edit: func(s string) string { return s[:len(s)/2] }})
		bad("signature", vcctest.Order{Edit: func(s string) string { return s[:len(s)-8] + "AAAAAAAA" }})
		bad("unknownKey", vcctest.Order{Key: strangerKey})
		bad("purpose", vcctest.Order{Purpose: "bundle"})
		bad("device", vcctest.Order{For: "QC000B"})
		// The envelope names another command than the one it lies beside.
		want["Xform"] = "refused form"
		inner := ""
		want[give(w, vcctest.Order{ID: "inner", Cmd: "disable", Edit: func(s string) string { inner = s; return "" }})] = "refused unsigned"
		w.Platform.QueueCommand("QC000A", "Xform", inner)
		want["Xpadded"] = "refused format"
		w.Platform.QueueCommand("QC000A", "Xpadded", "VktFMQ==")
		time.Sleep(30 * time.Minute)
		// A genuine one, and then the same again under a counter that was used.
		genuine := give(w, vcctest.Order{Cmd: "keyCheck"})
		want[genuine] = "ok"
		want[give(w, vcctest.Order{Cmd: "reload"})] = "refused refused"
		time.Sleep(30 * time.Minute)
		want[give(w, vcctest.Order{ID: "Xreplayed", Cmd: "disable", Counter: 1})] = "refused replayed"
		time.Sleep(30 * time.Minute)
		from := w.A.count().commits
		for range 12 { // two hours of rubbish
			give(w, vcctest.Order{Cmd: "disable", Key: strangerKey})
			time.Sleep(10 * time.Minute)
		}
		if n := w.A.count().commits - from; n > 4 {
			t.Errorf("%d commits in two hours for commands that verify nowhere", n)
		}
		if st := w.A.Agent.Status(); st.State != "serving" || st.Disabled != nil {
			t.Errorf("status %+v", st)
		}
		got := map[string]string{}
		for _, a := range w.Platform.Acks() {
			got[a.CmdID] = strings.TrimSpace(a.Result + " " + a.Reason)
		}
		for id, word := range want {
			if got[id] != word {
				t.Errorf("%s: %q, want %q", id, got[id], word)
			}
		}
		if n := len(w.A.events(audit.CommandDisable)); n != 0 {
			t.Errorf("%d of them acted", n)
		}
		time.Sleep(time.Hour)
		if st := w.A.Agent.Status(); slices.Contains(st.Alarms, string(audit.CommandRefused)) {
			t.Errorf("the alarm stands for ever: %v", st.Alarms)
		}
	})
}

// TestRegistrationCutAtEveryEffect: a kiosk gets its name and its key from the
// platform, with its power cut before and after every effect.
func TestRegistrationCutAtEveryEffect(t *testing.T) {
	t.Parallel()
	play := func(at cut) (effects int, kind string, problems []string) {
		synctest.Test(t, func(t *testing.T) {
			problem := func(f string, args ...any) { problems = append(problems, fmt.Sprintf(f, args...)) }
			w := NewWorld(t, vcctest.Options{Good: true, EnterpriseKey: "ENTERPRISE", GiveKeys: true}, nil)
			defer w.Close()
			w.A.register = &agent.Registering{
				Request: protocol.RegisterRequest{DeviceSN: "SN1", Model: "QC-3", CardTypes: []string{"CPU"}},
				Key:     func() ([]byte, error) { return []byte("ENTERPRISE"), nil },
			}
			w.A.p.next = at
			w.A.On()
			for range 180 {
				time.Sleep(time.Minute)
				w.A.revive()
			}
			w.A.p.mu.Lock()
			effects = w.A.p.n
			if at.n > 0 && at.n <= len(w.A.p.seen) {
				kind = w.A.p.seen[at.n-1].kind
			}
			w.A.p.next = cut{}
			w.A.p.mu.Unlock()
			w.A.revive()
			st := w.A.Agent.Status()
			if st.Registration == nil || st.Registration.State != registration.Registered || st.Device != "QCSN1" || st.Registration.Reason != nil {
				problem("registration %+v, device %q", st.Registration, st.Device)
			}
			if st.Key != "active" || st.KeyGen != 2 || st.State != "serving" {
				problem("state %s, key %s of generation %d", st.State, st.Key, st.KeyGen)
			}
			if rs := w.Platform.Registrations(); len(rs) != 1 {
				problem("the platform has %d kiosks", len(rs))
			}
			c := w.AddPurse(1)
			w.Pay(c, "O1", 5000)
			w.A.Visit(c, Visit{})
			time.Sleep(time.Hour)
			if o, _ := w.Platform.Order("O1"); o.State != vcctest.StateSettled {
				problem("an order afterwards is %s", o.State)
			}
		})
		return effects, kind, problems
	}
	effects, _, problems := play(cut{})
	if len(problems) > 0 || effects < 8 {
		t.Fatalf("without a cut: %d effects, %v", effects, problems)
	}
	cuts, at6001 := 0, 0
	for i := range 2 * min(effects, 24) {
		at := cut{1 + i/2, side(i % 2)}
		_, kind, problems := play(at)
		for _, p := range problems {
			t.Errorf("cut %v effect %d (%s): %s", at.at, at.n, kind, p)
		}
		cuts++
		if strings.Contains(kind, "/device/register") {
			at6001++
		}
	}
	fmt.Printf("registration: cuts=%d, %d at 6001, each kiosk registered once with its key in use\n", cuts, at6001)
	if at6001 == 0 {
		t.Error("never cut at 6001")
	}
}

// TestRegistrationByCode: a technician's code, wrong first; what is refused is
// told with what to do.
func TestRegistrationByCode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := NewWorld(t, vcctest.Options{Good: true, Serials: []string{"SN1"}}, nil)
		defer w.Close()
		w.Platform.AddCode("31415926")
		w.A.register = &agent.Registering{Request: protocol.RegisterRequest{DeviceSN: "SN1"}}
		w.A.On()
		time.Sleep(2 * time.Hour)
		if st := w.A.Agent.Status(); st.State != "notRegistered" || st.Registration.State != registration.None {
			t.Errorf("before: %s %+v", st.State, st.Registration)
		}
		if w.Platform.Calls()["6004"] != 0 || w.Platform.Calls()["6001"] != 0 {
			t.Errorf("a nameless kiosk called: %v", w.Platform.Calls())
		}
		try := func(code string) *agent.RegistrationStatus {
			b := []byte(code)
			st, _ := w.A.Agent.Registrar.Register(t.Context(), b, "technician")
			if strings.Trim(string(b), "\x00") != "" {
				t.Errorf("the code is not cleared: %q", b)
			}
			return st
		}
		if st := try(""); st.State != registration.Refused || st.Reason.Code != registration.NoCredential {
			t.Errorf("with nothing: %+v", st)
		}
		if st := try("00000000"); st.State != registration.Refused || st.Reason.Code != "20002" || st.Reason.ZH == "" || st.Reason.Next == "" {
			t.Errorf("with a wrong code: %+v", st)
		}
		w.A.Reboot()
		time.Sleep(time.Minute)
		if st := w.A.Agent.Status(); st.Registration.State != registration.Refused || st.Registration.Reason.Code != "20002" {
			t.Errorf("after a restart: %+v", st.Registration)
		}
		w.A.offline.Store(true)
		if st := try("31415926"); st.State != registration.Refused {
			t.Errorf("offline: %+v", st)
		}
		w.A.offline.Store(false)
		if st := try("31415926"); st.State != registration.Registered || st.DeviceID != "QCSN1" {
			t.Errorf("with the code: %+v", st)
		}
		calls := w.Platform.Calls()["6001"]
		if st := try("31415926"); st.State != registration.Registered || w.Platform.Calls()["6001"] != calls {
			t.Errorf("asked again: %+v", st)
		}
		w.A.Reboot()
		time.Sleep(2 * time.Hour)
		st := w.A.Agent.Status()
		if st.State != "serving" || st.Device != "QCSN1" || len(st.Alarms) != 0 {
			t.Errorf("in the end: %s %s %v", st.State, st.Device, st.Alarms)
		}
		// The token that came with it is kept, sealed.
		rec, err := registration.Load(w.A.db.View, "SN1")
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := w.A.keys.Open("register", []byte("QCSN1"), rec.Token); err != nil || !strings.HasPrefix(string(plain), "reg") || bytes.Contains(rec.Token, plain) {
			t.Errorf("register token: %v", err)
		}
		if _, beats := w.Platform.LastHeartbeat("QCSN1"); !beats {
			t.Error("no heartbeat under the new name")
		}
		if _, err := w.B.agentOn().Registrar.Register(t.Context(), nil, "technician"); err == nil {
			t.Error("a kiosk with a configured name registers")
		}
	})
}

// TestClockIsAskedFor: 6005 is asked when no answer has a date, and at once by a
// kiosk whose clock cannot be right; until it is known no command is taken.
func TestClockIsAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := NewWorld(t, vcctest.Options{Good: true, NoDate: true}, nil)
		defer w.Close()
		w.Platform.SetHook(func(c vcctest.Call) vcctest.Action {
			if c.Code == "6005" {
				return vcctest.Action{Code: "10001"}
			}
			return vcctest.Action{}
		})
		w.A.beat, w.A.built = 10*time.Minute, time.Now().AddDate(1, 0, 0) // the battery is empty
		w.A.On()
		time.Sleep(time.Second)
		if n := w.Platform.Calls()["6005"]; n != 1 {
			t.Errorf("6005 was asked %d times in the first second", n)
		}
		id := give(w, vcctest.Order{Cmd: "keyCheck", Life: 24 * time.Hour})
		word := func() (last string) {
			for _, a := range w.Platform.Acks() {
				if a.CmdID == id {
					last = strings.TrimSpace(a.Result + " " + a.Reason)
				}
			}
			return last
		}
		time.Sleep(30 * time.Minute)
		if word() != "refused clock" {
			t.Errorf("without any time: %q", word())
		}
		w.Platform.SetHook(nil)
		id = give(w, vcctest.Order{Cmd: "keyCheck", Life: 24 * time.Hour})
		time.Sleep(30 * time.Minute)
		if word() != "ok" {
			t.Errorf("with the platform's time: %q", word())
		}
		if st := w.A.Agent.Status(); st.State != "clock" || st.SkewMS != 0 && st.SkewMS < -1000 {
			t.Errorf("state %s, skew %d ms", st.State, st.SkewMS)
		}
		// A kiosk with a good clock asks once, and only because no answer has a date.
		w.B.beat = 10 * time.Minute
		before := w.Platform.Calls()["6005"]
		w.A.Off()
		w.B.On()
		time.Sleep(2 * time.Hour)
		if n := w.Platform.Calls()["6005"] - before; n != 1 {
			t.Errorf("a kiosk with a good clock asked %d times", n)
		}
	})
}

// TestCommandKeyChanges: the next key is announced, configured, used; from then
// on the old one is refused, over restarts, and it may leave the configuration.
func TestCommandKeyChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := NewWorld(t, good, nil)
		defer w.Close()
		next := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, ed25519.SeedSize))
		announced, _ := next.Public().(ed25519.PublicKey)
		w.A.beat = 10 * time.Minute
		w.A.On()
		alarmed := func() bool { return slices.Contains(w.A.Agent.Status().Alarms, string(audit.CommandNextKey)) }
		word := func(o vcctest.Order) string {
			o.Cmd = "keyCheck"
			id := give(w, o)
			time.Sleep(30 * time.Minute)
			said := ""
			for _, a := range w.Platform.Acks() {
				if a.CmdID == id {
					said = strings.TrimSpace(a.Result + " " + a.Reason)
				}
			}
			return said
		}
		say := func(what, got, want string) {
			t.Helper()
			if got != want {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		say("the present key, which announces the next", word(vcctest.Order{Next: announced}), "ok")
		if !alarmed() {
			t.Error("nobody hears that the next key is not configured")
		}
		say("the next key before it is configured", word(vcctest.Order{Key: next}), "refused unknownKey")
		w.A.signers = []ed25519.PrivateKey{commandKey, next}
		w.A.Reboot()
		say("the present key beside the next", word(vcctest.Order{Next: announced}), "ok")
		if alarmed() {
			t.Error("the alarm stands although the key is configured")
		}
		say("the next key", word(vcctest.Order{Key: next}), "ok")
		say("the old key afterwards", word(vcctest.Order{}), "refused retiredKey")
		w.A.Reboot()
		say("the old key after a restart", word(vcctest.Order{}), "refused retiredKey")
		w.A.signers = []ed25519.PrivateKey{next}
		w.A.Reboot()
		say("the next key alone", word(vcctest.Order{Key: next}), "ok")
		w.A.signers = []ed25519.PrivateKey{next, strangerKey} // the one after it
		w.A.Reboot()
		say("the next key as the present one", word(vcctest.Order{Key: next}), "ok")
		say("the one after it", word(vcctest.Order{Key: strangerKey}), "ok")
	})
}

// TestNoKeyNoCommand: a kiosk without a key for commands refuses the best signed
// ones, and says so.
func TestNoKeyNoCommand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := NewWorld(t, good, nil)
		defer w.Close()
		w.A.signers, w.A.beat = []ed25519.PrivateKey{}, 10*time.Minute
		w.A.On()
		id := give(w, vcctest.Order{Cmd: "disable"})
		time.Sleep(time.Hour)
		acks := w.Platform.Acks()
		if len(acks) == 0 || acks[0].CmdID != id || acks[0].Result != "refused" || acks[0].Reason != "noKey" || w.A.Agent.Status().Disabled != nil {
			t.Errorf("told %+v, %+v", acks, w.A.Agent.Status().Disabled)
		}
	})
}
