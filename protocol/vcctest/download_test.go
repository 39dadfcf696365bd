package vcctest

import (
	"net/url"
	"strings"
	"testing"
	"time"
)

// get asks for a table as it travels.
func (k *kiosk) get(path, code string, query url.Values) string {
	k.t.Helper()
	if k.token == "" {
		k.login()
	}
	_, out, err := k.raw(code, "GET", path, query, nil)
	if err != nil {
		k.t.Fatal(err)
	}
	return string(out)
}

func TestATableGivesTheChangesOfAWindowAndNoMore(t *testing.T) {
	world(t, Options{Good: true, Download: DownloadOptions{Recent: true}}, func(p *Platform, k, _ *kiosk) {
		time.Sleep(90 * 24 * time.Hour)
		now := time.Now().In(zone)
		row := func(code string, ago time.Duration, org string) Subscriber {
			return Subscriber{Code: code, Name: "张三", AddrCode: "1", Detail: "2", Type: "1", State: "A", OrgCode: org, Changed: now.Add(-ago)}
		}
		p.AddEntries(row("3", time.Hour, "WJ"), row("2", 2*time.Hour, "WJ"), row("9", time.Hour, "SU"), row("1", 40*24*time.Hour, "WJ"), row("5", 0, "WJ"))
		p.AddEntries(row("2", 90*time.Minute, "WJ")) // changed again: there once
		stamp := func(d time.Duration) string { return now.Add(d).Format("20060102150405") }
		window := func(from, to time.Duration) url.Values {
			return url.Values{"orgCode": {"WJ"}, "lastTimestamp": {stamp(from)}, "timestamp": {stamp(to)}}
		}
		const header = "气户户号|气户名称|地址编码|地址明细|气户类型|气户状态|联系电话|手机号码|组织机构编码\n"
		const two, three = "2|张三|1|2|1|A|||WJ\n", "3|张三|1|2|1|A|||WJ\n"
		for _, x := range []struct {
			name string
			q    url.Values
			want string
		}{
			{"a window", window(-24*time.Hour, 0), header + two + three},
			{"neither end belongs to it", window(-90*time.Minute, -time.Hour), header},
			{"an empty one", window(-30*time.Hour, -24*time.Hour), header},
			{"without times: today", url.Values{"orgCode": {"WJ"}}, header + two + three},
			{"a month", window(-31*24*time.Hour, 0), header + two + three},
		} {
			if got := k.get("/subs/download", "3003", x.q); got != x.want {
				t.Errorf("%s: %q, want %q", x.name, got, x.want)
			}
		}
		for name, q := range map[string]url.Values{
			"over a month": window(-31*24*time.Hour-time.Second, 0), "older than a month": window(-33*24*time.Hour, -20*24*time.Hour),
			"backwards": window(0, -time.Hour), "no organisation": {"timestamp": {stamp(0)}}, "no time": {"orgCode": {"WJ"}, "timestamp": {"yesterday"}},
		} {
			if got := k.get("/subs/download", "3003", q); !strings.Contains(got, `"resultCode":"30002"`) {
				t.Errorf("%s: %q", name, got)
			}
		}
	})
}

// A table of any size is written as it is read: a few rows are had of a
// thousand million.
func TestAGeneratedTableNeedsNoMemory(t *testing.T) {
	p := New(Options{Good: true, BaseKey: baseKey})
	made := 0
	p.Generate("3003", 1_000_000_000, func(_ int, line []byte) []byte { made++; return append(line, "1|x|1|1|1|A|||WJ"...) })
	d := &download{rows: nil, generated: p.rows["3003"].generated, generate: p.rows["3003"].generate, header: "h", left: -1}
	b := make([]byte, 4096)
	for range 100 {
		if n, err := d.Read(b); n == 0 || err != nil {
			t.Fatal(n, err)
		}
	}
	if made > 30_000 || cap(d.buf) > 128<<10 {
		t.Errorf("%d rows made for 400 KB, a buffer of %d bytes", made, cap(d.buf))
	}
}
