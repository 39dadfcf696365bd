package sftp_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	wire "github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"vcckiosk/protocol/reconcile/sftp"
)

// temp is where a Put of b to name leaves what was cut short.
func temp(name string, b []byte) string {
	h := sha256.Sum256(b)
	return name + "." + hex.EncodeToString(h[:6]) + ".tmp"
}

func (s *server) sent() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up
}

// TestWhatAnEarlierTryHasLeft: a beginning is gone on with, anything else is
// written anew.
func TestWhatAnEarlierTryHasLeft(t *testing.T) {
	t.Parallel()
	s := goServer(t, nil)
	c := s.client("ed25519")
	b := content(1, 300_000)
	for _, x := range []struct {
		name    string
		left    []byte
		resumes bool
	}{
		{"nearly all of it", b[:290_000], true},
		{"all of it", b, true},
		{"zeros of that length", make([]byte, 290_000), false},
		{"one wrong byte", append(bytes.Clone(b[:200_000]), ^b[200_000]), false},
		{"more than it", append(bytes.Clone(b), 'x'), false},
		{"nothing", nil, false},
	} {
		name := filepath.Join(s.dir, strings.ReplaceAll(x.name, " ", "_"))
		must(t, os.WriteFile(temp(name, b), x.left, 0o600))
		before := s.sent()
		must(t, c.Put(t.Context(), name, b))
		if got := s.sent() - before; (got < 60_000) != x.resumes {
			t.Errorf("%s: %d bytes sent", x.name, got)
		}
		if got := s.onDisk(filepath.Base(name)); !bytes.Equal(got, b) {
			t.Errorf("%s: %d bytes there", x.name, len(got))
		}
	}
}

// TestCutEverywhere cuts the line at every place of a small upload: also there
// where the file has its name already and only the answer is lost.
func TestCutEverywhere(t *testing.T) {
	t.Parallel()
	s := goServer(t, nil)
	c := s.client("ed25519")
	name := filepath.Join(s.dir, "f")
	old, b := content(1, 700), content(2, 900)
	hidden, whole := 0, false
	for cut := int64(1); !whole; cut += 29 {
		must(t, os.WriteFile(name, old, 0o600))
		_ = os.Remove(temp(name, b))
		s.set(func(int) int64 { return cut })
		err := c.Put(t.Context(), name, b)
		s.set(nil)
		now := s.onDisk("f")
		if !bytes.Equal(now, old) && !bytes.Equal(now, b) {
			t.Fatalf("cut at %d: %d bytes under the final name", cut, len(now))
		}
		if err != nil && !errors.Is(err, sftp.ErrLost) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if err != nil && bytes.Equal(now, b) {
			hidden++
			before := s.sent()
			if err := c.Put(t.Context(), name, b); err != nil || s.sent()-before > 8_000 {
				t.Errorf("cut at %d: what had happened is not seen: %v", cut, err)
			}
		}
		whole = err == nil && bytes.Equal(now, b)
	}
	if hidden == 0 {
		t.Error("no cut fell between the rename and its answer")
	}
}

// TestPoorServer has neither posix-rename nor fsync. Not parallel: the
// extensions are the library's own variable.
func TestPoorServer(t *testing.T) {
	must(t, wire.SetSFTPExtensions("hardlink@openssh.com"))
	defer func() {
		must(t, wire.SetSFTPExtensions("hardlink@openssh.com", "posix-rename@openssh.com", "statvfs@openssh.com"))
	}()
	poor(t, goServer(t, nil), false)
}

// poor is a server whose rename may replace nothing (strict) and that cannot
// sync.
func poor(t *testing.T, s *server, strict bool) {
	c := s.client("ed25519")
	name := filepath.Join(s.dir, "f")
	for i := range uint64(3) {
		b := content(i, 2000)
		must(t, c.Put(t.Context(), name, b))
		if !bytes.Equal(s.onDisk("f"), b) {
			t.Errorf("upload %d is not there", i)
		}
	}
	// The line is cut anywhere: old, new or none, and the next one mends it.
	none, tries := 0, 0
	first := int64(4000)
	if strict {
		first = 7000 // sshd's greeting is longer, and each try a process
	}
	for cut := first; ; cut += 41 {
		old, b := content(10, 700), content(11, 900)
		must(t, c.Put(t.Context(), name, old))
		s.set(func(int) int64 { return cut })
		err := c.Put(t.Context(), name, b)
		s.set(nil)
		now := s.onDisk("f")
		if now == nil {
			none++
		} else if !bytes.Equal(now, old) && !bytes.Equal(now, b) {
			t.Fatalf("cut at %d: %d bytes under the final name", cut, len(now))
		}
		if err == nil {
			break
		}
		tries++
		must(t, c.Put(t.Context(), name, b))
		if !bytes.Equal(s.onDisk("f"), b) {
			t.Fatalf("cut at %d: not mended", cut)
		}
	}
	if none == 0 && strict {
		t.Error("no cut fell between the removal of the old file and the rename")
	}
	t.Logf("%d cuts, %d of them left no file until the next try", tries, none)
}

// TestSilentServer stops answering in the middle; each step has its time.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	s := goServer(t, nil)
	for _, after := range []int64{0, 2000, 20_000} {
		base := s.sent()
		s.mu.Lock()
		s.stall = func(int) bool { return s.sent()-base >= after }
		s.mu.Unlock()
		c, err := sftp.New(sftp.Config{Address: s.address, User: s.user, KeyFile: s.key, KnownHosts: s.known("ed25519"), Step: 300 * time.Millisecond})
		must(t, err)
		err = c.Put(t.Context(), filepath.Join(s.dir, "f"), content(1, 200_000))
		if !errors.Is(err, sftp.ErrLost) || !strings.Contains(err.Error(), "300ms") {
			t.Errorf("silent after %d bytes: %v", after, err)
		}
		if s.onDisk("f") != nil {
			t.Error("a part of the file has its name")
		}
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	s := &server{t: t, dir: workplace(t, -1), address: "127.0.0.1:1", user: "u"}
	s.keys(-1)
	if err := s.client("ed25519").Put(t.Context(), "/f", nil); !errors.Is(err, sftp.ErrLost) {
		t.Errorf("got %v", err)
	}
}

// TestConfigurationIsChecked: what is wrong is said with the file and the
// command that mends it, and never with what is in a key.
func TestConfigurationIsChecked(t *testing.T) {
	t.Parallel()
	s := &server{t: t, dir: workplace(t, -1), address: "127.0.0.1:22", user: "u"}
	s.keys(-1)
	known := s.known("ed25519")
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	block, err := ssh.MarshalPrivateKeyWithPassphrase(ed, "", []byte("secret"))
	must(t, err)
	locked := s.file("locked", string(pem.EncodeToMemory(block)), 0o600, -1)
	text, err := os.ReadFile(s.key)
	must(t, err)
	for _, c := range []struct {
		name string
		f    func(*sftp.Config)
		want []string
		is   error
	}{
		{"no port", func(c *sftp.Config) { c.Address = "host" }, []string{"host:port"}, nil},
		{"no user", func(c *sftp.Config) { c.User = "" }, []string{"user"}, nil},
		{"no key", func(c *sftp.Config) { c.KeyFile = "/none" }, []string{"key_file", "/none"}, fs.ErrNotExist},
		{"others may read the key", func(c *sftp.Config) { c.KeyFile = s.file("open", string(text), 0o640, -1) }, []string{"key_file", "0640", "chmod 600"}, nil},
		{"key with a passphrase", func(c *sftp.Config) { c.KeyFile = locked }, []string{"key_file", "passphrase"}, nil},
		{"a broken key", func(c *sftp.Config) { c.KeyFile = s.file("half", string(text[:200]), 0o600, -1) }, []string{"key_file", "not a private key"}, nil},
		{"key is a folder", func(c *sftp.Config) { c.KeyFile = s.dir }, []string{"key_file", "not a file"}, nil},
		{"no known_hosts", func(c *sftp.Config) { c.KnownHosts = "/none" }, []string{"known_hosts", "/none"}, fs.ErrNotExist},
		{"others may write known_hosts", func(c *sftp.Config) { c.KnownHosts = s.file("kh", "", 0o666, -1) }, []string{"known_hosts", "0666", "chmod go-w"}, nil},
		{"known_hosts is garbage", func(c *sftp.Config) { c.KnownHosts = s.file("kh2", "x y z\n", 0o600, -1) }, []string{"known_hosts", ":1"}, nil},
		{"known_hosts is empty", func(c *sftp.Config) { c.KnownHosts = s.file("kh3", "", 0o600, -1) }, []string{"no key for 127.0.0.1"}, sftp.ErrUnknownHost},
		{"another port is another host", func(c *sftp.Config) { c.Address = "127.0.0.1:2222" }, []string{"[127.0.0.1]:2222"}, sftp.ErrUnknownHost},
	} {
		cfg := sftp.Config{Address: s.address, User: s.user, KeyFile: s.key, KnownHosts: known}
		if _, err := sftp.New(cfg); err != nil {
			t.Fatalf("good configuration: %v", err)
		}
		c.f(&cfg)
		_, err := sftp.New(cfg)
		if err == nil || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error lacks %q: %v", c.name, want, err)
			}
		}
		if strings.Contains(err.Error(), string(text[40:80])) {
			t.Errorf("%s: the error quotes the key", c.name)
		}
	}
}
