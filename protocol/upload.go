package protocol

import (
	"bytes"
	"io"
	"sync"
)

// uploadBody is a form with one file in it, read once. A file that turns out
// shorter breaks the request off: a length that was told is kept or nothing is.
type uploadBody struct {
	head, tail *bytes.Reader
	file       io.ReadCloser
	left       int64 // of the file
	moved      func()

	mu  sync.Mutex
	err error
}

// Read is called by one goroutine of the transport.
func (b *uploadBody) Read(p []byte) (int, error) {
	b.moved()
	if b.head.Len() > 0 {
		return b.head.Read(p)
	}
	if b.left == 0 {
		return b.tail.Read(p)
	}
	n, err := b.file.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err == io.EOF {
		if err = nil; b.left > 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	if err != nil {
		b.mu.Lock()
		b.err = err
		b.mu.Unlock()
	}
	return n, err
}

// failed is what kept the file from being read to its end. The transport may
// still be reading while its answer is here already.
func (b *uploadBody) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// Close closes the file.
func (b *uploadBody) Close() error { return b.file.Close() }
