package protocol_test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/protocol"
	"vcckiosk/protocol/vcctest"
)

const (
	key   = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6"
	card  = "6600000000000001"
	trans = "0123456789ABCDEF0123456789ABCDEF"
)

type base string

func (b base) Sign(m []byte) string {
	return fmt.Sprintf("%X", md5.Sum(append(append([]byte{}, m...), b...)))
}
func (base) Generation() uint64 { return 1 }

type serials struct{ n atomic.Uint64 }

func (s *serials) Next(context.Context) (uint64, error) { return s.n.Add(1), nil }

// The simulated platform was written from the same papers by other hands:
// whatever reading it is set to, the client set alike must be understood.
func TestClientAndSimulatedPlatformAgreeInEveryReading(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name   string
		change func(*protocol.Config, *vcctest.Options)
	}{
		{"default", func(*protocol.Config, *vcctest.Options) {}},
		{"device mode", func(c *protocol.Config, _ *vcctest.Options) { c.Auth = protocol.AuthDevice }},
		{"session key", func(_ *protocol.Config, o *vcctest.Options) { o.Token.SessionKey = true }},
		{"token as password", func(c *protocol.Config, o *vcctest.Options) {
			o.Token.SessionKey, o.Sign.Password, c.Sign.Password = true, vcctest.PasswordToken, "token"
		}},
		{"base key as password", func(c *protocol.Config, o *vcctest.Options) {
			o.Sign.Password, c.Sign.Password = vcctest.PasswordBase, "base"
		}},
		{"values only", func(c *protocol.Config, o *vcctest.Options) { o.Sign.ExcludeKeys, c.Sign.ExcludeKeys = true, true }},
		{"fold order", func(c *protocol.Config, o *vcctest.Options) { o.Sign.FoldOrder, c.Sign.Sort = true, "fold" }},
		{"encoded values", func(c *protocol.Config, o *vcctest.Options) { o.Sign.Encoded, c.Sign.Value = true, "encoded" }},
		{"empty kept", func(c *protocol.Config, o *vcctest.Options) { o.Sign.KeepEmpty, c.Sign.KeepEmpty = true, true }},
		{"gbk and lower case", func(c *protocol.Config, _ *vcctest.Options) { c.Sign.Charset, c.Sign.LowerHex = "gbk", true }},
		{"only getToken signed", func(c *protocol.Config, o *vcctest.Options) { o.Sign.TokenOnly, c.Sign.Requests = true, "token_only" }},
		{"signed answers, required", func(c *protocol.Config, o *vcctest.Options) {
			o.SignAnswers, c.Sign.VerifyResponse = true, "require"
		}},
		{"code as text, epoch as text", func(_ *protocol.Config, o *vcctest.Options) {
			o.ResultCode, o.Token.Form, o.Token.AsString = vcctest.ResultString, vcctest.ExpireEpoch, true
		}},
		{"code as number, milliseconds", func(_ *protocol.Config, o *vcctest.Options) {
			o.ResultCode, o.Token.Form = vcctest.ResultNumber, vcctest.ExpireMillis
		}},
		{"no expireTime", func(_ *protocol.Config, o *vcctest.Options) { o.Token.Form = vcctest.ExpireAbsent }},
		{"fixed code", func(c *protocol.Config, _ *vcctest.Options) { c.Seq.CodeMode = "fixed:1001" }},
		{"narrow serial", func(c *protocol.Config, _ *vcctest.Options) { c.Seq.SerialWidth = 10 }},
		{"wide code", func(c *protocol.Config, _ *vcctest.Options) { c.Seq.CodeWidth, c.Seq.SerialWidth = 5, 13 }},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := protocol.Config{BaseURL: "https://platform.invalid/vcc-openapi", AppID: "APP1", ChannelID: "C01", DeviceID: "K1", OrgCode: "WJ0105"}
				o := vcctest.Options{Good: true, BaseKey: key}
				x.change(&c, &o)
				story(t, c, vcctest.New(o))
			})
		})
	}
}

// story draws one order onto a memory card.
func story(t *testing.T, c protocol.Config, p *vcctest.Platform) {
	t.Helper()
	ctx := t.Context()
	if err := errors.Join(
		p.AddCard(vcctest.CardBook{CardNo: card, SubsCode: "14002", Name: "王小明", MeterCode: "M1", Kind: vcctest.KindImage}),
		p.AddOrder(vcctest.OrderBook{OrderNo: "I1", CardNo: card, Amount: 5000, Volume: 1800, PayTime: time.Now()}),
	); err != nil {
		t.Fatal(err)
	}
	cl, err := protocol.NewClient(c, protocol.Deps{
		Transport: p.RoundTripper(), Seq: &serials{}, Key: func() (protocol.BaseKey, error) { return base(key), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := cl.ProveKey(ctx, base(strings.Repeat("w", 32))); !errors.Is(err, protocol.ErrKeyRefused) {
		t.Errorf("a wrong key: %v", err)
	}
	if err := cl.ProveKey(ctx, base(key)); err != nil {
		t.Fatal(err)
	}
	var image [256]byte
	data := strings.ToUpper(hex.EncodeToString(image[:]))
	info, err := cl.CardInfo(ctx, protocol.CardInfoRequest{TerminalNo: "112233445561", CardType: "SLE4442", CardNo: card, CardData: data})
	if err != nil || len(info.PendingOrders) != 1 || info.Challenge == "" || info.Name == "王小明" {
		t.Fatalf("3010: %+v, %v", info, err)
	}
	if _, err := cl.CardPrice(ctx, info.SubsCode, "", card); err != nil {
		t.Errorf("3019: %v", err)
	}
	order := info.PendingOrders[0]
	r := protocol.AuthorizeRequest{
		TransNo: trans, Challenge: info.Challenge, OrderNo: order.OrderNo, TerminalNo: "112233445561", CardNo: card, SubsCode: info.SubsCode,
		MeterCode: info.MeterCode, CardType: "SLE4442", LoadMode: protocol.ModeDraw, Amount: order.Amount, GasVolume: order.GasVolume,
		Kind: protocol.KindImage, Image: &protocol.ImageRequest{CardData: data, Count: 0},
	}
	a, err := cl.Authorize(ctx, r)
	if err != nil || a.Image == nil {
		t.Fatalf("4006: %+v, %v", a, err)
	}
	if want := fmt.Sprintf("%08X", crc32.ChecksumIEEE(image[:])); a.Image.CRCBefore != want {
		t.Errorf("CRC before %s, want %s", a.Image.CRCBefore, want)
	}
	for _, w := range a.Image.Writes {
		b, err := hex.DecodeString(w.Data)
		if err != nil {
			t.Fatal(err)
		}
		copy(image[w.Offset:], b)
	}
	if want := fmt.Sprintf("%08X", crc32.ChecksumIEEE(image[:])); a.Image.CRCAfter != want {
		t.Errorf("CRC after %s, want %s", a.Image.CRCAfter, want)
	}
	time.Sleep(7 * time.Second)
	s, err := cl.QueryOrder(ctx, protocol.QueryOrderRequest{TransNo: trans, OrderNo: order.OrderNo})
	if err != nil || s.State != protocol.StateAuthorised || s.Holder != trans || s.Authorization == nil || s.Authorization.Image == nil || s.AuthExpire >= a.AuthExpire {
		t.Errorf("6006: %+v, %v", s, err)
	}
	p.Evict() // renewed and repeated without the caller seeing it
	report := protocol.ReportRequest{
		TransNo: trans, Rev: 1, OrderNo: order.OrderNo, TerminalNo: "112233445561", CardNo: card, Kind: protocol.KindImage,
		Amount: order.Amount, GasVolume: order.GasVolume, Result: protocol.ResultWritten, Evidence: "image", NoAttempt: "N",
		CardDataAfter: strings.ToUpper(hex.EncodeToString(image[:])), FailReason: "无", WriteTime: protocol.Stamp(time.Now()), Firmware: "1.0.0",
	}
	for range 2 {
		if got, err := cl.Report(ctx, report); err != nil || got.State != protocol.StateSettled {
			t.Errorf("6002: %+v, %v", got, err)
		}
	}
	if cl.Evictions() != 1 {
		t.Errorf("%d evictions", cl.Evictions())
	}
	if got, err := cl.Reverse(ctx, protocol.ReverseRequest{TransNo: strings.Repeat("A", 32), OrderNo: order.OrderNo, Reason: protocol.ReasonAnswerLost, Time: protocol.Stamp(time.Now())}); err != nil {
		t.Errorf("6003: %+v, %v", got, err)
	}
	if _, err := cl.QueryOrder(ctx, protocol.QueryOrderRequest{OrderNo: "none"}); !errors.Is(err, protocol.ErrUnknownOrder) {
		t.Errorf("6006 for nothing: %v", err)
	}
	if _, err := cl.Heartbeat(ctx, protocol.HeartbeatRequest{State: "ready", KCV: "A1B2C3", KeyGen: 1, Firmware: "1.0.0"}); err != nil {
		t.Errorf("6004: %v", err)
	}
	if v, ok := p.Order(order.OrderNo); !ok || v.State != vcctest.StateSettled || len(p.Conflicts()) != 0 {
		t.Errorf("the books: %+v, %+v", v, p.Conflicts())
	}
}
