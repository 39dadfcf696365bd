package topup

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
)

// hostile is what a damaged or forged journal may hand to Decide.
type hostile struct {
	Record   Record
	Plan     *Plan
	Evidence Evidence
}

// FuzzDecide: any record with any evidence meets one of the known judgements,
// and what is rolled forward is a plan that can be written to its end.
func FuzzDecide(f *testing.F) {
	add := func(h hostile) {
		b, err := json.Marshal(h)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	add(hostile{Record: purseRecord(Writing), Evidence: Evidence{Purse: &PurseEvidence{Log: []LogRecord{ours, earlier}, State: LogFull, Seq: 6, SeqRead: true}}})
	add(hostile{Record: purseRecord(Unknown), Evidence: Evidence{Purse: &PurseEvidence{State: LogRefused, Seq: 6, SeqRead: true, TAC: "C324A0EF"}}})
	p := randomPlan(f, rand.New(rand.NewPCG(3, 4)))
	image := Record{Phase: Writing, Kind: Image, Image: &ImagePlan{}}
	torn := append([]byte(nil), p.Before...)
	torn[p.Order[0]] = p.Target[p.Order[0]]
	read := Evidence{Image: &ImageEvidence{Content: torn, Here: true}}
	add(hostile{image, &p, read})
	for _, spoil := range []func(*Plan){
		func(p *Plan) { p.Commit = Field{Offset: 20, Len: 9} },
		func(p *Plan) { p.Commit = Field{Offset: -1, Len: 2} },
		func(p *Plan) { p.Order = append([]int{99}, p.Order...) },
		func(p *Plan) { p.Order = append([]int{-1}, p.Order...) },
		func(p *Plan) { p.Order = nil },
		func(p *Plan) { p.Before = p.Before[:3] },
	} {
		q := p
		spoil(&q)
		add(hostile{image, &q, read})
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var h hostile
		if json.Unmarshal(b, &h) != nil {
			return
		}
		if h.Record.Image != nil {
			h.Record.Image.Plan = h.Plan
		}
		v := Decide(h.Record, h.Evidence)
		switch v.Judgement {
		case Settled, IsWritten, IsNotWritten, IsUnknown, NeedsSequence:
		case NeedsHolder, RollForward:
			if !h.Plan.Valid() {
				t.Fatalf("a plan that is none: %s", v.Judgement)
			}
			for _, w := range h.Plan.Rest(v.Done) {
				copy(h.Evidence.Image.Content[w.Offset:], w.Data)
			}
			if string(h.Evidence.Image.Content) != string(h.Plan.Target) {
				t.Fatal("the rest does not complete the plan")
			}
		default:
			t.Fatalf("no verdict: %+v", v)
		}
	})
}
