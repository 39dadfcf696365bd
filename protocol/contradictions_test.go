package protocol

import (
	"errors"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/text/encoding/simplifiedchinese"

	"vcckiosk/protocol/catalogue"
	"vcckiosk/protocol/vcctest"
)

// TestContradictions plays each point in which the platform's document
// contradicts itself, by the numbers of docs/bodies.md: every one a program can
// meet. What is missing from 1 to 42 has no effect on a program.
func TestContradictions(t *testing.T) {
	t.Parallel()
	type test = func(*testing.T)
	points := map[string]test{
		"01 heading 1002, seq says 1001": func(t *testing.T) {
			for _, x := range []struct {
				mode string
				want map[string]int
			}{
				{"own", map[string]int{"own 4+14+14": 2}}, {"fixed:1001", map[string]int{"1001 4+14+14": 2}},
			} {
				c, _, p := against(t, vcctest.Options{}, func(c *Config) { c.Seq.CodeMode = x.mode })
				if err := beat(t.Context(), c); err != nil || !maps.Equal(p.SeqSeen(), x.want) {
					t.Errorf("%s: %v, %v", x.mode, p.SeqSeen(), err)
				}
			}
		},
		"02 seq of 32 or 28 digits, or 5+14+13": func(t *testing.T) {
			for form, seq := range map[string]SeqConfig{
				"own 4+14+14": {}, "own 4+14+10": {SerialWidth: 10}, "own 5+14+13": {CodeWidth: 5, SerialWidth: 13},
			} {
				c, _, p := against(t, vcctest.Options{}, func(c *Config) { c.Seq = seq })
				if err := beat(t.Context(), c); err != nil || p.SeqSeen()[form] != 2 {
					t.Errorf("%s: %v, %v", form, p.SeqSeen(), err)
				}
			}
		},
		"03 expireTime a span or a date": func(t *testing.T) {
			for _, text := range []bool{false, true} {
				for form, want := range map[vcctest.ExpireForm]time.Duration{
					vcctest.ExpireSeconds: 899 * time.Second, vcctest.ExpireEpoch: 899 * time.Second,
					vcctest.ExpireMillis: 899 * time.Second, vcctest.ExpireAbsent: 7200 * time.Second,
				} {
					synctest.Test(t, func(t *testing.T) {
						time.Sleep(20 * 365 * 24 * time.Hour) // a bubble begins in 2000, when an epoch had nine digits
						// The platform's clock is a day off: an epoch is one of its own.
						o := vcctest.Options{Lapses: vcctest.Lapses{ClockOff: true}, Token: vcctest.TokenOptions{Life: 899 * time.Second, Form: form, AsString: text}}
						c, _, _ := against(t, o, nil)
						if err := c.Token(t.Context()); err != nil {
							t.Fatal(err)
						}
						if got := time.Until(c.TokenInfo().Expires); (got - want).Abs() > time.Second {
							t.Errorf("form %d, text %v: %v, want %v", form, text, got, want)
						}
					})
				}
			}
		},
		"04 appId or deviceId": func(t *testing.T) {
			for mode, want := range map[AuthMode]string{
				AuthEnterprise: "appId seq sign", AuthDevice: "channelId deviceId seq sign",
			} {
				c, a, _ := against(t, vcctest.Options{}, func(c *Config) { c.Auth = mode })
				if err := c.Token(t.Context()); err != nil {
					t.Fatal(err)
				}
				_, q := a.last(t, "/getToken")
				if got := strings.Join(slices.Sorted(maps.Keys(q)), " "); got != want {
					t.Errorf("%s: %s", mode, got)
				}
			}
		},
		"05 password is the session key, only a token is given": func(t *testing.T) {
			for _, session := range []bool{false, true} {
				c, _, _ := against(t, vcctest.Options{Token: vcctest.TokenOptions{SessionKey: session}}, nil)
				if err := beat(t.Context(), c); err != nil || c.TokenInfo().HasSession != session {
					t.Errorf("session key %v: %v", session, err)
				}
			}
		},
		"06 getToken sets no base key, a new base key ends the token": func(t *testing.T) {
			key := testBase{testKey, 1}
			c, p := played(t, func(_ *Config, d *Deps) { d.Key = func() (BaseKey, error) { return key, nil } })
			p.extra = `,"baseKey":"Z9y8X7w6V5u4T3s2R1q0P9o8N7m6L5k4"`
			p.says("/subs/getSubsByCode", subsAnswer)
			for range 2 {
				if _, err := subs(t.Context(), c); err != nil {
					t.Fatal(err)
				}
			}
			if n := p.opened(); n != 1 {
				t.Errorf("%d sessions before", n)
			}
			key = testBase{"Z9y8X7w6V5u4T3s2R1q0P9o8N7m6L5k4", 2}
			p.key = key.key
			if _, err := subs(t.Context(), c); err != nil || p.opened() != 2 {
				t.Errorf("%d sessions after: %v", p.opened(), err)
			}
		},
		"07 later calls without a sign": func(t *testing.T) {
			for _, only := range []bool{false, true} {
				c, a, _ := against(t, vcctest.Options{Sign: vcctest.SignReading{TokenOnly: only}}, func(c *Config) {
					if only {
						c.Sign.Requests = "token_only"
					}
				})
				if err := beat(t.Context(), c); err != nil {
					t.Error(err)
				}
				if _, q := a.last(t, "/device/heartbeat"); q.Has("sign") == only {
					t.Errorf("token_only %v: query has %v", only, slices.Sorted(maps.Keys(q)))
				}
			}
		},
		"08 answers with or without header parameters and sign": func(t *testing.T) {
			for _, signed := range []bool{false, true} {
				c, _, p := against(t, vcctest.Options{SignAnswers: signed, ResultCode: vcctest.ResultString}, nil)
				if _, err := c.Invoke(t.Context(), "6005", nil); err != nil {
					t.Errorf("signed %v: %v", signed, err)
				}
				p.SetHook(func(vcctest.Call) vcctest.Action { return vcctest.Action{WrongSign: true} })
				if _, err := c.Invoke(t.Context(), "6005", nil); !errors.Is(err, ErrTransport) {
					t.Errorf("signed %v, then wrongly: %v", signed, err)
				}
			}
		},
		"11 common parameters are seq, token and sign": func(t *testing.T) {
			c, p := played(t)
			p.says("/subs/getSubsByCode", subsAnswer)
			if _, err := subs(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			_, q := p.sentTo(t, "/subs/getSubsByCode")
			if got := strings.Join(slices.Sorted(maps.Keys(q)), " "); got != "orgCode seq sign subsCode token" {
				t.Error(got)
			}
		},
		"12 bodies encrypted, no algorithm": func(t *testing.T) {
			for _, cipher := range []string{"none", "aes-256-gcm"} {
				for _, plainToken := range []bool{false, true} {
					c, _, _ := against(t, vcctest.Options{Body: vcctest.BodyOptions{Encrypted: cipher != "none", PlainToken: plainToken}},
						func(c *Config) { c.Body.Cipher = cipher })
					if err := beat(t.Context(), c); err != nil {
						t.Errorf("%s, plain token %v: %v", cipher, plainToken, err)
					}
				}
			}
		},
		"14 POST and FORM is a form with a file": func(t *testing.T) {
			c, a, p := against(t, vcctest.Options{}, nil)
			if _, err := c.Upload(t.Context(), file(MediaImage, "test.gif", gifFile)); err != nil {
				t.Fatal(err)
			}
			r, q := a.last(t, "/media/upload")
			if r.Method != http.MethodPost || !strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data; boundary=") ||
				q.Get("type") != "image" || len(p.Media()) != 1 {
				t.Errorf("%s %s %v", r.Method, r.Header.Get("Content-Type"), slices.Sorted(maps.Keys(q)))
			}
		},
		"15 video in the answer only": func(t *testing.T) {
			c, _, p := against(t, vcctest.Options{Media: vcctest.MediaOptions{AsVideo: true}}, nil)
			video := "\x00\x00\x00\x18ftypmp42" + strings.Repeat("v", 100)
			if _, err := c.Upload(t.Context(), file(MediaVideo, "a.mp4", video)); !errors.Is(err, ErrNotSent) || !errors.Is(err, ErrPermanent) {
				t.Errorf("sent: %v", err)
			}
			if m, err := c.Upload(t.Context(), file(MediaThumb, "a.jpg", jpegFile)); err != nil || m.Type != MediaVideo {
				t.Errorf("answered: %+v, %v", m, err)
			}
			if n := p.Calls()["2001"]; n != 1 {
				t.Errorf("%d uploads", n)
			}
		},
		"16 2002 is asked with mediaId, not media": func(t *testing.T) {
			c, a, p := against(t, vcctest.Options{}, nil)
			id := p.AddMedia(vcctest.MediaBook{Name: "a.gif", ContentType: "image/gif", Content: []byte(gifFile)})
			if _, err := c.Fetch(t.Context(), id, filepath.Join(t.TempDir(), "a")); err != nil {
				t.Fatal(err)
			}
			if _, q := a.last(t, "/media/get"); q.Get("mediaId") != id || q.Has("media") {
				t.Errorf("%v", slices.Sorted(maps.Keys(q)))
			}
		},
		"17 media_id or mediaId": func(t *testing.T) {
			for _, name := range []string{"mediaId", "media_id"} {
				c, _, p := against(t, vcctest.Options{Media: vcctest.MediaOptions{IDName: name}}, nil)
				if m, err := c.Upload(t.Context(), file(MediaImage, "a.gif", gifFile)); err != nil || m.ID != p.Media()[0].ID {
					t.Errorf("%s: %+v, %v", name, m, err)
				}
			}
		},
		"18 createTime a number or a stamp": func(t *testing.T) {
			for form := range vcctest.TimeDateTime + 1 {
				synctest.Test(t, func(t *testing.T) {
					c, _, _ := against(t, vcctest.Options{Media: vcctest.MediaOptions{Time: form}}, nil)
					if m, err := c.Upload(t.Context(), file(MediaImage, "a.gif", gifFile)); err != nil || !m.Created.Equal(time.Now()) {
						t.Errorf("form %d: %v, %v", form, m.Created, err)
					}
				})
			}
		},
		"19 two ampersands": func(t *testing.T) {
			c, a, p := against(t, vcctest.Options{}, nil)
			id := p.AddMedia(vcctest.MediaBook{Name: "a.gif", ContentType: "image/gif", Content: []byte(gifFile)})
			if _, err := c.Fetch(t.Context(), id, filepath.Join(t.TempDir(), "a")); err != nil {
				t.Fatal(err)
			}
			if r, _ := a.last(t, "/media/get"); strings.Contains(r.URL.RawQuery, "&&") {
				t.Error("two were sent")
			}
			a.change = func(r *http.Request) { r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "&", "&&", 1) }
			if _, err := c.Fetch(t.Context(), id, filepath.Join(t.TempDir(), "a")); err != nil {
				t.Errorf("the platform does not bear two: %v", err)
			}
		},
		"20 curl -I is HEAD": func(t *testing.T) {
			c, p := played(t)
			for code, path := range map[string]string{"3001": "/addr/download", "3002": "/suppypoint/download", "3003": "/subs/download", "3004": "/meter/download"} {
				p.says(path, "x|y\n")
				if _, err := readTable(t.Context(), c, code); err != nil {
					t.Error(err)
				}
				if r, _ := p.sentTo(t, path); r.Method != http.MethodGet {
					t.Errorf("%s by %s", code, r.Method)
				}
			}
			d, a, media := against(t, vcctest.Options{}, nil)
			id := media.AddMedia(vcctest.MediaBook{Name: "a.gif", ContentType: "image/gif", Content: []byte(gifFile)})
			if _, err := d.Fetch(t.Context(), id, filepath.Join(t.TempDir(), "a")); err != nil {
				t.Error(err)
			}
			if r, _ := a.last(t, "/media/get"); r.Method != http.MethodGet {
				t.Errorf("2002 by %s", r.Method)
			}
		},
		"21 an error where a file was asked, under 200": func(t *testing.T) {
			c, _, p := against(t, vcctest.Options{}, nil)
			_, err := c.Fetch(t.Context(), strings.Repeat("A", 32), filepath.Join(t.TempDir(), "a"))
			is(t, err, []error{ErrBusiness}, []error{ErrTransport})
			// The sample of the answer has a header and a command line in it.
			id := p.AddMedia(vcctest.MediaBook{Name: "a.jpg", ContentType: "image/jpeg", Content: []byte("HTTP/1.1 200 OK\ncurl -G \"https://...\"\n")})
			_, err = c.Fetch(t.Context(), id, filepath.Join(t.TempDir(), "a"))
			is(t, err, []error{ErrTransport}, []error{ErrBusiness})
		},
		"22 areaCode in the address, not in the table": func(t *testing.T) {
			c, p := played(t)
			for _, code := range []string{"3001", "3002", "3003", "3004"} {
				path := c.catalogue[code].Path
				p.says(path, "x|y\n")
				for _, area := range []string{"", "320505"} {
					if _, err := readTable(t.Context(), c, code, "areaCode", area); err != nil { // the sign is checked
						t.Errorf("%s, area %q: %v", code, area, err)
					}
					if _, q := p.sentTo(t, path); q.Has("areaCode") != (area != "") || q.Get("areaCode") != area {
						t.Errorf("%s, area %q: %v", code, area, q["areaCode"])
					}
				}
			}
		},
		"23 3002 without lastTimestamp in its address": func(t *testing.T) {
			c, p := played(t)
			p.says("/suppypoint/download", "x|y\n")
			if _, err := readTable(t.Context(), c, "3002"); err != nil {
				t.Fatal(err)
			}
			if _, q := p.sentTo(t, "/suppypoint/download"); q.Get("lastTimestamp") != "20260801000000" {
				t.Errorf("%v", q)
			}
			i, _ := c.Interface("3002")
			if f := i.Request[slices.IndexFunc(i.Request, func(f catalogue.Field) bool { return f.Name == "lastTimestamp" })]; f.Required {
				t.Error("and it is required")
			}
		},
		"24 hh is HH, in China": func(t *testing.T) {
			at := time.Date(2017, 7, 31, 15, 4, 5, 0, shanghai())
			for _, zone := range []*time.Location{time.UTC, shanghai(), time.FixedZone("west", -9*3600)} {
				if got := Stamp(at.In(zone)); got != "20170731150405" {
					t.Errorf("%s in %s", got, zone)
				}
			}
			if got, ok := parseTime("20170731150405"); !ok || !got.Equal(at) {
				t.Errorf("read as %v", got)
			}
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(7 * time.Hour) // 15:00 in China
				c, a, _ := against(t, vcctest.Options{}, nil)
				if err := c.Token(t.Context()); err != nil {
					t.Fatal(err)
				}
				if _, q := a.last(t, "/getToken"); q.Get("seq")[4:18] != "20000101150000" {
					t.Errorf("seq %s", q.Get("seq"))
				}
			})
		},
		"25 defaults of a window unsaid": func(t *testing.T) {
			c, p := played(t)
			p.says("/addr/download", "x|y\n")
			if _, err := c.Download(t.Context(), "3001", Window{}, nil); !errors.Is(err, ErrNotSent) {
				t.Errorf("without a window: %v", err)
			}
			for _, end := range []string{"lastTimestamp", "timestamp"} {
				_, err := readTable(t.Context(), c, "3001", end, "")
				if e, ok := errors.AsType[*FieldError](err); !ok || e.Field != end {
					t.Errorf("without %s: %v", end, err)
				}
			}
			if _, err := readTable(t.Context(), c, "3001"); err != nil {
				t.Fatal(err)
			}
			if _, q := p.sentTo(t, "/addr/download"); q.Get("lastTimestamp") == "" || q.Get("timestamp") == "" {
				t.Errorf("%v", q)
			}
		},
		"26 type of an address a digit or a letter": func(t *testing.T) { opaque(t, "3001", "地址类型", "6", "B", "P") },
		"27 rows of the sample that do not fit": func(t *testing.T) {
			c, p := played(t)
			const sample = "地址代码|父地址代码|地址类型|地址名称|地址全称|组织机构编码|状态\n" +
				"3205053690|5400024559|6|153幢|吴江区松陵镇绿地太湖城西三期153幢|WJ0105|A\n" +
				"3205053691|5400024564|6|151幢|吴江区松陵镇绿地太湖城西三期153幢|WJ0105|X\n"
			p.says("/addr/download", sample)
			if got, err := readTable(t.Context(), c, "3001"); err != nil || got != sample {
				t.Errorf("%q, %v", got, err)
			}
			if got := column(t, c, "3001", 3); !slices.Equal(got, []string{"153幢", "151幢"}) {
				t.Errorf("read as %q", got)
			}
		},
		"28 suppypoint": func(t *testing.T) {
			for _, right := range []bool{false, true} {
				c, p := played(t)
				p.says("/suppypoint/download", "x|y\n")
				p.says("/supplypoint/download", "x|y\n")
				p.hook = func(r *http.Request) (*http.Response, error) {
					if right && strings.HasSuffix(r.URL.Path, "/suppypoint/download") {
						return respond(r, 404, "<html>not found</html>"), nil
					}
					return nil, nil
				}
				if got, err := readTable(t.Context(), c, "3002"); err != nil || got != "x|y\n" {
					t.Errorf("spelt right %v: %q, %v", right, got, err)
				}
			}
		},
		"29 机构编码 or 组织机构编码": func(t *testing.T) {
			c, p := played(t)
			for _, code := range []string{"3001", "3002", "3003", "3004"} {
				for _, name := range []string{"机构编码", "组织机构编码"} {
					if r := c.catalogue[code].in.fields[name]; r == nil || r.to != "组织机构编码" {
						t.Errorf("%s: %s is not known", code, name)
					}
					i, _ := c.Interface(code)
					var head, cells []string
					at := 0
					for n, f := range i.Answer {
						if head, cells = append(head, f.Name), append(cells, "x"); f.Name == "组织机构编码" {
							at, head[n], cells[n] = n, name, "WJ0105"
						}
					}
					p.says(i.Path, strings.Join(head, "|")+"\n"+strings.Join(cells, "|")+"\n")
					if got := column(t, c, code, at); !slices.Equal(got, []string{"WJ0105"}) {
						t.Errorf("%s with %s: read as %q", code, name, got)
					}
				}
			}
		},
		"31 a meter's number twice": func(t *testing.T) {
			c, p := played(t)
			const sample = "表具编号|表具类型|型号|表向|状态|位置|气户编号|管理模式|厂商代码|组织机构编码\n" +
				"1400123456|01|01|1|A|厨房|3205053690|1|10086|WJ0105\n1400123456|02|03|1|A|厨房|3205053690|1|10086|WJ0105\n"
			p.says("/meter/download", sample)
			if got, err := readTable(t.Context(), c, "3004"); err != nil || got != sample {
				t.Errorf("%q, %v", got, err)
			}
			if got := column(t, c, "3004", 1); !slices.Equal(got, []string{"01", "02"}) {
				t.Errorf("types read as %q", got)
			}
			p.says("/meter/queryMeters", `{"datas":[{"meterCode":"1400123456","resType":"01"},{"meterCode":"1400123456","resType":"02"}]}`)
			b, err := c.Invoke(t.Context(), "3009", map[string]string{"subsCode": "3205053690"})
			if err != nil || strings.Count(string(b), "1400123456") != 2 {
				t.Errorf("%s, %v", b, err)
			}
		},
		"32 appendices D, E and F empty": func(t *testing.T) {
			opaque(t, "3003", "气户状态", "A", "X", "9")
			opaque(t, "3004", "表具类型", "01", "ZZ", "7")
			opaque(t, "3004", "型号", "01", "ZZ", "7")
		},
		"33 user or subs in the address": func(t *testing.T) {
			for _, gone := range []string{"", "/subs/getSubsByCode"} {
				c, p := played(t)
				p.says("/subs/getSubsByCode", subsAnswer)
				p.says("/user/getSubsByCode", subsAnswer)
				p.hook = func(r *http.Request) (*http.Response, error) {
					if gone != "" && strings.HasSuffix(r.URL.Path, gone) {
						return respond(r, 404, "<html>not found</html>"), nil
					}
					return nil, nil
				}
				if _, err := subs(t.Context(), c); err != nil {
					t.Errorf("without %q: %v", gone, err)
				}
				if n := len(p.requests); n != 2 { // getToken and one that was answered
					t.Errorf("without %q: %d requests", gone, n)
				}
			}
			// And by the simulated platform, as a web server that knows one of them.
			c, a, _ := against(t, vcctest.Options{NotFound: true, Endpoints: map[string]string{"3005": "/user/getSubsByCode"}}, nil)
			_, err := subs(t.Context(), c)
			if e, ok := errors.AsType[*CallError](err); ok && e.Status == 404 {
				t.Errorf("%v", err)
			}
			a.last(t, "/user/getSubsByCode")
		},
		"34 sample and table of 3005 differ": func(t *testing.T) {
			c, p := played(t)
			for _, answer := range []string{
				subsAnswer,
				`{"subsCode":"123456","name":"张**","addrCode":"A","addrDetail":"木岭小区******","subsType":"1","state":"A","tel":"10086","phone":"136","orgCode":"SU0105"}`,
				`{"subsCode":"123456","name":"张**","addrCode":"A","displayAddr":"木岭小区******","subsType":"1","state":"A","tel":"10086","mobile":"136","orgCode":"SU0105"}`,
			} {
				p.says("/subs/getSubsByCode", answer)
				got, err := subs(t.Context(), c)
				if err != nil || !strings.Contains(got, `"addrCode":"A"`) || !strings.Contains(got, `"addrDetail":"木岭小区******"`) ||
					strings.Contains(answer, "136") != strings.Contains(got, `"phone":"136"`) {
					t.Errorf("%s, %v", got, err)
				}
			}
		},
		"36 a bare array, an error is an object": func(t *testing.T) {
			c, p := played(t)
			ask := func() (string, error) {
				b, err := c.Invoke(t.Context(), "3006", map[string]string{"userCode": "U1", "userType": "MEMBER"})
				return string(b), err
			}
			p.says("/user/querySubsByUserCode", ` [{"subsCode":"140008830","nickName":"自家","orgCode":"SU0105","createTime":"2017-04-25 18:32:18"}]`)
			if got, err := ask(); err != nil || !strings.HasPrefix(got, "[") {
				t.Errorf("%s, %v", got, err)
			}
			p.says("/user/querySubsByUserCode", `{"resultCode":"20031","resultMsg":"no"}`)
			if _, err := ask(); !errors.Is(err, ErrBusiness) {
				t.Errorf("an error: %v", err)
			}
			p.says("/user/querySubsByUserCode", `{"subsCode":"140008830"}`)
			if _, err := ask(); !errors.Is(err, ErrTransport) {
				t.Errorf("an object: %v", err)
			}
		},
		"38 mobile or phone": func(t *testing.T) {
			for _, name := range []string{"mobile", "phone"} {
				c, p := played(t, func(cfg *Config, _ *Deps) {
					if name != "mobile" {
						cfg.Endpoints = map[string]Endpoint{"3007": {Names: map[string]string{"mobile": name}}}
					}
				})
				p.says("/subs/querySubs", `{"pageIndex":1,"pageSize":10,"total":0,"datas":[]}`)
				_, err := c.Invoke(t.Context(), "3007", map[string]string{"mobile": "13600000001", "pageIndex": "1", "pageSize": "10"})
				if err != nil {
					t.Fatal(err)
				}
				if _, q := p.sentTo(t, "/subs/querySubs"); q.Get(name) != "13600000001" {
					t.Errorf("%s: %v", name, slices.Sorted(maps.Keys(q)))
				}
			}
		},
		"39 titles without a table": func(t *testing.T) {
			c, p := played(t)
			titles := 0
			for _, i := range catalogue.All() {
				if i.Code < "3007" || i.Code > "5005" || i.Evidence == catalogue.Documented {
					continue
				}
				titles++
				if got, ok := c.Interface(i.Code); !ok || got.Path == "" || len(got.Request) == 0 {
					t.Errorf("%s cannot be called", i.Code)
				}
			}
			if titles < 25 {
				t.Errorf("only %d titles", titles)
			}
			p.says("/bill/queryUnpaidBills", `{"datas":[]}`)
			if _, err := c.Invoke(t.Context(), "3014", map[string]string{"subsCode": "1"}); err != nil {
				t.Errorf("3014: %v", err)
			}
		},
		"41 no charset, no end of a table": func(t *testing.T) {
			for _, whole := range []string{"\ufeff户号|名\r\n1|张\r\n", "\xbb\xa7\xba\xc5|\xc3\xfb\n1|\xd5\xc5\n", "户号|名\n1|张", ""} {
				for _, missing := range []int64{0, 3} {
					c, p := played(t)
					p.hook = func(r *http.Request) (*http.Response, error) {
						if !strings.HasSuffix(r.URL.Path, "/subs/download") {
							return nil, nil
						}
						resp := respond(r, 200, whole)
						resp.ContentLength += missing
						return resp, nil
					}
					got, err := readTable(t.Context(), c, "3003")
					if missing == 0 && (err != nil || got != whole) || missing > 0 && !errors.Is(err, ErrTransport) {
						t.Errorf("%q, %d missing: %q, %v", whole, missing, got, err)
					}
				}
			}
			const plain = "\ufeff气户户号|气户名称|地址编码|地址明细|气户类型|气户状态|组织机构编码\r\n1|张|x|x|1|A|WJ0105"
			gbk, err := simplifiedchinese.GBK.NewEncoder().String(plain[len("\ufeff"):])
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range []string{plain, plain + "\r\n", gbk, gbk + "\n"} {
				c, p := played(t)
				p.says("/subs/download", text)
				if got := column(t, c, "3003", 1); !slices.Equal(got, []string{"张"}) {
					t.Errorf("%q is read as %q", text, got)
				}
			}
		},
		"42 pushes without a registration": func(t *testing.T) {
			c, p := played(t)
			for _, code := range []string{"7001", "7002", "7003", "7004", "7005"} {
				if i, ok := c.Interface(code); !ok || i.Method != catalogue.Push {
					t.Errorf("%s is %s", code, i.Method)
				}
				_, err := c.Invoke(t.Context(), code, nil)
				if e, ok := errors.AsType[*FieldError](err); !ok || e.Field != "code" {
					t.Errorf("%s can be called: %v", code, err)
				}
			}
			for _, code := range []string{"2003", "2004"} {
				if i, ok := c.Interface(code); !ok || i.Evidence == catalogue.Documented {
					t.Errorf("%s: %v", code, i.Evidence)
				}
			}
			if len(p.requests) != 0 {
				t.Errorf("%d requests", len(p.requests))
			}
		},
	}
	if len(points) != 35 {
		t.Errorf("%d points are played, 35 can be met", len(points))
	}
	for _, name := range slices.Sorted(maps.Keys(points)) {
		t.Run(name, points[name])
	}
}
