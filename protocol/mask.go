package protocol

import (
	"bytes"
	"crypto/rand"
	"slices"
)

// mask takes secrets out of an answer before it is decoded, so that they are
// never in a Go string, which cannot be cleared. In their place stands a text
// of equal length that nobody can guess.
type mask struct {
	names []string // on the wire
	taken []taken
}

type taken struct{ value, stand []byte }

// Secrets shorter than this are not taken: their stand-in could be a text that
// is there by chance.
const minSecret = 16

// mask makes one for fields of an answer, by the catalogue's names.
func (e *endpoint) mask(fields ...string) *mask {
	m := &mask{}
	for wire, rule := range e.in.fields {
		if slices.Contains(fields, rule.to) {
			m.names = append(m.names, wire)
		}
	}
	return m
}

// take replaces, in raw, each string of 16 to 512 plain letters and digits that
// is the value of a member with one of the names, at whatever depth.
func (m *mask) take(raw []byte) {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '"' {
			continue
		}
		end := textEnd(raw, i)
		if end < 0 {
			return
		}
		name := raw[i+1 : end]
		i = end
		at := skipBlank(raw, end+1)
		if at >= len(raw) || raw[at] != ':' || !slices.ContainsFunc(m.names, func(s string) bool { return string(name) == s }) {
			continue
		}
		at = skipBlank(raw, at+1)
		if at >= len(raw) || raw[at] != '"' {
			continue
		}
		last := textEnd(raw, at)
		if last < 0 {
			return
		}
		text := raw[at+1 : last]
		i = last
		if len(text) < minSecret || len(text) > 512 || slices.ContainsFunc(text, notPlain) || len(m.taken) == 8 {
			continue
		}
		t := taken{value: bytes.Clone(text), stand: standIn(len(text))}
		copy(text, t.stand)
		m.taken = append(m.taken, t)
	}
}

// textEnd is where the string that begins at i ends, -1 if it does not.
func textEnd(raw []byte, i int) int {
	for i++; i < len(raw); i++ {
		switch raw[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

func skipBlank(raw []byte, i int) int {
	for i < len(raw) && (raw[i] == ' ' || raw[i] == '\t' || raw[i] == '\r' || raw[i] == '\n') {
		i++
	}
	return i
}

func notPlain(c byte) bool {
	return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
}

func standIn(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	for i := range b {
		b[i] = 'a' + b[i]%26
	}
	return b
}

// restored digests a message as it was before take.
func (m *mask) restored(pw password) password {
	return func(message []byte) string {
		real := bytes.Clone(message)
		defer clear(real)
		for _, t := range m.taken {
			if i := bytes.Index(real, t.stand); i >= 0 {
				copy(real[i:], t.value)
			}
		}
		return pw(real)
	}
}

// value is the secret that v stands for, nil if it stands for none. It is the
// caller's to clear.
func (m *mask) value(v *value) []byte {
	if v == nil || v.kind != kindString {
		return nil
	}
	for _, t := range m.taken {
		if v.text == string(t.stand) {
			return bytes.Clone(t.value)
		}
	}
	return nil
}

func (m *mask) clear() {
	for _, t := range m.taken {
		clear(t.value)
	}
}
