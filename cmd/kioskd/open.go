package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"vcckiosk/agent"
	"vcckiosk/agent/journal"
	"vcckiosk/agent/media"
	"vcckiosk/agent/mirror"
	"vcckiosk/agent/topup"
	"vcckiosk/cardreader"
	"vcckiosk/cardreader/epurse"
	"vcckiosk/cardreader/pcsc"
	"vcckiosk/cardreader/vpcd"
	"vcckiosk/keystore"
	"vcckiosk/keystore/fileslot"
	"vcckiosk/protocol"
	"vcckiosk/queue"
)

// opened is what open has to give back.
type opened struct {
	parts  agent.Parts
	db     *bbolt.DB
	keys   *keystore.Store
	reader interface{ Close() error }
}

func (o *opened) Close() error {
	var errs []error
	if o.reader != nil {
		errs = append(errs, o.reader.Close())
	}
	if o.keys != nil {
		errs = append(errs, o.keys.Close())
	}
	if o.db != nil {
		errs = append(errs, o.db.Close())
	}
	return errors.Join(errs...)
}

// open turns a configuration into parts. A keystore that will not open keeps
// nobody from starting: the kiosk says why and can be provisioned again.
func open(ctx context.Context, c Config, log *slog.Logger) (o *opened, err error) {
	o = &opened{}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.Close())
			o = nil
		}
	}()
	// What the configuration can be wrong in comes before the first file.
	cfg, err := agentConfig(c)
	if err != nil {
		return o, err
	}
	if err := checkShape(c); err != nil {
		return o, err
	}
	commandKeys, err := c.Command.ring()
	if err != nil {
		return o, err
	}
	if err := os.MkdirAll(c.State.Dir, 0o700); err != nil {
		return o, fmt.Errorf("state.dir: %w", err)
	}
	path := filepath.Join(c.State.Dir, "agent.db")
	if o.db, err = queue.OpenFile(ctx, path, queue.FileOptions{Reserve: c.State.Reserve}); err != nil {
		return o, err
	}
	writer := queue.NewWriter(o.db, queue.WriterOptions{Log: log})
	outbox, err := queue.NewOutbox(writer, queue.Options{})
	if err != nil {
		return o, err
	}
	records, err := journal.Open(writer)
	if err != nil {
		return o, err
	}
	if err := queue.Relax(o.db); err != nil {
		log.Warn("memory not given back", "err", err)
	}
	for _, d := range records.Damage() {
		log.Error("journal damaged", "line", d.N, "what", d.What)
	}
	var problem string
	slot := fileslot.New(fileslot.Options{KeyFile: c.State.KeyFile, HardwareID: hardwareID(), CreateIfMissing: true})
	if o.keys, err = keystore.Open(c.State.Dir, slot, keystore.Options{}); err != nil {
		if errors.Is(err, keystore.ErrInUse) {
			return o, err
		}
		problem = err.Error() + keystoreAdvice(err)
		log.Error("keystore cannot be opened, the kiosk needs a key", "err", problem)
	}
	keys := o.keys
	client, err := newClient(c, &protocol.SeqBlocks{Reserve: writer.Do}, keys, log)
	if err != nil {
		return o, err
	}
	reader, closer, err := newReader(c.Reader, log)
	if err != nil {
		return o, err
	}
	o.reader = closer
	files, err := media.Open(filepath.Join(c.State.Dir, "media"), writer.View, media.Options{})
	if err != nil {
		return o, err
	}
	o.parts = agent.Parts{
		Config: cfg, Reader: reader, Writer: writer, Outbox: outbox, Journal: records, Keys: keys, KeysProblem: problem,
		Client: client, Media: files, Disk: freeBytes(c.State.Dir), Log: log, Mirror: mirrorConfig(c, log),
		CommandKeys: commandKeys, Register: c.registering(),
	}
	if c.Reconcile != nil {
		o.parts.Config.Reconcile, o.parts.Files = reconConfig(c), c.Reconcile.server()
	}
	return o, nil
}

// mirrorConfig is nil unless a mirror is wanted. What is left of one that is
// wanted no longer is deleted: it is personal, if masked, and can be had again.
func mirrorConfig(c Config, log *slog.Logger) *mirror.Config {
	path := filepath.Join(c.State.Dir, "mirror.db")
	if c.Mirror.Enabled {
		return &mirror.Config{Path: path, Tables: c.Mirror.Tables, Interval: time.Duration(c.Mirror.Interval)}
	}
	switch err := os.Remove(path); {
	case err == nil:
		log.Info("mirror is off, its file was deleted", "path", path)
	case !errors.Is(err, os.ErrNotExist):
		log.Warn("mirror is off, its file could not be deleted", "err", err)
	}
	return nil
}

func newClient(c Config, seq protocol.SeqSource, keys *keystore.Store, log *slog.Logger) (*protocol.Client, error) {
	endpoints := map[string]protocol.Endpoint{}
	for code, e := range c.API.Endpoints {
		endpoints[code] = protocol.Endpoint(e)
	}
	return protocol.NewClient(protocol.Config{
		BaseURL: c.API.BaseURL, Dialect: c.API.Dialect, Endpoints: endpoints, Auth: protocol.AuthMode(c.Auth.Mode), AppID: c.Auth.AppID,
		ChannelID: c.Auth.ChannelID, DeviceID: c.Device.ID, OrgCode: c.Device.OrgCode, Registers: c.Register.Use == "on",
		Sign: protocol.SignConfig{
			Sort: c.Sign.Sort, Value: c.Sign.Value, Charset: c.Sign.Charset, Requests: c.Sign.Requests,
			Password: c.Sign.Password, VerifyResponse: c.Sign.VerifyResponse, Place: c.Sign.Place,
			ExcludeKeys: c.Sign.ExcludeKeys, KeepEmpty: c.Sign.KeepEmpty, LowerHex: c.Sign.LowerHex,
		},
		Body:     protocol.BodyConfig(c.Body),
		Envelope: protocol.Envelope(c.Envelope),
		Seq: protocol.SeqConfig{
			CodeWidth: c.Seq.CodeWidth, SerialWidth: c.Seq.SerialWidth, CodeMode: c.Seq.CodeMode, Partition: c.Seq.Partition,
		},
		TLS:         protocol.TLSConfig{CAFile: c.API.CAFile, CertFile: c.API.CertFile, KeyFile: c.API.KeyFile, Pins: c.API.Pins, BuildTime: buildTime()},
		TimeoutLive: time.Duration(c.API.TimeoutLive), TimeoutBacklog: time.Duration(c.API.TimeoutBacklog),
	}, protocol.Deps{
		Key: func() (protocol.BaseKey, error) {
			if keys == nil {
				return nil, protocol.ErrNoKey
			}
			return keys.Active()
		},
		Seq: seq, Log: log,
	})
}

func agentConfig(c Config) (agent.Config, error) {
	cfg := agent.Config{
		DeviceID: c.Device.ID, OrgCode: c.Device.OrgCode, TerminalNo: c.Device.TerminalNo, Firmware: version(),
		Heartbeat: time.Duration(c.Beat.Interval), BuildTime: buildTime(), Prices: c.Card.Price,
	}
	if p := c.Card.Purse; p != nil {
		aid, err := hex.DecodeString(p.AID)
		if err != nil {
			return cfg, errors.New("card.purse.aid: not hex")
		}
		cfg.Purse = &epurse.Params{AID: aid, InfoSFI: byte(p.SFI), LogSFI: byte(p.LogSFI), KeyIndex: byte(p.KeyIndex), Type: epurse.TypePurseLoad}
		if p.Type == "ed" {
			cfg.Purse.Type = epurse.TypeDepositLoad
		}
		if p.PIN == "fixed" {
			if cfg.Purse.PIN, err = readPIN(p.PINFile); err != nil {
				return cfg, err
			}
		}
	}
	if m := c.Card.Memory; m != nil {
		field := func(f []int) topup.Field { return topup.Field{Offset: f[0], Len: f[1]} }
		profile := &agent.MemoryProfile{
			Layout: topup.Layout{Size: 256, Count: field(m.Count), Gas: field(m.Gas)}, CardNo: field(m.CardNo),
		}
		if len(m.Identity) == 0 {
			profile.Layout.Identity = []topup.Field{{Offset: 0, Len: 32}, field(m.CardNo)}
		}
		for _, f := range m.Identity {
			profile.Layout.Identity = append(profile.Layout.Identity, field(f))
		}
		cfg.Memory = profile
	}
	return cfg, nil
}

func readPIN(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("card.purse.pin_file: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("card.purse.pin_file: %s has mode %04o, others may read it; chmod 600", path, st.Mode().Perm())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("card.purse.pin_file: %w", err)
	}
	pin, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(pin) < 2 || len(pin) > 6 {
		return nil, errors.New("card.purse.pin_file: want 4 to 12 digits") // never the digits
	}
	return pin, nil
}

func newReader(c ReaderConfig, log *slog.Logger) (cardreader.Reader, interface{ Close() error }, error) {
	if c.Driver == "sim" {
		r, err := vpcd.Listen(c.Name)
		if err != nil {
			return nil, nil, fmt.Errorf("reader: %w", err)
		}
		return r, r, nil
	}
	r, err := pcsc.New(pcsc.Config{Name: c.Name, Log: log})
	if err != nil {
		return nil, nil, fmt.Errorf("reader.driver: %w", err)
	}
	return r, r, nil
}

// hardwareID is the board's serial number where the kernel tells it, else the
// machine id.
func hardwareID() []byte {
	for _, path := range []string{"/sys/block/mmcblk0/device/cid", "/sys/firmware/devicetree/base/serial-number", "/etc/machine-id"} {
		if b, err := os.ReadFile(path); err == nil && len(b) > 0 {
			return b
		}
	}
	return nil
}

func freeBytes(dir string) func() (int64, error) {
	return func() (int64, error) {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			return 0, fmt.Errorf("free space of %s: %w", dir, err)
		}
		return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // 32 bits wide on arm
	}
}

// buildTime is the commit's time when the program was built with it.
func buildTime() time.Time {
	if b, ok := debug.ReadBuildInfo(); ok {
		for _, s := range b.Settings {
			if s.Key == "vcs.time" {
				t, _ := time.Parse(time.RFC3339, s.Value)
				return t
			}
		}
	}
	return time.Time{}
}

func version() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return b.Main.Version
	}
	return "devel"
}
