package sftp_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"vcckiosk/protocol/reconcile/sftp"
)

// TestSFTP is all that must hold with OpenSSH's sshd. It takes its time and runs
// when it is asked for: by name, or by make test-all.
func TestSFTP(t *testing.T) {
	if os.Getenv("SFTP_PEER") == "" && !strings.Contains(flag.Lookup("test.run").Value.String(), "SFTP") {
		t.Skip("NOT RUN: go test ./protocol/reconcile/... -run SFTP -v (needs sshd)")
	}
	t.Parallel()
	t.Run("files go there and back", func(t *testing.T) { thereAndBack(t, realServer(t)) })
	t.Run("host keys", func(t *testing.T) { hostKeys(t, realServer(t)) })
	t.Run("a strange key is refused", func(t *testing.T) { strangeKey(t, realServer(t)) })
	t.Run("cut at random bytes", func(t *testing.T) { cuts(t, realServer(t), times("UPLOADS", 100)) })
	t.Run("neither posix-rename nor fsync", func(t *testing.T) { poor(t, realServer(t, "-P", "posix-rename,fsync"), true) })
}

// TestInProcess is the same with a server of this process, for a machine
// without sshd.
func TestInProcess(t *testing.T) {
	t.Parallel()
	t.Run("files go there and back", func(t *testing.T) { thereAndBack(t, goServer(t, nil)) })
	t.Run("host keys", func(t *testing.T) { hostKeys(t, goServer(t, nil)) })
	t.Run("a strange key is refused", func(t *testing.T) { strangeKey(t, goServer(t, nil)) })
	t.Run("cut at random bytes", func(t *testing.T) { cuts(t, goServer(t, nil), times("UPLOADS", 25)) })
}

func content(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 7))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// onDisk is the file as the server's owner sees it, nil if there is none.
func (s *server) onDisk(name string) []byte {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	must(s.t, err)
	return b
}

func thereAndBack(t *testing.T, s *server) {
	c := s.client("ed25519", "rsa")
	folder := filepath.Join(s.dir, "recon", "SU0105", "20260801")
	name := filepath.Join(folder, "QC.txt")
	for _, b := range [][]byte{content(1, 100_000), content(2, 32<<10), {}, content(3, 1)} {
		must(t, c.Put(t.Context(), name, b))
		if got := s.onDisk("recon/SU0105/20260801/QC.txt"); !bytes.Equal(got, b) {
			t.Errorf("%d bytes put, %d there", len(b), len(got))
		}
		got, err := c.Get(t.Context(), name, int64(len(b)))
		if err != nil || !bytes.Equal(got, b) {
			t.Errorf("%d bytes put, %d come back: %v", len(b), len(got), err)
		}
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 1 {
		t.Errorf("left in the folder: %v %v", left, err)
	}
	if _, err := c.Get(t.Context(), name, 0); !errors.Is(err, sftp.ErrTooLarge) {
		t.Errorf("a file over the limit: %v", err)
	}
	if _, err := c.Get(t.Context(), name+"x", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such file: %v", err)
	}
	if _, err := c.Get(t.Context(), folder, 1<<20); !errors.Is(err, sftp.ErrRefused) {
		t.Errorf("a folder: %v", err)
	}
	if err := c.Put(t.Context(), folder, []byte("x")); !errors.Is(err, sftp.ErrRefused) {
		t.Errorf("a folder is in the way: %v", err)
	}
	must(t, os.Chmod(folder, 0o500))
	defer os.Chmod(folder, 0o700)
	if err := c.Put(t.Context(), filepath.Join(folder, "new"), []byte("x")); !errors.Is(err, sftp.ErrRefused) &&
		(os.Getuid() != 0 || s.user == "daemon") { // root may
		t.Errorf("a folder that may not be written: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Put(ctx, name, []byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func hostKeys(t *testing.T, s *server) {
	name := filepath.Join(s.dir, "f")
	// Whatever type is pinned, that key is the one the host shows.
	for _, pinned := range [][]string{{"ed25519"}, {"ecdsa"}, {"rsa"}, {"rsa", "ed25519"}} {
		if err := s.client(pinned...).Put(t.Context(), name, []byte("x")); err != nil {
			t.Errorf("pinned %v: %v", pinned, err)
		}
	}
	must(t, os.Remove(name))
	before := s.count()
	// Unknown: nothing in known_hosts is about this host.
	other := s.known("ed25519")
	text, err := os.ReadFile(other)
	must(t, err)
	must(t, os.WriteFile(other, bytes.ReplaceAll(text, []byte("127.0.0.1"), []byte("127.0.0.9")), 0o600))
	_, err = sftp.New(sftp.Config{Address: s.address, User: s.user, KeyFile: s.key, KnownHosts: other})
	if !errors.Is(err, sftp.ErrUnknownHost) || !strings.Contains(err.Error(), s.address[len("127.0.0.1:"):]) || !strings.Contains(err.Error(), other) {
		t.Errorf("unknown host: %v", err)
	}
	if s.count() != before {
		t.Error("an unknown host was connected to")
	}
	// Changed: the pinned key of that type is another.
	twin := &server{t: t, dir: workplace(t, -1), address: s.address}
	twin.keys(-1)
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		c, err := sftp.New(sftp.Config{Address: s.address, User: s.user, KeyFile: s.key, KnownHosts: twin.known(kind)})
		must(t, err)
		err = c.Put(t.Context(), name, []byte("x"))
		if !errors.Is(err, sftp.ErrHostKey) {
			t.Errorf("changed %s key: %v", kind, err)
			continue
		}
		for _, want := range []ssh.PublicKey{twin.hosts[kind].PublicKey(), s.hosts[kind].PublicKey()} {
			if !strings.Contains(err.Error(), ssh.FingerprintSHA256(want)) {
				t.Errorf("changed %s key: the error names no %s: %v", kind, ssh.FingerprintSHA256(want), err)
			}
		}
	}
	// Revoked, though also pinned.
	known := s.known("ed25519")
	text, err = os.ReadFile(known)
	must(t, err)
	c := s.clientWith(known, "@revoked * "+strings.SplitN(string(text), " ", 2)[1]+string(text))
	if c != nil {
		if err := c.Put(t.Context(), name, []byte("x")); !errors.Is(err, sftp.ErrHostKey) {
			t.Errorf("revoked key: %v", err)
		}
	}
	// Two pins, one of them of the next key.
	known = s.known("ed25519")
	text, err = os.ReadFile(known)
	must(t, err)
	next, err := os.ReadFile(twin.known("ed25519"))
	must(t, err)
	if s.onDisk("f") != nil {
		t.Error("a file was sent to a host that was refused")
	}
	if c := s.clientWith(known, string(next)+string(text)); c != nil {
		if err := c.Put(t.Context(), name, []byte("x")); err != nil {
			t.Errorf("present and next key pinned: %v", err)
		}
	}
}

func (s *server) clientWith(path, known string) *sftp.Client {
	s.t.Helper()
	must(s.t, os.WriteFile(path, []byte(known), 0o600))
	c, err := sftp.New(sftp.Config{Address: s.address, User: s.user, KeyFile: s.key, KnownHosts: path})
	if err != nil {
		s.t.Error(err)
	}
	return c
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served
}

func strangeKey(t *testing.T, s *server) {
	twin := &server{t: t, dir: workplace(t, -1)}
	twin.keys(-1)
	c, err := sftp.New(sftp.Config{Address: s.address, User: s.user, KeyFile: twin.key, KnownHosts: s.known("ed25519")})
	must(t, err)
	if err := c.Put(t.Context(), filepath.Join(s.dir, "f"), []byte("x")); !errors.Is(err, sftp.ErrAuth) || !strings.Contains(err.Error(), "SHA256:") {
		t.Errorf("strange key: %v", err)
	}
}

// cuts uploads over lines that are cut after a random number of bytes. What
// stands under the final name is looked at by the server's owner after every
// try: it is the file of before or the whole new one, never anything else.
func cuts(t *testing.T, s *server, uploads int) {
	c := s.client("ed25519")
	r := rand.New(rand.NewPCG(1, uint64(uploads)))
	number, whole, failed, half, resumed, lost := 0, 0, 0, 0, 0, 0
	// What an upload takes on the wire, so that the cuts fall everywhere in it.
	size := 150_000
	wireSize := int64(3*size + 20_000)
	for i := range uploads {
		name := fmt.Sprintf("QC_%03d.txt", i)
		path := filepath.Join(s.dir, name)
		old := []byte(nil)
		if i%2 == 1 { // a day that is run again
			old = content(uint64(1000+i), 1+r.IntN(size))
			must(t, c.Put(t.Context(), path, old))
		}
		b := content(uint64(i), 1+r.IntN(2*size))
		limit := int64(len(b))*2 + 20_000
		done := false
		for try := 0; try < 3 && !done; try++ {
			s.set(func(int) int64 { number++; return r.Int64N(min(limit+limit/4, wireSize*2)) })
			before, _ := filepath.Glob(path + ".*.tmp")
			err := c.Put(t.Context(), path, b)
			s.set(nil)
			now := s.onDisk(name)
			switch {
			case bytes.Equal(now, b):
			case bytes.Equal(now, old) && (now == nil) == (old == nil):
			default:
				half++
				t.Errorf("%s: %d bytes under the final name, neither the %d of before nor the %d of now", name, len(now), len(old), len(b))
			}
			switch {
			case err == nil && !bytes.Equal(now, b):
				t.Errorf("%s: put without an error, and not there", name)
			case err == nil:
				done = true
				if len(before) > 0 {
					resumed++
				}
			case !errors.Is(err, sftp.ErrLost):
				t.Errorf("%s: a cut line is told as %v", name, err)
			case bytes.Equal(now, b):
				lost++ // it had happened; only the answer was lost
			}
		}
		if done {
			whole++
			continue
		}
		failed++
		// What was left behind keeps nobody from doing it later.
		if err := c.Put(t.Context(), path, b); err != nil || !bytes.Equal(s.onDisk(name), b) {
			t.Errorf("%s: not put over a line that is whole: %v", name, err)
		}
	}
	fmt.Printf("uploads=%d cuts=%d whole=%d errors=%d half=%d\n", uploads, number, whole, failed, half)
	t.Logf("%d found what an earlier try had left, %d had happened without an answer", resumed, lost)
	if whole+failed != uploads || half != 0 || failed == 0 || whole == 0 || resumed == 0 {
		t.Errorf("whole %d, errors %d, half %d, resumed %d of %d uploads", whole, failed, half, resumed, uploads)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, "*.tmp")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func (s *server) set(cut func(int) int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = cut
}
