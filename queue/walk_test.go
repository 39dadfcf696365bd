package queue

import (
	"bytes"
	"hash/fnv"
	"strings"
	"testing"
)

// element is an entry of a page made by hand.
type element struct {
	flags    uint32
	key, val string
	child    uint64 // of a branch
}

// handPage lays a page out as bbolt does.
func handPage(id uint64, flags uint16, size int, es ...element) []byte {
	b := make([]byte, size)
	le.PutUint64(b, id)
	le.PutUint16(b[8:], flags)
	le.PutUint16(b[10:], uint16(len(es)))
	end := pageHeader + elemSize*len(es)
	for i, e := range es {
		at := pageHeader + elemSize*i
		if flags == flagBranch {
			le.PutUint32(b[at:], uint32(end-at))
			le.PutUint32(b[at+4:], uint32(len(e.key)))
			le.PutUint64(b[at+8:], e.child)
		} else {
			le.PutUint32(b[at:], e.flags)
			le.PutUint32(b[at+4:], uint32(end-at))
			le.PutUint32(b[at+8:], uint32(len(e.key)))
			le.PutUint32(b[at+12:], uint32(len(e.val)))
		}
		end += copy(b[end:], e.key+e.val)
	}
	return b
}

func leaf(id uint64, es ...element) []byte   { return handPage(id, flagLeaf, 4096, es...) }
func branch(id uint64, es ...element) []byte { return handPage(id, flagBranch, 4096, es...) }

func at(root uint64) string {
	b := make([]byte, bucketHeader)
	le.PutUint64(b, root)
	return string(b)
}

func inline(es ...element) string {
	n := pageHeader
	for _, e := range es {
		n += elemSize + len(e.key) + len(e.val)
	}
	return at(0) + string(handPage(0, flagLeaf, n, es...))
}

// image is a file of these pages behind its meta pages, the root first.
func image(pages ...[]byte) []byte {
	var out []byte
	for txid := range uint64(2) {
		p := make([]byte, 4096)
		m := p[pageHeader:]
		le.PutUint32(m, boltMagic)
		le.PutUint32(m[4:], boltVersion)
		le.PutUint32(m[8:], 4096)
		le.PutUint64(m[16:], 2)
		le.PutUint64(m[32:], noFreelist)
		le.PutUint64(m[40:], uint64(2+len(pages)))
		le.PutUint64(m[48:], txid)
		h := fnv.New64a()
		h.Write(m[:metaSum])
		le.PutUint64(m[metaSum:], h.Sum64())
		out = append(out, p...)
	}
	return append(out, bytes.Join(pages, nil)...)
}

func TestWalkKnowsATreeFromAThicket(t *testing.T) {
	t.Parallel()
	kv := func(k string) element { return element{key: k, val: "v"} }
	bucket := func(k, v string) element { return element{flags: bucketLeaf, key: k, val: v} }
	to := func(k string, id uint64) element { return element{key: k, child: id} }
	empty := leaf(3)
	header := func(p []byte, at int, v byte) []byte { p[at] = v; return p }
	for _, c := range []struct {
		name  string
		pages [][]byte
		want  string // "" = a tree
	}{
		{"a bucket with two pages and one inside", [][]byte{
			leaf(2, bucket("a", at(3)), bucket("b", inline(kv("x"), kv("y")))),
			branch(3, to("k", 4), to("m", 5)), leaf(4, kv("k"), kv("l")), leaf(5, kv("m")),
		}, ""},
		{"a bucket with nothing in it", [][]byte{leaf(2, bucket("a", at(3)), bucket("b", inline())), empty}, ""},
		{"a page that another branch has", [][]byte{branch(2, to("a", 3), to("b", 3)), leaf(3, kv("a"))}, "used twice"},
		{"a page below itself", [][]byte{branch(2, to("a", 2)), empty}, "used twice"},
		{"the overflow of a page used as a page", [][]byte{
			leaf(2, bucket("a", at(3)), bucket("b", at(4))), header(leaf(3), 12, 1), leaf(4),
		}, "used twice"},
		{"an overflow that reaches a page before it", [][]byte{
			leaf(2, bucket("a", at(4)), bucket("b", at(3))), header(leaf(3), 12, 1), leaf(4),
		}, "used twice"},
		{"an overflow beyond the end", [][]byte{leaf(2, bucket("a", at(3))), header(leaf(3), 12, 9)}, "header"},
		{"a page that is another", [][]byte{leaf(2, bucket("a", at(3))), leaf(4)}, "header"},
		{"a child that is a meta page", [][]byte{branch(2, to("a", 1)), empty}, "out of range"},
		{"a child behind the end", [][]byte{branch(2, to("a", 99)), empty}, "out of range"},
		{"a branch without children", [][]byte{leaf(2, bucket("a", at(3))), branch(3)}, "flags"},
		{"a freelist page", [][]byte{leaf(2, bucket("a", at(3))), handPage(3, 0x10, 4096)}, "flags"},
		{"an empty leaf below a branch", [][]byte{branch(2, to("a", 3)), empty}, "0 elements"},
		{"more elements than a page can hold", [][]byte{header(leaf(2), 11, 0xff), empty}, "elements"},
		{"an empty key", [][]byte{leaf(2, kv("")), empty}, "out of range"},
		{"an empty key in a branch", [][]byte{branch(2, to("", 3)), leaf(3, kv("a"))}, "out of range"},
		{"a value beyond the page", [][]byte{header(leaf(2, kv("a")), pageHeader+14, 1), empty}, "out of range"},
		{"keys that go down", [][]byte{leaf(2, kv("b"), kv("a")), empty}, "out of order"},
		{"the same key twice", [][]byte{leaf(2, kv("a"), kv("a")), empty}, "out of order"},
		{"a key before its branch", [][]byte{branch(2, to("b", 3)), leaf(3, kv("a"))}, "out of order"},
		{"a key of the next branch", [][]byte{branch(2, to("a", 3), to("b", 4)), leaf(3, kv("a"), kv("b")), leaf(4, kv("b"))}, "out of order"},
		{"an element of an unknown kind", [][]byte{leaf(2, element{flags: 2, key: "a"}), empty}, "flags"},
		{"a bucket without a header", [][]byte{leaf(2, bucket("a", "x")), empty}, "too short"},
		{"a bucket inside without a page", [][]byte{leaf(2, bucket("a", at(0))), empty}, "too short"},
		{"a branch inside", [][]byte{leaf(2, bucket("a", at(0)+string(handPage(0, flagBranch, 64, to("a", 3))))), empty}, "flags"},
		{"a bucket in a bucket inside", [][]byte{leaf(2, bucket("a", inline(bucket("b", at(3))))), empty}, "inside an inline"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := image(c.pages...)
			err := walk(bytes.NewReader(b), int64(len(b)))
			if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	deep := make([][]byte, 0, 50)
	for id := uint64(2); id < 50; id++ {
		deep = append(deep, branch(id, to("a", id+1)))
	}
	b := image(append(deep, leaf(50, kv("a")))...)
	if err := walk(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), "too deep") {
		t.Errorf("a very deep tree: %v", err)
	}
}
