package localapi

import (
	"errors"
	"io"
	"sync"
)

// secretText keeps a key out of a Go string: it cannot be cleared.
type secretText []byte

var errSecret = errors.New("not a string of plain characters")

// UnmarshalJSON takes a string of ASCII, escaped or not, without the
// decoder's own copy. Its error never quotes it.
func (s *secretText) UnmarshalJSON(b []byte) error {
	s.wipe()
	*s = nil
	if len(b) < 2 || b[0] != '"' || b[len(b)-1] != '"' {
		return errSecret
	}
	out := make([]byte, 0, len(b))
	for b = b[1 : len(b)-1]; len(b) > 0; b = b[1:] {
		c := b[0]
		if c == '\\' {
			var n int
			if c, n = unescape(b); n == 0 {
				clear(out)
				return errSecret
			}
			b = b[n-1:]
		}
		if c < ' ' || c > '~' {
			clear(out)
			return errSecret
		}
		out = append(out, c)
	}
	*s = out
	return nil
}

func (s *secretText) wipe() { clear((*s)[:cap(*s)]) }

// unescape reads one escape at the beginning of b; n is its length, 0 for one
// that stands for no ASCII character.
func unescape(b []byte) (c byte, n int) {
	switch {
	case len(b) >= 2 && (b[1] == '"' || b[1] == '\\' || b[1] == '/'):
		return b[1], 2
	case len(b) >= 6 && b[1] == 'u' && b[2] == '0' && b[3] == '0':
		hi, lo := nibble(b[4]), nibble(b[5])
		if hi < 8 && lo < 16 {
			return hi<<4 | lo, 6
		}
	}
	return 0, 0
}

func nibble(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}

// appendQuoted writes text as a JSON string. Bytes that are not printable
// ASCII become escapes, each byte for itself: no key has any, and the other
// side shall say so. It needs up to 6 bytes for one; a dst with that much room
// is not moved in memory.
func appendQuoted[T []byte | string](dst []byte, text T) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ' || c > '~':
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// secretBody is a request's body that can be cleared although the transport
// may still be reading it: it does so beyond the end of a call cut short.
type secretBody struct {
	mu        sync.Mutex
	left, all []byte
}

func (b *secretBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	return n, nil
}

func (b *secretBody) wipe() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.all)
	b.left = nil
}
