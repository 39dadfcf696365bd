package agent

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"

	"vcckiosk/agent/topup"
	"vcckiosk/cardreader/memcard"
	"vcckiosk/protocol"
)

// imageWriter writes a memory card: absolute content whose count field, last
// written, makes it valid.
type imageWriter struct {
	a   *Agent
	c   *card
	psc [3]byte
}

// sealedImage is what a record keeps sealed: the plan and the card's code.
type sealedImage struct {
	Before []byte      `json:"before"`
	Order  []int       `json:"order"` // offsets in the order they are written
	Data   []byte      `json:"data"`  // their new bytes
	Commit topup.Field `json:"commit"`
	PSC    string      `json:"psc"`
}

func sealable(p topup.Plan, psc string) sealedImage {
	s := sealedImage{Before: p.Before, Order: p.Order, Commit: p.Commit, PSC: psc}
	for _, off := range p.Order {
		s.Data = append(s.Data, p.Target[off])
	}
	return s
}

// plan rebuilds the plan; ok is false for one no plan can have come from.
func (s sealedImage) plan() (p topup.Plan, ok bool) {
	if len(s.Data) != len(s.Order) {
		return p, false
	}
	p = topup.Plan{Before: s.Before, Target: bytes.Clone(s.Before), Order: s.Order, Commit: s.Commit}
	for i, off := range s.Order {
		if off < 0 || off >= len(p.Target) {
			return p, false
		}
		p.Target[off] = s.Data[i]
	}
	return p, p.Valid()
}

func sealAAD(r topup.Record) []byte { return []byte(string(r.TransNo) + "/" + r.Card.Hash) }

func (w *imageWriter) intend(r *topup.Record) {
	r.Kind = topup.Image
	r.Image = &topup.ImagePlan{BeforeSHA256: topup.Hash(w.c.content)}
}

func (w *imageWriter) prepare(ctx context.Context, r *topup.Record, req *protocol.AuthorizeRequest) error {
	before := w.c.content
	if err := w.c.again(ctx); err != nil {
		return w.c.saw(err)
	}
	if !bytes.Equal(before, w.c.content) {
		return errSwapped
	}
	count, ok := w.a.cfg.Memory.Layout.CountOf(before)
	if !ok {
		return errors.New("no count on the card")
	}
	req.Image = &protocol.ImageRequest{CardData: upper(before), Count: count}
	return nil
}

func (w *imageWriter) accept(r *topup.Record, ans protocol.Authorization) error {
	im := ans.Image
	if im == nil {
		return errors.New("answer without an image")
	}
	writes := make([]topup.Write, len(im.Writes))
	for i, x := range im.Writes {
		data, err := hex.DecodeString(x.Data)
		if err != nil {
			return fmt.Errorf("write %d: not hex", i)
		}
		writes[i] = topup.Write{Offset: x.Offset, Data: data}
	}
	layout := w.a.cfg.Memory.Layout
	plan, err := topup.NewPlan(w.c.content, writes, topup.Field{Offset: im.Commit.Offset, Len: im.Commit.Len}, layout)
	if err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	if n, ok := layout.CountOf(plan.Target); !ok || n != im.Count {
		return errors.New("plan: count field is not the answered count")
	}
	for _, x := range []struct {
		name, want string
		content    []byte
	}{{"crcBefore", im.CRCBefore, plan.Before}, {"crcAfter", im.CRCAfter, plan.Target}} {
		if x.want != "" && x.want != fmt.Sprintf("%08X", crc32.ChecksumIEEE(x.content)) {
			return fmt.Errorf("field %s: does not match the content", x.name)
		}
	}
	if im.PSCNew != "" && im.PSCNew != im.PSCOld {
		return errors.New("change of the card's code is not supported")
	}
	if err := unhex(im.PSCOld, w.psc[:]); err != nil {
		return fmt.Errorf("field pscOld: %w", err)
	}
	if w.a.keys == nil {
		return protocol.ErrNoKey
	}
	open, err := json.Marshal(sealable(plan, im.PSCOld))
	if err != nil {
		return fmt.Errorf("encode plan: %w", err)
	}
	sealed, err := w.a.keys.Seal("record", sealAAD(*r), open)
	clear(open)
	if err != nil {
		return fmt.Errorf("seal plan: %w", err)
	}
	r.Image = &topup.ImagePlan{
		Count: im.Count, BeforeSHA256: topup.Hash(plan.Before), TargetSHA256: topup.Hash(plan.Target), Sealed: sealed, Plan: &plan,
	}
	return nil
}

// unseal brings a stored plan and code back; a plan that does not verify is
// never written, and a code is never presented that was not stored with it.
func (w *imageWriter) unseal(r *topup.Record) error {
	if w.a.keys == nil {
		return protocol.ErrNoKey
	}
	open, err := w.a.keys.Open("record", sealAAD(*r), r.Image.Sealed)
	if err != nil {
		return fmt.Errorf("unseal plan: %w", err)
	}
	defer clear(open)
	var s sealedImage
	if err := json.Unmarshal(open, &s); err != nil {
		return errors.New("unseal plan: not a plan")
	}
	plan, ok := s.plan()
	if !ok || topup.Hash(plan.Before) != r.Image.BeforeSHA256 || topup.Hash(plan.Target) != r.Image.TargetSHA256 {
		return errors.New("unseal plan: not this record's")
	}
	if err := unhex(s.PSC, w.psc[:]); err != nil {
		return fmt.Errorf("unseal code: %w", err)
	}
	im := *r.Image
	im.Plan = &plan
	r.Image = &im
	return nil
}

func (w *imageWriter) write(ctx context.Context, r *topup.Record) topup.Verdict {
	nothing := topup.Decide(*r, topup.Evidence{})
	if err := w.c.again(ctx); err != nil {
		_ = w.c.saw(err)
		w.a.log.Warn("card not read before the write", "card", logName(r.Card), "err", err)
		return nothing
	}
	v := w.judge(r, true, topup.HolderUnasked)
	if v.Judgement != topup.IsNotWritten { // not the content the plan was made for
		return v
	}
	return w.forward(ctx, r, 0, true)
}

// forward writes the plan from its done-th byte on, reads back and decides.
func (w *imageWriter) forward(ctx context.Context, r *topup.Record, done int, here bool) topup.Verdict {
	holder := topup.HolderUnasked
	if !here {
		holder = topup.HolderOurs
	}
	for range 2 { // one more try when the card is still here, torn but readable
		err := w.put(ctx, r, done)
		if err != nil {
			_ = w.c.saw(err)
			w.a.log.Warn("write not confirmed", "order", r.OrderNo, "card", logName(r.Card), "termTransNo", r.TransNo, "err", err)
		}
		if w.c.stuck != nil {
			return topup.Decide(*r, topup.Evidence{})
		}
		if err := w.c.again(ctx); err != nil {
			_ = w.c.saw(err)
			return topup.Decide(*r, topup.Evidence{})
		}
		v := w.judge(r, here, holder)
		if v.Judgement != topup.RollForward || refusedCode(err) {
			return resolve(v)
		}
		done = v.Done
	}
	return topup.Verdict{Judgement: topup.IsUnknown, Basis: topup.ByImage, Why: "torn twice"}
}

func refusedCode(err error) bool {
	return errors.Is(err, memcard.ErrTriesLow) || errors.Is(err, memcard.ErrWrongCode) || errors.Is(err, memcard.ErrLocked)
}

// resolve turns a wish to go on, which nobody will fulfil now, into Unknown.
func resolve(v topup.Verdict) topup.Verdict {
	if v.Judgement == topup.RollForward || v.Judgement == topup.NeedsHolder || v.Judgement == topup.NeedsSequence {
		return topup.Verdict{Judgement: topup.IsUnknown, Basis: v.Basis, Why: v.Why}
	}
	return v
}

func (w *imageWriter) put(ctx context.Context, r *topup.Record, done int) error {
	if err := w.c.mem.Present(ctx, w.psc); err != nil {
		return fmt.Errorf("present code: %w", err)
	}
	for _, run := range r.Image.Plan.Rest(done) {
		if err := w.c.mem.Write(ctx, run.Offset, run.Data); err != nil {
			return fmt.Errorf("write %d+%d: %w", run.Offset, len(run.Data), err)
		}
	}
	return nil
}

func (w *imageWriter) judge(r *topup.Record, here bool, h topup.Holder) topup.Verdict {
	v := topup.Decide(*r, topup.Evidence{Image: &topup.ImageEvidence{Content: w.c.content, Here: here, Holder: h}})
	r.Observed.ImageSHA256 = topup.Hash(w.c.content)
	if w.a.keys != nil {
		if sealed, err := w.a.keys.Seal("record", sealAAD(*r), w.c.content); err == nil {
			r.Observed.SealedImage = sealed
		}
	}
	return v
}

func (w *imageWriter) observe(ctx context.Context, r *topup.Record) (topup.Verdict, error) {
	if err := w.unseal(r); err != nil {
		return topup.Decide(*r, topup.Evidence{}), err
	}
	if err := w.c.again(ctx); err != nil {
		return topup.Decide(*r, topup.Evidence{}), w.c.saw(err)
	}
	v := w.judge(r, false, topup.HolderUnasked)
	if v.Judgement != topup.NeedsHolder {
		return v, nil
	}
	// Torn inside our own plan. The gas may be finished only while the order
	// is still ours.
	st, err := w.a.client.QueryOrder(ctx, protocol.QueryOrderRequest{TransNo: string(r.TransNo), OrderNo: r.OrderNo})
	var holder topup.Holder
	switch {
	case err == nil && st.Holder == string(r.TransNo) && (st.State == protocol.StateAuthorised || st.State == protocol.StatePending):
		holder = topup.HolderOurs
	case err == nil, errors.Is(err, protocol.ErrUnknownOrder), errors.Is(err, protocol.ErrContent), errors.Is(err, protocol.ErrHeld),
		errors.Is(err, protocol.ErrGivenBack):
		// Only what speaks of the order. Any other refusal is the platform's own
		// trouble: the card is asked again when it comes back.
		holder = topup.HolderNotOurs
	default:
		return resolve(v), fmt.Errorf("ask for the order: %w", err)
	}
	v = w.judge(r, false, holder)
	if v.Judgement != topup.RollForward {
		return resolve(v), nil
	}
	return w.forward(context.WithoutCancel(ctx), r, v.Done, false), w.c.stuck
}
