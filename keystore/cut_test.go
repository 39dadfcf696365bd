package keystore

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
)

const sector = 512

// cuts are the images of a directory that a power cut may leave.
type cuts struct {
	t      *testing.T
	dir    string // where an image is opened
	n      int
	lost   int
	failed map[string]bool
}

// try opens an image; it must hold one of want.
func (c *cuts) try(what string, files map[string][]byte, want ...string) {
	c.t.Helper()
	c.n++
	writeFiles(c.t, c.dir, files)
	got := "nothing that opens"
	s, err := Open(c.dir, slot, Options{})
	if err == nil {
		got = shape(s)
		err = s.Close()
	}
	for _, w := range want {
		if err == nil && got == w {
			return
		}
	}
	c.lost++
	if !c.failed[what] {
		c.failed[what] = true
		c.t.Errorf("cut %s: the store holds %q (%v), want one of %q", what, got, err, want)
	}
}

// commit tries what may be on disk between the file before and after: bbolt
// writes its pages in any order, sector by sector, syncs, and then writes the
// meta page, which itself may be torn.
func (c *cuts) commit(what string, before, after map[string][]byte, was, is string) {
	c.t.Helper()
	old, fresh := before[dbName], after[dbName]
	if len(old) != len(fresh) {
		c.t.Fatalf("%s: the file grew", what)
	}
	var pages []int // sectors that differ, without the meta pages
	for at := 2 * pageSize; at < len(old); at += sector {
		if !bytes.Equal(old[at:at+sector], fresh[at:at+sector]) {
			pages = append(pages, at)
		}
	}
	image := func(db []byte) map[string][]byte {
		files := maps.Clone(before)
		files[dbName] = db
		return files
	}
	rnd := rand.New(rand.NewPCG(uint64(len(pages)), 7))
	for round := range 4 {
		order := rnd.Perm(len(pages))
		db := bytes.Clone(old)
		for i, p := range order {
			at, n := pages[p], sector
			if round%2 == 1 && i == len(order)-1 {
				n = rnd.IntN(sector) // a torn sector
			}
			copy(db[at:at+n], fresh[at:])
			c.try(what+", pages", image(db), was)
		}
	}
	for _, at := range []int{0, pageSize} {
		if bytes.Equal(old[at:at+pageSize], fresh[at:at+pageSize]) {
			continue
		}
		for n := 0; n <= 80; n += 4 {
			db := bytes.Clone(fresh)
			copy(db[at:at+pageSize], old[at:at+pageSize])
			copy(db[at:at+n], fresh[at:])
			c.try(what+", meta", image(db), was, is)
		}
	}
	c.try(what+", done", after, is)
}

// TestPowerCuts cuts the power between and inside all durable steps of a
// store's life and opens what is left.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	c := &cuts{t: t, dir: filepath.Join(t.TempDir(), "cut"), failed: make(map[string]bool)}
	dir := t.TempDir()
	var at []map[string][]byte
	var names []string
	o := Options{afterStep: func(what string) {
		at, names = append(at, readFiles(t, dir)), append(names, what)
	}}

	// Making the store, and making it again from every half-made one.
	s, err := o.open(dir, slot)
	must(t, err)
	made := at
	if len(made) != 6 {
		t.Fatalf("steps of making a store: %q", names)
	}
	for i, files := range made {
		c.try("making, "+names[i], files, "")
		for name := range files { // and a file torn while it was written
			if strings.HasSuffix(name, newName) {
				torn := maps.Clone(files)
				torn[name] = torn[name][:len(torn[name])/2]
				c.try("making, torn "+name, torn, "")
			}
		}
	}
	for i, files := range made[:len(made)-1] {
		writeFiles(t, dir, files)
		at, names = nil, nil
		again, err := o.open(dir, slot)
		must(t, err)
		for j, files := range at {
			c.try(fmt.Sprintf("making again after %d, %s", i, names[j]), files, "")
		}
		must(t, again.Close())
	}
	must(t, s.Close())

	writeFiles(t, dir, made[len(made)-1])
	s, err = o.open(dir, slot)
	must(t, err)
	for i, step := range []struct {
		name string
		do   func() error
	}{
		{"stage the first", func() error { return s.Stage(keyText(1), "a", digestOf(1)) }},
		{"promote the first", s.Promote},
		{"set device secret", func() error { return s.SetDeviceSecret(bytes.Repeat([]byte{5}, 32)) }},
		{"stage the second", func() error { return s.Stage(keyText(2), "a", digestOf(2)) }},
		{"stage over it", func() error { return s.Stage(keyText(3), "a", digestOf(3)) }},
		{"promote the second", s.Promote},
		{"stage the third", func() error { return s.Stage(keyText(4), "a", digestOf(4)) }},
		{"drop it", func() error { return s.DropPending("refused") }},
		{"stage the fourth", func() error { return s.Stage(keyText(5), "a", digestOf(5)) }},
		{"promote the fourth", s.Promote},
		{"expire the previous", func() error { _, _, err := s.Expire(now().Add(PreviousLife)); return err }},
	} {
		at, names = nil, nil
		was := shape(s)
		must(t, step.do())
		is := shape(s)
		if len(at) != 2 || was == is {
			t.Fatalf("step %d %s: %d durable steps, %q to %q", i, step.name, len(at), was, is)
		}
		c.try(step.name+", before commit", at[0], was)
		c.commit(step.name, at[0], at[1], was, is)
	}
	holds := shape(s)
	must(t, s.Close())

	// The header is written again, copy after copy; and a copy is mended.
	h, _, err := readHeaders(dir)
	must(t, err)
	at, names = nil, nil
	h.Serial++
	must(t, o.writeHeaders(dir, h, hdr1, hdr2))
	files := readFiles(t, dir)
	delete(files, hdr1)
	writeFiles(t, dir, files)
	s, err = o.open(dir, slot)
	must(t, err, s.Close())
	if len(at) != 6 {
		t.Fatalf("steps of writing headers: %q", names)
	}
	for i, files := range at {
		c.try("headers, "+names[i], files, holds)
		for _, name := range []string{hdr1 + newName, hdr2 + newName} {
			if b, ok := files[name]; ok {
				torn := maps.Clone(files)
				torn[name] = b[:len(b)/2]
				c.try("headers, torn "+name, torn, holds)
			}
		}
	}
	t.Logf("cuts=%d lost=%d", c.n, c.lost)
}
