package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vcckiosk/queue"
)

func TestAFieldWhoseEndOverflowsIsOutsideTheCard(t *testing.T) {
	t.Parallel()
	text := strings.Replace(goodConfig, "[66, 4]", "[9223372036854775807, 4]", 1)
	if _, err := parseConfig("k.toml", []byte(text)); err == nil || !strings.Contains(err.Error(), "card.memory.gas") {
		t.Errorf("err %v, want one that names card.memory.gas", err)
	}
}

func TestAnUnknownKeyOrFlagEndsWith2(t *testing.T) {
	t.Parallel()
	if code, stderr := runOn(t, strings.Replace(goodConfig, "app_id", "app_idd", 1)); code != exitConfig {
		t.Errorf("unknown key: exit code %d, want %d: %s", code, exitConfig, stderr)
	}
	if code, stderr := runOn(t, goodConfig, "--bogus"); code != exitConfig {
		t.Errorf("unknown flag: exit code %d, want %d: %s", code, exitConfig, stderr)
	}
}

func TestASecondDaemonOnTheSameFilesEndsWith4(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db, err := queue.OpenFile(t.Context(), filepath.Join(dir, "agent.db"), queue.FileOptions{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	config := fmt.Sprintf("%s[state]\ndir = %q\n[local]\ndir = %q\n", goodConfig, dir, dir)
	code, stderr := runOn(t, config)
	if code != exitInUse || !strings.Contains(stderr, "in use") {
		t.Errorf("exit code %d, want %d: %s", code, exitInUse, stderr)
	}
}

func runOn(t *testing.T, config string, more ...string) (code int, stderr string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kioskd.toml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	code = run(t.Context(), append([]string{"--config", path}, more...), &b)
	return code, b.String()
}
