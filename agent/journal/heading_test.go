package journal

import (
	"encoding/json"
	"math/rand/v2"
	"testing"

	"vcckiosk/agent/topup"
)

// TestTheShortcutReadsWhatTheDecoderReads compares the two over records with
// the worst texts a platform could send.
func TestTheShortcutReadsWhatTheDecoderReads(t *testing.T) {
	t.Parallel()
	texts := []string{"", "DD1", `a"b`, `a\`, "订单", "<&>", `","orderNo":"X`, `"awaiting":true`, `"parked":"x`, "\u2028", "a\x00b"}
	phases := []topup.Phase{topup.Intent, topup.Writing, topup.Written, topup.NotWritten, topup.Unknown, topup.Closed}
	rnd := rand.New(rand.NewPCG(1, 1))
	text := func() string { return texts[rnd.IntN(len(texts))] }
	short := 0
	for range 20_000 {
		r := topup.Record{
			Version: 1, TransNo: topup.NewTransNo(), Phase: phases[rnd.IntN(len(phases))], Kind: topup.Load, OrderNo: text(),
			SubsCode: text(), FailReason: text(), Awaiting: rnd.IntN(3) == 0,
		}
		if rnd.IntN(3) == 0 {
			r.Parked = text()
		}
		if rnd.IntN(20) == 0 {
			r.Version = 2
		}
		body, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		want, werr := decodeHeading(body)
		got, gerr := readHeading(body)
		if (werr == nil) != (gerr == nil) || werr == nil && got != want {
			t.Fatalf("%s\nread %+v, %v\nwant %+v, %v", body, got, gerr, want, werr)
		}
		if !r.Awaiting && r.Parked == "" {
			short++
		}
	}
	if short < 1000 {
		t.Errorf("only %d lines had the common form", short)
	}
}

func FuzzReadHeading(f *testing.F) {
	f.Add([]byte(`{"v":1,"termTransNo":"0123456789ABCDEF0123456789ABCDEF","phase":"closed","kind":"load","orderNo":"DD1","amount":1}`))
	f.Add([]byte(`{"v":1,"termTransNo":"0123456789ABCDEF0123456789ABCDEF","phase":"closed","kind":"load","orderNo":"DD\"1"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := readHeading(body)
		if err == nil && (!got.TransNo.Valid() || got.Version != 1) {
			t.Errorf("took %+v", got)
		}
	})
}
