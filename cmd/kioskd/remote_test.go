package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"vcckiosk/protocol/vcctest"
)

const testPublic = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"

func TestRemoteConfig(t *testing.T) {
	t.Parallel()
	registering := strings.Replace(goodConfig, `id = "QC0001"`, "", 1)
	for _, good := range []string{
		goodConfig + "[command]\nkey = \"" + testPublic + "\"\n",
		goodConfig + "[register]\nuse = \"off\"\n",
		registering + "[register]\nuse = \"on\"\ndevice_sn = \"SN1\"\n",
		goodConfig + "[push]\nlisten = \"10.8.0.7:8480\"\ntoken_file = \"/x\"\n",
	} {
		if _, err := parseConfig("k.toml", []byte(good)); err != nil {
			t.Errorf("%v:\n%s", err, good)
		}
	}
	for text, want := range map[string]string{
		goodConfig + "[command]\nkey = \"1234\"\n":                                                            "command.key: want an Ed25519 public key",
		goodConfig + "[command]\nnext_key = \"" + testPublic + "\"\n":                                         "command.next_key",
		goodConfig + "[command]\nkey = \"" + testPublic + "\"\nnext_key = \"" + testPublic + "\"\n":           "same",
		goodConfig + "[command]\nkey = \"" + strings.Repeat("0", 64) + "\"\n":                                 "small order",
		goodConfig + "[register]\nuse = \"maybe\"\n":                                                          "register.use",
		goodConfig + "[register]\nmodel = \"Q\"\n":                                                            "register.use",
		goodConfig + "[register]\nuse = \"on\"\ndevice_sn = \"SN1\"\n":                                        "device.id",
		registering + "[register]\nuse = \"on\"\n":                                                            "register.device_sn",
		goodConfig + "[push]\nlisten = \"0.0.0.0:8480\"\ntoken_file = \"/x\"\n":                               "push.listen: listens on every address",
		goodConfig + "[push]\nlisten = \"8.8.8.8:8480\"\ntoken_file = \"/x\"\n":                               "push.listen",
		goodConfig + "[push]\nlisten = \"127.0.0.1:8480\"\n":                                                  "push.token_file",
		goodConfig + "[push]\nlisten = \"127.0.0.1:8480\"\ntoken = \"in the file\"\ntoken_file = \"x\"\n":     "unknown key",
		goodConfig + "[register]\nuse = \"on\"\ndevice_sn = \"S\"\nkey = \"in the file\"\nkey_file = \"x\"\n": "unknown key",
	} {
		if _, err := parseConfig("k.toml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestRegistrationIsCheckedAtTheStart(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{"lng = \"120.58\"": "", "lng = \"east\"": "lng", "imei = \"1\"": "imei", "mac = \"aa:bb\"": "mac"} {
		c, err := parseConfig("k.toml", []byte(strings.Replace(goodConfig, `id = "QC0001"`, "", 1)+"[register]\nuse = \"on\"\ndevice_sn = \"SN1\"\n"+line+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		err = checkShape(c)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestSecretsInFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	for content, good := range map[string]bool{
		"0123456789abcdef": true, "0123456789abcdef\r\n": true, "": false, "\n": false, "two words": false, "two\nlines": false, "键": false,
		strings.Repeat("a", 64): true, strings.Repeat("a", 65): false, strings.Repeat("a", 4096): false,
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := readSecret("push.token_file", path, maxPushToken)
		if (err == nil) != good || good && string(b) != strings.TrimRight(content, "\r\n") {
			t.Errorf("%q: %q, %v", content, b, err)
		}
		if err != nil && content != "" && strings.Contains(err.Error(), strings.TrimSpace(content)) && strings.TrimSpace(content) != "" {
			t.Errorf("quoted: %v", err)
		}
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := readSecret("push.token_file", path, maxPushToken); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("others may read it: %v", err)
	}
}

// pulled records what was asked for.
type pulled struct {
	mu    sync.Mutex
	codes []string
	asked chan string // nil: nobody listens
}

func (p *pulled) PullNow(_ context.Context, code string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.codes = append(p.codes, code)
	if p.asked != nil {
		p.asked <- code
	}
	return io.ErrUnexpectedEOF
}

func TestPushesAreGathered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, got := &puller{wake: make(chan struct{}, 1)}, &pulled{}
		for range 1000 {
			p.want("3003")
			p.want("3004")
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		var log bytes.Buffer
		go func() {
			defer close(ended)
			p.pull(ctx, got, slog.New(slog.NewTextHandler(&log, nil)))
		}()
		synctest.Wait()
		p.want("3003")
		synctest.Wait()
		stop()
		<-ended
		if !slices.Equal(got.codes, []string{"3003", "3004", "3003"}) {
			t.Errorf("pulled %v", got.codes)
		}
		if strings.Count(log.String(), "nothing pulled") != 3 {
			t.Errorf("said %s", log.String())
		}
	})
}

// TestPushesComeIn plays the platform: handshake and event, over a socket.
func TestPushesComeIn(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("of-the-tests\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := parseConfig("k.toml", []byte(goodConfig+"[push]\nlisten = \"127.0.0.1:0\"\ntoken_file = \""+file+"\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := newClient(c, unopened{}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	said, log := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	got := &pulled{asked: make(chan string, 4)}
	var wg sync.WaitGroup
	if err := servePush(ctx, c, client, got, &wg, slog.New(slog.NewTextHandler(log, nil))); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	address := ""
	for address == "" && lines.Scan() {
		_, address, _ = strings.Cut(lines.Text(), "address=")
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	p := vcctest.Pusher{URL: "http://" + address + "/", Token: "of-the-tests"}
	if err := p.Subscribe(ctx); err != nil {
		t.Error(err)
	}
	if err := p.Push(ctx, vcctest.Event{Code: "7003", ID: "E1", OrgCode: "SU0105"}); err != nil {
		t.Error(err)
	}
	if code := <-got.asked; code != "3003" {
		t.Errorf("pulled %q", code)
	}
	stop()
	wg.Wait()
	if c.Push.TokenFile = "/nonexistent"; servePush(t.Context(), c, client, got, &wg, slog.New(slog.DiscardHandler)) == nil {
		t.Error("without a token")
	}
}
