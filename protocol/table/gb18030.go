package table

import (
	"bytes"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/transform"
)

// gb18030 makes UTF-8 of GB18030 line by line. Characters of two bytes, which
// is nearly all of them, go by a table that x/text fills; any other line is
// left to x/text.
type gb18030 struct {
	decoder transform.Transformer
	pairs   []uint16
	out     []byte
}

const trails = 0xFF - 0x40

// pairs are the characters by first byte - 0x81 and second - 0x40; 0: none. It
// is a constant of 48 KB that is worked out when it is first needed.
var pairs = sync.OnceValue(func() []uint16 {
	all := make([]uint16, (0xFF-0x81)*trails)
	decoder := simplifiedchinese.GB18030.NewDecoder()
	pair, out := make([]byte, 2), make([]byte, 8)
	for i := range all {
		pair[0], pair[1] = byte(0x81+i/trails), byte(0x40+i%trails)
		decoder.Reset()
		n, _, err := decoder.Transform(out, pair, true)
		r, size := utf8.DecodeRune(out[:n])
		if err == nil && size == n && r >= 0x80 && r != utf8.RuneError && r < 0x10000 {
			all[i] = uint16(r)
		}
	}
	return all
})

func newGB18030(maxLine int) *gb18030 {
	return &gb18030{decoder: simplifiedchinese.GB18030.NewDecoder(), pairs: pairs(), out: make([]byte, 3*maxLine+16)}
}

// decode is valid until the next one.
func (g *gb18030) decode(line []byte) ([]byte, bool) {
	n := 0
	for i := 0; i < len(line); {
		c := line[i]
		if c < utf8.RuneSelf {
			g.out[n] = c
			n++
			i++
			continue
		}
		if i+1 == len(line) || c < 0x81 || c == 0xFF || line[i+1] < 0x40 || line[i+1] == 0xFF {
			return g.slow(line)
		}
		r := rune(g.pairs[int(c-0x81)*trails+int(line[i+1]-0x40)])
		if r == 0 {
			return g.slow(line)
		}
		n += utf8.EncodeRune(g.out[n:], r)
		i += 2
	}
	return g.out[:n], true
}

func (g *gb18030) slow(line []byte) ([]byte, bool) {
	g.decoder.Reset()
	n, _, err := g.decoder.Transform(g.out, line, true)
	return g.out[:n], err == nil && !bytes.Contains(g.out[:n], replacement)
}
