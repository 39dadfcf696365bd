package protocol

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"mime"
	"strings"
	"time"
)

// Content types this platform's media have.
const (
	typePNG  = "image/png"
	typeJPEG = "image/jpeg"
	typeGIF  = "image/gif"
	typeAMR  = "audio/amr"
	typeMP3  = "audio/mpeg"
	typeMP4  = "video/mp4"
)

// sniff tells what a file is by what it begins with, "" for none of the above.
// The standard library's list has no AMR and takes any text for text.
func sniff(head []byte) string {
	for _, m := range []struct{ begins, is string }{
		{"\x89PNG\r\n\x1a\n", typePNG},
		{"\xff\xd8\xff", typeJPEG},
		{"GIF87a", typeGIF},
		{"GIF89a", typeGIF},
		{"#!AMR\n", typeAMR},
		{"ID3", typeMP3},
	} {
		if bytes.HasPrefix(head, []byte(m.begins)) {
			return m.is
		}
	}
	if len(head) >= 12 && string(head[4:8]) == "ftyp" {
		return typeMP4
	}
	if len(head) >= 4 {
		if _, _, ok := mp3Frame([4]byte(head[:4])); ok {
			return typeMP3
		}
	}
	return ""
}

func endings(is string) []string {
	switch is {
	case typePNG:
		return []string{".png"}
	case typeJPEG:
		return []string{".jpg", ".jpeg"}
	case typeGIF:
		return []string{".gif"}
	case typeAMR:
		return []string{".amr"}
	case typeMP3:
		return []string{".mp3"}
	}
	return nil
}

// plainType is a Content-Type without parameters, under its usual name.
func plainType(s string) string {
	t, _, err := mime.ParseMediaType(s)
	if err != nil {
		return "(none)"
	}
	switch t {
	case "image/jpg", "image/pjpeg":
		return typeJPEG
	case "image/x-png":
		return typePNG
	case "audio/mp3", "audio/x-mp3", "audio/x-mpeg":
		return typeMP3
	case "audio/x-amr", "audio/amr-nb":
		return typeAMR
	}
	return t
}

// inspect reads a file to its end: what it is, and how long a voice lasts as
// far as its frames tell it (0 when they do not).
func inspect(in io.Reader) (is string, lasts time.Duration, err error) {
	r := bufio.NewReaderSize(in, 4096)
	head, err := r.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", 0, err
	}
	switch is = sniff(head); is {
	case typeAMR:
		lasts = amrTime(r)
	case typeMP3:
		lasts = mp3Time(r)
	}
	_, err = io.Copy(io.Discard, r) // what the frames did not reach, and any error again
	return is, lasts, err
}

// amrTime adds up frames of 20 ms, whose first byte tells their size (RFC 4867,
// 5.3).
func amrTime(r *bufio.Reader) (lasts time.Duration) {
	sizes := [16]int{12, 13, 15, 17, 19, 20, 26, 31, 5}
	if _, err := r.Discard(len("#!AMR\n")); err != nil {
		return 0
	}
	for {
		b, err := r.ReadByte()
		if err != nil || b&0x83 != 0 { // not a frame's first byte
			return lasts
		}
		lasts += 20 * time.Millisecond
		if _, err := r.Discard(sizes[b>>3&15]); err != nil {
			return lasts
		}
	}
}

// mp3Time adds up the frames of layer III behind a tag.
func mp3Time(r *bufio.Reader) (lasts time.Duration) {
	if tag, err := r.Peek(10); err == nil && string(tag[:3]) == "ID3" {
		size := 10
		for i, b := range tag[6:10] {
			size += int(b&0x7f) << (7 * (3 - i))
		}
		if tag[5]&0x10 != 0 {
			size += 10 // a footer
		}
		if _, err := r.Discard(size); err != nil {
			return 0
		}
	}
	for {
		h, err := r.Peek(4)
		if err != nil {
			return lasts
		}
		size, d, ok := mp3Frame([4]byte(h))
		if !ok {
			return lasts
		}
		lasts += d
		if _, err := r.Discard(size); err != nil {
			return lasts
		}
	}
}

// mp3Frame reads the header of a frame of MPEG 1, 2 or 2.5, layer III: its
// size in bytes and how long it sounds.
func mp3Frame(h [4]byte) (size int, lasts time.Duration, ok bool) {
	if h[0] != 0xff || h[1]&0xe0 != 0xe0 || h[1]>>1&3 != 1 {
		return 0, 0, false
	}
	version := h[1] >> 3 & 3 // 0: 2.5, 2: 2, 3: 1
	rates := []int{11025, 12000, 8000}
	kbits := []int{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160}
	samples := 576
	switch version {
	case 1:
		return 0, 0, false
	case 2:
		rates = []int{22050, 24000, 16000}
	case 3:
		rates = []int{44100, 48000, 32000}
		kbits = []int{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320}
		samples = 1152
	}
	b, s := int(h[2]>>4), int(h[2]>>2&3)
	if b == 0 || b == 15 || s == 3 {
		return 0, 0, false // a free rate tells no size
	}
	size = samples/8*kbits[b]*1000/rates[s] + int(h[2]>>1&1)
	return size, time.Duration(samples) * time.Second / time.Duration(rates[s]), true
}

// sameType tells whether what a platform says a file is fits what it is. Some
// say nothing in particular.
func sameType(said, is string) bool {
	said = strings.TrimSpace(said)
	return is != "" && (said == "" || plainType(said) == is || plainType(said) == "application/octet-stream")
}
