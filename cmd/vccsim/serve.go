//go:build sim

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vcckiosk/agent/topup"
	"vcckiosk/cardreader/simcard"
	"vcckiosk/protocol/vcctest"
)

// What the simulated world agrees on. None of it is real.
var (
	simKey = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6"
	simDLK = [16]byte{0xEB, 0x9B, 0xC6, 0xDC, 0xDF, 0x74, 0xFF, 0x4E, 0x4B, 0x43, 0xF2, 0xE3, 0x4A, 0x67, 0x27, 0xB6}
	simDTK = [16]byte{0xCE, 0xB7, 0x26, 0xED, 0xC0, 0x1B, 0x79, 0x3B, 0xC3, 0x7D, 0xC0, 0x9E, 0x2F, 0x76, 0x85, 0x34}
	simPSC = [3]byte{0x12, 0x34, 0x56}
	// simCardNo is where the simulated memory card has its number.
	simCardNo = topup.Field{Offset: 0x20, Len: 8}
)

const simPrefix = "/vcc-openapi"

// newPurse makes the n-th purse card and tells its number.
func newPurse(n byte) (*simcard.Purse, string) {
	serial := [8]byte{0x86, 0, 0, 0, 0x12, 0x34, 0x56, n}
	return simcard.NewPurse(simcard.PurseConfig{Serial: serial, DLK: simDLK, DTK: simDTK}), strings.ToUpper(hex.EncodeToString(serial[:]))
}

// newImage makes the n-th memory card and tells its number.
func newImage(n byte) (*simcard.SLE4442, string) {
	var content [256]byte
	for i := range 32 {
		content[i] = byte(0xA0 + i)
	}
	no := [8]byte{0x31, 0, 0, 0, 0, 0, 0x10, n}
	copy(content[simCardNo.Offset:], no[:])
	return simcard.NewSLE4442(content, simPSC), strings.ToUpper(hex.EncodeToString(no[:]))
}

func book(no, kind string) vcctest.CardBook {
	return vcctest.CardBook{
		CardNo: no, SubsCode: "1400" + no[10:], Name: "张*", Addr: "木岭小区**", MeterCode: "M" + no[8:],
		Kind: kind, DLK: simDLK, DTK: simDTK, PSC: simPSC,
	}
}

// platform is a running simulated platform.
type platform struct {
	*vcctest.Platform
	url string
}

// listen serves p on a loopback address until ctx ends.
func listen(ctx context.Context, addr string, p *vcctest.Platform) (platform, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return platform{}, fmt.Errorf("listen: %w", err)
	}
	if a, is := l.Addr().(*net.TCPAddr); !is || !a.IP.IsLoopback() {
		return platform{}, errors.Join(errors.New("a simulator listens on loopback only"), l.Close())
	}
	mux := http.NewServeMux()
	mux.Handle(simPrefix+"/", p)
	control(mux, p)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = s.Serve(l) }()
	context.AfterFunc(ctx, func() { _ = s.Close() })
	return platform{p, "http://" + l.Addr().String()}, nil
}

func serveCommand() *cobra.Command {
	var addr, dialect string
	var worst, empty bool
	c := &cobra.Command{
		Use: "serve", Short: "Serve the platform with one card and one paid order of each kind", Args: cobra.NoArgs,
		Long: `Serves the platform on a loopback address until interrupted, and prints what a kiosk must be
told. Its books are at /sim/books; POST /sim/cards and /sim/orders add to them.`,
		Example: "  vccsim serve\n  vccsim serve --addr 127.0.0.1:0 --worst",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dialect != "" && dialect != vcctest.Selfservice {
				return fmt.Errorf("--dialect: %q is not %s", dialect, vcctest.Selfservice)
			}
			p := vcctest.New(vcctest.Options{Good: !worst, BaseKey: simKey, Dialect: dialect, CommandKey: simCommandKey, GiveKeys: true})
			p.AddCode(simCode)
			pl, err := listen(cmd.Context(), addr, p)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "base_url  %s%s\nbooks     %s/sim/books\nbase key  %s (for the simulator only)\nnames     app_id, device id and org_code as you like; once a device has registered, its app_id has a key of its own\ncommands  command.key = %q\nregister  code %s, good once\n",
				pl.url, simPrefix, pl.url, simKey, vcctest.CommandKeyHex(simCommandKey), simCode)
			if !empty {
				if err := stock(cmd.OutOrStdout(), p); err != nil {
					return err
				}
			}
			<-cmd.Context().Done()
			return nil
		},
	}
	c.Flags().StringVar(&addr, "addr", "127.0.0.1:8443", "loopback `address`")
	c.Flags().StringVar(&dialect, "dialect", "", "speak another protocol: selfservice")
	c.Flags().BoolVar(&empty, "empty", false, "begin without cards and orders; POST /sim/cards and /sim/orders adds them")
	c.Flags().BoolVar(&worst, "worst", false, "be the worst plausible platform")
	return c
}

// stock puts one card and one paid order of each kind into the books.
func stock(out io.Writer, p *vcctest.Platform) error {
	_, purse := newPurse(1)
	_, image := newImage(1)
	for i, b := range []vcctest.CardBook{book(purse, vcctest.KindLoad), book(image, vcctest.KindImage)} {
		err := errors.Join(p.AddCard(b), p.AddOrder(vcctest.OrderBook{
			OrderNo: fmt.Sprintf("S%d", i+1), CardNo: b.CardNo, Amount: 5000, Volume: 1666, PayTime: time.Now(), Source: "wechat",
		}))
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "cards     %s purse, %s memory\n", purse, image)
	return nil
}
