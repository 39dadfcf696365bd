package protocol_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/protocol"
	"vcckiosk/protocol/catalogue"
	"vcckiosk/protocol/vcctest"
)

func newClient(t *testing.T, p *vcctest.Platform, change ...func(*protocol.Config)) *protocol.Client {
	t.Helper()
	c := protocol.Config{BaseURL: "https://platform.invalid/vcc-openapi", AppID: "APP1", DeviceID: "K1", OrgCode: "WJ0105"}
	for _, f := range change {
		f(&c)
	}
	cl, err := protocol.NewClient(c, protocol.Deps{
		Transport: p.RoundTripper(), Seq: &serials{}, Key: func() (protocol.BaseKey, error) { return base(key), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestQueriesOfAnAccount asks everything typed against the simulated platform.
func TestQueriesOfAnAccount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := vcctest.New(vcctest.Options{Good: true, BaseKey: key, SignAnswers: true})
		c := newClient(t, p)
		for i := range 250 {
			check(t, p.AddRows("3007", vcctest.Row{
				"subsCode": fmt.Sprintf("14%04d", i), "name": "张**", "addrCode": "1", "addrDetail": "x", "subsType": "1", "state": "A", "orgCode": "WJ0105", "mobile": "136",
			}))
			check(t, p.AddRows("3015", vcctest.Row{"acctshCode": fmt.Sprintf("B%d", i), "subsCode": "140000", "chrgSum": 100 + i, "unpaidFee": i % 2}))
		}
		check(t, errors.Join(
			p.AddRows("3006", vcctest.Row{"userCode": "U1", "subsCode": "140000", "nickName": "自家", "orgCode": "WJ0105", "createTime": "2017-04-25 18:32:18"}),
			p.AddRows("3009", vcctest.Row{"meterCode": "M1", "subsCode": "140000", "factoryCode": "10086"}, vcctest.Row{"meterCode": "M2", "subsCode": "140001"}),
			p.AddRows("3011", vcctest.Row{"subsCode": "140000", "priceVersion": "1", "stepList": []any{vcctest.Row{"priceseq": 1, "price": "2.67"}}}),
			p.AddRows("3012", vcctest.Row{"subsCode": "140000", "amount": "12.5", "cycleBegin": "20260101"}),
			p.AddRows("3013", vcctest.Row{"subsCode": "140000", "balance": 1234}),
			p.AddRows("3025", vcctest.Row{"dictType": "addrType", "dictCode": "B", "dictName": "楼栋", "state": "A"}, vcctest.Row{"dictType": "resType", "dictCode": "01", "dictName": "膜式表"}),
			p.AddCard(vcctest.CardBook{CardNo: card, SubsCode: "140000", Kind: vcctest.KindLoad}),
			p.AddOrder(vcctest.OrderBook{OrderNo: "O1", CardNo: card, Amount: 5000, Volume: 1666, PayTime: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}),
		))
		ctx := t.Context()

		s, err := c.Subscriber(ctx, "140007", "")
		check(t, err)
		if s.SubsCode != "140007" || s.Phone != "136" || s.Name != "张**" {
			t.Errorf("3005: %+v", s)
		}
		if _, err := c.Subscriber(ctx, "999", ""); !errors.Is(err, protocol.ErrBusiness) {
			t.Errorf("3005 of nobody: %v", err)
		}
		bound, err := c.BoundSubscribers(ctx, "U1")
		check(t, err)
		if len(bound) != 1 || bound[0].CreateTime != "2017-04-25 18:32:18" {
			t.Errorf("3006: %+v", bound)
		}
		seen := map[string]bool{}
		for s, err := range c.Subscribers(ctx, protocol.SubscriberQuery{Name: "张"}, "") {
			check(t, err)
			seen[s.SubsCode] = true
		}
		if len(seen) != 250 || p.Calls()["3007"] != 3 {
			t.Errorf("3007: %d accounts in %d pages", len(seen), p.Calls()["3007"])
		}
		for range c.Subscribers(ctx, protocol.SubscriberQuery{Name: "张"}, "") {
			break // a caller who has seen enough
		}
		meters, err := c.Meters(ctx, "140000", "")
		check(t, err)
		if len(meters) != 1 || meters[0].FactoryCode != "10086" {
			t.Errorf("3009: %+v", meters)
		}
		price, err := c.GasPrice(ctx, "140000", "", "")
		check(t, err)
		if len(price.Steps) != 1 || price.Steps[0].Price != "2.67" || price.Steps[0].Seq != "1" {
			t.Errorf("3011: %+v", price)
		}
		used, err := c.UsedGas(ctx, "140000", "")
		check(t, err)
		if used.Amount != "12.5" {
			t.Errorf("3012: %+v", used)
		}
		deposit, err := c.Deposit(ctx, "140000", "")
		check(t, err)
		if deposit != 1234 {
			t.Errorf("3013: %d", deposit)
		}
		unpaid, err := c.UnpaidBills(ctx, "140000", "")
		check(t, err)
		if len(unpaid) != 100 { // one page: 3014 has none in its request
			t.Errorf("3014: %d bills", len(unpaid))
		}
		n := 0
		for b, err := range c.Bills(ctx, "140000", "") {
			check(t, err)
			n += int(b.Charged)
		}
		if n != 250*100+249*250/2 {
			t.Errorf("3015: sum %d", n)
		}
		var history []protocol.Recharge
		for r, err := range c.Recharges(ctx, "140000", "", card, "20260101", "20260131") {
			check(t, err)
			history = append(history, r)
		}
		if len(history) != 1 || history[0].State != "P" || history[0].Amount != 5000 || history[0].PayTime != "20260102110405" {
			t.Errorf("3016: %+v", history)
		}
		dict, err := c.Dictionary(ctx, catalogue.DictType("C"))
		check(t, err)
		if len(dict) != 1 || dict[0].Name != "楼栋" {
			t.Errorf("3025: %+v", dict)
		}
	})
}

// TestEveryInterfaceWithFreeFieldsAnswers calls the rest by its own examples.
func TestEveryInterfaceWithFreeFieldsAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := vcctest.New(vcctest.Options{Good: true, BaseKey: key})
		check(t, p.Samples())
		c := newClient(t, p)
		called := 0
		for _, i := range catalogue.All() {
			switch i.Code {
			case "1001", "1002", "4006", "6001", "6002", "6003", "3010", "3019", "6004", "6006": // have stories of their own
				continue
			}
			if i.Method == catalogue.Push || i.Method == catalogue.Multipart || i.Shape == catalogue.Table || i.Shape == catalogue.File {
				continue
			}
			fields := map[string]string{}
			for _, f := range i.Request {
				if !f.Required {
					continue
				}
				fields[f.Name] = fmt.Sprint(catalogue.Example(f))
				if f.Type == catalogue.Strings {
					fields[f.Name] = "1400123456,1400123457"
				}
			}
			raw, err := c.Invoke(t.Context(), i.Code, fields)
			if err != nil || !json.Valid(raw) {
				t.Errorf("%s %v: %s %v", i.Code, fields, raw, err)
			}
			called++
		}
		if called < 25 {
			t.Errorf("only %d interfaces called", called)
		}
	})
}

// TestAWorkOrderLives: what is created can be asked for, changed and asked again.
func TestAWorkOrderLives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, vcctest.New(vcctest.Options{Good: true, BaseKey: key}))
		ctx := t.Context()
		raw, err := c.Invoke(ctx, "5001", map[string]string{"subsCode": "140000", "sheetType": "01", "content": "漏气"})
		check(t, err)
		var made struct{ SheetNo string }
		check(t, json.Unmarshal(raw, &made))
		_, err = c.Invoke(ctx, "5002", map[string]string{"sheetNo": made.SheetNo, "state": "02"})
		check(t, err)
		raw, err = c.Invoke(ctx, "5005", map[string]string{"sheetNo": made.SheetNo})
		check(t, err)
		var now struct{ SheetNo, State, Content string }
		check(t, json.Unmarshal(raw, &now))
		if now.SheetNo != made.SheetNo || now.State != "02" || now.Content != "漏气" {
			t.Errorf("%+v", now)
		}
	})
}

// TestPagesThatNeverEndAreGivenUp.
func TestPagesThatNeverEndAreGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := vcctest.New(vcctest.Options{Good: true, BaseKey: key})
		check(t, p.AddRows("3015", vcctest.Row{"acctshCode": "B1", "subsCode": "1"}))
		p.SetHook(func(call vcctest.Call) vcctest.Action {
			if call.Code != "3015" {
				return vcctest.Action{}
			}
			return vcctest.Action{Status: 200, Body: `{"datas":[{"acctshCode":"B1"}]}`}
		})
		c := newClient(t, p)
		rows := 0
		var last error
		for _, err := range c.Bills(t.Context(), "1", "") {
			rows++
			last = err
		}
		if !errors.Is(last, protocol.ErrTransport) || rows != 101 {
			t.Errorf("%d rows, %v", rows, last)
		}
	})
}
