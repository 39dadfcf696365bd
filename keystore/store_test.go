package keystore

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
)

// testSlot wraps by a mask and binds aad by a sum; fileslot is tested with its
// own package.
type testSlot struct{ name string }

func (s testSlot) Name() string { return s.name }

func (s testSlot) Wrap(root, aad []byte) ([]byte, error) {
	sum := sha256.Sum256(append([]byte(s.name), aad...))
	blob := bytes.Clone(root)
	for i := range blob {
		blob[i] ^= sum[i]
	}
	return append(blob, sum[:]...), nil
}

func (s testSlot) Unwrap(blob, aad []byte) ([]byte, error) {
	sum := sha256.Sum256(append([]byte(s.name), aad...))
	if len(blob) != 64 || !bytes.Equal(blob[32:], sum[:]) {
		return nil, errors.New("another slot")
	}
	root := bytes.Clone(blob[:32])
	for i := range root {
		root[i] ^= sum[i]
	}
	return root, nil
}

var slot = testSlot{"test"}

func mustOpen(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, slot, Options{Timeout: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func keyText(n int) []byte     { return fmt.Appendf(nil, "key%029d", n) }
func digestOf(n byte) [32]byte { return sha256.Sum256([]byte{n}) }

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// shape is what a store holds, as text: names with check values.
func shape(s *Store) string {
	var b strings.Builder
	for _, name := range []string{recActive, recPending, recPrev, recDevice} {
		if i, ok := s.Info(name); ok {
			fmt.Fprintf(&b, "%s=%s ", name, i.KCV)
		}
	}
	return strings.TrimSpace(b.String())
}

func wantShape(t *testing.T, s *Store, want string) {
	t.Helper()
	if got := shape(s); got != want {
		t.Fatalf("the store holds %q, want %q", got, want)
	}
}

func TestKeysMoveFromPendingToActiveToPrevious(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := []string{"", KCV(keyText(1)), KCV(keyText(2)), KCV(keyText(3))}
	steps := []struct {
		do   func(*Store) error
		want string
	}{
		{func(*Store) error { return nil }, ""},
		{func(s *Store) error { return s.Stage(keyText(1), "technician", digestOf(1)) }, "pending=" + k[1]},
		{func(s *Store) error { return s.Promote() }, "active=" + k[1]},
		{func(s *Store) error { return s.Stage(keyText(2), "sms", digestOf(2)) }, "active=" + k[1] + " pending=" + k[2]},
		{func(s *Store) error { return s.Stage(keyText(3), "sms", digestOf(3)) }, "active=" + k[1] + " pending=" + k[3]},
		{func(s *Store) error { return s.Promote() }, "active=" + k[3] + " previous=" + k[1]},
		{func(s *Store) error { return s.Stage(keyText(2), "sms", digestOf(2)) }, "active=" + k[3] + " pending=" + k[2] + " previous=" + k[1]},
		{func(s *Store) error { return s.DropPending("refused") }, "active=" + k[3] + " previous=" + k[1]},
		{func(s *Store) error { return s.DropPending("again") }, "active=" + k[3] + " previous=" + k[1]},
	}
	for i, step := range steps {
		s := mustOpen(t, dir)
		must(t, step.do(s))
		wantShape(t, s, step.want)
		must(t, s.Close())
		s = mustOpen(t, dir) // and the same after a restart
		wantShape(t, s, step.want)
		must(t, s.Close())
		if t.Failed() {
			t.Fatalf("step %d", i)
		}
	}
	s := mustOpen(t, dir)
	active, err := s.Active()
	must(t, err)
	if got, want := active.Sign([]byte("message")), sign([]byte("message"), keyText(3)); got != want {
		t.Errorf("the active key signs %s, want %s", got, want)
	}
	if active.Generation() != 3 {
		t.Errorf("generation %d, want 3: numbers are never used twice", active.Generation())
	}
	if i, _ := s.Info(recActive); i.Source != "sms" || i.Digest != digestOf(3) || i.Since.IsZero() || i.Generation != 3 {
		t.Errorf("info of the active key: %+v", i)
	}
	if _, err := s.Pending(); !errors.Is(err, ErrNoKey) {
		t.Errorf("pending: %v", err)
	}
	if err := s.Promote(); !errors.Is(err, ErrNoKey) {
		t.Errorf("promote with nothing pending: %v", err)
	}
}

func TestStageIsRepeatableByDigest(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir())
	must(t, s.Stage(keyText(1), "sms", digestOf(1)), s.Stage(keyText(1), "sms", digestOf(1)))
	if k, err := s.Pending(); err != nil || k.Generation() != 1 {
		t.Fatalf("staged twice: %v", err)
	}
	must(t, s.Promote(), s.Stage(keyText(1), "sms", digestOf(1)))
	wantShape(t, s, "active="+KCV(keyText(1)))
	if err := s.Stage(keyText(2), "sms", digestOf(1)); err == nil {
		t.Error("another key under the same digest was taken")
	}
	wantShape(t, s, "active="+KCV(keyText(1)))
	// No digest names no message: such keys are never taken for repeated.
	must(t, s.Stage(keyText(3), "x", [32]byte{}), s.Promote(), s.Stage(keyText(4), "x", [32]byte{}))
	wantShape(t, s, "active="+KCV(keyText(3))+" pending="+KCV(keyText(4))+" previous="+KCV(keyText(1)))
}

func TestBadKeysAreRefusedAndCleared(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir())
	for _, text := range []string{"", "short", strings.Repeat("a", 31), strings.Repeat("a", 33), strings.Repeat("a", 31) + "-", strings.Repeat("a", 31) + "\n"} {
		key := []byte(text)
		err := s.Stage(key, "test", digestOf(1))
		if !errors.Is(err, ErrBadKey) || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
		if !bytes.Equal(key, make([]byte, len(text))) {
			t.Errorf("%q was not cleared", text)
		}
	}
	good := keyText(1)
	must(t, s.Stage(good, strings.Repeat("long", 40), digestOf(1)))
	if !bytes.Equal(good, make([]byte, 32)) {
		t.Error("the staged key was not cleared")
	}
	for _, n := range []int{0, 15, 65} {
		if err := s.SetDeviceSecret(make([]byte, n)); !errors.Is(err, ErrBadKey) {
			t.Errorf("device secret of %d bytes: %v", n, err)
		}
	}
}

func TestKeysExpireOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(dir, slot, Options{})
		must(t, err)
		must(t, s.Stage(keyText(1), "a", digestOf(1)), s.Promote(), s.Stage(keyText(2), "a", digestOf(2)), s.Promote())
		start := time.Now()
		time.Sleep(60 * time.Hour)
		must(t, s.Stage(keyText(3), "a", digestOf(3)))
		staged := time.Now()
		both := "active=" + KCV(keyText(2)) + " pending=" + KCV(keyText(3)) + " previous=" + KCV(keyText(1))
		expire := func(at time.Time, pending, previous bool, want string) {
			t.Helper()
			p, q, err := s.Expire(at)
			if err != nil || p != pending || q != previous {
				t.Fatalf("expire = %v %v %v, want %v %v", p, q, err, pending, previous)
			}
			wantShape(t, s, want)
		}
		expire(start.Add(-1e6*time.Hour), false, false, both) // a clock that fell back to its birth
		expire(start.Add(PreviousLife-time.Second), false, false, both)
		expire(start.Add(PreviousLife), false, true, "active="+KCV(keyText(2))+" pending="+KCV(keyText(3)))
		expire(staged.Add(PendingLife-time.Second), false, false, "active="+KCV(keyText(2))+" pending="+KCV(keyText(3)))
		expire(staged.Add(PendingLife), true, false, "active="+KCV(keyText(2)))
		expire(staged.Add(1e5*time.Hour), false, false, "active="+KCV(keyText(2)))
		must(t, s.Close())
	})
}

func TestDeviceSecretDerives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir)
	if _, err := s.DeviceSecret(); !errors.Is(err, ErrNoKey) {
		t.Fatalf("no secret yet: %v", err)
	}
	secret := bytes.Repeat([]byte{7}, 32)
	must(t, s.SetDeviceSecret(secret))
	if !bytes.Equal(secret, make([]byte, 32)) {
		t.Error("the secret was not cleared")
	}
	must(t, s.Close())
	d, err := mustOpen(t, dir).DeviceSecret()
	must(t, err)
	got, err := d.Derive([]byte("salt"), "enc|app|device", 32)
	must(t, err)
	want := make([]byte, 32)
	hkdfSHA256(want, bytes.Repeat([]byte{7}, 32), []byte("salt"), "enc|app|device")
	if !bytes.Equal(got, want) || d.KCV() != KCV(bytes.Repeat([]byte{7}, 32)) {
		t.Error("derived another key")
	}
	for _, n := range []int{-1, 0, 255*32 + 1} {
		if _, err := d.Derive(nil, "x", n); err == nil {
			t.Errorf("derived %d bytes", n)
		}
	}
}

func TestChangesFromManyGoroutinesAreWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 10 {
				n := 10*i + j
				if err := s.Stage(keyText(n), "test", digestOf(byte(n+1))); err != nil {
					t.Error(err)
				}
				if err := s.Promote(); err != nil && !errors.Is(err, ErrNoKey) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	_ = s.DropPending("end")
	// 40 keys were staged: were check and change two steps, two of them would
	// have got the same number.
	must(t, s.Stage(keyText(99), "test", digestOf(99)))
	k, err := s.Pending()
	must(t, err)
	if k.Generation() != 41 {
		t.Errorf("generation %d after 40 keys, want 41", k.Generation())
	}
	before := shape(s)
	must(t, s.Close())
	wantShape(t, mustOpen(t, dir), before)
}

func TestACommitThatFailsLeavesTheStoreInDoubt(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir())
	must(t, s.Stage(keyText(1), "a", digestOf(1)), s.Promote())
	must(t, s.db.Close()) // the file goes away beneath the store
	for range 2 {
		if err := s.Stage(keyText(2), "a", digestOf(2)); !errors.Is(err, ErrInDoubt) {
			t.Fatalf("stage: %v", err)
		}
	}
	if err := s.Promote(); !errors.Is(err, ErrInDoubt) {
		t.Fatalf("promote: %v", err)
	}
	wantShape(t, s, "active="+KCV(keyText(1)))
}

func TestClosedStoreAnswersSo(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir())
	must(t, s.Stage(keyText(1), "a", digestOf(1)), s.Promote())
	k, err := s.Active()
	must(t, err, s.Close(), s.Close())
	_, e1 := s.Active()
	_, e2 := s.Seal("psc", nil, nil)
	_, e3 := s.Open("psc", nil, nil)
	_, _, e4 := s.Expire(time.Now())
	for i, err := range []error{e1, e2, e3, e4, s.Stage(keyText(2), "a", digestOf(2)), s.Promote(), s.DropPending(""), s.SetDeviceSecret(make([]byte, 32))} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if k.Sign(nil) != sign(nil, keyText(1)) {
		t.Error("a key handed out before no longer signs")
	}
}

func TestSecondProcessIsToldSo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mustOpen(t, dir)
	if _, err := Open(dir, slot, Options{Timeout: time.Millisecond}); !errors.Is(err, ErrInUse) {
		t.Errorf("open: %v", err)
	}
	// Not even lost headers give the database to a second process.
	must(t, os.Remove(filepath.Join(dir, hdr1)), os.Remove(filepath.Join(dir, hdr2)))
	if _, err := Open(dir, slot, Options{Timeout: time.Millisecond}); !errors.Is(err, ErrInUse) {
		t.Errorf("open without headers: %v", err)
	}
	synctest.Test(t, func(t *testing.T) { // it waits a second
		if err := SetAside(dir, time.Now()); !errors.Is(err, ErrInUse) {
			t.Errorf("set aside: %v", err)
		}
	})
}

func TestOpenFilesThatOthersMayUse(t *testing.T) {
	t.Parallel()
	for _, name := range []string{dbName, hdr1, hdr2} {
		dir := t.TempDir()
		must(t, mustOpen(t, dir).Close())
		for _, mode := range []os.FileMode{0o640, 0o604, 0o602} {
			must(t, os.Chmod(filepath.Join(dir, name), mode))
			_, err := Open(dir, slot, Options{})
			if !errors.Is(err, ErrPermissions) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), fmt.Sprintf("%04o", mode)) {
				t.Errorf("%s mode %04o: %v", name, mode, err)
			}
		}
		must(t, os.Chmod(filepath.Join(dir, name), 0o400))
		if name != dbName {
			must(t, mustOpen(t, dir).Close())
		}
	}
}

func TestSetAsideMakesRoom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir)
	must(t, s.Stage(keyText(1), "a", digestOf(1)), s.Promote(), s.Close())
	must(t, os.WriteFile(filepath.Join(dir, hdr2+newName), nil, 0o600))
	at := time.Date(2030, 5, 6, 7, 8, 9, 0, time.UTC)
	must(t, SetAside(dir, at), SetAside(dir, at))
	for _, name := range []string{dbName, hdr1, hdr2, hdr2 + newName} {
		if _, err := os.Stat(filepath.Join(dir, name+".aside-20300506T070809Z")); err != nil {
			t.Error(err)
		}
	}
	wantShape(t, mustOpen(t, dir), "")
}

func TestANewFileIsLongEnoughForALifeOfChanges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir)
	must(t, s.SetDeviceSecret(make([]byte, 64)))
	for i := range 200 {
		must(t, s.Stage(keyText(i), strings.Repeat("s", 64), digestOf(byte(i))), s.Promote())
	}
	st, err := os.Stat(filepath.Join(dir, dbName))
	must(t, err)
	if st.Size() != fileReserve {
		t.Errorf("the file grew to %d bytes", st.Size())
	}
	if err := s.db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Error(err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	must(t, s.Close())
	b, err := os.ReadFile(filepath.Join(dir, dbName))
	must(t, err)
	must(t, checkPages(b))
}

// TestLeftoversAreNeverWrittenInto puts a second name of a precious file where
// a new one is about to be written.
func TestLeftoversAreNeverWrittenInto(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir)
	must(t, s.Stage(keyText(1), "a", digestOf(1)), s.Promote())
	holds := shape(s)
	must(t, s.Close())
	precious := filepath.Join(t.TempDir(), "precious")
	must(t, os.WriteFile(precious, []byte("set aside"), 0o644))
	must(t, os.Link(precious, filepath.Join(dir, hdr1+newName)), os.Remove(filepath.Join(dir, hdr1)))
	s = mustOpen(t, dir) // mends the copy
	wantShape(t, s, holds)
	must(t, s.Close())
	if b, err := os.ReadFile(precious); err != nil || string(b) != "set aside" {
		t.Errorf("the file behind the leftover holds %q, %v", b, err)
	}
	if st, err := os.Stat(filepath.Join(dir, hdr1)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the mended copy: %v, %v", st, err)
	}
	wantShape(t, mustOpen(t, dir), holds)
}
