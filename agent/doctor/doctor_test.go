package doctor_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vcckiosk/agent/doctor"
	"vcckiosk/protocol"
)

var built = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

type names map[string]bool

func (n names) LookupHost(_ context.Context, host string) ([]string, error) {
	if !n[host] {
		return nil, errors.New("no such host")
	}
	return []string{"127.0.0.1"}, nil
}

// platform is a TLS server with its authority and pin.
func platform(t *testing.T) (url, ca, pin string) {
	t.Helper()
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(s.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(s.Certificate().RawSubjectPublicKeyInfo)
	return s.URL, ca, base64.StdEncoding.EncodeToString(sum[:])
}

func file(t *testing.T, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func last(fs []doctor.Finding) doctor.Finding { return fs[len(fs)-1] }

// TestFaultsAreNamed seeds faults and wants each named in both languages, with
// the next step.
func TestFaultsAreNamed(t *testing.T) {
	t.Parallel()
	url, ca, pin := platform(t)
	other := base64.StdEncoding.EncodeToString(make([]byte, 32))
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := deaf.Addr().String()
	deaf.Close()
	network := func(url string, c protocol.TLSConfig) doctor.Finding {
		return last(doctor.Network(t.Context(), url, c, names{"platform.example": true}))
	}
	local := time.FixedZone("UTC", 0)
	named := 0
	for _, x := range []struct {
		fault string
		got   doctor.Finding
		level doctor.Level
		words string
	}{
		{"clock in 1970", doctor.Clock(time.Unix(0, 0), built, 0, false), doctor.Bad, "before this program was built"},
		{"clock in 2099", doctor.Clock(built.AddDate(73, 0, 0), built, 0, false), doctor.Bad, "ten years after"},
		{"clock a day off", doctor.Clock(built.AddDate(0, 1, 0), built, -24*time.Hour, true), doctor.Warn, "24h0m0s away"},
		{"time zone", doctor.Zone(built.In(local)), doctor.Warn, "zone UTC"},
		{"report parked", doctor.Outbox(1, 1, time.Minute), doctor.Bad, "1 reports are parked"},
		{"report undelivered", doctor.Outbox(2, 0, 3*time.Hour), doctor.Bad, "the oldest for 3h0m0s"},
		{"no key", doctor.Key("none", ""), doctor.Bad, "no base key"},
		{"keystore locked", doctor.Key("locked: key file is missing", ""), doctor.Bad, "key file is missing"},
		{"key not proven", doctor.Key("pending: not proven yet", ""), doctor.Warn, "not proven"},
		{"key refused", doctor.Token("refused"), doctor.Bad, "refuses the base key"},
		{"no session", doctor.Token("none"), doctor.Unsure, "no session"},
		{"mirror not opened", doctor.Mirror("", "mirror: no space", 0), doctor.Warn, "no space"},
		{"mirror with a gap", doctor.Mirror("resync needed", "", 0), doctor.Warn, "full resync needed"},
		{"mirror behind", doctor.Mirror("behind", "", 3*time.Hour), doctor.Warn, "3h0m0s behind"},
		{"mirror not pulled", doctor.Mirror("not pulled yet", "", 0), doctor.Unsure, "not been pulled"},
		{"alarms", doctor.Alarms([]string{"report.parked", "no.such"}), doctor.Bad, "no.such"},
		{"reader unplugged", doctor.Reader("ACR38", "reader gone"), doctor.Bad, "ACR38 is not there"},
		{"pcscd away", doctor.Reader("ACR38", "service down"), doctor.Bad, "pcscd"},
		{"no such name", network("https://nowhere.example/x", protocol.TLSConfig{}), doctor.Bad, "nowhere.example cannot be resolved"},
		{"platform down", network("https://"+nobody, protocol.TLSConfig{}), doctor.Bad, "connection refused"},
		{"unknown authority", network(url, protocol.TLSConfig{}), doctor.Bad, "authority that is not trusted"},
		{"other pin", network(url, protocol.TLSConfig{CAFile: ca, Pins: []string{other}}), doctor.Bad, "none of the pinned"},
		{"certificate over", network(url, protocol.TLSConfig{CAFile: ca, BuildTime: time.Now().AddDate(80, 0, 0)}), doctor.Bad, "not valid at this time"},
		{"no CA file", network(url, protocol.TLSConfig{CAFile: "/nowhere.pem"}), doctor.Bad, "ca_file"},
		{"no address", network("platform", protocol.TLSConfig{}), doctor.Bad, "not an address"},
		{"not encrypted", network("http://"+strings.TrimPrefix(url, "https://"), protocol.TLSConfig{}), doctor.Warn, "not encrypted"},
		{"no state directory", doctor.Disk("/nowhere"), doctor.Bad, "/nowhere does not exist"},
		{"key file open to others", doctor.Private("keyFile", file(t, 0o644)), doctor.Bad, "mode 0644"},
		{"configuration open to others", doctor.Shielded("config", file(t, 0o666)), doctor.Warn, "mode 0666"},
		{"no configuration", doctor.Shielded("config", "/nowhere.toml"), doctor.Bad, "does not exist"},
	} {
		if x.got.Level != x.level || !strings.Contains(x.got.EN, x.words) || x.got.ZH == "" || x.got.Next == "" || x.got.Check == "" {
			t.Errorf("%s: %+v, want %s with %q", x.fault, x.got, x.level, x.words)
			continue
		}
		named++
	}
	fmt.Printf("seeded faults named=%d\n", named)

	for _, x := range []doctor.Finding{
		doctor.Clock(built.AddDate(0, 1, 0), built, time.Second, true), doctor.Clock(built.AddDate(0, 1, 0), built, 0, false),
		doctor.Zone(built.In(time.FixedZone("CST", 8*3600))), doctor.Outbox(0, 0, 0), doctor.Alarms(nil), doctor.Mirror("current", "", 0), doctor.Outbox(3, 0, time.Minute),
		doctor.Key("active", "1A2B3C"), doctor.Token("live"), doctor.Reader("ACR38", "card out"), doctor.Disk(t.TempDir()),
		doctor.Private("keyFile", file(t, 0o600)), doctor.Shielded("config", file(t, 0o640)),
		network(url, protocol.TLSConfig{CAFile: ca, Pins: []string{pin}}),
	} {
		// A slow disk of the machine under test is a true finding.
		if x.Level != doctor.Good && !(x.Check == "disk" && x.Level == doctor.Warn) {
			t.Errorf("nothing is wrong, and it says %+v", x)
		}
	}
}

func TestTheWorstFindingCounts(t *testing.T) {
	t.Parallel()
	f := func(ls ...doctor.Level) (out []doctor.Finding) {
		for _, l := range ls {
			out = append(out, doctor.Finding{Level: l})
		}
		return out
	}
	for _, x := range []struct {
		of   []doctor.Finding
		want doctor.Level
	}{
		{nil, doctor.Good},
		{f(doctor.Good, doctor.Unsure), doctor.Unsure},
		{f(doctor.Warn, doctor.Unsure, doctor.Good), doctor.Warn},
		{f(doctor.Good, doctor.Bad, doctor.Warn), doctor.Bad},
	} {
		if got := doctor.Worst(x.of); got != x.want {
			t.Errorf("%v: %s, want %s", x.of, got, x.want)
		}
	}
}
