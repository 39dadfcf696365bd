package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"vcckiosk/agent/doctor"
	"vcckiosk/agent/localapi"
)

// doctorCommand joins what kioskd -doctor sees from outside with what the
// running daemon knows.
func (t *tool) doctorCommand() *cobra.Command {
	var config string
	c := t.leaf("doctor", "What keeps the kiosk from serving, and what to do", `Looks at clock, time zone, disk, permissions, card service, reader, network, certificate,
key and outbox, and tells of each in words what is wrong and what to do next. It changes
nothing and may run beside the daemon or without it. Some of it needs sudo.

Ends with 0 when all is well, with 3 when something needs a person.`, "  sudo kioskctl doctor", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		found, err := outside(ctx, config)
		if err != nil {
			found = append(found, doctor.Finding{
				Check: "kioskd", Level: doctor.Warn, ZH: "无法运行 kioskd 自检", EN: err.Error(), Next: "install the package vcckiosk, or run it with sudo",
			})
		}
		for _, f := range t.inside(ctx) { // who runs knows more than who looks from outside
			found = append(slices.DeleteFunc(found, func(g doctor.Finding) bool { return g.Check == f.Check && g.Level == doctor.Good }), f)
		}
		t.show(found, func(w io.Writer) { printFindings(w, found) })
		if w := doctor.Worst(found); w == doctor.Bad || w == doctor.Warn {
			return &coded{exitDegraded, errors.New("something needs a person")}
		}
		return nil
	})
	c.Flags().StringVar(&config, "config", "/etc/kioskd/kioskd.toml", "kioskd's configuration `file`")
	return c
}

// outside runs kioskd -doctor.
func outside(ctx context.Context, config string) ([]doctor.Finding, error) {
	var out, text bytes.Buffer
	cmd := exec.CommandContext(ctx, daemonProgram(), "-config", config, "-doctor")
	cmd.Stdout, cmd.Stderr = &out, &text
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("kioskd -doctor: %w: %s", err, bytes.TrimSpace(text.Bytes()))
	}
	var found []doctor.Finding
	if err := json.Unmarshal(out.Bytes(), &found); err != nil {
		return nil, fmt.Errorf("kioskd -doctor: %w", err)
	}
	return found, nil
}

// inside asks the daemon.
func (t *tool) inside(ctx context.Context) []doctor.Finding {
	var st localapi.Status
	if err := t.api().Get(ctx, "/v1/status", &st); err != nil {
		f := doctor.Finding{Check: "daemon", Level: doctor.Bad, ZH: "kioskd 未运行", EN: err.Error(), Next: "systemctl status kioskd; journalctl -u kioskd -n 50"}
		if errors.Is(err, context.Canceled) {
			f.Level = doctor.Unsure
		}
		return []doctor.Finding{f}
	}
	if st.Fault != "" {
		return []doctor.Finding{{Check: "daemon", Level: doctor.Bad, ZH: "kioskd 无法工作", EN: st.Fault, Next: "do what it says, then: systemctl restart kioskd"}}
	}
	var found []doctor.Finding
	if st.Disabled != nil {
		found = append(found, doctor.Finding{
			Check: "service", Level: doctor.Warn, ZH: "已被远程命令暂停服务", EN: "out of service by command " + st.Disabled.ID + " " + st.Disabled.Reason, Next: "the back office puts it back with the command enable",
		})
	}
	if r := st.Registration; r != nil && r.Reason != nil {
		found = append(found, doctor.Finding{Check: "registration", Level: doctor.Bad, ZH: r.Reason.ZH, EN: r.Reason.EN, Next: r.Reason.Next})
	}
	found = append(found, doctor.Finding{Check: "daemon", Level: doctor.Good, ZH: "kioskd 正在运行", EN: "kioskd runs: " + st.State})
	skew := time.Duration(st.SkewMS) * time.Millisecond
	if skew != 0 {
		found = append(found, doctor.Clock(time.Now(), time.Time{}, skew, true))
	}
	if m := st.Mirror; m != nil {
		var oldest time.Duration
		for _, x := range m.Tables {
			oldest = max(oldest, x.Age)
		}
		found = append(found, doctor.Mirror(string(m.State), m.Fault, oldest))
	}
	return append(found, doctor.Reader(st.Reader.Name, st.Reader.State), doctor.Key(st.Key, st.KCV), doctor.Token(st.Token),
		doctor.Outbox(st.Outbox.Depth, st.Outbox.Parked, st.Outbox.OldestAge), doctor.Alarms(st.Alarms))
}

func printFindings(w io.Writer, found []doctor.Finding) {
	marks := map[doctor.Level]string{doctor.Good: "ok", doctor.Warn: "WARN", doctor.Bad: "BAD", doctor.Unsure: "?"}
	for _, f := range found {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", marks[f.Level], f.Check, f.ZH, f.EN)
	}
	fmt.Fprintln(w)
	for _, f := range found {
		if f.Next != "" {
			fmt.Fprintf(w, "下一步 / next, %s: %s\n", f.Check, f.Next)
		}
	}
}

// daemonProgram is the kioskd beside this program, or the one on the path.
func daemonProgram() string {
	if self, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(self), "kioskd"); fileExists(beside) {
			return beside
		}
	}
	return "kioskd"
}
