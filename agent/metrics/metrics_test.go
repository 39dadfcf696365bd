package metrics

import (
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"vcckiosk/agent"
	"vcckiosk/agent/audit"
	"vcckiosk/agent/mirror"
)

var update = flag.Bool("update", false, "write docs/metrics.md")

type status agent.Status

func (s status) Status() agent.Status { return agent.Status(s) }

var picture = status{
	State: "serving", Device: "K0001", Firmware: "v1", Key: "active", Reader: agent.ReaderStatus{State: "card out"},
	Outbox: agent.OutboxStatus{Depth: 3, Scheduled: 2, Parked: 1, OldestAge: 90 * time.Second}, Journal: agent.JournalStatus{Open: 4, Damaged: 5},
	Mirror: &mirror.Status{Tables: []mirror.TableStatus{
		{Code: "3003", State: mirror.Current, Watermark: time.Unix(1, 0), Age: 90 * time.Second},
		{Code: "3004", State: mirror.ResyncNeeded, Watermark: time.Unix(1, 0), Age: time.Hour},
		{Code: "3001", State: mirror.Empty},
	}},
	Alarms: []string{"report.parked"}, DiskFree: 7 << 20, Evictions: 6, SkewMS: -1500, Uptime: time.Hour, Commits: 8,
}

func TestMetricsFollowTheRulesForNames(t *testing.T) {
	t.Parallel()
	problems, err := testutil.CollectAndLint(newCollector(picture))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if len(problems) == 0 && testutil.CollectAndCount(newCollector(picture)) < len(metrics) {
		t.Error("fewer metrics than the table has")
	}
}

func TestMetricsTellTheStatus(t *testing.T) {
	t.Parallel()
	rec := httptest.NewRecorder()
	Handler(picture).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	text := rec.Body.String()
	for _, want := range []string{
		"kioskd_serving 1\n", "kioskd_outbox_messages 3\n", "kioskd_outbox_parked_messages 1\n", "kioskd_outbox_oldest_seconds 90\n",
		"kioskd_journal_open_records 4\n", "kioskd_journal_damaged_lines 5\n", "kioskd_token_evictions_total 6\n", "kioskd_commits_total 8\n",
		"kioskd_platform_clock_skew_seconds -1.5\n", "kioskd_uptime_seconds 3600\n", "kioskd_reader_present 1\n", "kioskd_key_active 1\n",
		`kioskd_alarm{alarm="report.parked",severity="critical"} 1`, `kioskd_alarm{alarm="disk.low",severity="critical"} 0`,
		`kioskd_mirror_watermark_age_seconds{table="3003"} 90`, `kioskd_mirror_watermark_age_seconds{table="3004"} 3600`,
		`kioskd_mirror_resync_needed{table="3003"} 0`, `kioskd_mirror_resync_needed{table="3004"} 1`, `kioskd_mirror_resync_needed{table="3001"} 0`,
		`kioskd_info{device="K0001",version="v1"} 1`, "process_resident_memory_bytes", "go_goroutines",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q", want)
		}
	}
	rec = httptest.NewRecorder()
	Handler(status{State: "needsKey", Reader: agent.ReaderStatus{State: "service down"}}).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{"kioskd_serving 0\n", "kioskd_reader_present 0\n", "kioskd_key_active 0\n"} {
		if !strings.Contains(rec.Body.String(), want) {
			t.Errorf("out of service: lacks %q", want)
		}
	}
}

// TestTheTableIsTrue compares docs/metrics.md with the code; -update writes it.
func TestTheTableIsTrue(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	fmt.Fprint(&b, `# Metrics

`+"`GET /metrics`"+` on the operator's and the technician's socket, in Prometheus' text form; besides these the process and Go runtime metrics of the client library. Scrape it through the socket, for example with a node's proxy; nothing is opened to the network. This page is written by a test.

| name | type | labels | meaning |
|---|---|---|---|
`)
	for _, m := range metrics {
		kind := "gauge"
		if m.kind == prometheus.CounterValue {
			kind = "counter"
		}
		fmt.Fprintf(&b, "| `%s` | %s | | %s |\n", m.name, kind, m.help)
	}
	fmt.Fprintf(&b, "| `%s` | gauge | alarm, severity | %s |\n| `%s` | gauge | table | %s |\n| `%s` | gauge | table | %s |\n| `%s` | gauge | device, version | %s |\n",
		alarmName, alarmHelp, ageName, ageHelp, gapName, gapHelp, infoName, infoHelp)
	fmt.Fprint(&b, "\n## Alarms\n\n| alarm | severity | meaning | next step |\n|---|---|---|---|\n")
	for _, d := range audit.Catalogue {
		if d.Alarm {
			fmt.Fprintf(&b, "| `%s` | %s | %s; %s | %s |\n", d.Event, d.Severity, d.ZH, d.EN, d.Next)
		}
	}
	const path = "../../docs/metrics.md"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != b.String() {
		t.Errorf("%s is not what the code says (%v): go test ./agent/metrics -update", path, err)
	}
}
