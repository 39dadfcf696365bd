package protocol

import (
	"context"
	"slices"
)

// Authorize calls 4006 once (and again only when the platform rejected the
// token or the sequence number). The outcome is known only with a nil error,
// with ErrNotSent (nothing can have been executed), or with ErrBusiness as the
// answer to the only 4006 ever sent under this TransNo. Any other error,
// ErrTransport first of all, means that the order may be authorised under this
// number: an answer in which one echoed field differs from what was asked is
// such an error too, and nothing of it is returned.
func (c *Client) Authorize(ctx context.Context, r AuthorizeRequest) (Authorization, error) {
	c.fill(&r.DeviceID, &r.OrgCode)
	if why := r.shape(); why != "" {
		return Authorization{}, &FieldError{Interface: codeAuthorize, Field: "kind", Why: why}
	}
	in, err := c.post(ctx, codeAuthorize, r, true)
	if err != nil {
		return Authorization{}, err
	}
	a := Authorization{
		TransNo:    in.same("termTransNo", r.TransNo, formats["termTransNo"], true),
		CardNo:     in.same("cardNo", r.CardNo, formats["cardNo"], true),
		Kind:       in.same("kind", r.Kind, formats["kind"], true),
		Amount:     Fen(in.sameNumber("amount", int64(r.Amount), true)),
		GasVolume:  Volume(in.sameNumber("gasVolume", int64(r.GasVolume), true)),
		AuthExpire: int(in.integer("authExpire", 1, 86400, true)),
		Receipt:    in.dict("receipt", 32, 256),
	}
	if r.OrderNo == "" { // paid here: the platform makes the order
		a.OrderNo = in.form("orderNo", formats["orderNo"], true)
	} else {
		a.OrderNo = in.same("orderNo", r.OrderNo, formats["orderNo"], true)
	}
	count := 0
	if r.Image != nil {
		count = r.Image.Count
	}
	readPermission(in, &a, count)
	if err := c.closed(codeAuthorize, in); err != nil {
		return Authorization{}, err
	}
	return a, nil
}

func (r AuthorizeRequest) shape() string {
	switch {
	case r.Kind == KindLoad && (r.Load == nil || r.Image != nil):
		return "a load needs load and nothing else"
	case r.Kind == KindImage && (r.Image == nil || r.Load != nil):
		return "an image needs image and nothing else"
	case r.Kind == KindScript && r.Load != nil:
		return "a script takes no load"
	case r.LoadMode == ModeDraw && r.OrderNo == "":
		return "mode 1 needs an order"
	}
	return ""
}

// readPermission reads the part that lets the card be written. It must be the
// part of the kind and no other.
func readPermission(in reader, a *Authorization, count int) {
	for _, k := range []string{KindLoad, KindImage, KindScript} {
		if m := in.v.member(k); k != a.Kind && m != nil && m.kind != kindNull {
			in.fail(k, "does not belong to this kind")
			return
		}
	}
	o, ok := in.object(a.Kind, true)
	if !ok {
		return
	}
	switch a.Kind {
	case KindLoad:
		a.Load = &LoadAnswer{
			HostDate: o.form("hostDate", dateForm, true),
			HostTime: o.form("hostTime", clockForm, true),
			MAC2:     o.form("mac2", upperHex(8), true),
		}
	case KindImage:
		a.Image = readImage(o, count)
	case KindScript:
		a.Script = readScript(o)
	}
}

const cardSize = 256

func readImage(in reader, count int) *ImageAnswer {
	a := &ImageAnswer{
		Count:     int(in.integer("count", 1, 0xFFFFFF, true)),
		CRCBefore: in.form("crcBefore", upperHex(8), true),
		CRCAfter:  in.form("crcAfter", upperHex(8), true),
		PSCOld:    in.form("pscOld", upperHex(6), false),
		PSCNew:    in.form("pscNew", upperHex(6), false),
	}
	if *in.fault == "" && a.Count <= count {
		in.fail("count", "is not newer than the card's")
	}
	zone := words("main")
	var taken [cardSize]int // 1 + index of the write that has the byte
	writes := in.list("writes", 64, true)
	if len(writes) == 0 {
		in.fail("writes", "empty")
	}
	for i, w := range writes {
		x := ImageWrite{
			Zone:   w.form("zone", zone, true),
			Offset: int(w.integer("offset", 0, cardSize-1, true)),
			Data:   w.form("data", hexText(2*cardSize), true),
		}
		a.Writes = append(a.Writes, x)
		if x.Offset+len(x.Data)/2 > cardSize {
			w.fail("data", "goes beyond the card")
			return a
		}
		for b := x.Offset; b < x.Offset+len(x.Data)/2; b++ {
			if taken[b] != 0 {
				w.fail("offset", "writes overlap")
				return a
			}
			taken[b] = i + 1
		}
	}
	o, ok := in.object("commit", true)
	if !ok {
		return a
	}
	a.Commit = ImageField{
		Zone:   o.form("zone", zone, true),
		Offset: int(o.integer("offset", 0, cardSize-1, true)),
		Len:    int(o.integer("len", 1, cardSize, true)),
	}
	if *in.fault != "" {
		return a
	}
	end := a.Commit.Offset + a.Commit.Len
	if end > cardSize {
		o.fail("len", "goes beyond the card")
		return a
	}
	field := taken[a.Commit.Offset:end]
	if field[0] == 0 || slices.Min(field) != slices.Max(field) {
		o.fail("offset", "does not lie within one write")
	}
	return a
}

const maxScript = 64 << 10 // hex digits of all APDUs together

func readScript(in reader) *ScriptAnswer {
	a := &ScriptAnswer{Resume: in.oneWord("resume", "restart|never")}
	apdu := hexText(2 * 261)
	status := pattern("[0-9A-Fa-fXx?*|,]+", 256, "want status words in hex")
	total := 0
	for _, s := range in.list("steps", 1024, true) {
		x := ScriptStep{
			APDU:     s.form("apdu", apdu, true),
			Expect:   s.form("expect", status, true),
			Changing: s.boolean("changing"),
		}
		total += len(x.APDU)
		a.Steps = append(a.Steps, x)
	}
	for _, s := range in.list("check", 64, true) {
		x := ScriptCheck{
			APDU:       s.form("apdu", apdu, true),
			Written:    s.text("written", 1024, true),
			NotWritten: s.text("notWritten", 1024, true),
		}
		total += len(x.APDU)
		a.Check = append(a.Check, x)
	}
	switch {
	case len(a.Steps) == 0:
		in.fail("steps", "empty")
	case len(a.Check) == 0:
		in.fail("check", "empty") // without it nobody could tell whether the card was written
	case total > maxScript:
		in.fail("steps", "too long")
	}
	return a
}

// readAgain reads what 6006 repeats of an authorisation that is still ours:
// the fields of the answer of 4006 in an object of their own, or the part of
// the kind beside the state. nil when it repeats nothing.
func readAgain(in reader, s OrderState) *Authorization {
	a := &Authorization{TransNo: s.Holder, OrderNo: s.OrderNo, Amount: s.Amount, GasVolume: s.GasVolume, AuthExpire: s.AuthExpire}
	if o, ok := in.object("authorization", false); ok {
		in = o
		in.same("termTransNo", s.Holder, formats["termTransNo"], false)
		in.same("orderNo", s.OrderNo, formats["orderNo"], false)
		a.Amount = Fen(in.sameNumber("amount", int64(s.Amount), false))
		a.GasVolume = Volume(in.sameNumber("gasVolume", int64(s.GasVolume), false))
		// Its own authExpire counts from the first answer: what is left is told
		// beside the state.
		in.integer("authExpire", 1, 86400, false)
	}
	for _, k := range []string{KindLoad, KindImage, KindScript} {
		if m := in.v.member(k); m != nil && m.kind != kindNull {
			if a.Kind != "" {
				in.fail(k, "does not belong to this kind")
				return nil
			}
			a.Kind = k
		}
	}
	if a.Kind == "" {
		return nil
	}
	a.CardNo = in.form("cardNo", formats["cardNo"], false)
	a.Receipt = in.dict("receipt", 32, 256)
	in.same("kind", a.Kind, formats["kind"], false)
	readPermission(in, a, 0)
	return a
}

// Report calls 6002. A nil error is an acknowledgement of this TransNo and this
// Rev and of nothing else; what the state means for the record is the
// caller's. Of the errors only ErrBusiness speaks of the content, and even then
// the report is kept: it is never forgotten. Repeats are harmless. FailCode,
// FailReason and Firmware are made to fit their format, not refused by it: a
// result must not stay here for the sake of a remark.
func (c *Client) Report(ctx context.Context, r ReportRequest) (ReportAnswer, error) {
	c.fill(&r.DeviceID, &r.OrgCode)
	r.FailCode, r.FailReason, r.Firmware = cleanName(r.FailCode, "failCode"), cleanText(r.FailReason, "failReason"), cleanName(r.Firmware, "firmware")
	in, err := c.post(ctx, codeReport, r, true)
	if err != nil {
		return ReportAnswer{}, err
	}
	a := ReportAnswer{
		TransNo:   in.same("termTransNo", r.TransNo, formats["termTransNo"], true),
		OrderNo:   in.same("orderNo", r.OrderNo, formats["orderNo"], false),
		Rev:       int(in.sameNumber("rev", int64(r.Rev), true)),
		State:     in.oneWord("state", "S|R|P"),
		Duplicate: in.form("duplicate", yesNo, false),
	}
	if err := c.closed(codeReport, in); err != nil {
		return ReportAnswer{}, err
	}
	return a, nil
}

// Reverse calls 6003. A nil error acknowledges this TransNo; the errors are
// those of Report. Repeats are harmless.
func (c *Client) Reverse(ctx context.Context, r ReverseRequest) (ReverseAnswer, error) {
	c.fill(&r.DeviceID, &r.OrgCode)
	var request any = r
	if c.dialect != nil {
		request = fullReverse(r)
	}
	in, err := c.post(ctx, codeReverse, request, true)
	if err != nil {
		return ReverseAnswer{}, err
	}
	a := ReverseAnswer{
		TransNo: in.same("termTransNo", r.TransNo, formats["termTransNo"], true),
		OrderNo: in.same("orderNo", r.OrderNo, formats["orderNo"], false),
		State:   in.oneWord("state", "S|R|P"),
	}
	if err := c.closed(codeReverse, in); err != nil {
		return ReverseAnswer{}, err
	}
	return a, nil
}
