package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"vcckiosk/agent/doctor"
	"vcckiosk/cardreader/pcsc"
	"vcckiosk/protocol"
)

// diagnose looks at what can be seen without the daemon and beside a running
// one: it opens no database, takes no card and changes nothing. The findings go
// to w as one JSON array, for kioskctl doctor, which adds what only the daemon
// knows.
func diagnose(ctx context.Context, path string, w io.Writer) error {
	found := []doctor.Finding{doctor.Zone(time.Now()), doctor.Clock(time.Now(), buildTime(), 0, false)}
	cfg, err := readConfig(path)
	if err != nil {
		found = append(found, doctor.Finding{
			Check: "config", Level: doctor.Bad, ZH: "配置文件有误", EN: err.Error(), Next: "correct the file, then: kioskctl config check " + path,
		})
		return json.NewEncoder(w).Encode(found)
	}
	found = append(found, doctor.Shielded("config", path), doctor.Private("state", cfg.State.Dir))
	for _, name := range []string{"agent.db", "keystore.db", "keystore.hdr1", "keystore.hdr2", "mirror.db"} {
		if p := filepath.Join(cfg.State.Dir, name); exists(p) {
			found = append(found, doctor.Private(name, p))
		}
	}
	if exists(cfg.State.KeyFile) {
		found = append(found, doctor.Private("keyFile", cfg.State.KeyFile))
	}
	found = append(found, doctor.Disk(cfg.State.Dir))
	if cfg.Reader.Driver == "pcsc" {
		found = append(found, cardService(ctx))
	}
	found = append(found, doctor.Network(ctx, cfg.API.BaseURL, protocol.TLSConfig{
		CAFile: cfg.API.CAFile, CertFile: cfg.API.CertFile, KeyFile: cfg.API.KeyFile, Pins: cfg.API.Pins, BuildTime: buildTime(),
	}, net.DefaultResolver)...)
	return json.NewEncoder(w).Encode(found)
}

// exists is false only for what is surely not there: a kiosk that has not run
// yet has no files.
func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, os.ErrNotExist)
}

// cardService asks pcscd for its readers.
func cardService(ctx context.Context) doctor.Finding {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	names, err := pcsc.List(ctx)
	switch {
	case errors.Is(err, pcsc.ErrNotBuilt):
		return doctor.Finding{
			Check: "pcscd", Level: doctor.Bad, ZH: "本程序不含 PC/SC 支持", EN: "this program was built without PC/SC",
			Next: "install the package vcckiosk, or set reader.driver",
		}
	case err != nil:
		return doctor.Reader("pcscd", "service down")
	case len(names) == 0:
		return doctor.Reader("the reader", "reader gone")
	}
	return doctor.Finding{Check: "pcscd", Level: doctor.Good, ZH: "读卡服务正常", EN: "the card service answers and lists " + names[0]}
}
