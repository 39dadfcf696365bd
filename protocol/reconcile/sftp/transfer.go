package sftp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"sync/atomic"
	"time"

	wire "github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// chunk is what goes in one step; a server must take packets of 32 KB.
const chunk = 32 << 10

// link is one connection. Every use of the server goes through step.
type link struct {
	conn net.Conn
	ssh  *ssh.Client
	ftp  *wire.Client
	ctx  context.Context //nolint:containedctx // of the one call the connection is for
	each time.Duration
	late atomic.Bool
}

func (s *Client) open(ctx context.Context) (*link, error) {
	conn, client, err := s.connect(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	l := &link{conn: conn, ssh: client, ctx: ctx, each: s.c.Step}
	if err := l.step("open session", func() (err error) {
		l.ftp, err = wire.NewClient(client, wire.UseConcurrentReads(false), wire.UseConcurrentWrites(false))
		return err
	}); err != nil {
		_ = client.Close()
		return nil, err
	}
	return l, nil
}

// close ends the connection; whatever mattered has been checked before. Closing
// the line first means that nobody waits for a server's goodbye.
func (l *link) close() {
	_ = l.conn.Close()
	_ = l.ftp.Close()
	_ = l.ssh.Close()
}

// step does one thing with the server within its time. A library call cannot be
// cut short; the line under it can.
func (l *link) step(what string, f func() error) error {
	timer := time.AfterFunc(l.each, func() { l.late.Store(true); _ = l.conn.Close() })
	defer timer.Stop()
	stop := context.AfterFunc(l.ctx, func() { _ = l.conn.Close() })
	defer stop()
	err := f()
	status, answered := errors.AsType[*wire.StatusError](err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %w", what, fs.ErrNotExist)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w: permission denied", what, ErrRefused)
	case answered && status.FxCode() != wire.ErrSSHFxConnectionLost && status.FxCode() != wire.ErrSSHFxNoConnection:
		return fmt.Errorf("%s: %w: code %d", what, ErrRefused, status.Code)
	case l.ctx.Err() != nil:
		return context.Cause(l.ctx)
	case l.late.Load():
		return fmt.Errorf("%s: %w: no answer within %v", what, ErrLost, l.each)
	}
	// Whatever else it is, nobody knows what has arrived.
	return fmt.Errorf("%s: %w: %w", what, ErrLost, err)
}

// Put makes content the file at name, replacing what is there. When it returns
// nil the whole file has been read back from the server and has its name.
// Folders that are missing are made. After an error the file at name is the old
// one, the new one or, without posix-rename, missing; never a part of one.
func (s *Client) Put(ctx context.Context, name string, content []byte) error {
	if err := s.put(ctx, name, content); err != nil {
		return fmt.Errorf("put %s: %w", path.Base(name), err)
	}
	return nil
}

func (s *Client) put(ctx context.Context, name string, content []byte) error {
	l, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer l.close()
	if same, err := l.holds(name, content); err != nil || same {
		return err // an earlier try has done it, and its answer was lost
	}
	if err := l.folder(path.Dir(name)); err != nil {
		return err
	}
	hash := sha256.Sum256(content)
	temp := name + "." + hex.EncodeToString(hash[:6]) + ".tmp"
	done, err := l.begun(temp, content)
	if err != nil {
		return err
	}
	if err := l.write(temp, content, done); err != nil {
		return err
	}
	switch same, err := l.holds(temp, content); {
	case err != nil:
		return err
	case !same:
		return fmt.Errorf("what was written is not what is there: %w", ErrRefused)
	}
	return l.rename(temp, name)
}

// holds reports whether the file at name is content, byte for byte.
func (l *link) holds(name string, content []byte) (bool, error) {
	size, err := l.size(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || size != int64(len(content)) {
		return false, err
	}
	got, err := l.read(name, int64(len(content)))
	return bytes.Equal(got, content), err
}

func (l *link) size(name string) (n int64, err error) {
	err = l.step("look", func() error {
		st, err := l.ftp.Stat(name)
		if err != nil {
			return err
		}
		if n = st.Size(); !st.Mode().IsRegular() {
			n = -1
		}
		return nil
	})
	return n, err
}

func (l *link) folder(dir string) error {
	_, err := l.size(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = l.step("make folder", func() error { return l.ftp.MkdirAll(dir) })
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make folder: %w: no such place", ErrRefused)
	}
	return err
}

// begun tells how much of content an earlier try has left at temp, 0 when what
// is there is not a beginning of it. A size alone proves nothing: a server that
// lost its power may have kept a length of zeros.
func (l *link) begun(temp string, content []byte) (int, error) {
	size, err := l.size(temp)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil || size <= 0 || size > int64(len(content)) {
		return 0, err
	}
	got, err := l.read(temp, size)
	if err != nil || !bytes.Equal(got, content[:len(got)]) {
		return 0, err
	}
	return len(got), nil
}

// write adds what is missing and syncs.
func (l *link) write(temp string, content []byte, done int) (err error) {
	flags := os.O_WRONLY | os.O_CREATE
	if done == 0 {
		flags |= os.O_TRUNC
	}
	var f *wire.File
	if err := l.step("create", func() (err error) { f, err = l.ftp.OpenFile(temp, flags); return err }); err != nil {
		return err
	}
	for at := done; at < len(content); {
		n := min(chunk, len(content)-at)
		if err := l.step("write", func() error { _, err := f.WriteAt(content[at:at+n], int64(at)); return err }); err != nil {
			// Even a status may be the library's own word for a line that is gone.
			return fmt.Errorf("%w: %w", ErrLost, err)
		}
		at += n
	}
	if _, can := l.ftp.HasExtension("fsync@openssh.com"); can {
		if err := l.step("sync", f.Sync); err != nil {
			return err
		}
	}
	return l.step("close", f.Close)
}

// rename gives the whole file its name.
func (l *link) rename(temp, name string) error {
	if _, can := l.ftp.HasExtension("posix-rename@openssh.com"); can {
		return l.step("rename", func() error { return l.ftp.PosixRename(temp, name) })
	}
	// The protocol's own rename replaces nothing.
	first := l.step("rename", func() error { return l.ftp.Rename(temp, name) })
	if !errors.Is(first, ErrRefused) {
		return first
	}
	err := l.step("remove old file", func() error { return l.ftp.Remove(name) })
	if errors.Is(err, fs.ErrNotExist) {
		return first
	}
	if err != nil {
		return err
	}
	return l.step("rename", func() error { return l.ftp.Rename(temp, name) })
}

// Get reads the whole file at name, at most limit bytes. fs.ErrNotExist: there
// is none.
func (s *Client) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	b, err := s.get(ctx, name, limit)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", path.Base(name), err)
	}
	return b, nil
}

func (s *Client) get(ctx context.Context, name string, limit int64) ([]byte, error) {
	l, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	defer l.close()
	size, err := l.size(name)
	switch {
	case err != nil:
		return nil, err
	case size < 0:
		return nil, fmt.Errorf("%w: not a file", ErrRefused)
	case size > limit:
		return nil, fmt.Errorf("%d bytes, at most %d: %w", size, limit, ErrTooLarge)
	}
	b, err := l.read(name, limit+1)
	switch {
	case err != nil:
		return nil, err
	case int64(len(b)) > limit: // it has grown, or the size was a lie
		return nil, fmt.Errorf("more than %d bytes: %w", limit, ErrTooLarge)
	case int64(len(b)) < size:
		return nil, fmt.Errorf("%d of %d bytes: %w", len(b), size, ErrLost)
	}
	return b, nil
}

// read reads a file from its beginning, at most limit bytes.
func (l *link) read(name string, limit int64) ([]byte, error) {
	var f *wire.File
	if err := l.step("open", func() (err error) { f, err = l.ftp.Open(name); return err }); err != nil {
		return nil, err
	}
	var got []byte
	buf := make([]byte, chunk)
	for int64(len(got)) < limit {
		n, end := 0, false
		err := l.step("read", func() (err error) {
			n, err = f.Read(buf[:min(chunk, limit-int64(len(got)))])
			if end = err == io.EOF; end { //nolint:errorlint // only the server's own word; a broken line's EOF comes wrapped
				err = nil
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		got = append(got, buf[:n]...)
		if end || n == 0 {
			break
		}
	}
	return got, l.step("close", f.Close)
}
