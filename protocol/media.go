package protocol

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"slices"
	"strings"
	"time"
)

// Types of a media file (2001). Video is answered by a platform and never
// taken: the document lists it with the answer only.
const (
	MediaImage = "image"
	MediaVoice = "voice"
	MediaThumb = "thumb"
	MediaVideo = "video"
)

// File is a file for Upload.
type File struct {
	Type string // MediaImage, MediaVoice or MediaThumb
	// Name is told to the platform: letters, digits, dot, dash, underscore, at
	// most 64, with the ending its content has. It should name no person.
	Name        string
	ContentType string // what the content is taken for; empty: what it is
	Size        int64  // bytes, exactly
	// Open gives the content from its beginning. It is called once for the check
	// and once for each try: a file is sent whole or not at all.
	Open func() (io.ReadCloser, error)
}

// Media is an uploaded file as the platform knows it.
type Media struct {
	Type string
	ID   string // mediaId; may be used more than once
	// Created is the platform's time of the upload; zero when it was told in no
	// form known here.
	Created time.Time
}

// mediaRule is what the document takes for one type (clause 4).
type mediaRule struct {
	kind  string
	bytes int64
	time  time.Duration // of a voice
	types []string      // as sniffed
}

func mediaRules() []mediaRule {
	return []mediaRule{
		{MediaImage, 2 << 20, 0, []string{typePNG, typeJPEG, typeGIF}},
		{MediaVoice, 2 << 20, time.Minute, []string{typeAMR, typeMP3}},
		{MediaThumb, 64 << 10, 0, []string{typeJPEG}},
	}
}

var (
	fileNameForm = pattern(`[0-9A-Za-z_-][0-9A-Za-z._-]*\.[0-9A-Za-z]+`, 64, "want letters, digits, dot, dash, underscore and an ending, at most 64")
	mediaIDForm  = name(64)
)

// CheckFile tells whether the platform would take the file by the document's
// limits: type, size, content by what it begins with, name, and for a voice its
// length as far as its frames tell it. A FieldError (ErrNotSent, ErrPermanent)
// says what does not fit; the content is read to its end.
func (c *Client) CheckFile(f File) error {
	_, err := c.checkFile(f)
	return err
}

// checkFile returns the content type the part is sent with.
func (c *Client) checkFile(f File) (string, error) {
	wrong := func(field, why string) error { return &FieldError{Interface: codeUpload, Field: field, Why: why} }
	rules := mediaRules()
	i := slices.IndexFunc(rules, func(r mediaRule) bool { return r.kind == f.Type })
	switch {
	case f.Type == MediaVideo:
		return "", wrong("type", "video is answered, never sent")
	case i < 0:
		return "", wrong("type", "want image, voice or thumb")
	case f.Size < 1:
		return "", wrong("media", "is empty")
	case f.Size > rules[i].bytes:
		return "", wrong("media", fmt.Sprintf("%d bytes are more than the %d of type %s", f.Size, rules[i].bytes, f.Type))
	case f.Open == nil:
		return "", wrong("media", "has no content")
	}
	if why := fileNameForm.check(f.Name); why != "" {
		return "", wrong("filename", why)
	}
	file, err := f.Open()
	if err != nil {
		return "", c.unreadable(err)
	}
	defer file.Close() //nolint:errcheck // only read
	var all int64
	is, lasts, err := inspect(io.TeeReader(io.LimitReader(file, f.Size+1), counting(&all)))
	switch {
	case err != nil:
		return "", c.unreadable(err)
	case all != f.Size:
		return "", wrong("media", fmt.Sprintf("has not the %d bytes it was said to have", f.Size))
	case !slices.Contains(rules[i].types, is):
		return "", wrong("media", fmt.Sprintf("content is no %s of type %s", strings.Join(rules[i].types, ", "), f.Type))
	case f.ContentType != "" && plainType(f.ContentType) != is:
		return "", wrong("content-type", "content is "+is)
	case !slices.Contains(endings(is), strings.ToLower(path.Ext(f.Name))):
		return "", wrong("filename", "content is "+is+", want the ending "+strings.Join(endings(is), " or "))
	case rules[i].time > 0 && lasts > rules[i].time:
		return "", wrong("media", fmt.Sprintf("lasts %v, more than %v", lasts.Round(10*time.Millisecond), rules[i].time))
	}
	return is, nil
}

// counting is a writer that counts.
type counter64 struct{ n *int64 }

func counting(n *int64) io.Writer { return counter64{n} }

func (c counter64) Write(p []byte) (int, error) { *c.n += int64(len(p)); return len(p), nil }

func (c *Client) unreadable(err error) error {
	e := c.fail(request{name: codeUpload, end: c.catalogue[codeUpload], path: c.catalogue[codeUpload].Path}, "file cannot be read", ErrNotSent)
	e.cause = err
	return e
}

// Upload sends a file (2001). It is checked first, as CheckFile does. The body
// is streamed with its exact length; only the query is signed. The whole has no
// deadline but ctx's; an upload or an answer that stands still for
// TimeoutBacklog is given up.
//
// ErrTransport: the platform may or may not have the file; sending it again
// leaves at worst a copy nobody refers to.
func (c *Client) Upload(ctx context.Context, f File) (Media, error) {
	kind, err := c.checkFile(f)
	if err != nil {
		return Media{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(c.TimeoutBacklog, func() { cancel(context.DeadlineExceeded) })
	defer stalled.Stop()

	end := c.catalogue[codeUpload]
	part := end.out.fields["media"].to
	var mark [16]byte
	_, _ = rand.Read(mark[:]) // never fails; no file contains it
	boundary := "vcckiosk-" + hex.EncodeToString(mark[:])
	head := fmt.Appendf(nil, "--%s\r\nContent-Disposition: form-data; name=%q; filename=%q; filelength=%d\r\nContent-Type: %s\r\n\r\n",
		boundary, part, f.Name, f.Size, kind)
	tail := fmt.Appendf(nil, "\r\n--%s--\r\n", boundary)

	r := request{
		name: codeUpload, end: end, params: map[string]string{"type": f.Type},
		uploadType: "multipart/form-data; boundary=" + boundary,
	}
	var a answer
	err = c.attempts(ctx, r, func(r request, s *session, pw password) error {
		var body *uploadBody
		r.upload = func() (io.ReadCloser, int64, error) {
			file, err := f.Open()
			if err != nil {
				return nil, 0, err
			}
			body = &uploadBody{
				file: file, left: f.Size, moved: func() { stalled.Reset(c.TimeoutBacklog) },
				head: bytes.NewReader(head), tail: bytes.NewReader(tail),
			}
			return body, int64(len(head)) + f.Size + int64(len(tail)), nil
		}
		var err error
		a, err = c.exchange(ctx, r, s, pw, func(*value) []password { return []password{pw} })
		if e, ok := errors.AsType[*CallError](err); ok && body != nil && body.failed() != nil {
			e.Reason, e.cause = "file cannot be read", body.failed()
		}
		return err
	})
	if err != nil {
		return Media{}, err
	}
	return c.media(a)
}

func (c *Client) media(a answer) (Media, error) {
	in := newReader(a.value)
	m := Media{Type: in.form("type", words(MediaImage, MediaVoice, MediaThumb, MediaVideo), false), ID: in.form("mediaId", mediaIDForm, true)}
	text := in.literal("createTime", 32)
	if err := c.closed(codeUpload, in); err != nil {
		return Media{}, err
	}
	var known bool
	if m.Created, known = parseTime(text); !known {
		c.log.Warn("createTime is in no known form", slog.String("interface", codeUpload), slog.Int("length", len(text)))
	}
	return m, nil
}

// parseTime reads a time as this platform's document and its samples write it:
// yyyyMMddHHmmss, yyyy-MM-dd HH:mm:ss, seconds or milliseconds since 1970. The
// hours are 0 to 23 whatever the document's hh says, the zone is Shanghai's.
// Fourteen digits that are a date are never an epoch.
func parseTime(text string) (time.Time, bool) {
	for _, layout := range []string{"20060102150405", "2006-01-02 15:04:05"} {
		if len(text) == len(layout) {
			if t, err := time.ParseInLocation(layout, text, shanghai()); err == nil {
				return t, true
			}
		}
	}
	if len(text) == 0 || len(text) > 13 || strings.Trim(text, "0123456789") != "" {
		return time.Time{}, false
	}
	var n int64
	for _, d := range text {
		n = n*10 + int64(d-'0')
	}
	if n >= 100_000_000_000 {
		return time.UnixMilli(n), true
	}
	return time.Unix(n, 0), true
}
