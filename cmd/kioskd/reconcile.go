package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"vcckiosk/agent"
	"vcckiosk/protocol/reconcile"
	"vcckiosk/protocol/reconcile/sftp"
)

// ReconcileConfig is the daily reconciliation: a file of each day's top-ups goes
// to the platform's SFTP server, and its answer is compared. Without the table
// there is none.
type ReconcileConfig struct {
	Host        string   `toml:"host"`
	Port        int      `toml:"port"`         // default 22
	User        string   `toml:"user"`         //
	KeyFile     string   `toml:"key_file"`     // private key without a passphrase, mode 0600
	KnownHosts  string   `toml:"known_hosts"`  // the server's host keys, OpenSSH's form; no other key is ever taken
	Dir         string   `toml:"dir"`          // on the server; default /recon/{orgCode}/{yyyyMMdd}; {deviceId} may be used too
	Window      string   `toml:"window"`       // time in China at which a day's file is sent; default 01:00-03:00
	Maintenance string   `toml:"maintenance"`  // time in China at which nothing is sent; default 23:30-00:30; "none"
	AnswerAfter Duration `toml:"answer_after"` // default 4h after the file
	AnswerSum   string   `toml:"answer_sum"`   // require (default): an answer without its .sum is not read; off
}

// defaults fills in what may be left out.
func (c *ReconcileConfig) defaults() {
	for p, v := range map[*string]string{
		&c.Dir: reconcile.DefaultFolder, &c.Window: "01:00-03:00", &c.Maintenance: "23:30-00:30", &c.AnswerSum: "require",
	} {
		if *p == "" {
			*p = v
		}
	}
	if c.Port == 0 {
		c.Port = 22
	}
	if c.AnswerAfter == 0 {
		c.AnswerAfter = Duration(4 * time.Hour)
	}
}

// check tells what is missing or impossible, with the key's full name.
func (c *ReconcileConfig) check(d DeviceConfig) error {
	for key, v := range map[string]string{"host": c.Host, "user": c.User, "key_file": c.KeyFile, "known_hosts": c.KnownHosts} {
		if v == "" {
			return fmt.Errorf("reconcile.%s: missing", key)
		}
	}
	if strings.ContainsAny(c.Host, " /@[]") || strings.Count(c.Host, ":") == 1 {
		return fmt.Errorf("reconcile.host: %q is not a name or address alone; the port is reconcile.port", c.Host)
	}
	if c.Port < 1 || c.Port > 65535 {
		return fmt.Errorf("reconcile.port: %d is not from 1 to 65535", c.Port)
	}
	// A kiosk that registers has no name yet.
	switch err := reconcile.CheckNames(c.Dir, d.OrgCode, cmp.Or(d.ID, "unregistered")); {
	case errors.Is(err, reconcile.ErrFolder):
		return fmt.Errorf("reconcile.dir: %w", err)
	case err != nil:
		return fmt.Errorf("device: %w, which reconcile needs", err)
	}
	from, to, err := span(c.Window)
	if err != nil {
		return fmt.Errorf("reconcile.window: %w", err)
	}
	if from >= to {
		return fmt.Errorf("reconcile.window: %q does not lie within one day", c.Window)
	}
	quietFrom, quietTo, err := c.quiet()
	if err != nil {
		return fmt.Errorf("reconcile.maintenance: %w", err)
	}
	for at := from; at < to && quietFrom != quietTo; at += time.Minute {
		if within(at, quietFrom, quietTo) {
			return fmt.Errorf("reconcile.window: %q and the maintenance window %q overlap", c.Window, c.Maintenance)
		}
	}
	if a := time.Duration(c.AnswerAfter); a < time.Minute || a > 20*time.Hour {
		return fmt.Errorf("reconcile.answer_after: %v is not from 1m to 20h", a)
	}
	if c.AnswerSum != "require" && c.AnswerSum != "off" {
		return fmt.Errorf("reconcile.answer_sum: %q is not one of require, off", c.AnswerSum)
	}
	return nil
}

func within(at, from, to time.Duration) bool {
	if from < to {
		return at >= from && at < to
	}
	return at >= from || at < to
}

// quiet is the maintenance window; nothing is written as a moment of a second
// that no hour has, because equal ends are the agent's default.
func (c *ReconcileConfig) quiet() (from, to time.Duration, err error) {
	if c.Maintenance == "none" {
		return time.Nanosecond, time.Nanosecond, nil
	}
	from, to, err = span(c.Maintenance)
	if err == nil && from == to {
		err = fmt.Errorf(`%q has no length; write "none" for no window`, c.Maintenance)
	}
	return from, to, err
}

// span reads "23:30-00:30".
func span(s string) (from, to time.Duration, err error) {
	a, b, ok := strings.Cut(s, "-")
	if ok {
		from, err = hour(a)
	}
	if ok && err == nil {
		to, err = hour(b)
	}
	if !ok || err != nil {
		return 0, 0, fmt.Errorf("%q is not a span such as 01:00-03:00", s)
	}
	return from, to, nil
}

func hour(s string) (time.Duration, error) {
	t, err := time.Parse("15:04", s)
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, err
}

// server is the way to the file server.
func (c *ReconcileConfig) server() fileServer {
	return fileServer{sftp.Config{
		Address: net.JoinHostPort(c.Host, strconv.Itoa(c.Port)), User: c.User, KeyFile: c.KeyFile, KnownHosts: c.KnownHosts,
	}}
}

// fileServer reads key and known hosts anew each time: a technician changes them
// without a restart, and a kiosk whose files are wrong still sells gas.
type fileServer struct{ c sftp.Config }

func (s fileServer) Put(ctx context.Context, path string, content []byte) error {
	c, err := sftp.New(s.c)
	if err != nil {
		return fmt.Errorf("reconcile: %w", err)
	}
	return c.Put(ctx, path, content)
}

func (s fileServer) Get(ctx context.Context, path string, limit int64) ([]byte, error) {
	c, err := sftp.New(s.c)
	if err != nil {
		return nil, fmt.Errorf("reconcile: %w", err)
	}
	return c.Get(ctx, path, limit)
}

// reconConfig is the agent's half, nil when there is no reconciliation. c has
// been checked.
func reconConfig(c Config) *agent.ReconConfig {
	if c.Reconcile == nil {
		return nil
	}
	out := &agent.ReconConfig{
		Dir: filepath.Join(c.State.Dir, "recon"), Folder: c.Reconcile.Dir,
		AnswerAfter: time.Duration(c.Reconcile.AnswerAfter), NoSum: c.Reconcile.AnswerSum == "off",
	}
	out.From, out.To, _ = span(c.Reconcile.Window)
	out.QuietFrom, out.QuietTo, _ = c.Reconcile.quiet()
	return out
}
