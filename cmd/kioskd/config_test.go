package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const goodConfig = `[device]
id = "QC0001"
org_code = "SU0105"
terminal_no = "112233445566"
[api]
base_url = "https://platform.example/vcc-openapi"
timeout_live = "10s"
[auth]
app_id = "6A5B0E0F1C"
[reader]
driver = "sim"
name = "127.0.0.1:35963"
[card.purse]
[card.memory]
card_no = [32, 8]
count = [64, 2]
gas = [66, 4]
`

func TestConfig(t *testing.T) {
	t.Parallel()
	if _, err := parseConfig("k.toml", []byte(goodConfig)); err != nil {
		t.Fatalf("good configuration: %v", err)
	}
	for _, c := range []struct {
		name, old, with string
		want            []string // in the error
	}{
		{"unknown key", `app_id =`, `app_idd =`, []string{"k.toml:9:1", "auth.app_idd", `app_idd = "6A5B0E0F1C"`}},
		{"wrong type", `"QC0001"`, `17`, []string{"k.toml:2:", "id = 17"}},
		{"bad duration", `"10s"`, `"ten"`, []string{"k.toml:7:", "not a duration"}},
		{"terminal number too short", `"112233445566"`, `"1122"`, []string{"device.terminal_no", "12 hex digits"}},
		{"no address", `base_url = "https://platform.example/vcc-openapi"`, ``, []string{"api.base_url"}},
		{"unknown driver", `"sim"`, `"serial"`, []string{"reader.driver", "serial"}},
		{"field outside the card", `[66, 4]`, `[254, 4]`, []string{"card.memory.gas"}},
		{"mirror too often", `[card.purse]`, "[mirror]\ninterval = \"1m\"\n[card.purse]", []string{"mirror.interval", "15m"}},
		{"mirror of no table", `[card.purse]`, "[mirror]\ntables = [\"3005\"]\n[card.purse]", []string{"mirror.tables", "3005"}},
		{"mirror of a table twice", `[card.purse]`, "[mirror]\ntables = [\"3003\", \"3003\"]\n[card.purse]", []string{"mirror.tables", "twice"}},
		{"no TOML", `[device]`, `[device`, []string{"k.toml:1:"}},
	} {
		_, err := parseConfig("k.toml", []byte(strings.Replace(goodConfig, c.old, c.with, 1)))
		if err == nil {
			t.Errorf("%s: accepted", c.name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error lacks %q:\n%v", c.name, want, err)
			}
		}
	}
}

func TestPINFileOthersCanRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(path, []byte("123456\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readPIN(path); err == nil || strings.Contains(err.Error(), "123456") || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("world-readable PIN file: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if pin, err := readPIN(path); err != nil || !bytes.Equal(pin, []byte{0x12, 0x34, 0x56}) {
		t.Errorf("PIN file: %v", err)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "kioskd.toml")
	var out bytes.Buffer
	if code := run(t.Context(), []string{"-config", path}, &out); code != exitConfig || !strings.Contains(out.String(), path) {
		t.Errorf("missing file: exit %d, %s", code, out.String())
	}
	if err := os.WriteFile(path, []byte(goodConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := run(t.Context(), []string{"-config", path, "-check"}, &out); code != exitOK {
		t.Errorf("good file: exit %d, %s", code, out.String())
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(goodConfig))
	f.Add([]byte("[card.memory]\ncount = [-1, 9999999999]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseConfig("k.toml", b)
		if err == nil && c.API.BaseURL == "" {
			t.Error("a configuration without an address")
		}
	})
}
