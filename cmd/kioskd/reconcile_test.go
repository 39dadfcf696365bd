package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vcckiosk/protocol/reconcile/sftp"
)

const reconTable = `[reconcile]
host = "sftp.platform.example"
user = "kiosk"
key_file = "/etc/kioskd/recon.key"
known_hosts = "/etc/kioskd/known_hosts"
`

func TestReconcileIsOffWithoutItsTable(t *testing.T) {
	t.Parallel()
	c, err := parseConfig("k.toml", []byte(goodConfig))
	if err != nil || c.Reconcile != nil || reconConfig(c) != nil {
		t.Errorf("%+v, %v", c.Reconcile, err)
	}
	c, err = parseConfig("k.toml", []byte(goodConfig+reconTable))
	if err != nil {
		t.Fatal(err)
	}
	r := reconConfig(c)
	if r.Dir != "/var/lib/kioskd/recon" || r.Folder != "/recon/{orgCode}/{yyyyMMdd}" || r.From != time.Hour || r.To != 3*time.Hour ||
		r.QuietFrom != 23*time.Hour+30*time.Minute || r.QuietTo != 30*time.Minute || r.AnswerAfter != 4*time.Hour || r.NoSum {
		t.Errorf("defaults: %+v", r)
	}
	if got := c.Reconcile.server().c.Address; got != "sftp.platform.example:22" {
		t.Errorf("address %s", got)
	}
}

func TestReconcileConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, old, with, want string }{
		{"unknown key", `user =`, `usr =`, "reconcile.usr"},
		{"no host", `host = "sftp.platform.example"`, ``, "reconcile.host: missing"},
		{"no user", `user = "kiosk"`, ``, "reconcile.user: missing"},
		{"no key", `key_file = "/etc/kioskd/recon.key"`, ``, "reconcile.key_file: missing"},
		{"no hosts", `known_hosts = "/etc/kioskd/known_hosts"`, ``, "reconcile.known_hosts: missing"},
		{"port in the host", `platform.example"
user`, `platform.example:22"
user`, "reconcile.port"},
		{"user in the host", `"sftp.platform`, `"kiosk@sftp.platform`, "reconcile.host"},
		{"port", `user =`, "port = 70000\nuser =", "reconcile.port: 70000"},
		{"folder leads out", `user =`, "dir = \"/recon/../etc\"\nuser =", "reconcile.dir"},
		{"unknown place in the folder", `user =`, "dir = \"/recon/{city}\"\nuser =", "reconcile.dir"},
		{"window is no span", `user =`, "window = \"1 to 3\"\nuser =", `reconcile.window: "1 to 3" is not a span`},
		{"window across midnight", `user =`, "window = \"23:00-01:00\"\nuser =", "reconcile.window"},
		{"window in the maintenance", `user =`, "window = \"00:10-03:00\"\nuser =", "overlap"},
		{"maintenance is no span", `user =`, "maintenance = \"25:00-26:00\"\nuser =", "reconcile.maintenance"},
		{"maintenance of no length", `user =`, "maintenance = \"01:00-01:00\"\nuser =", `"none"`},
		{"answer too soon", `user =`, "answer_after = \"1s\"\nuser =", "reconcile.answer_after"},
		{"answer sum", `user =`, "answer_sum = \"maybe\"\nuser =", "reconcile.answer_sum"},
		{"device that is no file name", `id = "QC0001"`, `id = "QC/0001"`, "deviceId"},
		{"no org code", `org_code = "SU0105"`, ``, "orgCode"},
	} {
		text := goodConfig + reconTable
		if !strings.Contains(text, c.old) {
			t.Fatalf("%s: nothing to replace", c.name)
		}
		at := strings.LastIndex(text, c.old)
		_, err := parseConfig("k.toml", []byte(text[:at]+c.with+text[at+len(c.old):]))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	for _, good := range []string{"maintenance = \"none\"\nwindow = \"00:00-05:00\"\n", "host = \"2001:db8::1\"\n", "dir = \"in/{deviceId}\"\n"} {
		text := reconTable
		if strings.HasPrefix(good, "host") {
			text = strings.Replace(text, "host = \"sftp.platform.example\"\n", "", 1)
		}
		c, err := parseConfig("k.toml", []byte(goodConfig+text+good))
		if err != nil {
			t.Errorf("%s: %v", good, err)
			continue
		}
		if strings.Contains(good, "none") {
			if r := reconConfig(c); r.QuietFrom != r.QuietTo || r.QuietFrom == 0 {
				t.Errorf("no maintenance window: %v %v", r.QuietFrom, r.QuietTo)
			}
		}
	}
}

// TestReconcileFilesAreCheckedAndKeepNobodyFromServing: -check tells what is
// wrong with them; a running kiosk hears it at each try.
func TestReconcileFilesAreCheckedAndKeepNobodyFromServing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	known := filepath.Join(dir, "known_hosts")
	if err := os.WriteFile(known, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	text := goodConfig + strings.NewReplacer("/etc/kioskd/recon.key", filepath.Join(dir, "key"), "/etc/kioskd/known_hosts", known).Replace(reconTable)
	c, err := parseConfig("k.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	c.State.Dir = filepath.Join(dir, "state")
	if err := checkConfig(c, os.Stderr); err == nil || !strings.Contains(err.Error(), "reconcile: key_file") {
		t.Errorf("no key: %v", err)
	}
	s := c.Reconcile.server()
	if err := s.Put(t.Context(), "/f", nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no key: %v", err)
	}
	if _, err := s.Get(t.Context(), "/f", 1); !errors.Is(err, os.ErrNotExist) || errors.Is(err, sftp.ErrLost) {
		t.Errorf("no key: %v", err)
	}
}
