package protocol

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/protocol/vcctest"
)

var (
	pngFile  = "\x89PNG\r\n\x1a\n" + strings.Repeat("p", 3000)
	jpegFile = "\xff\xd8\xff\xe0" + strings.Repeat("j", 2000)
	gifFile  = "GIF89a" + strings.Repeat("g", 100)
)

// amr is a voice of so many frames of 20 ms at 12.2 kbit/s.
func amr(frames int) string {
	return "#!AMR\n" + strings.Repeat("\x3c"+strings.Repeat("a", 31), frames)
}

// mp3 is a voice of so many frames of 1152/44100 s at 128 kbit/s, behind a tag.
func mp3(frames int) string {
	return "ID3\x04\x00\x00\x00\x00\x01\x00" + strings.Repeat("t", 128) + strings.Repeat("\xff\xfb\x90\x00"+strings.Repeat("m", 413), frames)
}

func file(kind, name, content string) File {
	return File{Type: kind, Name: name, Size: int64(len(content)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(content)), nil
	}}
}

// mediaClient is a client of a good platform without a network.
func mediaClient(t *testing.T, o vcctest.Options, change ...func(*Config, *Deps)) (*Client, *vcctest.Platform) {
	t.Helper()
	o.Good, o.BaseKey = true, testKey
	p := vcctest.New(o)
	return newTestClient(t, p.RoundTripper(), change...), p
}

func TestFilesOfEveryTypeArriveWhole(t *testing.T) {
	t.Parallel()
	c, p := mediaClient(t, vcctest.Options{})
	for _, f := range []struct{ kind, name, content, is string }{
		{MediaImage, "door-1.png", pngFile, typePNG},
		{MediaImage, "receipt.JPG", jpegFile, typeJPEG},
		{MediaImage, "a.gif", gifFile, typeGIF},
		{MediaVoice, "v.amr", amr(3000), typeAMR},
		{MediaVoice, "v.mp3", mp3(100), typeMP3},
		{MediaThumb, "t.jpeg", jpegFile, typeJPEG},
	} {
		m, err := c.Upload(t.Context(), file(f.kind, f.name, f.content))
		if err != nil || m.Type != f.kind || len(m.ID) != 32 || time.Since(m.Created).Abs() > time.Minute {
			t.Fatalf("%s: %+v, %v", f.name, m, err)
		}
		all := p.Media()
		got := all[len(all)-1]
		if string(got.Content) != f.content || got.Name != f.name || got.ContentType != f.is || got.ID != m.ID || got.Type != f.kind {
			t.Errorf("%s arrived as %s %s %s, %d bytes", f.name, got.Type, got.Name, got.ContentType, len(got.Content))
		}
	}
}

// By a real connection: the body has its exact length and is not in chunks.
func TestAnUploadOnTheWireHasItsLength(t *testing.T) {
	t.Parallel()
	p := vcctest.New(vcctest.Options{Good: true, BaseKey: testKey})
	var length int64
	var encoding []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/media/upload") {
			length, encoding = r.ContentLength, r.TransferEncoding
		}
		p.ServeHTTP(w, r)
	}))
	defer s.Close()
	c := newTestClient(t, nil, func(cfg *Config, d *Deps) { cfg.BaseURL, d.Transport = s.URL+"/vcc-openapi", nil })
	big := "\xff\xd8\xff\xe0" + strings.Repeat("x", 2<<20-4)
	if _, err := c.Upload(t.Context(), file(MediaImage, "x.jpg", big)); err != nil {
		t.Fatal(err)
	}
	if length <= int64(len(big)) || length > int64(len(big))+512 || len(encoding) != 0 {
		t.Errorf("length %d, encoding %v", length, encoding)
	}
	dst := filepath.Join(t.TempDir(), "back.jpg")
	f, err := c.Fetch(t.Context(), p.Media()[0].ID, dst)
	if got, _ := os.ReadFile(dst); err != nil || string(got) != big || f.ContentType != typeJPEG || f.Size != int64(len(big)) {
		t.Errorf("back: %+v, %v, %d bytes", f, err, len(got))
	}
}

func TestWhatThePlatformWouldNotTakeIsNotSent(t *testing.T) {
	t.Parallel()
	c, p := mediaClient(t, vcctest.Options{})
	unsized := file(MediaImage, "a.png", pngFile)
	unsized.Size--
	said := file(MediaImage, "a.png", pngFile)
	said.ContentType = "image/jpeg"
	gone := file(MediaImage, "a.png", pngFile)
	gone.Open = func() (io.ReadCloser, error) { return nil, fs.ErrNotExist }
	for _, x := range []struct {
		name, field string
		f           File
	}{
		{"video", "type", file(MediaVideo, "v.mp4", "\x00\x00\x00\x18ftypmp42")},
		{"no type", "type", file("", "a.png", pngFile)},
		{"another type", "type", file("file", "a.png", pngFile)},
		{"empty", "media", file(MediaImage, "a.png", "")},
		{"a byte too large", "media", file(MediaImage, "a.png", pngFile+strings.Repeat("x", 2<<20-len(pngFile)+1))},
		{"thumb a byte too large", "media", file(MediaThumb, "a.jpg", jpegFile+strings.Repeat("x", 64<<10-len(jpegFile)+1))},
		{"thumb that is no jpeg", "media", file(MediaThumb, "a.png", pngFile)},
		{"text", "media", file(MediaImage, "a.png", "hello")},
		{"voice as an image", "media", file(MediaImage, "a.amr", amr(1))},
		{"a voice a frame too long", "media", file(MediaVoice, "a.amr", amr(3001))},
		{"an mp3 too long", "media", file(MediaVoice, "a.mp3", mp3(2297))},
		{"another size", "media", unsized},
		{"another content type", "content-type", said},
		{"ending of another", "filename", file(MediaImage, "a.jpg", pngFile)},
		{"no ending", "filename", file(MediaImage, "a", pngFile)},
		{"a folder", "filename", file(MediaImage, "../a.png", pngFile)},
		{"header in the name", "filename", file(MediaImage, "a\"\r\nX: y.png", pngFile)},
		{"a person's name", "filename", file(MediaImage, "张三.png", pngFile)},
	} {
		_, err := c.Upload(t.Context(), x.f)
		if e, ok := errors.AsType[*FieldError](err); !ok || e.Field != x.field || e.Interface != "2001" {
			t.Errorf("%s: %v", x.name, err)
		}
		is(t, err, []error{ErrNotSent, ErrPermanent}, []error{ErrTransport})
	}
	if _, err := c.Upload(t.Context(), gone); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, ErrNotSent) || errors.Is(err, ErrTransport) {
		t.Errorf("a file that is gone: %v", err)
	}
	if n := p.Calls()["2001"]; n != 0 {
		t.Errorf("%d uploads were sent", n)
	}
	if _, err := c.Upload(t.Context(), file(MediaVoice, "a.mp3", mp3(2296))); err != nil {
		t.Errorf("just within 60 s: %v", err)
	}
}

// A token that was taken away, a broken line in the middle: each try opens the
// file anew.
func TestAnUploadIsRepeatedWhole(t *testing.T) {
	t.Parallel()
	c, p := mediaClient(t, vcctest.Options{})
	if err := c.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Evict()
	opened := 0
	f := file(MediaImage, "a.png", pngFile)
	f.Open = func() (io.ReadCloser, error) { opened++; return io.NopCloser(strings.NewReader(pngFile)), nil }
	if _, err := c.Upload(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if all := p.Media(); opened != 3 || len(all) != 1 || string(all[0].Content) != pngFile || p.Calls()["2001"] != 2 {
		t.Errorf("opened %d times, %d files, %d calls", opened, len(all), p.Calls()["2001"])
	}
}

// A file that shrinks between check and sending breaks the request off.
func TestAFileThatIsShorterThanItWasIsNotTaken(t *testing.T) {
	t.Parallel()
	p := vcctest.New(vcctest.Options{Good: true, BaseKey: testKey})
	s := httptest.NewServer(p)
	defer s.Close()
	c := newTestClient(t, nil, func(cfg *Config, d *Deps) { cfg.BaseURL, d.Transport = s.URL+"/vcc-openapi", nil })
	opened := 0
	f := file(MediaImage, "a.png", pngFile)
	f.Open = func() (io.ReadCloser, error) {
		if opened++; opened > 1 {
			return io.NopCloser(strings.NewReader(pngFile[:1000])), nil
		}
		return io.NopCloser(strings.NewReader(pngFile)), nil
	}
	_, err := c.Upload(t.Context(), f)
	is(t, err, []error{ErrTransport, io.ErrUnexpectedEOF}, []error{ErrNotSent, ErrBusiness})
	if len(p.Media()) != 0 {
		t.Error("half a file was taken")
	}
}

// An upload has no deadline of its own while it moves; one that stands still is
// given up.
func TestAnUploadThatStandsStillIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := vcctest.New(vcctest.Options{Good: true, BaseKey: testKey})
		c := newTestClient(t, p.RoundTripper())
		f := file(MediaImage, "a.png", pngFile)
		pause := 20 * time.Second // a piece, 6 pieces
		f.Open = func() (io.ReadCloser, error) {
			return io.NopCloser(&slowly{r: strings.NewReader(pngFile), pause: &pause}), nil
		}
		if err := c.CheckFile(f); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := c.Upload(t.Context(), f); err != nil || time.Since(start) < time.Minute {
			t.Errorf("slow but moving: %v after %v", err, time.Since(start))
		}
		p.SetHook(func(call vcctest.Call) vcctest.Action {
			if call.Code == "2001" {
				return vcctest.Action{AnswerDelay: time.Hour}
			}
			return vcctest.Action{}
		})
		start = time.Now()
		_, err := c.Upload(t.Context(), file(MediaImage, "a.png", pngFile))
		is(t, err, []error{ErrTransport, context.DeadlineExceeded}, []error{ErrNotSent})
		if d := time.Since(start); d != 30*time.Second {
			t.Errorf("given up after %v", d)
		}
	})
}

// slowly gives its content in pieces.
type slowly struct {
	r     io.Reader
	pause *time.Duration
}

func (s *slowly) Read(p []byte) (int, error) {
	time.Sleep(*s.pause)
	return s.r.Read(p[:min(len(p), 600)])
}

func TestTimesInEveryFormOfTheDocument(t *testing.T) {
	t.Parallel()
	want := time.Date(2017, 7, 31, 15, 4, 5, 0, shanghai())
	for _, x := range []struct {
		text string
		want time.Time
	}{
		{"20170731150405", want},
		{"2017-07-31 15:04:05", want},
		{"1501484645", want},
		{"1501484645000", want},
		{"123456789", time.Unix(123456789, 0)},
		{"0", time.Unix(0, 0)},
		{"", time.Time{}},
		{"20171331150405", time.Time{}},
		{"2017-07-31T15:04:05Z", time.Time{}},
		{"-5", time.Time{}},
		{"99999999999999", time.Time{}},
		{"20170731 150405", time.Time{}},
		{"1.5e9", time.Time{}},
	} {
		got, ok := parseTime(x.text)
		if !got.Equal(x.want) || ok != !x.want.IsZero() {
			t.Errorf("%q: %v %v, want %v", x.text, got, ok, x.want)
		}
	}
}

// wireCut is a platform whose answer of 2002 is cut after so many bytes.
type wireCut struct {
	next   http.RoundTripper
	after  int
	broken bool // by a broken line, else by an early end
	length int64
}

func (w *wireCut) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(r)
	if err != nil || !strings.HasSuffix(r.URL.Path, "/media/get") {
		return resp, err
	}
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	body := io.Reader(bytes.NewReader(all[:min(w.after, len(all))]))
	if w.broken {
		body = io.MultiReader(body, brokenLine{})
	}
	resp.Body = io.NopCloser(body)
	if w.length != 0 {
		resp.ContentLength = w.length
	}
	return resp, nil
}

type brokenLine struct{}

func (brokenLine) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestNeverHalfAFileUnderTheFinalName(t *testing.T) {
	t.Parallel()
	p := vcctest.New(vcctest.Options{Good: true, BaseKey: testKey})
	id := p.AddMedia(vcctest.MediaBook{Type: "image", Name: "a.gif", ContentType: "image/gif", Content: []byte(gifFile)})
	dir := t.TempDir()
	dst := filepath.Join(dir, "final.gif")
	wire := &wireCut{next: p.RoundTripper()}
	c := newTestClient(t, wire)
	for n := range len(gifFile) + 1 {
		for _, broken := range []bool{false, true} {
			if n == len(gifFile) && !broken {
				continue
			}
			for _, length := range []int64{0, -1} {
				wire.after, wire.broken, wire.length = n, broken, length
				_, err := c.Fetch(t.Context(), id, dst)
				is(t, err, []error{ErrTransport}, []error{ErrNotSent})
				if all, _ := os.ReadDir(dir); len(all) != 0 {
					t.Fatalf("cut after %d: %v is there", n, all[0].Name())
				}
			}
		}
	}
	// And one that is there stays as it was.
	if err := os.WriteFile(dst, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	wire.after, wire.broken, wire.length = 50, false, 0
	if _, err := c.Fetch(t.Context(), id, dst); err == nil {
		t.Fatal("no error")
	}
	if b, _ := os.ReadFile(dst); string(b) != "old" {
		t.Errorf("the old file is %q", b)
	}
	wire.after = len(gifFile)
	f, err := c.Fetch(t.Context(), id, dst)
	if b, _ := os.ReadFile(dst); err != nil || string(b) != gifFile || f != (Fetched{typeGIF, int64(len(gifFile)), id + ".gif"}) {
		t.Errorf("%+v, %v, %d bytes", f, err, len(b))
	}
	if all, _ := os.ReadDir(dir); len(all) != 1 {
		t.Errorf("%d files are left", len(all))
	}
}

func TestAFileThatIsNotWhatItShouldBeIsNotKept(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name    string
		o       vcctest.MediaOptions
		kind    string
		content string
		id      string
		action  vcctest.Action
		want    error
	}{
		{name: "another Content-Type", o: vcctest.MediaOptions{WrongKind: true}, kind: "image/gif", content: gifFile, want: ErrTransport},
		{name: "no length", o: vcctest.MediaOptions{NoLength: true}, kind: "image/gif", content: gifFile, want: ErrTransport},
		{name: "too large", kind: "image/gif", content: "GIF89a" + strings.Repeat("x", maxFetch), want: ErrTransport},
		{name: "nothing", kind: "image/gif", content: "", want: ErrTransport},
		{name: "of no known kind", kind: "application/octet-stream", content: "#!/bin/sh\n", want: ErrTransport},
		{name: "a web page", kind: "text/html", content: "<html>", want: ErrTransport},
		{name: "JSON that is no error", kind: "image/gif", content: `{"a":1}`, want: ErrTransport},
		{name: "JSON error under 200", id: strings.Repeat("0", 32), kind: "image/gif", content: gifFile, want: ErrBusiness},
		{name: "refused on the way", kind: "image/gif", content: gifFile, action: vcctest.Action{Status: 503, Body: "busy", NotExecuted: true}, want: ErrTransport},
		{name: "not an id", id: "a/b", kind: "image/gif", content: gifFile, want: ErrPermanent},
	} {
		c, p := mediaClient(t, vcctest.Options{Media: x.o})
		id := p.AddMedia(vcctest.MediaBook{Name: "a.gif", ContentType: x.kind, Content: []byte(x.content)})
		if x.id != "" {
			id = x.id
		}
		p.SetHook(func(call vcctest.Call) vcctest.Action {
			if call.Code == "2002" {
				return x.action
			}
			return vcctest.Action{}
		})
		dir := t.TempDir()
		_, err := c.Fetch(t.Context(), id, filepath.Join(dir, "f.gif"))
		if !errors.Is(err, x.want) {
			t.Errorf("%s: %v", x.name, err)
		}
		if all, _ := os.ReadDir(dir); len(all) != 0 {
			t.Errorf("%s: %s is there", x.name, all[0].Name())
		}
	}
	// A video cannot be sent; what the platform has may be fetched.
	c, p := mediaClient(t, vcctest.Options{})
	video := "\x00\x00\x00\x18ftypmp42" + strings.Repeat("v", 100)
	id := p.AddMedia(vcctest.MediaBook{Type: "video", Name: "a.mp4", ContentType: "video/mp4", Content: []byte(video)})
	if f, err := c.Fetch(t.Context(), id, filepath.Join(t.TempDir(), "v")); err != nil || f.ContentType != typeMP4 {
		t.Errorf("video: %+v, %v", f, err)
	}
	if _, err := c.Fetch(t.Context(), id, filepath.Join(t.TempDir(), "none", "v")); err == nil || !slices.Equal([]bool{errors.Is(err, fs.ErrNotExist), errors.Is(err, ErrTransport)}, []bool{true, false}) {
		t.Errorf("no such folder: %v", err)
	}
}

func FuzzSniff(f *testing.F) {
	for _, s := range []string{pngFile, jpegFile, gifFile, amr(3), mp3(3), "ID3\x04\x00\x10\x7f\x7f\x7f\x7f", "#!AMR\n\x7c", "\xff\xe3\x10\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		is, lasts, err := inspect(bytes.NewReader(b))
		if err != nil || lasts < 0 || lasts > time.Duration(len(b)+1)*72*time.Millisecond || lasts > 0 && is != typeAMR && is != typeMP3 {
			t.Fatalf("%q lasts %v, %v", is, lasts, err)
		}
	})
}
