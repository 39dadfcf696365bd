package vcctest

import (
	"math"
	"time"
)

// cardInfo is 3010. It changes the books only by what the card itself shows.
func (b *books) cardInfo(q *cardInfoRequest) (any, *refusal) {
	if r := check(
		field{"deviceId", nameForm.MatchString(q.DeviceID)},
		field{"terminalNo", terminalForm.MatchString(q.TerminalNo)},
		field{"cardNo", nameForm.MatchString(q.CardNo)},
		field{"balance", q.Balance >= 0 && q.Balance <= math.MaxUint32},
		field{"log", len(q.Log) <= 10},
	); r != nil {
		return nil, r
	}
	for _, e := range q.Log {
		if r := check(
			field{"log.seq", e.Seq >= 0 && e.Seq <= math.MaxUint16},
			field{"log.amount", e.Amount >= 0 && e.Amount <= math.MaxUint32},
			field{"log.terminal", terminalForm.MatchString(e.Terminal)},
		); r != nil {
			return nil, r
		}
	}
	c := b.cards[q.CardNo]
	if c == nil {
		return nil, refuse(codeNotAllowed, "card unknown")
	}
	a := &cardInfoAnswer{
		CardNo: c.CardNo, SubsCode: c.SubsCode, Name: mask(c.Name), DisplayAddr: c.Addr, MeterCode: c.MeterCode, MeterType: c.MeterType,
		CardState: "A", CanCharge: "Y", Unit: "fen", PendingOrders: []pendingOrder{},
	}
	if c.Kind == KindImage {
		content, ok := image(q.CardData)
		if !ok {
			return nil, refuse(codeParameter, "cardData")
		}
		a.Unit = "m3"
		a.Remaining = b.o.Layout.Gas.get(content)
		b.settleByImage(c, content)
		if a.Remaining != 0 {
			a.CanCharge, a.DenyCode, a.DenyMsg = "N", "NOTTAKEN", "the meter has not taken the last purchase"
		}
	} else {
		if c.Unit == "cl" {
			a.Unit = "m3"
		}
		for _, t := range b.openFor(c) {
			if b.record(t, q.Log) {
				b.settle(t, "log")
			}
		}
		c.log = append([]LogEntry{}, q.Log...)
	}
	c.seen = b.now
	if c.Deny != "" {
		a.CardState, a.CanCharge, a.DenyCode, a.DenyMsg = "X", "N", c.Deny, "card not allowed"
	}
	for _, no := range c.orders {
		o := b.orders[no]
		lag := o.state == StateSettled && b.lapses.ListLoaded && b.now.Sub(o.settledAt) < time.Hour
		if o.state != StatePaid && o.state != StateAuthorised && !lag {
			continue
		}
		if b.lapses.ShortPage && len(a.PendingOrders) == 10 {
			break
		}
		a.PendingOrders = append(a.PendingOrders, pendingOrder{
			OrderNo: no, Amount: o.Amount, GasVolume: o.Volume, PayTime: o.PayTime.In(zone).Format("20060102150405"), Source: o.Source,
		})
	}
	if !b.lapses.NoChallenge {
		c.challenge = b.hex16()
		a.Challenge = c.challenge
	}
	return a, nil
}

// mask keeps the first letter of a name.
func mask(name string) string {
	for i := range name {
		if i > 0 {
			return name[:i] + "**"
		}
	}
	return name
}

// queryOrder is 6006. Asked by number, it answers the number's state; by order
// alone, the order's (P while nobody holds it).
func (b *books) queryOrder(transNo, orderNo string) (any, *refusal) {
	if r := check(
		field{"termTransNo", transNo == "" || transForm.MatchString(transNo)},
		field{"orderNo", nameForm.MatchString(orderNo) || orderNo == "" && transNo != ""},
	); r != nil {
		return nil, r
	}
	t := b.known(transNo)
	if transNo != "" && t == nil {
		return nil, refuse(codeOrder, "number unknown")
	}
	if t != nil {
		if orderNo != "" && orderNo != t.orderNo {
			return nil, refuse(codeContent, "number was used with another order")
		}
		orderNo = t.orderNo
	}
	o := b.orders[orderNo]
	if o == nil && t == nil {
		return nil, refuse(codeOrder, "order unknown")
	}
	a := &stateAnswer{TransNo: transNo, OrderNo: orderNo}
	if o != nil {
		a.Amount, a.GasVolume = o.Amount, o.Volume
		if o.holder != nil {
			a.Holder, a.Count = o.holder.no, o.holder.count
		}
		switch {
		case o.state == StateSettled:
			a.State = "S"
		case o.state == StateReturned:
			a.State = "R"
		case o.state == StateAuthorised:
			a.State = "A"
		default:
			a.State = "P"
		}
	}
	if t == nil {
		return a, nil
	}
	a.State = t.letter()
	if t.open() && (t.result == -1 || t.result == 2) {
		// Nothing decided: still authorised, and the kiosk may finish it.
		left := t.expire.Sub(b.now)
		a.State, a.AuthExpire, a.Authorization = "A", int(max(left, 0)/time.Second), t.answer
	}
	return a, nil
}

// cardPrice is 3019. Prices are text in yuan per m3; bounds in m3.
func (b *books) cardPrice(subs, cardNo string) (any, *refusal) {
	c := b.cards[cardNo]
	if c == nil || subs != "" && subs != c.SubsCode {
		return nil, refuse(codeNotAllowed, "card unknown")
	}
	type step struct {
		Seq   string `json:"priceseq"`
		Price string `json:"price"`
		Lower string `json:"lower"`
		Upper string `json:"upper"`
	}
	return struct {
		SubsCode      string `json:"subsCode"`
		CardNo        string `json:"cardNo"`
		PriceVersion  string `json:"priceVersion"`
		EffectiveDate string `json:"effectiveDate"`
		Unit          string `json:"unit"`
		Steps         []step `json:"stepList"`
	}{c.SubsCode, cardNo, "1", "20260101", "yuan/m3", []step{{"1", "2.67", "0", "300"}, {"2", "3.20", "300", "600"}, {"3", "4.01", "600", ""}}}, nil
}
