// Package metrics shows a kiosk to Prometheus: gauges taken from the agent's
// status when somebody asks, so that nothing is counted twice and an idle kiosk
// stays idle. Names, meaning and units are the table of docs/metrics.md, which
// a test writes. No label holds a card, a customer or an order.
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"vcckiosk/agent"
	"vcckiosk/agent/audit"
	"vcckiosk/agent/mirror"
)

// Source is what is asked for the present picture; *agent.Agent.
type Source interface{ Status() agent.Status }

// metric is one line of the table.
type metric struct {
	name, help string
	kind       prometheus.ValueType
	value      func(agent.Status) float64
}

var metrics = []metric{
	{
		"kioskd_serving", "1 when the next card would be served, 0 when the kiosk is out of service.", prometheus.GaugeValue,
		func(s agent.Status) float64 { return oneIf(s.State == "serving") },
	},
	{
		"kioskd_reader_present", "1 when the card reader is there and its service answers.", prometheus.GaugeValue,
		func(s agent.Status) float64 {
			return oneIf(s.Reader.State == "card in" || s.Reader.State == "card out")
		},
	},
	{
		"kioskd_key_active", "1 when a base key is in use.", prometheus.GaugeValue,
		func(s agent.Status) float64 { return oneIf(s.Key == "active") },
	},
	{
		"kioskd_outbox_messages", "Results and questions that wait for delivery now.", prometheus.GaugeValue,
		func(s agent.Status) float64 { return float64(s.Outbox.Depth) },
	},
	{
		"kioskd_outbox_scheduled_messages", "Questions that wait for another day.", prometheus.GaugeValue,
		func(s agent.Status) float64 { return float64(s.Outbox.Scheduled) },
	},
	{
		"kioskd_outbox_parked_messages", "Messages that wait for a person.", prometheus.GaugeValue,
		func(s agent.Status) float64 { return float64(s.Outbox.Parked) },
	},
	{
		"kioskd_outbox_oldest_seconds", "Age of the oldest message that waits for delivery; 0 when none does.", prometheus.GaugeValue,
		func(s agent.Status) float64 { return s.Outbox.OldestAge.Seconds() },
	},
	{
		"kioskd_journal_open_records", "Top-ups that are not closed.", prometheus.GaugeValue,
		func(s agent.Status) float64 { return float64(s.Journal.Open) },
	},
	{
		"kioskd_journal_damaged_lines", "Lines of the journal that do not verify.", prometheus.GaugeValue,
		func(s agent.Status) float64 { return float64(s.Journal.Damaged) },
	},
	{
		"kioskd_disk_free_bytes", "Space left where the kiosk keeps its files.", prometheus.GaugeValue,
		func(s agent.Status) float64 { return float64(s.DiskFree) },
	},
	{
		"kioskd_platform_clock_skew_seconds", "Platform's clock minus ours, as its answers tell; 0 before the first.", prometheus.GaugeValue,
		func(s agent.Status) float64 { return (time.Duration(s.SkewMS) * time.Millisecond).Seconds() },
	},
	{
		"kioskd_token_evictions_total", "Tokens taken away by another holder of the appId since the start.", prometheus.CounterValue,
		func(s agent.Status) float64 { return float64(s.Evictions) },
	},
	{
		"kioskd_commits_total", "Transactions made durable since the start; each wears the disk.", prometheus.CounterValue,
		func(s agent.Status) float64 { return float64(s.Commits) },
	},
	{
		"kioskd_uptime_seconds", "Time since the program began to serve.", prometheus.GaugeValue,
		func(s agent.Status) float64 { return s.Uptime.Seconds() },
	},
}

const (
	alarmName = "kioskd_alarm"
	alarmHelp = "1 while this alarm stands, 0 while it does not; alarms are the event catalogue's."
	ageName   = "kioskd_mirror_watermark_age_seconds"
	ageHelp   = "How far the mirror of this table is behind; absent before its first pull and where there is no mirror."
	gapName   = "kioskd_mirror_resync_needed"
	gapHelp   = "1 when changes of this table can no longer be had: full resync needed; absent where there is no mirror."
	infoName  = "kioskd_info"
	infoHelp  = "Always 1; says which kiosk and program this is."
)

func oneIf(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

// collector describes and collects at each scrape.
type collector struct {
	from  Source
	descs []*prometheus.Desc
	alarm *prometheus.Desc
	age   *prometheus.Desc
	gap   *prometheus.Desc
	info  *prometheus.Desc
}

func newCollector(from Source) *collector {
	c := &collector{
		from:  from,
		alarm: prometheus.NewDesc(alarmName, alarmHelp, []string{"alarm", "severity"}, nil),
		age:   prometheus.NewDesc(ageName, ageHelp, []string{"table"}, nil),
		gap:   prometheus.NewDesc(gapName, gapHelp, []string{"table"}, nil),
		info:  prometheus.NewDesc(infoName, infoHelp, []string{"device", "version"}, nil),
	}
	for _, m := range metrics {
		c.descs = append(c.descs, prometheus.NewDesc(m.name, m.help, nil, nil))
	}
	return c
}

func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
	out <- c.alarm
	out <- c.age
	out <- c.gap
	out <- c.info
}

func (c *collector) Collect(out chan<- prometheus.Metric) {
	st := c.from.Status()
	for i, m := range metrics {
		out <- prometheus.MustNewConstMetric(c.descs[i], m.kind, m.value(st))
	}
	standing := map[string]bool{}
	for _, a := range st.Alarms {
		standing[a] = true
	}
	for _, d := range audit.Catalogue {
		if d.Alarm {
			out <- prometheus.MustNewConstMetric(c.alarm, prometheus.GaugeValue, oneIf(standing[string(d.Event)]), string(d.Event), string(d.Severity))
		}
	}
	if st.Mirror != nil {
		for _, t := range st.Mirror.Tables {
			if !t.Watermark.IsZero() {
				out <- prometheus.MustNewConstMetric(c.age, prometheus.GaugeValue, t.Age.Seconds(), t.Code)
			}
			out <- prometheus.MustNewConstMetric(c.gap, prometheus.GaugeValue, oneIf(t.State == mirror.ResyncNeeded), t.Code)
		}
	}
	out <- prometheus.MustNewConstMetric(c.info, prometheus.GaugeValue, 1, st.Device, st.Firmware)
}

// registry has the kiosk's own metrics and those of process and runtime.
func registry(from Source) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(newCollector(from), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewGoCollector())
	return r
}

// Handler answers GET /metrics.
func Handler(from Source) http.Handler {
	return promhttp.HandlerFor(registry(from), promhttp.HandlerOpts{MaxRequestsInFlight: 2})
}
