package protocol

import (
	"context"
)

// CardInfo calls 3010: what the platform knows of the card, which orders can
// be drawn onto it, and the challenge the next Authorize of this card must
// carry. It changes nothing at the platform that a repeat would harm.
func (c *Client) CardInfo(ctx context.Context, r CardInfoRequest) (CardInfo, error) {
	c.fill(&r.DeviceID, &r.OrgCode)
	in, err := c.post(ctx, codeCardInfo, r, false)
	if err != nil {
		return CardInfo{}, err
	}
	a := CardInfo{
		CardNo:      in.form("cardNo", formats["cardNo"], true),
		SubsCode:    in.form("subsCode", formats["subsCode"], false),
		Name:        in.text("name", 60, false),
		DisplayAddr: in.text("displayAddr", 255, false),
		MeterCode:   in.form("meterCode", formats["meterCode"], false),
		MeterType:   in.literal("meterType", 2),
		CardState:   in.text("cardState", 2, false),
		CanCharge:   in.form("canCharge", yesNo, false),
		DenyCode:    in.literal("denyCode", 32),
		DenyMsg:     in.text("denyMsg", 256, false),
		Remaining:   Volume(in.integer("remaining", 0, maxVolume, false)),
		Unit:        in.text("unit", 8, false),
		Challenge:   in.form("challenge", formats["challenge"], false),
	}
	if r.CardNo != "" {
		in.same("cardNo", r.CardNo, formats["cardNo"], true)
	}
	for _, o := range in.list("pendingOrders", 100, false) {
		a.PendingOrders = append(a.PendingOrders, PendingOrder{
			OrderNo:   o.form("orderNo", formats["orderNo"], true),
			Amount:    Fen(o.integer("amount", 0, maxFen, true)),
			GasVolume: Volume(o.integer("gasVolume", 0, maxVolume, false)),
			PayTime:   o.form("payTime", stampForm, false),
			Source:    o.text("source", 32, false),
		})
	}
	if err := c.closed(codeCardInfo, in); err != nil {
		return CardInfo{}, err
	}
	return a, nil
}

// CardPrice calls 3019. An empty org is this kiosk's own.
func (c *Client) CardPrice(ctx context.Context, subs, org, cardNo string) (CardPrice, error) {
	if org == "" {
		org = c.OrgCode
	}
	params := map[string]string{"subsCode": subs, "orgCode": org, "cardNo": cardNo}
	v, err := c.do(ctx, codeCardPrice, params, nil, false)
	if err != nil {
		return CardPrice{}, err
	}
	in := newReader(v)
	a := CardPrice{
		PriceVersion:  in.literal("priceVersion", 32),
		EffectiveDate: in.literal("effectiveDate", 14),
		Unit:          in.text("unit", 8, false),
	}
	for _, s := range in.list("stepList", 32, false) {
		a.Steps = append(a.Steps, PriceStep{
			Seq:   s.literal("priceseq", 8),
			Price: s.literal("price", 20),
			Lower: s.literal("lower", 20),
			Upper: s.literal("upper", 20),
		})
	}
	if len(a.Steps) == 0 {
		in.fail("stepList", "empty") // an empty object is no answer
	}
	if err := c.closed(codeCardPrice, in); err != nil {
		return CardPrice{}, err
	}
	return a, nil
}

// QueryOrder calls 6006. The answer must speak of the number or order asked
// for; ErrUnknownOrder says that the platform knows neither. A repeat is
// harmless.
func (c *Client) QueryOrder(ctx context.Context, r QueryOrderRequest) (OrderState, error) {
	if r.TransNo == "" && r.OrderNo == "" {
		return OrderState{}, &FieldError{Interface: codeQueryOrder, Field: "termTransNo", Why: "neither number nor order given"}
	}
	params := map[string]string{}
	if r.TransNo != "" {
		params["termTransNo"] = r.TransNo
	}
	if r.OrderNo != "" {
		params["orderNo"] = r.OrderNo
	}
	v, err := c.do(ctx, codeQueryOrder, params, nil, true)
	if err != nil {
		return OrderState{}, err
	}
	in := newReader(v)
	a := OrderState{
		TransNo:    in.form("termTransNo", formats["termTransNo"], false),
		OrderNo:    in.form("orderNo", formats["orderNo"], false),
		State:      in.oneWord("state", "S|R|P|A"),
		Holder:     in.form("holder", formats["termTransNo"], false),
		Amount:     Fen(in.integer("amount", 0, maxFen, false)),
		GasVolume:  Volume(in.integer("gasVolume", 0, maxVolume, false)),
		Count:      int(in.integer("count", 0, 0xFFFFFF, false)),
		AuthExpire: int(in.integer("authExpire", -86400*365, 86400*365, false)),
	}
	a.AuthExpire = max(a.AuthExpire, 0)
	switch {
	case r.OrderNo != "" && a.OrderNo != "" && a.OrderNo != r.OrderNo:
		in.fail("orderNo", "is not what was asked")
	case r.TransNo != "" && a.TransNo != "" && a.TransNo != r.TransNo:
		in.fail("termTransNo", "is not what was asked")
	case (r.OrderNo == "" || a.OrderNo == "") && (r.TransNo == "" || a.TransNo == "" && a.Holder != r.TransNo):
		in.fail("orderNo", "answer names nothing that was asked for")
	}
	if a.TransNo == "" {
		a.TransNo = r.TransNo
	}
	if a.OrderNo == "" {
		a.OrderNo = r.OrderNo
	}
	if a.State == StateAuthorised && r.TransNo != "" && a.Holder == r.TransNo {
		a.Authorization = readAgain(in, a)
	}
	if err := c.closed(codeQueryOrder, in); err != nil {
		return OrderState{}, err
	}
	return a, nil
}

// maxCommand is how long a command's envelope may be, as text.
const maxCommand = 8192

// Heartbeat calls 6004. What came as a command is outside text: the caller
// verifies it. An error loses nothing.
func (c *Client) Heartbeat(ctx context.Context, r HeartbeatRequest) (HeartbeatAnswer, error) {
	c.fill(&r.DeviceID, &r.OrgCode)
	r.Firmware = cleanName(r.Firmware, "firmware")
	in, err := c.post(ctx, codeHeartbeat, r, false)
	if err != nil {
		return HeartbeatAnswer{}, err
	}
	a := HeartbeatAnswer{Timestamp: in.literal("timestamp", 32)}
	if a.Timestamp == "" {
		in.fail("timestamp", "missing") // an empty object is no answer
	}
	for _, o := range in.list("commands", 32, false) {
		a.Commands = append(a.Commands, Command{
			ID:     o.form("cmdId", name(64), true),
			Signed: o.text("signed", maxCommand, false), // one that is no envelope is refused by itself
		})
	}
	if err := c.closed(codeHeartbeat, in); err != nil {
		return HeartbeatAnswer{}, err
	}
	return a, nil
}
