package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vcckiosk/cardreader/qualify"
)

// errUnfit: the reader has failed a step.
var errUnfit = errors.New("the reader does not do what this program relies on; do not put it into service")

// qualifying is how kioskctl qualify reader runs this program.
type qualifying struct {
	transcript string // file; it must not exist yet
	fixedCable bool
	overwrite  bool
}

// qualifyReader plays the suite with a person at the terminal. The daemon must
// not run: it would take each card. What is said goes to out, a memory card's
// code, if it is to be overwritten, is read from in.
func qualifyReader(ctx context.Context, path string, q qualifying, in io.Reader, out io.Writer) error {
	cfg, err := readConfig(path)
	if err != nil {
		return err
	}
	cards, err := agentConfig(cfg)
	if err != nil {
		return err
	}
	c := qualify.Config{
		Purse: cards.Purse, Memory: cards.Memory != nil, FixedCable: q.fixedCable, NoService: cfg.Reader.Driver != "pcsc", Overwrite: q.overwrite,
		Ask: func(a qualify.Act) {
			zh, en := a.Words()
			fmt.Fprintf(out, "  >> %s / %s\n", zh, en)
		},
		Told: func(r qualify.Result) { fmt.Fprintf(out, "%-9s %s  %s\n", r.State, r.Step, r.Why) },
	}
	if q.overwrite && c.Memory {
		if c.Code, err = askCode(in, out); err != nil {
			return err
		}
	}
	file, err := os.OpenFile(q.transcript, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("transcript: %w", err)
	}
	defer file.Close() //nolint:errcheck // Sync below tells
	reader, closer, err := newReader(cfg.Reader, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer closer.Close() //nolint:errcheck // the process ends
	way := versions(ctx, cfg.Reader.Driver)
	c.Reader, c.Transcript = reader, file
	fmt.Fprintf(file, "# %s, %s, %s\n", reader.Name(), way, time.Now().UTC().Format(time.RFC3339))
	results := qualify.Run(ctx, c)
	line := qualify.Line(reader.Name(), way, results)
	if _, err := fmt.Fprintf(file, "# %s\n", line); err != nil {
		return fmt.Errorf("transcript: %w", err)
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("transcript: %w", err)
	}
	fmt.Fprintf(out, "\ntranscript: %s\nfor docs/hardware.md:\n%s\n", q.transcript, line)
	for _, r := range results {
		if r.State == qualify.Failed {
			return errUnfit
		}
	}
	return ctx.Err()
}

// askCode asks for a bench card's code. It is shown as it is typed.
func askCode(in io.Reader, out io.Writer) (code [3]byte, err error) {
	fmt.Fprint(out, "code of the bench card 测试卡密码, 6 hex digits [FFFFFF]: ")
	line, err := bufio.NewReader(io.LimitReader(in, 100)).ReadString('\n')
	if err != nil && line == "" && !errors.Is(err, io.EOF) {
		return code, fmt.Errorf("read code: %w", err)
	}
	if line = strings.TrimSpace(line); line == "" {
		line = "FFFFFF"
	}
	b, err := hex.DecodeString(line)
	if err != nil || len(b) != len(code) {
		return code, errors.New("a code has 6 hex digits")
	}
	return [3]byte(b), nil
}

// versions names what lies between this program and the reader.
func versions(ctx context.Context, driver string) string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	parts := []string{"kioskd " + version(), "Linux " + unix.ByteSliceToString(u.Release[:])}
	if driver != "pcsc" {
		return strings.Join(append(parts, "driver "+driver), ", ")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, name := range []string{"pcscd", "libccid", "libacsccid1"} {
		// A package that is not there, and a system without dpkg, say nothing.
		if b, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Version}", name).Output(); err == nil && len(b) > 0 {
			parts = append(parts, name+" "+string(b))
		}
	}
	return strings.Join(parts, ", ")
}
