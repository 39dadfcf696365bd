package transcript_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"vcckiosk/cardreader"
	"vcckiosk/cardreader/simcard"
	"vcckiosk/cardreader/transcript"
)

const goldenPurse = "testdata/purse-load.transcript"

// loadCommands are a whole load of 50.00 on the purse of the public vectors.
var loadCommands = []string{
	"00A4040009A0000000038698070100",
	"00B095001E",
	"0020000003123456",
	"805C000204",
	"805000020B010000138811223344556610",
	"805200000B2026010203040525D2B64704",
	"805A000202000008",
	"00B201C417",
}

func vectorPurse(t *testing.T) *simcard.Purse {
	t.Helper()
	return simcard.NewPurse(simcard.PurseConfig{
		Serial: [8]byte{0x86, 0, 0, 0, 0x12, 0x34, 0x56, 0x78},
		DLK:    [16]byte(unhex(t, "EB9BC6DCDF74FF4E4B43F2E34A6727B6")),
		DTK:    [16]byte(unhex(t, "CEB726EDC01B793BC37DC09E2F768534")),
		PIN:    []byte{0x12, 0x34, 0x56},
		Random: func() [4]byte { return [4]byte{0x6C, 0x55, 0x44, 0x79} },
	})
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRecordedLoadEqualsTheGoldenTranscript(t *testing.T) {
	t.Parallel()
	slot := simcard.NewSlot("slot")
	slot.Insert(vectorPurse(t))
	s, err := slot.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	rec := transcript.Record(s, &b)
	for _, c := range loadCommands {
		if _, err := rec.Transmit(t.Context(), unhex(t, c)); err != nil {
			t.Fatal(err)
		}
	}
	slot.Remove()
	if _, err := rec.Transmit(t.Context(), unhex(t, "805C000204")); !errors.Is(err, cardreader.ErrCardRemoved) {
		t.Fatalf("after removal: %v", err)
	}
	want, err := os.ReadFile(goldenPurse)
	if err != nil {
		t.Fatalf("%v; recorded:\n%s", err, b.String())
	}
	if body := withoutComments(string(want)); body != b.String() {
		t.Errorf("recorded:\n%s\nwant:\n%s", b.String(), body)
	}
	if strings.Contains(b.String(), "0020000003123456") {
		t.Error("the PIN is in the transcript")
	}
}

func withoutComments(s string) string {
	var out strings.Builder
	for line := range strings.Lines(s) {
		if !strings.HasPrefix(line, "#") {
			out.WriteString(line)
		}
	}
	return out.String()
}

func TestReplayAnswersAsRecorded(t *testing.T) {
	t.Parallel()
	f, err := os.Open(goldenPurse)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := transcript.Replay(f)
	var last []byte
	for _, c := range loadCommands {
		if last, err = p.Transmit(t.Context(), unhex(t, c)); err != nil {
			t.Fatal(err)
		}
	}
	if want := unhex(t, "0000000000000013880211223344556620260102030405"+"9000"); !bytes.Equal(last, want) {
		t.Errorf("log record %X, want %X", last, want)
	}
	if _, err := p.Transmit(t.Context(), unhex(t, "805C000204")); !errors.Is(err, cardreader.ErrCardRemoved) {
		t.Errorf("recorded error: %v, want ErrCardRemoved", err)
	}
	if n := transcript.Rest(p); n != 0 {
		t.Errorf("%d commands left", n)
	}
	if _, err := p.Transmit(t.Context(), unhex(t, "805C000204")); !errors.Is(err, transcript.ErrTranscript) {
		t.Errorf("after the end: %v, want ErrTranscript", err)
	}
}

func TestReplayRefusesWhatWasNotRecorded(t *testing.T) {
	t.Parallel()
	p := transcript.Replay(strings.NewReader("> 00200000 02 ****\n< 9000\n> 805C000204\n<\n! x\n"))
	if _, err := p.Transmit(t.Context(), unhex(t, "00200000021234")); !errors.Is(err, transcript.ErrTranscript) {
		t.Fatalf("a transcript with two answers to one command: %v", err)
	}
	p = transcript.Replay(strings.NewReader("> 00200000 02 ****\n< 9000\n> 805C000204\n<\n"))
	if _, err := p.Transmit(t.Context(), unhex(t, "805C000204")); !errors.Is(err, transcript.ErrTranscript) {
		t.Fatalf("out of order: %v", err)
	}
	if got, err := p.Transmit(t.Context(), unhex(t, "00200000021234")); err != nil || len(got) != 2 {
		t.Fatalf("masked code: %X, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Transmit(ctx, unhex(t, "805C000204")); !errors.Is(err, context.Canceled) {
		t.Fatalf("ended context: %v", err)
	}
	if got, err := p.Transmit(t.Context(), unhex(t, "805C000204")); err != nil || len(got) != 0 {
		t.Fatalf("empty answer: %X, %v", got, err)
	}
}

func FuzzReplay(f *testing.F) {
	f.Add("> 805C000204\n< 000000019000\n")
	f.Add("# nothing\n>\n<\n! card removed\n")
	f.Fuzz(func(t *testing.T, text string) {
		p := transcript.Replay(strings.NewReader(text))
		for range 3 {
			_, _ = p.Transmit(t.Context(), []byte{0x80, 0x5C, 0, 2, 4})
		}
	})
}
