//go:build rig

package rigtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vcckiosk/agent/localapi"
	"vcckiosk/protocol/vcctest"
)

// TestInstalled lives inside a booted system of its own (deploy/nspawn): it
// installs the package, provisions and serves cards there, kills and hangs the
// service, upgrades it under load, and purges it. RIG_DEBS is the folder with
// the package in two versions; without it this is not that system.
func TestInstalled(t *testing.T) {
	debs := os.Getenv("RIG_DEBS")
	if debs == "" {
		t.Skip("needs a system of its own: run by make nspawn")
	}
	first, second := only(t, filepath.Join(debs, "v1", "*.deb")), only(t, filepath.Join(debs, "v2", "*.deb"))
	dir := t.TempDir()
	r := &rig{dir: dir, platform: newPlatform(t, dir)}

	t.Cleanup(func() {
		if t.Failed() {
			t.Log(quietly("journalctl", "-u", "kioskd", "-n", "80", "--no-pager"))
			t.Log(quietly("systemctl", "status", "kioskd", "pcscd", "--no-pager"))
		}
	})
	system(t, "dpkg", "-i", first)
	if out := quietly("systemctl", "is-enabled", "kioskd"); out != "enabled" {
		t.Errorf("after installation the unit is %q", out)
	}
	l := vcctest.DefaultLayout()
	must(t, os.WriteFile("/etc/kioskd/kioskd.toml", fmt.Appendf(nil, `[device]
id = "QC0001"
org_code = "SU0105"
terminal_no = "112233445566"
[api]
base_url = "http://%s/vcc-openapi"
[auth]
app_id = "APP1"
[reader]
driver = "pcsc"
[card.purse]
[card.memory]
card_no = [%d, %d]
count = [%d, %d]
gas = [%d, %d]
`, r.platform.addr, cardNo.Offset, cardNo.Len, l.Count.Offset, l.Count.Len, l.Gas.Offset, l.Gas.Len), 0o640))
	system(t, "chgrp", "kioskd", "/etc/kioskd/kioskd.toml")
	// The shipped limit is for a kiosk; here nobody wants to wait for it.
	must(t, os.MkdirAll("/etc/systemd/system/kioskd.service.d", 0o755),
		os.WriteFile("/etc/systemd/system/kioskd.service.d/test.conf", []byte("[Service]\nWatchdogSec=4s\nRestartSec=200ms\n"), 0o644))
	system(t, "systemctl", "daemon-reload")
	system(t, "systemctl", "start", "kioskd")

	k := &kiosk{
		name: "installed", pcscd: &pcscd{card: "127.0.0.1:35963"}, line: newLine(t, r.platform.addr),
		operator: localapi.Dial("/run/kioskd/operator.sock"), tech: localapi.Dial("/run/kioskd/technician.sock"),
	}
	r.kiosks = []*kiosk{k}
	await(t, "status", func() error { _, err := k.status(t.Context()); return err })
	if text := property("StatusText"); text == "" {
		t.Error("the service tells systemd no status")
	}
	k.provision(t)
	k.serving(t)
	cards := []*card{newPurse(1, false), newPurse(2, true), newImage(1)}
	for _, c := range cards {
		must(t, r.platform.post("/sim/cards", c.book()))
	}
	buy := func(c *card) string {
		t.Helper()
		c.home()
		if n, err := r.open(c); err != nil || n == 0 {
			must(t, err)
			_, err := r.sell(c)
			must(t, err)
		}
		v, _, err := k.visit(t.Context(), c, 20*time.Second)
		if err != nil || v.Note == nil {
			return fmt.Sprint(err)
		}
		return v.Note.Code
	}
	for _, c := range cards {
		if got := buy(c); got != "written" {
			t.Fatalf("first top-up of card %s: %s", c.no, got)
		}
	}
	fmt.Println("installed, provisioned, all kinds of card served")

	kills := 0
	for i := range 12 {
		c := cards[i%len(cards)]
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(time.Duration(200+rand.IntN(600)) * time.Millisecond)
			kills++
			_ = quietly("systemctl", "kill", "-s", "KILL", "kioskd")
		})
		buy(c)
		wg.Wait()
		k.serving(t)
	}
	fmt.Printf("killed %d times, NRestarts=%s\n", kills, property("NRestarts"))

	before := property("NRestarts")
	pid, err := strconv.Atoi(property("MainPID"))
	must(t, err, syscall.Kill(pid, syscall.SIGSTOP))
	from := time.Now()
	await(t, "watchdog", func() error {
		if property("NRestarts") == before {
			return fmt.Errorf("hung for %v and not restarted", time.Since(from))
		}
		return nil
	})
	k.serving(t)
	fmt.Printf("hung: serving again after %d ms with WatchdogSec=4s\n", time.Since(from).Milliseconds())
	if got := buy(cards[0]); got == "" {
		t.Error("no answer after a hang")
	}

	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		for ctx.Err() == nil {
			buy(cards[0])
		}
	})
	time.Sleep(time.Second)
	system(t, "dpkg", "-i", second)
	time.Sleep(2 * time.Second)
	cancel()
	wg.Wait()
	k.serving(t)
	fmt.Printf("upgraded under load to %s\n", quietly("dpkg-query", "-W", "-f", "${Version}", "vcckiosk"))

	for range 3 {
		for _, c := range cards {
			c.disarm()
			if n, err := r.open(c); err == nil && n > 0 {
				buy(c)
			}
		}
	}
	await(t, "outbox is to drain", func() error {
		st, err := k.status(t.Context())
		if err == nil && st.Outbox.Depth > 0 {
			err = fmt.Errorf("%d messages wait", st.Outbox.Depth)
		}
		return err
	})
	system(t, "systemctl", "restart", "kioskd") // an orderly end writes the last acknowledgements
	k.serving(t)
	lost, double, stuck := r.verdict(t, cards)
	fmt.Printf("installed system: kills=%d hangs=1 upgrades=1 lost=%d double=%d stuck=%d\n", kills, len(lost), len(double), len(stuck))
	for _, s := range [][]string{lost, double, stuck} {
		for _, line := range s {
			t.Error(line)
		}
	}

	system(t, "dpkg", "--purge", "vcckiosk")
	if _, err := os.Stat("/var/lib/kioskd/agent.db"); err != nil {
		t.Errorf("purging took the records away: %v", err)
	}
	if out := quietly("systemctl", "is-active", "kioskd"); out == "active" {
		t.Error("the service runs after it was purged")
	}
	fmt.Println("purged; the records stay")
}

func only(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	must(t, err)
	if len(found) != 1 {
		t.Fatalf("%s: %d files", pattern, len(found))
	}
	return found[0]
}

func system(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func quietly(name string, args ...string) string {
	out, _ := exec.Command(name, args...).CombinedOutput()
	return strings.TrimSpace(string(out))
}

func property(name string) string {
	v := quietly("systemctl", "show", "kioskd", "-P", name)
	if s, err := strconv.Unquote(v); err == nil {
		return s
	}
	return v
}
