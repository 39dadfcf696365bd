package protocol

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// maxFetch bounds a file of 2002: the early drafts' video, the largest there is.
const maxFetch = 10 << 20

// Fetched describes a file that was downloaded.
type Fetched struct {
	ContentType string // as sniffed
	Size        int64
	Name        string // as the platform calls it, without any folder; "" when it says nothing usable
}

// Fetch downloads a media file (2002) to the path dst, whose folder must exist.
// dst gets the whole file or is left as it was: it is written beside under a
// name that begins with ".media-", checked (length, a clean end, what it is
// against what the platform says), made durable, and then renamed. A crash
// leaves at most such a file. No more than 10 MB are taken.
//
// ErrTransport: nothing usable came, try again later. Errors of this machine's
// files belong to no class.
func (c *Client) Fetch(ctx context.Context, mediaID, dst string) (Fetched, error) {
	r := request{name: codeFetch, end: c.catalogue[codeFetch], params: map[string]string{"mediaId": mediaID}, accept: "*/*", whole: true}
	if why := mediaIDForm.check(mediaID); why != "" {
		return Fetched{}, &FieldError{Interface: codeFetch, Field: "mediaId", Why: why}
	}
	dir := filepath.Dir(dst)
	tmp, err := os.CreateTemp(dir, ".media-*")
	if err != nil {
		return Fetched{}, fmt.Errorf("store file: %w", err)
	}
	kept := false
	defer func() {
		_ = tmp.Close() // closed already when all went well
		if !kept {
			_ = os.Remove(tmp.Name())
		}
	}()
	var f Fetched
	err = c.stream(ctx, r, func(header http.Header, body io.Reader) (err error) {
		f, err = c.take(r, tmp, header, body)
		return err
	})
	if err != nil {
		return Fetched{}, err
	}
	for _, step := range []func() error{
		tmp.Sync, tmp.Close,
		// Just before: dst is as it was. Just after: dst is the whole file, which
		// is on the disk; the name follows with the folder.
		func() error { return os.Rename(tmp.Name(), dst) },
		func() error { kept = true; return syncDir(dir) },
	} {
		if err := step(); err != nil {
			return Fetched{}, fmt.Errorf("store file: %w", err)
		}
	}
	return f, nil
}

// take writes a body to its end and checks it.
func (c *Client) take(r request, tmp *os.File, header http.Header, body io.Reader) (Fetched, error) {
	r.path = r.end.Path
	if _, err := tmp.Seek(0, io.SeekStart); err != nil {
		return Fetched{}, fmt.Errorf("store file: %w", err)
	}
	if err := tmp.Truncate(0); err != nil {
		return Fetched{}, fmt.Errorf("store file: %w", err)
	}
	f := Fetched{Name: dispositionName(header.Get("Content-Disposition"))}
	var err error
	if f.Size, err = io.Copy(tmp, io.LimitReader(body, maxFetch+1)); err != nil {
		if _, call := errors.AsType[*CallError](err); call {
			return Fetched{}, err
		}
		return Fetched{}, fmt.Errorf("store file: %w", err)
	}
	if f.Size > maxFetch {
		return Fetched{}, c.fail(r, "file is too large", ErrTransport)
	}
	head := make([]byte, 512)
	n, err := tmp.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return Fetched{}, fmt.Errorf("store file: %w", err)
	}
	if f.ContentType = sniff(head[:n]); !sameType(header.Get("Content-Type"), f.ContentType) {
		return Fetched{}, c.fail(r, "file is not what the platform says it is", ErrTransport)
	}
	return f, nil
}

func dispositionName(s string) string {
	_, params, err := mime.ParseMediaType(s)
	name := params["filename"]
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	if err != nil || fileNameForm.check(name) != "" {
		return ""
	}
	return name
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
