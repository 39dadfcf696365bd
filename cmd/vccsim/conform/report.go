package conform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"vcckiosk/protocol/catalogue"
)

// Config is what Run asks with.
type Config struct {
	BaseURL   string // before the catalogue's paths
	AppID     string // 1002
	ChannelID string // 1001, with DeviceID
	DeviceID  string
	OrgCode   string
	Key       []byte // the test base key
	Transport http.RoundTripper
	// Paths replaces the catalogue's, by interface code.
	Paths map[string]string
	// TestPlatform says that an address which is not loopback is a test
	// platform.
	TestPlatform bool
	Rate         float64       // calls a second; 0: no pause
	TokenEvery   time.Duration // of getToken after the first four; 0: no pause
	MaxWait      time.Duration // the longest a case may wait for an expiry
	Progress     func(calls int, what string)

	Card  *TestCard // nil: no case that moves money is played
	Cases []Case
}

// Report is what was found.
type Report struct {
	Readings []Reading       `json:"readings"`
	Results  []Result        `json:"cases"`
	Counts   map[Verdict]int `json:"counts"`
	Calls    int             `json:"calls"`
	Orders   int             `json:"ordersUsed"`
	// Content is the test card's, as the platform's books have it now.
	Content string `json:"cardContent,omitempty"`
}

// Conforms reports whether nothing differs and nothing is unsafe.
func (r Report) Conforms() bool { return r.Counts[Differs]+r.Counts[Unsafe] == 0 }

// ErrNotTest: the address is not this machine's, and nobody said that a test
// platform is there.
var ErrNotTest = errors.New("not a loopback address: say that it is a test platform")

// Loopback reports whether an address is this machine's.
func Loopback(base string) bool {
	u, err := url.Parse(base)
	if err != nil {
		return false
	}
	if u.Hostname() == "localhost" {
		return true
	}
	ip := net.ParseIP(u.Hostname())
	return ip != nil && ip.IsLoopback()
}

func (c Config) check() error {
	u, err := url.Parse(c.BaseURL)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("address: want scheme, host and path only")
	case !Loopback(c.BaseURL) && !c.TestPlatform:
		return ErrNotTest
	case u.Scheme != "https" && !(u.Scheme == "http" && Loopback(c.BaseURL)):
		return errors.New("address: want https")
	case c.AppID == "" && (c.ChannelID == "" || c.DeviceID == ""):
		return errors.New("neither appId, nor channelId with deviceId")
	case len(c.Key) == 0 || c.OrgCode == "" || c.DeviceID == "":
		return errors.New("key, deviceId or orgCode missing")
	case c.Transport == nil || c.Rate < 0:
		return errors.New("no transport, or a negative rate")
	}
	for code, path := range c.Paths {
		if _, known := catalogue.Find(code); !known || !pathForm.MatchString(path) {
			return fmt.Errorf("path of %s: no such interface, or not a path", code)
		}
	}
	return nil
}

// Run asks everything. An error means that it came to no end; what was found
// until then is in the report.
func Run(ctx context.Context, c Config) (Report, error) {
	r := Report{Counts: map[Verdict]int{}}
	if err := c.check(); err != nil {
		return r, err
	}
	c.BaseURL = strings.TrimRight(c.BaseURL, "/")
	call := newCaller(c, c.Transport)
	s, err := call.begin(ctx)
	if err != nil {
		return r, err
	}
	f := &finder{caller: call, s: s}
	err = f.readings(ctx)
	r.Readings, r.Calls = f.found, call.calls
	if err != nil {
		return r, err
	}
	call.live = f.s
	b := newBench(c.Card)
	for _, k := range c.Cases {
		res, err := call.play(ctx, b, k)
		if err != nil {
			return r, err
		}
		r.Results, r.Calls = append(r.Results, res), call.calls
		r.Counts[res.Verdict]++
	}
	if b != nil {
		r.Orders = b.used
		if b.content != nil {
			r.Content = upper(b.content)
		}
	}
	return r, nil
}

// Write prints the report as tables.
func (r Report) Write(w io.Writer) error {
	var b strings.Builder
	table := func(head string, rows func(t io.Writer)) error {
		t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, head)
		rows(t)
		fmt.Fprintln(t)
		return t.Flush()
	}
	err := errors.Join(
		table("QUESTION\tFOUND\tFOR kioskd.toml", func(t io.Writer) {
			for _, x := range r.Readings {
				fmt.Fprintf(t, "%s\t%s\t%s\n", x.Question, x.Found, x.Config)
			}
		}),
		table("CASE\tVERDICT\tWHAT", func(t io.Writer) {
			for _, x := range r.Results {
				what := x.Title
				if x.Why != "" {
					what += ": " + x.Why
				}
				fmt.Fprintf(t, "%s\t%s\t%s\n", x.ID, strings.ToUpper(string(x.Verdict)), what)
			}
		}),
	)
	if err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
	fmt.Fprintf(w, "\n%d calls; %d ok, %d differ, %d unsafe, %d not offered, %d not asked; %d test orders used\n",
		r.Calls, r.Counts[OK], r.Counts[Differs], r.Counts[Unsafe], r.Counts[NotOffered], r.Counts[NotAsked], r.Orders)
	return nil
}
