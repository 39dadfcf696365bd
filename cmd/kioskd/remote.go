package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"vcckiosk/agent"
	"vcckiosk/protocol"
	"vcckiosk/protocol/push"
	"vcckiosk/protocol/signed"
)

// CommandConfig says whose remote commands are carried out. They come with the
// heartbeat, signed; there is no other way in. See docs/remote.md.
type CommandConfig struct {
	Key     string `toml:"key"`      // Ed25519 public key, 64 hex digits; empty: every command is refused
	NextKey string `toml:"next_key"` // the one that follows, before a change of keys; once it has signed, key is refused
}

// RegisterConfig lets the platform name this kiosk (6001). Only use, device_sn
// and, for a registration without a technician, key_file decide anything; the
// rest is told to the platform as it stands here.
type RegisterConfig struct {
	Use      string `toml:"use"`       // off (default): device.id is configured; on: it comes from the platform, leave it empty
	DeviceSN string `toml:"device_sn"` // serial number of the cabinet; the platform answers a repeat by it
	KeyFile  string `toml:"key_file"`  // file with the enterprise key, mode 0600; empty: a technician's one-time code (kioskctl register --code)
	IMEI     string `toml:"imei"`      // of the modem, 14 to 16 digits
	ICCID    string `toml:"iccid"`     // of the SIM
	MSISDN   string `toml:"msisdn"`    // telephone number of the SIM; sent with 6001 only, never stored or logged
	MAC      string `toml:"mac"`       // of the network card, 12 upper-case hex digits
	Model    string `toml:"model"`     // of the cabinet
	Lng      string `toml:"lng"`       // where it stands: decimal degrees, WGS 84
	Lat      string `toml:"lat"`
	Address  string `toml:"address"` // at most 255 characters
}

// PushConfig listens for the platform's pushes 7001 to 7005. A push only says
// "pull now"; a kiosk needs none.
type PushConfig struct {
	Listen    string `toml:"listen"`     // empty (default): no port is open; else a loopback or private address, as 10.8.0.7:8480
	TokenFile string `toml:"token_file"` // file with the token shared with the platform, mode 0600
}

const (
	maxEnterpriseKey = 128
	maxPushToken     = 64
)

// checkRemote tells what is wrong in these three tables. It reads no file.
func (c *Config) checkRemote() error {
	if _, err := c.Command.ring(); err != nil {
		return err
	}
	switch c.Register.Use {
	case "", "off":
		if c.Register.DeviceSN == "" && c.Register != (RegisterConfig{Use: c.Register.Use}) {
			return errors.New(`register.use: is not "on", and the rest of [register] would not be used`)
		}
	case "on":
		if c.Device.ID != "" {
			return errors.New("device.id: comes from the platform with register.use on, leave it out")
		}
		if c.Register.DeviceSN == "" {
			return errors.New("register.device_sn: missing")
		}
	default:
		return fmt.Errorf("register.use: %q is not one of off, on", c.Register.Use)
	}
	if c.Push.Listen != "" {
		if err := push.CheckAddress(c.Push.Listen); err != nil {
			return fmt.Errorf("push.listen: %w", err)
		}
		if c.Push.TokenFile == "" {
			return errors.New("push.token_file: missing")
		}
	}
	return nil
}

// ring is the keys commands are taken from.
func (c CommandConfig) ring() (signed.Ring, error) {
	if c.Key == "" {
		if c.NextKey != "" {
			return signed.Ring{}, errors.New("command.next_key: there is no command.key before it")
		}
		return signed.Ring{}, nil
	}
	var keys []ed25519.PublicKey
	for _, k := range []struct{ name, text string }{{"key", c.Key}, {"next_key", c.NextKey}} {
		if k.text == "" {
			continue
		}
		p, err := signed.ParseKey(k.text)
		if err != nil {
			return signed.Ring{}, fmt.Errorf("command.%s: %w", k.name, err)
		}
		keys = append(keys, p)
	}
	r, err := signed.NewRing(keys...)
	if err != nil {
		return r, fmt.Errorf("command: %w", err)
	}
	return r, nil
}

// registering is nil when the kiosk's name is configured.
func (c Config) registering() *agent.Registering {
	if c.Register.Use != "on" {
		return nil
	}
	r := c.Register
	out := &agent.Registering{Request: protocol.RegisterRequest{
		DeviceSN: r.DeviceSN, IMEI: r.IMEI, ICCID: r.ICCID, MSISDN: r.MSISDN, MAC: r.MAC, Model: r.Model,
		Firmware: version(), Lng: r.Lng, Lat: r.Lat, Address: r.Address,
	}}
	if c.Card.Purse != nil {
		out.Request.CardTypes = append(out.Request.CardTypes, "CPU")
	}
	if c.Card.Memory != nil {
		out.Request.CardTypes = append(out.Request.CardTypes, "SLE4442")
	}
	if r.KeyFile != "" {
		out.Key = func() ([]byte, error) { return readSecret("register.key_file", r.KeyFile, maxEnterpriseKey) }
	}
	return out
}

// checkShape tells what only the parts can say about a configuration: the
// client, the registration's fields, the files with secrets. It changes nothing.
func checkShape(c Config) error {
	client, err := newClient(c, unopened{}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if r := c.registering(); r != nil {
		if err := client.CheckRegistration(r.Request); err != nil {
			return fmt.Errorf("register: %w", err)
		}
	}
	return c.checkSecrets()
}

// checkSecrets reads the files with secrets once, so that a wrong one is a bad
// configuration and not a surprise later.
func (c Config) checkSecrets() error {
	if r := c.registering(); r != nil && r.Key != nil {
		k, err := r.Key()
		clear(k)
		if err != nil {
			return err
		}
	}
	if c.Push.Listen != "" {
		_, err := c.Push.token()
		return err
	}
	return nil
}

func (c PushConfig) token() (push.Token, error) {
	b, err := readSecret("push.token_file", c.TokenFile, maxPushToken)
	if err != nil {
		return push.Token{}, err
	}
	t, err := push.NewToken(string(b)) // a hint's secret, not a key: it may be a string
	if err != nil {
		return t, fmt.Errorf("push.token_file: %w", err)
	}
	return t, nil
}

// readSecret reads one line of printable ASCII that nobody else may read. Its
// errors never quote it.
func readSecret(key, path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	defer f.Close() //nolint:errcheck // only read
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: %s has mode %04o, others may read it; chmod 600", key, path, st.Mode().Perm())
	}
	buf := make([]byte, limit+3)
	n, err := io.ReadFull(f, buf)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		clear(buf)
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	text := bytes.TrimRight(buf[:n], "\r\n")
	if len(text) == 0 || len(text) > limit || bytes.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		clear(buf)
		return nil, fmt.Errorf("%s: want one line of at most %d printable characters", key, limit)
	}
	return text, nil
}

// puller remembers what pushes ask for until somebody pulls.
type puller struct {
	mu    sync.Mutex
	codes []string
	wake  chan struct{}
}

func (p *puller) want(code string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.codes {
		if c == code {
			return
		}
	}
	p.codes = append(p.codes, code) // at most one for each interface
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *puller) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	codes := p.codes
	p.codes = nil
	return codes
}

// pullNow is the agent's side of a push.
type pullNow interface {
	PullNow(ctx context.Context, code string) error
}

// pull asks a to pull, until ctx ends.
func (p *puller) pull(ctx context.Context, a pullNow, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
		for _, code := range p.take() {
			if err := a.PullNow(ctx, code); err != nil && ctx.Err() == nil {
				log.Info("push: nothing pulled", "interface", code, "err", err)
			}
		}
	}
}

// listenAgain is how long it is waited for an address that is not there yet: a
// VPN comes up after us and may go and come back.
const listenAgain = time.Minute

// servePush listens for pushes until ctx ends; wg waits for that. An address
// that cannot be had keeps no customer from the gas: it is tried again.
func servePush(ctx context.Context, c Config, client *protocol.Client, a pullNow, wg *sync.WaitGroup, log *slog.Logger) error {
	if c.Push.Listen == "" {
		return nil
	}
	token, err := c.Push.token()
	if err != nil {
		return err
	}
	p := &puller{wake: make(chan struct{}, 1)}
	h, err := push.New(push.Config{
		Token: token, OrgCode: c.Device.OrgCode, Log: log,
		Pull: func(e push.Event) {
			if code := e.Pulls(); code != "" {
				p.want(code)
			}
		},
		Now: func() time.Time {
			skew, _ := client.Skew()
			return time.Now().Add(skew)
		},
	})
	if err != nil {
		return err
	}
	wg.Go(func() { p.pull(ctx, a, log) })
	wg.Go(func() {
		for ctx.Err() == nil {
			l, err := push.Listen(ctx, c.Push.Listen)
			if err == nil {
				log.Info("taking pushes", "address", l.Addr())
				err = push.Serve(ctx, l, h)
			}
			if err != nil && ctx.Err() == nil {
				log.Warn("no pushes for now", "err", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(listenAgain):
			}
		}
	})
	return nil
}
