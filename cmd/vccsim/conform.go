//go:build sim

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vcckiosk/cmd/vccsim/conform"
	"vcckiosk/protocol"
	"vcckiosk/protocol/vcctest"
)

type conformFlags struct {
	keyFile, caFile, cardFile, sim string
	cases, only                    []string
	json, isTest                   bool
	conform.Config
}

func conformCommand() *cobra.Command {
	root := &cobra.Command{Use: "conform", Short: "Ask a platform which readings of the document it follows", Args: cobra.NoArgs}
	var f conformFlags
	c := &cobra.Command{
		Use: "server URL", Short: "Ask a platform that claims this protocol", Args: cobra.ExactArgs(1),
		Long: `Opens a session with a test key, finds out which reading of each ambiguous point the platform
follows, and plays cases with expected verdicts: documented errors, and the six clauses of
docs/contract.md. It ends with a table and with 0 if nothing differs and nothing is unsafe.

Cases that move money run only with --test-card FILE, which names a card and orders made for it,
or with --sim against a vccsim serve, which makes its own. An address that is not this machine's
needs --yes-this-is-a-test-platform. docs/conformance.md explains readings, cases and files.`,
		Example: "  vccsim conform server http://127.0.0.1:8443/vcc-openapi --key-file key.txt --app-id APPX --sim memory\n" +
			"  vccsim conform server https://test.example/vcc-openapi --key-file key.txt --app-id 6A5B0E0F1C --org-code SU0105 \\\n    --test-card card.toml --yes-this-is-a-test-platform",
		RunE: func(cmd *cobra.Command, args []string) error {
			f.BaseURL = args[0]
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.keyFile, "key-file", "", "`file` with the test base key, mode 0600")
	fl.StringVar(&f.AppID, "app-id", "", "appId: sessions by 1002")
	fl.StringVar(&f.ChannelID, "channel-id", "", "channelId: sessions by 1001, with --device-id")
	fl.StringVar(&f.DeviceID, "device-id", "QC0001", "deviceId of a test kiosk")
	fl.StringVar(&f.OrgCode, "org-code", "SU0105", "orgCode")
	fl.Float64Var(&f.Rate, "rate", 2, "calls a second, at most 50")
	fl.DurationVar(&f.MaxWait, "max-wait", 0, "longest a case may wait for an authorisation to expire")
	fl.StringSliceVar(&f.cases, "cases", nil, "further case `files`")
	fl.StringSliceVar(&f.only, "only", nil, "play only cases whose names begin so; \"none\" for readings alone")
	fl.StringVar(&f.cardFile, "test-card", "", "`file` naming a test card and its orders: cases that move money use them up")
	fl.StringVar(&f.sim, "sim", "", "the platform is a vccsim serve: make a card, memory or purse, and orders there")
	fl.StringToStringVar(&f.Paths, "path", nil, "another path of an interface, as `CODE=/path`")
	fl.StringVar(&f.caFile, "ca-file", "", "trust only this PEM `file`")
	fl.BoolVar(&f.json, "json", false, "one JSON object instead of tables")
	fl.BoolVar(&f.isTest, "yes-this-is-a-test-platform", false, "the address is not this machine's and a test platform")
	_ = c.MarkFlagRequired("key-file") // the flag is there
	root.AddCommand(c)
	return root
}

// errDiffers ends the command with 1 after its table.
var errDiffers = errors.New("the platform does not conform")

func (f *conformFlags) run(ctx context.Context, out, progress io.Writer) error {
	if err := f.prepare(); err != nil {
		return err
	}
	if f.sim != "" {
		card, err := simCard(ctx, f.BaseURL, f.sim)
		if err != nil {
			return err
		}
		f.Card = card
	}
	f.Progress = func(calls int, what string) { fmt.Fprintf(progress, "%4d  %s\n", calls, what) }
	r, err := conform.Run(ctx, f.Config)
	if len(r.Readings) > 0 {
		if f.json {
			e := json.NewEncoder(out)
			e.SetIndent("", "  ")
			err = errors.Join(err, e.Encode(r))
		} else {
			err = errors.Join(err, r.Write(out))
		}
	}
	if err == nil && !r.Conforms() {
		err = errDiffers
	}
	return err
}

// prepare reads files and checks flags.
func (f *conformFlags) prepare() error {
	switch {
	case f.Rate <= 0 || f.Rate > 50:
		return errors.New("--rate: more than 0 and at most 50 calls a second")
	case f.cardFile != "" && f.sim != "":
		return errors.New("--test-card and --sim: one of them")
	case f.sim != "" && !conform.Loopback(f.BaseURL):
		return errors.New("--sim: a vccsim serve listens on loopback only")
	case f.ChannelID != "" && f.AppID != "":
		return errors.New("--app-id and --channel-id: one of them")
	}
	f.TestPlatform = f.isTest
	if !conform.Loopback(f.BaseURL) {
		f.TokenEvery = 30 * time.Second // as a kiosk guards its own
	}
	var err error
	if f.Key, err = readKeyFile(f.keyFile); err != nil {
		return err
	}
	if f.Transport, err = protocol.NewTransport(protocol.TLSConfig{CAFile: f.caFile}); err != nil {
		return err
	}
	if f.cardFile != "" {
		if f.Card, err = conform.ReadTestCard(f.cardFile); err != nil {
			return err
		}
	}
	if f.Cases, err = conform.BuiltIn(); err != nil {
		return err
	}
	for _, path := range f.cases {
		more, err := conform.ReadCases(path)
		if err != nil {
			return err
		}
		for _, k := range more { // one of the user's replaces a built-in one
			f.Cases = slices.DeleteFunc(f.Cases, func(c conform.Case) bool { return c.ID == k.ID })
		}
		f.Cases = append(f.Cases, more...)
	}
	if len(f.only) > 0 {
		f.Cases = slices.DeleteFunc(f.Cases, func(c conform.Case) bool {
			return !slices.ContainsFunc(f.only, func(p string) bool { return strings.HasPrefix(c.ID, p) })
		})
		if len(f.Cases) == 0 && !slices.Contains(f.only, "none") {
			return fmt.Errorf("--only %s: no case begins so", strings.Join(f.only, ","))
		}
	}
	return nil
}

func readKeyFile(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("read key: %s has mode %04o, others may read it; run chmod 0600 on it", filepath.Base(path), st.Mode().Perm())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	b = bytes.TrimSpace(b)
	if len(b) < 8 || len(b) > 64 || bytes.ContainsAny(b, " \t\r\n") {
		return nil, errors.New("read key: want one word of 8 to 64 characters")
	}
	return b, nil
}

// simOrders is more than all built-in cases use.
const simOrders = 60

// simCard makes a card and orders at a vccsim serve.
func simCard(ctx context.Context, base, kind string) (*conform.TestCard, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, errors.New("address: not one")
	}
	var r [4]byte
	_, _ = rand.Read(r[:]) // never fails
	no := "31000000" + strings.ToUpper(hex.EncodeToString(r[:]))
	c := &conform.TestCard{Card: conform.CardFile{Kind: kind, No: no}}
	b := book(no, vcctest.KindImage)
	switch kind {
	case "memory":
		sim, _ := newImage(1)
		content := sim.Image()
		l := vcctest.DefaultLayout()
		c.Card.Type, c.Card.Data = "SLE4442", hex.EncodeToString(content[:])
		c.Card.Count, c.Card.Gas = []int{l.Count.Offset, l.Count.Len}, []int{l.Gas.Offset, l.Gas.Len}
	case "purse":
		b.Kind = vcctest.KindLoad
		c.Card.Type, c.Card.LoadKey = "CPU", hex.EncodeToString(simDLK[:])
	default:
		return nil, errors.New("--sim: memory or purse")
	}
	c.Card.Terminal = "C0F0C0F0C0F0"
	post := func(path string, v any) error {
		body, err := json.Marshal(v)
		if err != nil {
			return err
		}
		q, err := http.NewRequestWithContext(ctx, http.MethodPost, u.Scheme+"://"+u.Host+path, bytes.NewReader(body))
		if err != nil {
			return err
		}
		resp, err := (&http.Client{Timeout: 10 * time.Second}).Do(q)
		if err != nil {
			return fmt.Errorf("--sim: %w", err)
		}
		defer resp.Body.Close() //nolint:errcheck // nothing is read
		if resp.StatusCode != http.StatusNoContent {
			return fmt.Errorf("--sim: %s answered %s: no vccsim serve", path, resp.Status)
		}
		return nil
	}
	if err := post("/sim/cards", b); err != nil {
		return nil, err
	}
	for i := range simOrders {
		o := conform.TestOrder{No: fmt.Sprintf("C%s%02d", no[8:], i), Amount: int64(1000 + i), Gas: int64(300 + i)}
		if err := post("/sim/orders", vcctest.OrderBook{OrderNo: o.No, CardNo: no, Amount: o.Amount, Volume: o.Gas, Source: "conform"}); err != nil {
			return nil, err
		}
		c.Orders = append(c.Orders, o)
	}
	return c, nil
}
