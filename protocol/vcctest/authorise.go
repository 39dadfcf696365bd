package vcctest

import (
	"fmt"
	"math"
	"time"
)

// content is what a repeated 4006 must repeat (contract clause 1).
func (q *authRequest) content() string {
	proof := -1
	if q.Load != nil {
		proof = q.Load.OnlineSeq
	}
	if q.Image != nil {
		proof = q.Image.Count
	}
	return fmt.Sprintf("%s|%s|%s|%d|%s|%d", q.TransNo, q.OrderNo, q.CardNo, q.Amount, q.Kind, proof)
}

func (q *authRequest) check() *refusal {
	if r := check(
		field{"termTransNo", transForm.MatchString(q.TransNo)},
		field{"terminalNo", terminalForm.MatchString(q.TerminalNo)},
		field{"deviceId", nameForm.MatchString(q.DeviceID)},
		field{"cardNo", nameForm.MatchString(q.CardNo)},
		field{"orderNo", q.LoadMode == 2 && q.OrderNo == "" || nameForm.MatchString(q.OrderNo)},
		field{"loadMode", q.LoadMode == 1 || q.LoadMode == 2},
		field{"amount", q.Amount > 0 && q.Amount <= math.MaxUint32},
		field{"gasVolume", q.GasVolume >= 0 && q.GasVolume <= math.MaxUint32},
		field{"kind", q.Kind == KindLoad && q.Load != nil && q.Image == nil || q.Kind == KindImage && q.Image != nil && q.Load == nil},
		field{"payTransNo", q.LoadMode == 1 || nameForm.MatchString(q.PayTransNo) && nameForm.MatchString(q.PayType)},
		field{"payTime", q.LoadMode == 1 || stampForm.MatchString(q.PayTime)},
	); r != nil {
		return r
	}
	if l := q.Load; l != nil {
		var four [4]byte
		return check(
			field{"load.type", l.Type == 1 || l.Type == 2},
			field{"load.keyIndex", l.KeyIndex >= 0 && l.KeyIndex <= 255},
			field{"load.balance", l.Balance >= 0 && l.Balance <= math.MaxUint32},
			field{"load.onlineSeq", l.OnlineSeq >= 0 && l.OnlineSeq <= math.MaxUint16},
			field{"load.random", unhex(four[:], l.Random)},
			field{"load.mac1", unhex(four[:], l.MAC1)},
		)
	}
	_, ok := image(q.Image.CardData)
	return check(field{"image.cardData", ok}, field{"image.count", q.Image.Count >= 0})
}

// authorise is 4006.
func (b *books) authorise(q *authRequest) (any, *refusal) {
	if r := q.check(); r != nil {
		return nil, r
	}
	if t := b.known(q.TransNo); t != nil {
		switch {
		case t.state == TransReturned: // contract clause 3 as well: a fence
			return nil, refuse(codeGivenBack, "order given back under this number")
		case t.content != q.content():
			return nil, refuse(codeContent, "number was used with other content")
		case t.open() && b.chance(b.lapses.NoIdempotency):
			return b.repeatBadly(t)
		}
		return t.answer, nil
	}

	c, o, fresh, r := b.wanted(q)
	if r != nil {
		return nil, r
	}

	t := &trans{
		no: q.TransNo, cardNo: q.CardNo, kind: q.Kind, terminal: q.TerminalNo, device: q.DeviceID,
		amount: q.Amount, volume: q.GasVolume, state: TransOpen, result: -1, at: b.now,
		expire: b.now.Add(b.o.AuthExpire), content: q.content(),
	}
	t.answer = &authAnswer{
		TransNo: q.TransNo, OrderNo: q.OrderNo, CardNo: q.CardNo, Kind: q.Kind, Amount: q.Amount, GasVolume: q.GasVolume,
		AuthExpire: int(b.o.AuthExpire / time.Second), Receipt: map[string]string{"title": "IC card gas", "subsCode": c.SubsCode},
	}
	if q.Kind == KindLoad {
		if r := b.prepareLoad(q, t, c); r != nil {
			return nil, r
		}
		if r := b.freeLoad(q, o, c, fresh); r != nil {
			return nil, r
		}
	} else {
		if r := b.prepareImage(q, t, c, o); r != nil {
			return nil, r
		}
	}
	if b.unseen[q.TransNo] {
		b.conflict(3, q.OrderNo, q.TransNo, "authorised under a number given back before")
	}
	if o == nil {
		o = b.kioskOrder(q)
		t.answer.OrderNo = o.OrderNo
	}
	b.issue(t, o)
	c.challenge = "" // single use
	return t.answer, nil
}

// wanted finds card and order of a new number, and whether the challenge is the
// newest; nil for an order that comes into being here.
func (b *books) wanted(q *authRequest) (c *card, o *order, fresh bool, r *refusal) {
	c = b.cards[q.CardNo]
	if c == nil || c.Kind != q.Kind || c.Deny != "" {
		return nil, nil, false, refuse(codeNotAllowed, "card not allowed")
	}
	o = b.orders[q.OrderNo]
	switch {
	case q.LoadMode == 2 && o == nil:
		// The order comes into being with its first authorisation, below.
	case o == nil:
		return nil, nil, false, refuse(codeOrder, "order unknown")
	case o.CardNo != q.CardNo:
		return nil, nil, false, refuse(codeNotAllowed, "order belongs to another card")
	case o.Amount != q.Amount || o.Volume != q.GasVolume,
		q.SubsCode != "" && q.SubsCode != c.SubsCode, q.MeterCode != "" && q.MeterCode != c.MeterCode:
		return nil, nil, false, refuse(codeContent, "other amount, gas or account")
	case o.state == StateReturned:
		return nil, nil, false, refuse(codeGivenBack, "order given back")
	case o.state == StateSettled:
		return nil, nil, false, refuse(codeHeld, "order settled under another number")
	}
	fresh = c.challenge != "" && q.Challenge == c.challenge
	if !fresh && !b.lapses.NoChallenge && !b.lapses.FreeOnStale {
		return nil, nil, false, refuse(codeChallenge, "challenge is not the newest")
	}
	return c, o, fresh, nil
}

// issue makes t the holder of o.
func (b *books) issue(t *trans, o *order) {
	t.orderNo = o.OrderNo
	if old := b.trans[t.no]; old == nil || old.orderNo != o.OrderNo {
		o.trans = append(o.trans, t.no)
	}
	b.trans[t.no] = t
	b.cards[t.cardNo].live = append(b.cards[t.cardNo].live, t)
	o.state, o.holder = StateAuthorised, t
	b.remember(t, o)
	if b.chance(b.lapses.ForgetAuth) {
		b.doomed = append(b.doomed, t)
		t.forgetAt = b.now
		if b.odds() < 1 {
			t.forgetAt = b.now.Add(time.Duration(b.rng.Int64N(int64(10 * time.Minute))))
		}
	}
}

// remember keeps what was given out.
func (b *books) remember(t *trans, o *order) {
	is := Issue{
		TransNo: t.no, TerminalNo: t.terminal, DeviceID: t.device, Kind: t.kind,
		Seq: int(t.load.Seq), Count: t.count, At: b.now, Expire: t.expire,
	}
	if l := t.answer.Load; l != nil {
		is.MAC2, is.HostDate, is.HostTime = l.MAC2, l.HostDate, l.HostTime
	}
	if t.answer.Image != nil {
		is.Target, is.CRC = append([]byte{}, t.target...), t.answer.Image.CRCAfter
	}
	o.issued = append(o.issued, is)
}

func (b *books) kioskOrder(q *authRequest) *order {
	no := q.OrderNo
	for no == "" || b.orders[no] != nil {
		b.issuedNo++
		no = fmt.Sprintf("K%s%06d", b.stamp(), b.issuedNo)
	}
	at, _ := time.ParseInLocation("20060102150405", q.PayTime, zone) // form checked; an impossible date is the zero time
	o := &order{
		OrderBook: OrderBook{OrderNo: no, CardNo: q.CardNo, Amount: q.Amount, Volume: q.GasVolume, PayTime: at, Source: "kiosk"},
		state:     StatePaid, atKiosk: true,
	}
	b.orders[no] = o
	b.cards[q.CardNo].own(no)
	return o
}

// prepareLoad checks MAC1 and makes MAC2.
func (b *books) prepareLoad(q *authRequest, t *trans, c *card) *refusal {
	dlk, _, ok := b.keys(c)
	if !ok {
		return refuse(codeNotAllowed, "no keys for this card")
	}
	t.load = load{
		Type: byte(q.Load.Type), Balance: uint32(q.Load.Balance), Amount: uint32(q.Amount), Seq: uint16(q.Load.OnlineSeq),
	}
	if c.Unit == "cl" {
		t.load.Amount = uint32(q.GasVolume)
	}
	var mac1 [4]byte
	if !unhex(t.load.Random[:], q.Load.Random) || !unhex(t.load.Terminal[:], q.TerminalNo) || !unhex(mac1[:], q.Load.MAC1) {
		return refuse(codeParameter, "load")
	}
	if t.load.mac1(dlk) != mac1 {
		return refuse(codeMAC1, "MAC1 wrong")
	}
	b.grantLoad(t, dlk, b.now)
	return nil
}

func (b *books) grantLoad(t *trans, dlk [16]byte, at time.Time) {
	s := at.In(zone).Format("20060102150405")
	unhex(t.load.Date[:], s[:8])
	unhex(t.load.Time[:], s[8:])
	m := t.load.mac2(dlk)
	t.answer.Load = &loadAnswer{HostDate: s[:8], HostTime: s[8:], MAC2: upperHex(m[:])}
}

// freeLoad looks at the card before an order that another number holds is
// given to this one (contract clause 2). The holder's own record needs no look
// here: the 3010 that brought the log has settled it.
func (b *books) freeLoad(q *authRequest, o *order, c *card, fresh bool) *refusal {
	if o == nil || !o.holder.open() {
		return nil
	}
	h := o.holder
	cur, seq := q.Load.OnlineSeq, int(h.load.Seq)
	switch {
	case cur > seq && reaches(c.log, seq, cur):
		b.giveBack(h, "sequence used by another load")
		return nil
	case cur == seq && fresh:
		b.giveBack(h, "sequence unused")
		return nil
	case cur == seq && b.lapses.FreeOnStale:
		b.conflict(2, o.OrderNo, h.no, "freed on the word of a delayed authorise request")
		b.giveBack(h, "sequence unused, by an old reading")
		return nil
	}
	return b.expired(h, 0)
}

// expired gives an expired hold away, if the platform lapses so; contract
// clause 4 says it must not.
func (b *books) expired(h *trans, count int) *refusal {
	if !b.lapses.ReissueAtExpiry || !b.now.After(h.expire) {
		return refuse(codeHeld, "order held under another number")
	}
	b.conflict(4, h.orderNo, h.no, "hold released at expiry")
	if h.kind == KindImage && count == h.count {
		b.conflict(6, h.orderNo, h.no, "count issued again at expiry")
	}
	b.giveBack(h, "expired")
	return nil
}

// prepareImage makes the card's new content, or gives the same content again
// (contract clause 6).
func (b *books) prepareImage(q *authRequest, t *trans, c *card, o *order) *refusal {
	before, _ := image(q.Image.CardData)
	lay := b.o.Layout
	if int(lay.Count.get(before)) != q.Image.Count {
		return refuse(codeContent, "count is not the card's")
	}
	if q.Image.Count >= 1<<(8*lay.Count.Len)-1 {
		return refuse(codeNotAllowed, "count at its end")
	}
	b.settleByImage(c, before)
	if o != nil && o.state == StateSettled {
		return refuse(codeHeld, "order is on the card")
	}
	for _, h := range b.openFor(c) {
		if o != nil && h.orderNo == o.OrderNo {
			if h.count == q.Image.Count+1 && h.result == 1 && h.evidence == "image" {
				b.giveBack(h, "same image given to another number")
				t.before, t.target, t.count = h.before, h.target, h.count
				again := *h.answer.Image
				t.answer.Image = &again
				return nil
			}
			if r := b.expired(h, -1); r != nil { // the same order: clause 4 alone
				return r
			}
			continue
		}
		if b.lapses.DoubleCount {
			b.conflict(6, q.OrderNo, q.TransNo, "authorised while the card is held for order "+h.orderNo)
			continue
		}
		if r := b.expired(h, q.Image.Count+1); r != nil {
			return refuse(codeHeld, "card held for another order")
		}
	}
	if lay.Gas.get(before) != 0 {
		return refuse(codeGas, "gas still on the card")
	}
	if q.Image.Count < c.count {
		return refuse(codeNotAllowed, "count behind the books: old content of this card")
	}
	t.count = q.Image.Count + 1
	for _, no := range c.orders {
		for _, is := range b.orders[no].issued {
			if old := b.trans[is.TransNo]; old.forgotten && is.Kind == KindImage && is.Count == t.count && no != q.OrderNo {
				b.conflict(6, q.OrderNo, q.TransNo, "count issued before for order "+no)
			}
		}
	}
	t.before = before
	b.grantImage(t, c, q.OrderNo, 0)
	return nil
}

func (b *books) grantImage(t *trans, c *card, orderNo string, twist uint32) {
	lay := b.o.Layout
	var writes []imageWrite
	t.target, writes, t.count = lay.purchase(t.before, orderNo, t.volume, twist)
	old, next := c.psc()
	t.answer.Image = &imageAnswer{
		Count: t.count, Writes: writes, Commit: imageField{"main", lay.Count.Offset, lay.Count.Len},
		CRCBefore: crc(t.before), CRCAfter: crc(t.target), PSCOld: old, PSCNew: next,
	}
}

// settleByImage settles what a card's content shows: its count is the target's
// of an open number, whatever the gas field says (the meter may have been there).
func (b *books) settleByImage(c *card, content []byte) {
	count := int(b.o.Layout.Count.get(content))
	for _, t := range b.openFor(c) {
		if t.kind == KindImage && t.count == count {
			b.settle(t, "image")
		}
	}
}

// repeatBadly answers a repeat of t in another way (contract clause 1 broken).
func (b *books) repeatBadly(t *trans) (any, *refusal) {
	c, o := b.cards[t.cardNo], b.orders[t.orderNo]
	if b.rng.IntN(3) == 0 {
		b.conflict(1, t.orderNo, t.no, "repeat refused")
		return nil, refuse(codeHeld, "order held")
	}
	b.conflict(1, t.orderNo, t.no, "repeat answered with other content")
	answer := *t.answer
	t.answer = &answer
	if t.kind == KindLoad {
		if dlk, _, ok := b.keys(c); ok {
			b.grantLoad(t, dlk, b.now.Add(time.Duration(1+b.rng.IntN(600))*time.Second))
		}
	} else {
		b.grantImage(t, c, t.orderNo, 1+b.rng.Uint32N(1<<20))
	}
	b.remember(t, o)
	return t.answer, nil
}
