package vcctest

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// MediaOptions shape the answers of 2001. The zero value follows the
// document's table.
type MediaOptions struct {
	Time      TimeForm // how createTime is told
	IDName    string   // name of mediaId, such as media_id
	AsVideo   bool     // type is answered as video, which the answer's table allows
	NoLength  bool     // 2002 does not tell how long its file is, and ends with the connection
	WrongKind bool     // 2002 tells another Content-Type than its file has
}

// TimeForm is how createTime is told.
type TimeForm int

// Forms of createTime. The document's table has the first, its sample the
// second; the others occur on sister gateways.
const (
	TimeStamp    TimeForm = iota // "yyyyMMddHHmmss"
	TimeSeconds                  // Unix seconds, a number
	TimeMillis                   // Unix milliseconds, a number
	TimeDateTime                 // "yyyy-MM-dd HH:mm:ss"
)

// maxUpload is the largest body of 2001 that is read.
const maxUpload = 4 << 20

// MediaBook is an uploaded file as the platform keeps it.
type MediaBook struct {
	ID, Type, Name, ContentType string
	Content                     []byte
	At                          time.Time
}

// mediaFile is the answer of 2002.
type mediaFile struct {
	MediaBook
	content []byte
	wrong   bool
	bare    bool
}

func (f mediaFile) header() http.Header {
	h := http.Header{}
	h.Set("Content-Type", f.ContentType)
	if f.wrong {
		h.Set("Content-Type", map[bool]string{true: "image/png", false: "image/jpeg"}[f.ContentType == "image/jpeg"])
	}
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": f.ID + f.Name[strings.LastIndex(f.Name, "."):]}))
	if f.bare {
		h.Set("Connection", "close")
	}
	return h
}

// Media returns what was uploaded, oldest first.
func (p *Platform) Media() []MediaBook {
	defer p.open()()
	out := make([]MediaBook, len(p.media))
	for i, m := range p.media {
		out[i] = m
		out[i].Content = bytes.Clone(m.Content)
	}
	return out
}

// AddMedia puts a file into the books, of whatever kind, and returns its id.
func (p *Platform) AddMedia(m MediaBook) string {
	defer p.open()()
	return p.keep(m)
}

func (p *Platform) keep(m MediaBook) string {
	var id [16]byte
	_, _ = rand.Read(id[:])
	m.ID, m.At = strings.ToUpper(hex.EncodeToString(id[:])), p.b.now
	p.media = append(p.media, m)
	return m.ID
}

// file tells whether the body is a file and not a message.
func (q *request) file() bool { return q.code == "2001" }

// The limits of the document, clause 4, by type: bytes, and what a file of
// each content type begins with.
var mediaLimits = map[string]int{"image": 2 << 20, "voice": 2 << 20, "thumb": 64 << 10}

var mediaKinds = map[string][]string{
	"image": {"image/png", "image/jpeg", "image/gif"},
	"voice": {"audio/amr", "audio/mpeg"},
	"thumb": {"image/jpeg"},
}

var mediaMagic = map[string][]string{
	"image/png": {"\x89PNG\r\n\x1a\n"}, "image/jpeg": {"\xff\xd8\xff"}, "image/gif": {"GIF87a", "GIF89a"},
	"audio/amr": {"#!AMR\n"}, "audio/mpeg": {"ID3", "\xff\xfb", "\xff\xf3", "\xff\xf2", "\xff\xfa"},
}

// upload is 2001.
func (p *Platform) upload(q *request) (any, *refusal) {
	kind := q.query.Get("type")
	limit, known := mediaLimits[kind]
	if !known {
		return nil, refuse(codeMediaType, "type")
	}
	m, r := readPart(q)
	if r != nil {
		return nil, r
	}
	if len(m.Content) > limit {
		return nil, refuse(codeMediaSize, "media too large")
	}
	ok := false
	for _, magic := range mediaMagic[m.ContentType] {
		ok = ok || bytes.HasPrefix(m.Content, []byte(magic))
	}
	if !ok || !oneOf(m.ContentType, mediaKinds[kind]...) {
		return nil, refuse(codeMediaType, "media is not what it says")
	}
	m.Type = kind
	o := p.b.o.Media
	name := o.IDName
	if name == "" {
		name = "mediaId"
	}
	a := map[string]any{"type": kind, name: p.keep(m)}
	if o.AsVideo {
		a["type"] = "video"
	}
	switch at := p.b.now; o.Time {
	case TimeSeconds:
		a["createTime"] = at.Unix()
	case TimeMillis:
		a["createTime"] = at.UnixMilli()
	case TimeDateTime:
		a["createTime"] = at.In(zone).Format("2006-01-02 15:04:05")
	default:
		a["createTime"] = p.b.stamp()
	}
	return a, nil
}

// readPart takes the one part of a form: name media, with filename,
// filelength and content-type.
func readPart(q *request) (MediaBook, *refusal) {
	bad := func(err error) (MediaBook, *refusal) {
		return MediaBook{}, refuse(codeParameter, "media: "+err.Error())
	}
	kind, params, err := mime.ParseMediaType(q.kind)
	if err != nil || kind != "multipart/form-data" {
		return bad(errors.New("not a form"))
	}
	form := multipart.NewReader(bytes.NewReader(q.body), params["boundary"])
	part, err := form.NextRawPart()
	if err != nil {
		return bad(err)
	}
	_, about, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	if err != nil || about["name"] != "media" || !nameForm.MatchString(about["filename"]) || !strings.Contains(about["filename"], ".") {
		return bad(fmt.Errorf("part %q with file name %q", about["name"], about["filename"]))
	}
	content, err := io.ReadAll(part)
	if err != nil {
		return bad(err)
	}
	if about["filelength"] != strconv.Itoa(len(content)) {
		return bad(fmt.Errorf("filelength %q of %d bytes", about["filelength"], len(content)))
	}
	if _, err := form.NextRawPart(); !errors.Is(err, io.EOF) {
		return bad(errors.New("something behind the file"))
	}
	return MediaBook{Name: about["filename"], ContentType: part.Header.Get("Content-Type"), Content: content}, nil
}

// fetch is 2002.
func (p *Platform) fetch(q *request) (any, *refusal) {
	for _, m := range p.media {
		if m.ID == q.query.Get("mediaId") {
			o := p.b.o.Media
			return mediaFile{MediaBook: m, content: m.Content, wrong: o.WrongKind, bare: o.NoLength}, nil
		}
	}
	return nil, refuse(codeNoMedia, "media not found")
}
