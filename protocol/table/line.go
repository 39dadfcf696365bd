package table

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/bits"
	"unicode/utf8"
)

var (
	mark        = []byte("\xef\xbb\xbf")
	replacement = []byte("\ufffd")
)

// take returns the next line without its end, a blank one as empty; long: it was longer than a line
// may be and is gone. ok false: there is none, or r.err.
func (r *Reader) take() (line []byte, long, ok bool) {
	for {
		if i := bytes.IndexByte(r.buf[r.start:r.end], '\n'); i >= 0 {
			line = r.buf[r.start : r.start+i]
			r.start += i + 1
			return r.ends(line, long)
		}
		if r.end-r.start > r.o.MaxLine+1 { // a CR may belong to the end
			long, r.start, r.end = true, 0, 0
		}
		if r.ended != nil {
			if !errors.Is(r.ended, io.EOF) {
				r.err = r.ended
				return nil, false, false
			}
			if r.start == r.end && !long {
				return nil, false, false
			}
			line = r.buf[r.start:r.end]
			r.start, r.end = 0, 0
			return r.ends(line, long)
		}
		r.fill()
	}
}

// ends finishes a line.
func (r *Reader) ends(line []byte, long bool) ([]byte, bool, bool) {
	r.line++
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	if r.line == 1 {
		line = bytes.TrimPrefix(line, mark)
	}
	if len(line) > r.o.MaxLine || long {
		return nil, true, true
	}
	if len(line) > 0 && line[0] <= ' ' && len(bytes.TrimLeft(line, " \t\r")) == 0 {
		line = nil
	}
	return line, false, true
}

// fill reads once.
func (r *Reader) fill() {
	if r.start > 0 {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	for range 100 {
		n, err := r.in.Read(r.buf[r.end:])
		r.end += n
		r.sum.Bytes += int64(n)
		if r.ended = err; n > 0 || err != nil {
			return
		}
	}
	r.ended = io.ErrNoProgress
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// equal marks the bytes of x that are c, each by its high bit.
func equal(x uint64, c byte) uint64 {
	x ^= ones * uint64(c)
	return ^((x&^highs + ^uint64(highs)) | x | ^uint64(highs))
}

// content is what scan finds in a line.
type content struct {
	ascii bool
	ctl   bool // has a control character
	utf8  bool // valid
}

// word is the bytes of b from i on, at most eight, blanks behind the end.
func word(b []byte, i int) uint64 {
	if i+8 <= len(b) {
		return binary.LittleEndian.Uint64(b[i:])
	}
	n := len(b) - i
	x := uint64(ones*0x20) << (8 * n)
	if len(b) >= 8 {
		return x | binary.LittleEndian.Uint64(b[len(b)-8:])>>(64-8*n)
	}
	for k := range n {
		x |= uint64(b[i+k]) << (8 * k)
	}
	return x
}

// scanner is what scan has seen so far of a line, in words of eight bytes.
type scanner struct {
	high  uint64 // bytes that are not ASCII
	low   uint64 // control characters
	other uint64 // what is not proven to be UTF-8
	leads uint64 // lead bytes of the word before
}

const rest = ^uint64(highs)

// word takes the next word and marks its separators, a bit a byte. UTF-8 of
// ASCII and three-byte characters, which is what Chinese is, is proven on the
// way: each lead byte announces two more, at their places.
func (s *scanner) word(x uint64) uint64 {
	y := x & rest
	s.low |= ((x - ones*0x20) | (y + ones)) &^ x // below a blank, or 0x7f
	s.high |= x
	if (x|s.leads)&highs != 0 {
		more := x &^ (x << 1)
		lead := x & (x << 1) & (x << 2) &^ (x << 3) & highs
		due := lead<<8 | lead<<16 | s.leads>>56 | s.leads>>48
		s.other |= (due^more)&highs | (x^(more|lead))&highs | equal(x, 0xE0) | equal(x, 0xED)
		s.leads = lead
	}
	return ^(((y ^ ones*'|') + rest) | x | rest) >> 7 * 0x0102040810204080 >> 56
}

// scan finds the separators of a line and what it is made of, 64 bytes at a
// time. A line that is not proven to be UTF-8 on the way is left to utf8.Valid.
func scan(line []byte, seps []int) ([]int, content) {
	var s scanner
	base := 0
	for ; len(line)-base >= 64; base += 64 {
		b := (*[64]byte)(line[base:])
		found := s.word(binary.LittleEndian.Uint64(b[0:8])) | s.word(binary.LittleEndian.Uint64(b[8:16]))<<8 |
			s.word(binary.LittleEndian.Uint64(b[16:24]))<<16 | s.word(binary.LittleEndian.Uint64(b[24:32]))<<24 |
			s.word(binary.LittleEndian.Uint64(b[32:40]))<<32 | s.word(binary.LittleEndian.Uint64(b[40:48]))<<40 |
			s.word(binary.LittleEndian.Uint64(b[48:56]))<<48 | s.word(binary.LittleEndian.Uint64(b[56:64]))<<56
		for ; found != 0; found &= found - 1 {
			seps = append(seps, base+bits.TrailingZeros64(found))
		}
	}
	var found uint64
	for i := base; i < len(line); i += 8 {
		found |= s.word(word(line, i)) << (i - base)
	}
	for ; found != 0; found &= found - 1 {
		seps = append(seps, base+bits.TrailingZeros64(found))
	}
	c := content{ascii: s.high&highs == 0, ctl: s.low&highs != 0}
	c.utf8 = s.other|s.leads>>56|s.leads>>48 == 0 || utf8.Valid(line)
	return seps, c
}

// split finds the fields of a row and checks them. column is the one at fault,
// or how many fields there are.
func (r *Reader) split(line []byte) (f fault, column int) {
	seps, c := scan(line, append(r.seps[:0], -1))
	if !c.ctl && !c.ascii {
		var text []byte
		if text, f = r.decode(line, c.utf8); f != fits {
			return f, 0
		}
		if r.charset == GB18030 {
			// The second byte of a character can be "|": only now is it known.
			line = text
			seps, c = scan(line, append(r.seps[:0], -1))
		}
	}
	seps = append(seps, len(line))
	r.seps = seps
	if c.ctl {
		return control, 0
	}
	if len(seps) != r.width+1 {
		return wrongCount, len(seps) - 1
	}
	rules := r.rules
	for i := range rules {
		c := &rules[i]
		if c.at < 0 {
			continue
		}
		from, to := seps[c.at]+1, seps[c.at+1]
		field := line[from:to]
		if len(field) > 0 && (field[0] == ' ' || field[len(field)-1] == ' ') {
			field = bytes.Trim(field, " ")
		}
		c.field = field
		n := len(field)
		if n == 0 && c.required {
			return empty, i
		}
		if n > c.max && utf8.RuneCount(field) > c.max {
			return longField, i
		}
	}
	return fits, 0
}
