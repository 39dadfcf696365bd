package fileslot_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vcckiosk/keystore"
	"vcckiosk/keystore/fileslot"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestKeyFileOpensItsStoreOnItsMachine(t *testing.T) {
	t.Parallel()
	dir, keys := t.TempDir(), t.TempDir()
	path := filepath.Join(keys, "slot.key")
	here := fileslot.Options{KeyFile: path, HardwareID: []byte("board 1")}

	if _, err := keystore.Open(dir, fileslot.New(here), keystore.Options{}); !errors.Is(err, keystore.ErrLocked) || !strings.Contains(err.Error(), path) {
		t.Fatalf("made a store without a key file: %v", err)
	}
	making := here
	making.CreateIfMissing = true
	s, err := keystore.Open(dir, fileslot.New(making), keystore.Options{})
	must(t, err)
	must(t, s.Stage([]byte("0123456789abcdefghijABCDEFGHIJkl"), "test", [32]byte{1}), s.Promote(), s.Close())
	key, err := os.ReadFile(path)
	must(t, err)
	if st, err := os.Stat(path); err != nil || st.Mode().Perm()&0o077 != 0 || len(key) != 32 {
		t.Fatalf("key file: %v %v, %d bytes", st.Mode(), err, len(key))
	}
	if names, err := os.ReadDir(keys); err != nil || len(names) != 1 {
		t.Errorf("beside the key file lies: %v %v", names, err)
	}

	must(t, os.Chmod(path, 0o400))
	s, err = keystore.Open(dir, fileslot.New(here), keystore.Options{})
	must(t, err)
	if _, err := s.Active(); err != nil {
		t.Error(err)
	}
	must(t, s.Close())
	must(t, os.Chmod(path, 0o600))

	other := bytes.Clone(key)
	other[0] ^= 1
	tests := []struct {
		name  string
		slot  fileslot.Options
		key   []byte // nil: missing
		mode  os.FileMode
		want  error
		words string
	}{
		{"other machine", fileslot.Options{KeyFile: path, HardwareID: []byte("board 2")}, key, 0o600, keystore.ErrLocked, "another machine"},
		{"no hardware id", fileslot.Options{KeyFile: path}, key, 0o600, keystore.ErrLocked, "another machine"},
		{"other key file", here, other, 0o600, keystore.ErrLocked, "another one"},
		{"key file cut short", here, key[:31], 0o600, keystore.ErrLocked, "32 bytes"},
		{"key file too long", here, append(bytes.Clone(key), '\n'), 0o600, keystore.ErrLocked, "32 bytes"},
		{"key file empty", here, []byte{}, 0o600, keystore.ErrLocked, "32 bytes"},
		{"key file missing, never made again", making, nil, 0, keystore.ErrLocked, "missing"},
		{"key file readable by the group", here, key, 0o640, keystore.ErrPermissions, "mode 0640"},
		{"key file readable by all", here, key, 0o604, keystore.ErrPermissions, "mode 0604"},
		{"key file writable by all", here, key, 0o602, keystore.ErrPermissions, "mode 0602"},
	}
	for _, test := range tests {
		must(t, os.RemoveAll(path))
		if test.key != nil {
			must(t, os.WriteFile(path, test.key, 0o600), os.Chmod(path, test.mode))
		}
		_, err := keystore.Open(dir, fileslot.New(test.slot), keystore.Options{})
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.words) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %v with %q", test.name, err, test.want, test.words)
		}
		if _, err := os.Stat(path); test.key == nil && err == nil {
			t.Errorf("%s: the key file was made", test.name)
		}
	}
	must(t, os.WriteFile(path, key, 0o600)) // WriteFile keeps the mode of a file that is there
	must(t, os.Chmod(path, 0o600))
	s, err = keystore.Open(dir, fileslot.New(here), keystore.Options{})
	must(t, err, s.Close())
}

func TestWrapKeepsAKeyFileThatIsThere(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "slot.key")
	must(t, os.WriteFile(path, bytes.Repeat([]byte{7}, 32), 0o600))
	must(t, os.WriteFile(path+".new", []byte("left by a cut"), 0o400))
	slot := fileslot.New(fileslot.Options{KeyFile: path, CreateIfMissing: true})
	root, aad := bytes.Repeat([]byte{1}, 32), []byte("aad")
	blob, err := slot.Wrap(root, aad)
	must(t, err)
	if key, err := os.ReadFile(path); err != nil || !bytes.Equal(key, bytes.Repeat([]byte{7}, 32)) {
		t.Errorf("the key file was changed: %v", err)
	}
	got, err := slot.Unwrap(blob, aad)
	if err != nil || !bytes.Equal(got, root) {
		t.Fatalf("unwrap: %v", err)
	}
	for name, open := range map[string]func() ([]byte, error){
		"other aad":   func() ([]byte, error) { return slot.Unwrap(blob, []byte("aae")) },
		"cut short":   func() ([]byte, error) { return slot.Unwrap(blob[:20], aad) },
		"nothing":     func() ([]byte, error) { return slot.Unwrap(nil, aad) },
		"without tag": func() ([]byte, error) { return slot.Unwrap(blob[:len(blob)-16], aad) },
	} {
		if _, err := open(); !errors.Is(err, keystore.ErrLocked) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzUnwrap(f *testing.F) {
	path := filepath.Join(f.TempDir(), "slot.key")
	slot := fileslot.New(fileslot.Options{KeyFile: path, CreateIfMissing: true})
	blob, err := slot.Wrap(make([]byte, 32), []byte("aad"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(blob[:24])
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := slot.Unwrap(b, []byte("aad")); !errors.Is(err, keystore.ErrLocked) {
			t.Fatalf("unwrap: %v", err)
		}
	})
}

// TestALeftoverIsNeverWrittenInto: a cut between link and removal leaves the
// key file under two names; later the first was set aside.
func TestALeftoverIsNeverWrittenInto(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "slot.key")
	old := bytes.Repeat([]byte{7}, 32)
	must(t, os.WriteFile(path+".aside", old, 0o644), os.Link(path+".aside", path+".new"))
	slot := fileslot.New(fileslot.Options{KeyFile: path, CreateIfMissing: true})
	_, err := slot.Wrap(make([]byte, 32), nil)
	must(t, err)
	if b, err := os.ReadFile(path + ".aside"); err != nil || !bytes.Equal(b, old) {
		t.Errorf("the key file set aside was written over: %v", err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the new key file: %v, %v", st, err)
	}
}
