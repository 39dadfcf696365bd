package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// maxKeyInput is more than any key; longer input is refused, never cut.
const maxKeyInput = 256

// readKey reads a base key; see readSecret.
func readKey(ctx context.Context, in io.Reader, prompt io.Writer) ([]byte, error) {
	return readSecret(ctx, in, prompt, "base key", "基础密钥")
}

// readSecret reads a key or a code from in and takes white space off its ends.
// On a terminal nothing is echoed, and the terminal is as before whenever it
// returns. The caller clears the slice. When ctx ends first, a read that the
// system does not let go of stays behind; the program is about to end then.
func readSecret(ctx context.Context, in io.Reader, prompt io.Writer, en, zh string) ([]byte, error) {
	read := func() ([]byte, error) { return readPiped(in) }
	if f, is := in.(*os.File); is && term.IsTerminal(int(f.Fd())) {
		fd := int(f.Fd())
		before, err := term.GetState(fd)
		if err != nil {
			return nil, fmt.Errorf("read key: %w", err)
		}
		defer term.Restore(fd, before) //nolint:errcheck // there is nothing better to do with a terminal that is gone
		fmt.Fprintf(prompt, "%s %s (not shown 不显示): ", en, zh)
		defer fmt.Fprintln(prompt)
		read = func() ([]byte, error) { return term.ReadPassword(fd) }
	}
	type result struct {
		b   []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		b, err := read()
		done <- result{b, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-done:
		if ctx.Err() != nil {
			clear(r.b)
			return nil, ctx.Err()
		}
		if r.err != nil {
			clear(r.b)
			return nil, fmt.Errorf("read key: %w", r.err)
		}
		return checkKey(r.b)
	}
}

func readPiped(in io.Reader) ([]byte, error) {
	buf := make([]byte, maxKeyInput+1)
	n, err := io.ReadFull(in, buf)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil
	}
	return buf[:n], err
}

// checkKey refuses what cannot be a key before it travels: the request is put
// together without an encoder. Its errors never quote the input.
func checkKey(b []byte) ([]byte, error) {
	key := bytes.TrimSpace(b)
	switch {
	case len(key) == 0:
		return nil, errors.New("nothing on standard input")
	case len(b) > maxKeyInput:
		clear(b)
		return nil, errors.New("standard input is longer than a key")
	}
	for _, c := range key {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			clear(b)
			return nil, errors.New("a key is letters and digits on one line")
		}
	}
	return key, nil
}

func isKCV(s string) bool {
	if len(s) != 6 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}
