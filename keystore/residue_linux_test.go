package keystore

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNoCopyOfAKeyIsLeftInMemory runs the life of three keys and then looks
// through all memory of the process for them. It runs in a process of its own,
// whose memory the other tests do not fill.
func TestNoCopyOfAKeyIsLeftInMemory(t *testing.T) {
	t.Parallel()
	if os.Getenv("KEYSTORE_SCAN") == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), "KEYSTORE_SCAN=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, ": copies") {
				t.Log(line[strings.Index(line, ".go:")+4:])
			}
		}
		return
	}
	dir := t.TempDir()
	s := mustOpen(t, dir)
	// The needles are kept masked, so that the scan does not find its own.
	var needles [3][keyLength]byte
	for i := range needles {
		stageRandom(t, s, &needles[i], byte(i+1))
		if i < 2 {
			must(t, s.Promote())
		}
	}
	// Nothing is collected before a scan: that would hide garbage.
	look := func(when string) {
		t.Helper()
		useKeys(t, s)
		for i, name := range []string{"previous", "active", "pending"} {
			inside, outside := scan(t, &needles[i])
			t.Logf("%s, %s key: copies in locked memory %d, elsewhere %d", when, name, inside, outside)
			if inside != 1 || outside != 0 {
				t.Errorf("%s, %s key: %d copies in locked memory, want 1; %d elsewhere, want 0", when, name, inside, outside)
			}
		}
	}
	look("staged and promoted")
	must(t, s.Close())
	s = nil
	collect() // the keys of the closed store
	s = mustOpen(t, dir)
	look("opened again")

	// The scan can find: a copy on the heap is seen.
	leak := unmasked(&needles[1])
	if _, outside := scan(t, &needles[1]); outside != 1 {
		t.Errorf("a copy on the heap was seen %d times", outside)
	}
	clear(*leak)

	// And when a key is dropped and nobody holds it, it is gone from memory.
	must(t, s.Promote(), s.Stage(keyText(1), "x", digestOf(9)), s.Promote())
	collect()
	if inside, outside := scan(t, &needles[0]); inside+outside != 0 {
		t.Errorf("%d copies of a key dropped", inside+outside)
	}
	runtime.KeepAlive(s)
}

// collect lets the memory of forgotten keys be given back, which happens some
// time after a collection, in a goroutine of the runtime's.
func collect() {
	for range 5 {
		runtime.GC()
		runtime.Gosched()
	}
}

func stageRandom(t *testing.T, s *Store, needle *[keyLength]byte, n byte) {
	t.Helper()
	const alphabet = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefgh" // 32 of them
	key := make([]byte, keyLength)
	_, _ = rand.Read(key)
	for i := range key {
		key[i] = alphabet[key[i]%32]
		needle[i] = key[i] ^ maskOf(i)
	}
	must(t, s.Stage(key, "test", digestOf(n)))
}

func useKeys(t *testing.T, s *Store) {
	t.Helper()
	for _, get := range []func() (*Key, error){s.Active, s.Pending, s.Previous} {
		k, err := get()
		must(t, err)
		for n := range 200 {
			_ = k.Sign(bytes.Repeat([]byte("m"), n))
		}
		_, err = k.Derive([]byte("salt"), "info", 64)
		must(t, err)
		_ = fmt.Sprintf("%v %+v %#v", k, *k, struct{ k Key }{*k})
	}
}

func maskOf(i int) byte { return byte(0xa5 + 31*i) }

// unmasked makes a copy on the heap; it is not inlined, or the compiler sees
// that nobody reads the copy and makes none.
//
//go:noinline
func unmasked(needle *[keyLength]byte) *[]byte {
	b := make([]byte, keyLength)
	for i := range b {
		b[i] = needle[i] ^ maskOf(i)
	}
	return &b
}

// scan counts the places of a masked key in all writable memory of this
// process, inside locked mappings and elsewhere.
func scan(t *testing.T, needle *[keyLength]byte) (locked, elsewhere int) {
	t.Helper()
	const chunk = 1 << 20
	// The buffer is a mapping of its own, which is left out.
	buf, err := unix.Mmap(-1, 0, chunk+keyLength, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	must(t, err)
	defer func() {
		clear(buf)
		must(t, unix.Munmap(buf))
	}()
	must(t, unix.Madvise(buf, unix.MADV_DONTFORK)) // "dc" marks it
	mem, err := os.Open("/proc/self/mem")
	must(t, err)
	defer mem.Close()
	for _, m := range mappings(t) {
		if strings.Contains(m.flags, " dc") || !strings.Contains(m.flags, " wr") {
			continue
		}
		for at := m.from; at < m.to; at += chunk {
			n := min(uint64(len(buf)), m.to-at)
			if _, err := mem.ReadAt(buf[:n], int64(at)); err != nil {
				break // a guard page
			}
			for i := -1; ; {
				next := bytes.IndexByte(buf[i+1:n], needle[0]^maskOf(0))
				if i += 1 + next; next < 0 || i+keyLength > int(n) {
					break
				}
				if !match(buf[i:], needle) {
					continue
				}
				if strings.Contains(m.flags, " dd") { // not dumped: one of ours
					locked++
				} else {
					elsewhere++
					t.Logf("a copy in %s", m.name)
				}
			}
		}
	}
	return locked, elsewhere
}

func match(b []byte, needle *[keyLength]byte) bool {
	for i := range needle {
		if b[i]^maskOf(i) != needle[i] {
			return false
		}
	}
	return true
}

type mapping struct {
	from, to    uint64
	name, flags string
}

func mappings(t *testing.T) (all []mapping) {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	must(t, err)
	defer f.Close()
	var m mapping
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := sc.Text()
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok {
			m.flags = flags
			all = append(all, m)
			continue
		}
		if from, to := uint64(0), uint64(0); strings.Contains(strings.Fields(line)[0], "-") {
			if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err == nil {
				m = mapping{from: from, to: to, name: line}
			}
		}
	}
	if len(all) == 0 {
		t.Fatal("no mappings seen")
	}
	return all
}

// TestNoKeyInClearOnDisk looks for keys in all files of a store.
func TestNoKeyInClearOnDisk(t *testing.T) {
	t.Parallel()
	dir, _ := full(t)
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	must(t, err)
	for _, name := range names {
		b, err := os.ReadFile(name)
		must(t, err)
		for i := range 4 {
			if bytes.Contains(b, keyText(i)[:16]) {
				t.Errorf("%s holds a key", name)
			}
		}
		if bytes.Contains(b, bytes.Repeat([]byte{9}, 32)) {
			t.Errorf("%s holds the device secret", name)
		}
	}
}
