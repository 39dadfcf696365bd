package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"vcckiosk/agent/mirror"
)

// Config is the file /etc/kioskd/kioskd.toml. Unknown keys are errors. The
// comments here are the manual.
type Config struct {
	Device DeviceConfig `toml:"device"`
	API    APIConfig    `toml:"api"`
	Auth   AuthConfig   `toml:"auth"`
	Seq    SeqConfig    `toml:"seq"`
	Sign   SignConfig   `toml:"sign"`
	Body   BodyConfig   `toml:"body"`

	Envelope EnvelopeConfig `toml:"envelope"`

	Reader ReaderConfig `toml:"reader"`
	Card   CardConfig   `toml:"card"`
	State  StateConfig  `toml:"state"`
	Local  LocalConfig  `toml:"local"`
	Beat   BeatConfig   `toml:"heartbeat"`
	Mirror MirrorConfig `toml:"mirror"`
	Log    LogConfig    `toml:"log"`

	Command  CommandConfig  `toml:"command"`
	Register RegisterConfig `toml:"register"`
	Push     PushConfig     `toml:"push"`

	Reconcile *ReconcileConfig `toml:"reconcile"`
}

// DeviceConfig names the kiosk.
type DeviceConfig struct {
	ID         string `toml:"id"`          // deviceId, as registered; empty only with register.use on
	OrgCode    string `toml:"org_code"`    // orgCode, appendix B
	TerminalNo string `toml:"terminal_no"` // 12 hex digits, unique in the fleet
}

// APIConfig is the way to the platform.
type APIConfig struct {
	BaseURL        string              `toml:"base_url"`        // https; http only to a loopback address
	CAFile         string              `toml:"ca_file"`         // only trusted roots, PEM; default: the system's
	CertFile       string              `toml:"cert_file"`       // this kiosk's certificate, PEM, for a platform that asks for one
	KeyFile        string              `toml:"key_file"`        // its key, PEM, mode 0600
	Pins           []string            `toml:"pins"`            // base64 SHA-256 of SubjectPublicKeyInfo
	TimeoutLive    Duration            `toml:"timeout_live"`    // default 15s
	TimeoutBacklog Duration            `toml:"timeout_backlog"` // default 30s
	Endpoints      map[string]Endpoint `toml:"endpoints"`       // by interface code, such as "4006"
	Dialect        string              `toml:"dialect"`         // "" (default) or selfservice: docs/dialects.md
}

// Endpoint replaces a row of the catalogue of interfaces (docs/protocol-coverage.md); what is left out stays.
type Endpoint struct {
	Code     string            `toml:"code"`     // 4 or 5 digits, lead the sequence number
	Method   string            `toml:"method"`   // GET, POST (JSON) or FORM
	Path     string            `toml:"path"`     // after base_url
	Fallback string            `toml:"fallback"` // tried once when path is answered 404
	Names    map[string]string `toml:"names"`    // the platform's name of a field, by the catalogue's
	Units    map[string]string `toml:"units"`    // of an amount: fen or yuan, cl (0.01 m³) or m3
}

// EnvelopeConfig is how the platform wraps its answers and calls the common parameters.
type EnvelopeConfig struct {
	Code    string            `toml:"code"`    // name of the result code; default resultCode
	Msg     string            `toml:"msg"`     // name of its text; default resultMsg
	Data    string            `toml:"data"`    // member with the fields; default: beside the code
	Success []string          `toml:"success"` // codes that mean success besides an absent one and 0
	Codes   map[string]string `toml:"codes"`   // the platform's codes into the catalogue's
	Seq     string            `toml:"seq"`     // name of the sequence number; default seq
	Token   string            `toml:"token"`   // name of the token; default token
	Sign    string            `toml:"sign"`    // name of the sign; default sign
}

// AuthConfig says as whom the kiosk opens a session.
type AuthConfig struct {
	Mode      string `toml:"mode"`       // enterprise (1002, default) or device (1001)
	AppID     string `toml:"app_id"`     // enterprise
	ChannelID string `toml:"channel_id"` // device
}

// SeqConfig shapes the message sequence number.
type SeqConfig struct {
	CodeWidth   int    `toml:"code_width"`   // 4 (default) or 5
	SerialWidth int    `toml:"serial_width"` // 10 to 14 (default)
	CodeMode    string `toml:"code_mode"`    // own (default) or fixed:1001
	Partition   int    `toml:"partition"`    // 1 to 9999 when kiosks share an app_id
}

// SignConfig chooses among the readings of clause 2.1.
type SignConfig struct {
	Sort           string `toml:"sort"`            // byte (default) or fold
	Value          string `toml:"value"`           // raw (default) or encoded
	Charset        string `toml:"charset"`         // utf-8 (default) or gbk
	Requests       string `toml:"requests"`        // always (default) or token_only
	Password       string `toml:"password"`        // auto (default), token, session, base
	VerifyResponse string `toml:"verify_response"` // if_present (default), off, require
	Place          string `toml:"place"`           // query (default) or header
	ExcludeKeys    bool   `toml:"exclude_keys"`    // sign values only
	KeepEmpty      bool   `toml:"keep_empty"`      // keys of empty values take part
	LowerHex       bool   `toml:"lower_hex"`       // lower-case digits
}

// BodyConfig says how JSON and form bodies are encrypted (docs/bodies.md).
type BodyConfig struct {
	Cipher string `toml:"cipher"` // none (default) or aes-256-gcm
	Key    string `toml:"key"`    // password (default): what signs the call; or base: the base key always
}

// ReaderConfig chooses the card reader.
type ReaderConfig struct {
	Driver string `toml:"driver"` // pcsc, or sim in a program built with tag sim
	Name   string `toml:"name"`   // pcsc: reader name; sim: loopback address to listen on
}

// CardConfig says which cards are served; at least one kind.
type CardConfig struct {
	Purse  *PurseConfig  `toml:"purse"`
	Memory *MemoryConfig `toml:"memory"`
	Price  bool          `toml:"price"` // ask what gas costs (3019) and show it to who looks at the list for a second
}

// PurseConfig is a PBOC purse or deposit.
type PurseConfig struct {
	AID      string `toml:"aid"`       // hex; default A00000000386980701
	SFI      int    `toml:"sfi"`       // of the public information; default 21 (15 hex)
	LogSFI   int    `toml:"log_sfi"`   // default 24 (18 hex)
	Type     string `toml:"type"`      // ep (default) or ed
	KeyIndex int    `toml:"key_index"` // of the load key; default 1
	PIN      string `toml:"pin"`       // none (default) or fixed
	PINFile  string `toml:"pin_file"`  // fixed: file with the PIN's digits, mode 0600
	Unit     string `toml:"unit"`      // fen (default)
}

// MemoryConfig is an SLE4442 whose layout the meter maker gave.
type MemoryConfig struct {
	CardNo   []int   `toml:"card_no"`  // offset, length
	Identity [][]int `toml:"identity"` // fields no order may touch; default: the first 32 bytes and card_no
	Count    []int   `toml:"count"`    // purchase count, the commit field
	Gas      []int   `toml:"gas"`      // gas the meter has not taken
}

// StateConfig says where the kiosk keeps its files.
type StateConfig struct {
	Dir     string `toml:"dir"`      // default /var/lib/kioskd
	KeyFile string `toml:"key_file"` // of the keystore's slot; default <dir>/slot.key
	Reserve int64  `toml:"reserve"`  // bytes kept beyond the end of agent.db; default 16 MB
}

// LocalConfig is the local API.
type LocalConfig struct {
	Dir string `toml:"dir"` // of operator.sock and technician.sock; default /run/kioskd
}

// BeatConfig is the heartbeat.
type BeatConfig struct {
	Interval Duration `toml:"interval"` // default 5m; "off" with a negative value
}

// MirrorConfig is the copy of master data (docs/mirror.md). It holds masked names and no telephone numbers, and no
// top-up depends on it.
type MirrorConfig struct {
	Enabled  bool     `toml:"enabled"`  // default false
	Interval Duration `toml:"interval"` // between two pulls, 15m to 24h; default 1h
	Tables   []string `toml:"tables"`   // of "3001" to "3004"; default 3003 (subscribers) and 3004 (meters)
}

// LogConfig is the log on standard error.
type LogConfig struct {
	Level string `toml:"level"` // debug, info (default), warn, error
}

// Duration is written like "15s".
type Duration time.Duration

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return errors.New("not a duration such as 15s or 5m")
	}
	*d = Duration(v)
	return nil
}

const maxConfig = 1 << 20

// readConfig reads and checks the file. Its errors name file, line, column
// and what is wrong there.
func readConfig(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	if len(b) > maxConfig {
		return Config{}, fmt.Errorf("%s: longer than 1 MB", path)
	}
	return parseConfig(path, b)
}

func parseConfig(path string, b []byte) (Config, error) {
	var c Config
	dec := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok {
			var lines []string
			for _, e := range strict.Errors {
				row, col := e.Position()
				lines = append(lines, fmt.Sprintf("%s:%d:%d: unknown key %q\n%s", path, row, col, strings.Join(e.Key(), "."), e.String()))
			}
			return Config{}, errors.New(strings.Join(lines, "\n"))
		}
		if at, ok := errors.AsType[*toml.DecodeError](err); ok {
			row, col := at.Position()
			return Config{}, fmt.Errorf("%s:%d:%d: %w\n%s", path, row, col, err, at.String())
		}
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	c.defaults()
	if err := c.check(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func (c *Config) defaults() {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&c.State.Dir, "/var/lib/kioskd")
	def(&c.State.KeyFile, c.State.Dir+"/slot.key")
	def(&c.Local.Dir, "/run/kioskd")
	def(&c.Reader.Driver, "pcsc")
	def(&c.Log.Level, "info")
	if c.Reconcile != nil {
		c.Reconcile.defaults()
	}
	if p := c.Card.Purse; p != nil {
		def(&p.Type, "ep")
		def(&p.PIN, "none")
		def(&p.Unit, "fen")
		if p.KeyIndex == 0 {
			p.KeyIndex = 1
		}
	}
}

// check tells what is missing or impossible, with the key's full name.
func (c *Config) check() error {
	one := func(key, v string, allowed ...string) error {
		for _, a := range allowed {
			if v == a {
				return nil
			}
		}
		return fmt.Errorf("%s: %q is not one of %s", key, v, strings.Join(allowed, ", "))
	}
	if b, err := hex.DecodeString(c.Device.TerminalNo); err != nil || len(b) != 6 {
		return errors.New("device.terminal_no: want 12 hex digits")
	}
	if c.Device.TerminalNo != strings.ToUpper(c.Device.TerminalNo) {
		return errors.New("device.terminal_no: write its letters in upper case")
	}
	if c.API.BaseURL == "" {
		return errors.New("api.base_url: missing")
	}
	for key, d := range map[string]Duration{"api.timeout_live": c.API.TimeoutLive, "api.timeout_backlog": c.API.TimeoutBacklog} {
		if d != 0 && (d < Duration(time.Second) || d > Duration(10*time.Minute)) {
			return fmt.Errorf("%s: %v is not from 1s to 10m", key, time.Duration(d))
		}
	}
	if d := c.Beat.Interval; d > 0 && d < Duration(10*time.Second) {
		return fmt.Errorf("heartbeat.interval: %v is less than 10s", time.Duration(d))
	}
	if d := time.Duration(c.Mirror.Interval); d != 0 && (d < mirror.MinInterval || d > mirror.MaxInterval) {
		return fmt.Errorf("mirror.interval: %v is not from 15m to 24h", d)
	}
	for i, code := range c.Mirror.Tables {
		if err := one("mirror.tables", code, "3001", "3002", "3003", "3004"); err != nil {
			return err
		}
		if slices.Contains(c.Mirror.Tables[:i], code) {
			return fmt.Errorf("mirror.tables: %s is there twice", code)
		}
	}
	if c.State.Reserve < 0 || c.State.Reserve > 1<<30 {
		return fmt.Errorf("state.reserve: %d is not from 0 to 1 GB", c.State.Reserve)
	}
	if c.Reconcile != nil {
		if err := c.Reconcile.check(c.Device); err != nil {
			return err
		}
	}
	if err := one("log.level", c.Log.Level, "debug", "info", "warn", "error"); err != nil {
		return err
	}
	if err := one("reader.driver", c.Reader.Driver, "pcsc", "sim"); err != nil {
		return err
	}
	if c.Card.Purse == nil && c.Card.Memory == nil {
		return errors.New("card: neither card.purse nor card.memory is configured")
	}
	if p := c.Card.Purse; p != nil {
		for _, err := range []error{
			one("card.purse.type", p.Type, "ep", "ed"), one("card.purse.pin", p.PIN, "none", "fixed"), one("card.purse.unit", p.Unit, "fen"),
		} {
			if err != nil {
				return err
			}
		}
		if p.KeyIndex < 0 || p.KeyIndex > 255 || p.SFI < 0 || p.SFI > 30 || p.LogSFI < 0 || p.LogSFI > 30 {
			return errors.New("card.purse: key_index is 0 to 255, sfi and log_sfi 1 to 30")
		}
		if p.PIN == "fixed" && p.PINFile == "" {
			return errors.New("card.purse.pin_file: missing")
		}
	}
	if m := c.Card.Memory; m != nil {
		for _, f := range []struct {
			key string
			v   []int
		}{{"card_no", m.CardNo}, {"count", m.Count}, {"gas", m.Gas}} {
			if err := checkField("card.memory."+f.key, f.v); err != nil {
				return err
			}
		}
		for _, f := range m.Identity {
			if err := checkField("card.memory.identity", f); err != nil {
				return err
			}
		}
	}
	return c.checkRemote()
}

func checkField(key string, f []int) error {
	if len(f) != 2 || f[0] < 0 || f[1] < 1 || f[1] > 256 || f[0] > 256-f[1] {
		return fmt.Errorf("%s: want [offset, length] inside 256 bytes", key)
	}
	return nil
}
