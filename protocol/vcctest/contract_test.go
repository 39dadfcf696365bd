package vcctest

import (
	"maps"
	"reflect"
	"testing"
	"time"
)

var good = Options{Good: true}

func TestALoadIsAuthorisedReportedAndSettled(t *testing.T) {
	world(t, good, func(p *Platform, a, _ *kiosk) {
		ch := a.card(0)
		auth := a.must("4006", nil, a.l1("T1", ch, 7))
		want(t, "amount", auth["amount"], any(5000.0))
		want(t, "authExpire", auth["authExpire"], any(300.0))
		is := func() Issue { o, _ := p.Order("L1"); return o.Issued[0] }()
		want(t, "MAC2", auth["load"].(m)["mac2"], any(is.MAC2))
		q := a.query("T1", "")
		want(t, "state", q["state"], any("A"))
		want(t, "holder", q["holder"], any(num("T1")))
		if !reflect.DeepEqual(q["authorization"], any(auth)) {
			t.Errorf("6006 repeats %v, 4006 said %v", q["authorization"], auth)
		}
		// The card's own TAC over what was given out.
		l := p.b.trans[num("T1")].load
		tac := l.tac(p.b.cards[purseNo].DTK)
		want(t, "wrong TAC", a.report("T1", "L1", 1, 0, "answer", m{"tac": "00000000"}), "46006")
		wantState(t, p, "L1", StateAuthorised)
		want(t, "right TAC", a.report("T1", "L1", 1, 0, "answer", m{"tac": upperHex(tac[:])}), "S")
		wantState(t, p, "L1", StateSettled)
		o, _ := p.Order("L1")
		want(t, "reports kept", len(o.Reports), 2)
		want(t, "holder kept", o.Holder, num("T1"))
		want(t, "state by number", a.query("T1", "L1")["state"], any("S"))
		want(t, "free order", a.query("", "L2")["state"], any("P"))
		want(t, "conflicts", conflicts(p), "")
	})
}

func TestClause1RepeatsAreAnsweredAlike(t *testing.T) {
	world(t, good, func(p *Platform, a, b *kiosk) {
		ch := a.card(0)
		body := a.l1("T1", ch, 7)
		first := a.must("4006", nil, body)
		time.Sleep(2 * time.Hour) // past its expiry, with a new reading and a new token in between
		a.login()
		b.card(0)
		again := a.must("4006", nil, body)
		if !reflect.DeepEqual(first, again) {
			t.Errorf("repeat %v, first %v", again, first)
		}
		for name, v := range map[string]any{"amount": 5001, "orderNo": "L2", "cardNo": memNo} {
			other := maps.Clone(body)
			other[name] = v
			want(t, "other "+name, a.authorise(other), "46002")
		}
		other := a.l1("T1", ch, 8)
		want(t, "other sequence", a.authorise(other), "46002")
		o, _ := p.Order("L1")
		want(t, "issues", len(o.Issued), 1)
		want(t, "conflicts", conflicts(p), "")
	})
}

func TestClause2AHeldOrderIsFreedByTheCardAlone(t *testing.T) {
	other := LogEntry{Seq: 7, Amount: 100, Terminal: "998877665544", Date: "20260101", Time: "000001"}
	older := LogEntry{Seq: 6, Amount: 1, Terminal: "998877665544", Date: "20250101", Time: "000001"}
	for _, c := range []struct {
		name  string
		cur   int // sequence the card shows at the second kiosk
		log   func(mine LogEntry) []LogEntry
		stale bool
		want  string
		first string // what the first kiosk's 6006 says then
	}{
		{name: "unused sequence is free", cur: 7, want: "", first: "R"},
		{name: "unused sequence by an old reading is not", cur: 7, stale: true, want: "46009", first: "A"},
		{name: "holder's record settles", cur: 8, log: func(mine LogEntry) []LogEntry { return []LogEntry{mine, older} }, want: "46003", first: "S"},
		{name: "holder's record labelled after", cur: 8, log: func(mine LogEntry) []LogEntry { mine.Seq++; return []LogEntry{mine} }, want: "46003", first: "S"},
		{name: "used by another terminal is free", cur: 8, log: func(LogEntry) []LogEntry { return []LogEntry{other, older} }, want: "", first: "R"},
		{name: "used by another, older records gone", cur: 9, log: func(LogEntry) []LogEntry {
			o := other
			o.Seq = 8
			return []LogEntry{o, other}
		}, want: "", first: "R"},
		{name: "used, log too short", cur: 9, log: func(LogEntry) []LogEntry {
			o := other
			o.Seq = 8
			return []LogEntry{o}
		}, want: "46003", first: "A"},
		{name: "used, log unreadable", cur: 8, want: "46003", first: "A"},
		{name: "sequence behind the holder's", cur: 6, want: "46003", first: "A"},
		{name: "same record, other amount, is another's", cur: 8, log: func(mine LogEntry) []LogEntry { mine.Amount++; return []LogEntry{mine, older} }, want: "", first: "R"},
		{name: "same record at another sequence is another's", cur: 8, log: func(mine LogEntry) []LogEntry { mine.Seq = 5; return []LogEntry{other, mine} }, want: "", first: "R"},
		{name: "same record, other time, is another's", cur: 8, log: func(mine LogEntry) []LogEntry { mine.Time = "235959"; return []LogEntry{mine, older} }, want: "", first: "R"},
	} {
		t.Run(c.name, func(t *testing.T) {
			world(t, good, func(p *Platform, a, b *kiosk) {
				auth := a.must("4006", nil, a.l1("TA", a.card(0), 7))
				var log []LogEntry
				if c.log != nil {
					log = c.log(a.entry(auth, 5000, 7))
				}
				ch := b.card(0, log...)
				if c.stale {
					a.card(0)
				}
				want(t, "second kiosk", b.authorise(b.l1("TB", ch, c.cur)), c.want)
				want(t, "first kiosk's state", a.query("TA", "")["state"], any(c.first))
				want(t, "conflicts", conflicts(p), "")
				if c.want == "" {
					want(t, "late written", a.report("TA", "L1", 1, 0, "answer", nil), "R")
					want(t, "conflicts", conflicts(p), "0:L1:TA")
					want(t, "second's report", b.report("TB", "L1", 1, 0, "log", nil), "S")
				}
			})
		})
	}
}

func TestAnotherKiosksReadingSettlesAnUnknown(t *testing.T) {
	world(t, good, func(p *Platform, a, b *kiosk) {
		auth := a.must("4006", nil, a.l1("TA", a.card(0), 7))
		want(t, "unknown", a.report("TA", "L1", 1, 2, "log", nil), "P")
		mine := a.entry(auth, 5000, 7)
		b.card(0, mine)
		o, _ := p.Order("L1")
		want(t, "state", o.State, StateSettled)
		want(t, "by", o.SettledBy, "log")
		want(t, "revision written", a.report("TA", "L1", 2, 0, "log", m{"logRecord": mine}), "S")
		want(t, "conflicts", conflicts(p), "")
	})
}

func TestClause3AGiveBackOfAnUnseenNumberIsAFence(t *testing.T) {
	world(t, good, func(p *Platform, a, _ *kiosk) {
		ch := a.card(0)
		body := a.l1("T1", ch, 7)
		want(t, "6002(1)", a.report("T1", "L1", 1, 1, "journal", m{"noAttempt": "Y"}), "R")
		want(t, "late 4006", a.authorise(body), "46004")
		want(t, "again", a.report("T1", "L1", 1, 1, "journal", m{"noAttempt": "Y"}), "R")
		want(t, "6003", a.reverse("T2", "L1", "02"), "R")
		want(t, "late 4006 after 6003", a.authorise(a.l1("T2", ch, 7)), "46004")
		want(t, "6006 of a fence", a.query("T1", "")["state"], any("R"))
		for _, result := range []int{0, 2, 3} {
			want(t, "unseen number", a.report("T3", "L1", 1, result, "answer", nil), "46001")
		}
		if tr, ok := p.Trans(num("T1")); !ok || !tr.Fence || tr.State != TransReturned {
			t.Errorf("fence is %+v", tr)
		}
		wantState(t, p, "L1", StatePaid)
		want(t, "order still collectable", a.authorise(a.l1("T4", ch, 7)), "")
		want(t, "conflicts", conflicts(p), "")
	})
}

func TestClause4ExpiryReleasesNothing(t *testing.T) {
	world(t, good, func(p *Platform, a, b *kiosk) {
		a.must("4006", nil, a.l1("TA", a.card(0), 7))
		time.Sleep(time.Hour)
		want(t, "holder still there", b.authorise(b.l1("TB", b.card(0), 8)), "46003")
		q := a.query("TA", "")
		want(t, "state", q["state"], any("A"))
		want(t, "remaining", q["authExpire"], any(0.0))
		want(t, "written late", a.report("TA", "L1", 1, 0, "answer", nil), "S")
		want(t, "conflicts", conflicts(p), "")
	})
}

func TestClause5ReportsAreKeptAndRevised(t *testing.T) {
	world(t, good, func(p *Platform, a, _ *kiosk) {
		a.must("4006", nil, a.l1("T1", a.card(0), 7))
		want(t, "unknown", a.report("T1", "L1", 1, 2, "log", nil), "P")
		want(t, "unknown again", a.report("T1", "L1", 1, 2, "log", m{"offlineSeconds": 9}), "P")
		want(t, "same rev, other content", a.report("T1", "L1", 1, 1, "log", nil), "46002")
		want(t, "other order", a.report("T1", "L2", 2, 1, "log", nil), "46002")
		want(t, "revision", a.report("T1", "L1", 2, 1, "log", nil), "R")
		want(t, "old rev", a.report("T1", "L1", 1, 2, "log", nil), "R")
		wantState(t, p, "L1", StatePaid)
		want(t, "conflicts", conflicts(p), "")
		want(t, "late written", a.report("T1", "L1", 3, 0, "answer", nil), "R")
		want(t, "conflicts", conflicts(p), "0:L1:T1")
		o, _ := p.Order("L1")
		want(t, "reports", len(o.Reports), 6) // the one for L2 is kept there
		want(t, "duplicate", o.Reports[1].Duplicate, true)

		a.must("4006", nil, a.l1("T2", a.card(0), 7))
		want(t, "written", a.report("T2", "L1", 1, 3, "answer", nil), "S")
		want(t, "then not written", a.report("T2", "L1", 2, 1, "log", nil), "S")
		want(t, "then reversed", a.reverse("T2", "L1", "06"), "S")
		want(t, "conflicts", conflicts(p), "0:L1:T1 0:L1:T2 0:L1:T2")
	})
}

func TestAnUnknownWithItsTACIsSettled(t *testing.T) {
	world(t, good, func(p *Platform, a, _ *kiosk) {
		a.must("4006", nil, a.l1("T1", a.card(0), 7))
		tac := p.b.trans[num("T1")].load.tac(p.b.cards[purseNo].DTK)
		want(t, "another load's TAC", a.report("T1", "L1", 1, 2, "proof", m{"tac": "12345678"}), "P")
		want(t, "its TAC", a.report("T1", "L1", 2, 2, "proof", m{"tac": upperHex(tac[:])}), "S")
		wantState(t, p, "L1", StateSettled)
	})
}

func TestPendingGiveBacksNeedAReversal(t *testing.T) {
	world(t, Options{Good: true, PendNotWritten: true}, func(p *Platform, a, _ *kiosk) {
		a.must("4006", nil, a.l1("T1", a.card(0), 7))
		want(t, "not written", a.report("T1", "L1", 1, 1, "log", nil), "P")
		wantState(t, p, "L1", StateAuthorised)
		want(t, "6003", a.reverse("T1", "L1", "01"), "R")
		want(t, "6003 again", a.reverse("T1", "L1", "01"), "R")
		wantState(t, p, "L1", StatePaid)
		a.must("4006", nil, a.l1("T2", a.card(0), 7))
		a.report("T2", "L1", 1, 2, "log", nil)
		want(t, "reversal of an unknown", a.reverse("T2", "L1", "05"), "P")
		want(t, "by an operator", a.reverse("T2", "L1", "06"), "R")
		want(t, "conflicts", conflicts(p), "")
	})
}

func TestAnImageIsIssuedAndSettled(t *testing.T) {
	world(t, good, func(p *Platform, a, b *kiosk) {
		img := blankImage(0x01FE)
		info := a.imgCard(img)
		want(t, "can charge", info["canCharge"], any("Y"))
		auth := a.must("4006", nil, a.imgBody("T1", "I1", info["challenge"].(string), img))
		i := auth["image"].(m)
		want(t, "crc before", i["crcBefore"], any(crc(img)))
		want(t, "old code", i["pscOld"], any("112233"))
		want(t, "new code", i["pscNew"], any("445566"))
		want(t, "count", i["count"], any(float64(0x01FF)))
		after := apply(t, img, auth)
		want(t, "crc after", i["crcAfter"], any(crc(after)))
		l := DefaultLayout()
		want(t, "gas", l.Gas.get(after), 1800)
		last := i["writes"].([]any)[len(i["writes"].([]any))-1].(m)
		want(t, "commit field is written last", last["offset"], any(float64(l.Count.Offset)))
		changed := 0
		for j := range img {
			if img[j] != after[j] {
				changed++
			}
		}
		if changed < 8 {
			t.Errorf("plan changes %d bytes only", changed)
		}
		o, _ := p.Order("I1")
		want(t, "issued target", crc(o.Issued[0].Target), crc(after))
		want(t, "written", a.report("T1", "I1", 1, 0, "image", m{"cardDataAfter": upperHex(after)}), "S")
		want(t, "gas still on the card", b.imgCard(after)["denyCode"], any("NOTTAKEN"))
		ch := b.imgCard(after)["challenge"].(string)
		want(t, "gas still on the card", b.authorise(b.imgBody("T2", "I2", ch, after)), "46008")
		want(t, "old content of the card", b.authorise(b.imgBody("T2", "I2", ch, img)), "46007")
		l.Gas.put(after, 0)
		next := b.must("4006", nil, b.imgBody("T2", "I2", ch, after))["image"].(m)
		want(t, "code after the change", next["pscOld"], any("445566"))
		want(t, "no other change", next["pscNew"], any(""))
		want(t, "conflicts", conflicts(p), "")
	})
}

func TestClause6ACountIsIssuedToOneOrderOnly(t *testing.T) {
	world(t, good, func(p *Platform, a, b *kiosk) {
		img := blankImage(3)
		first := a.must("4006", nil, a.imgBody("T1", "I1", a.imgCard(img)["challenge"].(string), img))
		ch := func(k *kiosk) string { return k.imgCard(img)["challenge"].(string) }
		want(t, "another order", b.authorise(b.imgBody("T2", "I2", ch(b), img)), "46003")
		want(t, "same order, unreported", b.authorise(b.imgBody("T3", "I1", ch(b), img)), "46003")
		want(t, "not written by the card's word", a.report("T1", "I1", 1, 1, "image", nil), "P")
		want(t, "reversal by the card's word", a.reverse("T1", "I1", "01"), "P")
		want(t, "another order still", b.authorise(b.imgBody("T4", "I2", ch(b), img)), "46003")
		want(t, "6006", a.query("T1", "")["state"], any("P"))
		second := b.must("4006", nil, b.imgBody("T5", "I1", ch(b), img))
		if !reflect.DeepEqual(first["image"], second["image"]) {
			t.Errorf("second number got %v, first %v", second["image"], first["image"])
		}
		want(t, "old number", a.report("T1", "I1", 1, 1, "image", nil), "R")
		want(t, "old number's query", a.query("T1", "")["state"], any("R"))
		// By the journal's proof the count is free.
		want(t, "journal", b.report("T5", "I1", 1, 1, "journal", m{"noAttempt": "Y"}), "R")
		want(t, "another order", b.authorise(b.imgBody("T6", "I2", ch(b), img)), "")
		wantState(t, p, "I1", StatePaid)
		want(t, "conflicts", conflicts(p), "")
	})
}

func TestAnImageOnTheCardSettlesItsOrder(t *testing.T) {
	world(t, good, func(p *Platform, a, b *kiosk) {
		img := blankImage(3)
		auth := a.must("4006", nil, a.imgBody("T1", "I1", a.imgCard(img)["challenge"].(string), img))
		after := apply(t, img, auth)
		DefaultLayout().Gas.put(after, 0) // the meter was faster than the report
		ch := b.imgCard(after)["challenge"].(string)
		wantState(t, p, "I1", StateSettled)
		want(t, "next order", b.authorise(b.imgBody("T2", "I2", ch, after)), "")
		want(t, "late report", a.report("T1", "I1", 1, 0, "image", nil), "S")
		want(t, "conflicts", conflicts(p), "")
	})
}

func TestAnImageIsGivenBackByAnOperator(t *testing.T) {
	world(t, good, func(p *Platform, a, _ *kiosk) {
		img := blankImage(3)
		a.must("4006", nil, a.imgBody("T1", "I1", a.imgCard(img)["challenge"].(string), img))
		want(t, "card's word", a.report("T1", "I1", 1, 1, "image", nil), "P")
		want(t, "operator", a.reverse("T1", "I1", "06"), "R")
		wantState(t, p, "I1", StatePaid)
		a.must("4006", nil, a.imgBody("T2", "I1", a.imgCard(img)["challenge"].(string), img))
		want(t, "journal, by reversal alone", a.reverse("T2", "I1", "03"), "R")
		want(t, "conflicts", conflicts(p), "")
	})
}

func TestDefiniteRefusals(t *testing.T) {
	world(t, good, func(p *Platform, a, _ *kiosk) {
		ch := a.card(0)
		edit := func(f func(b m)) m { b := a.l1("T1", ch, 7); f(b); return b }
		for name, c := range map[string]struct {
			body m
			want string
		}{
			"unknown order":      {edit(func(b m) { b["orderNo"] = "nope" }), "46001"},
			"another card's":     {edit(func(b m) { b["orderNo"] = "I1" }), "46007"},
			"unknown card":       {edit(func(b m) { b["cardNo"] = "1" }), "46007"},
			"other amount":       {edit(func(b m) { b["amount"] = 5001 }), "46002"},
			"other account":      {edit(func(b m) { b["subsCode"] = "1" }), "46002"},
			"wrong MAC1":         {edit(func(b m) { b["load"].(m)["mac1"] = "00000000" }), "46005"},
			"balance not signed": {edit(func(b m) { b["load"].(m)["balance"] = 1 }), "46005"},
			"no challenge":       {edit(func(b m) { b["challenge"] = "" }), "46009"},
			"short number":       {edit(func(b m) { b["termTransNo"] = "1" }), "30002"},
			"both kinds":         {edit(func(b m) { b["image"] = m{"cardData": "", "count": 0} }), "30002"},
			"fraction":           {edit(func(b m) { b["amount"] = 50.5 }), "30002"},
			"text for a number":  {edit(func(b m) { b["amount"] = "5000" }), "30002"},
			"unknown field":      {edit(func(b m) { b["extra"] = 1 }), "30002"},
		} {
			want(t, name, a.authorise(c.body), c.want)
		}
		wantState(t, p, "L1", StatePaid)
		want(t, "after all that", a.authorise(a.l1("T1", ch, 7)), "")
		want(t, "challenge is used up", a.authorise(a.loadBody("T2", "L2", ch, 7000, 2500, 7)), "46009")
		want(t, "settled", a.report("T1", "L1", 1, 0, "answer", nil), "S")
		want(t, "settled order", a.authorise(a.l1("T3", a.card(0), 8)), "46003")
		if err := p.AddCard(CardBook{CardNo: purseNo, Kind: KindLoad, Deny: "LOST"}); err != nil {
			t.Fatal(err)
		}
		want(t, "blocked card", a.authorise(a.loadBody("T4", "L2", a.card(0), 7000, 2500, 8)), "46007")
	})
}

func TestAMemoryCardContradictsItself(t *testing.T) {
	world(t, good, func(p *Platform, a, _ *kiosk) {
		img := blankImage(3)
		auth := a.must("4006", nil, a.imgBody("T1", "I1", a.imgCard(img)["challenge"].(string), img))
		want(t, "not written", a.report("T1", "I1", 1, 1, "image", nil), "P")
		want(t, "written, with other content", a.report("T1", "I1", 2, 0, "image", m{"cardDataAfter": upperHex(img)}), "P")
		want(t, "written", a.report("T1", "I1", 3, 0, "image", m{"cardDataAfter": upperHex(apply(t, img, auth))}), "S")
		want(t, "conflicts", conflicts(p), "0:I1:T1")
	})
}

func TestBodiesAreReadStrictly(t *testing.T) {
	t.Parallel()
	for body, ok := range map[string]bool{
		`{"termTransNo":"1","orderNo":"2"}`: true,
		` {} `:                              true,
		`{"termTransNo":"1","orderNo":"2","orderNo":"3"}`: false,
		`{"termTransNo":"1","TERMTRANSNO":"2"}`:           false,
		`{"other":1}`:                                     false,
		`{"orderNo":1}`:                                   false,
		`{} {}`:                                           false,
		`null`:                                            false,
		`[]`:                                              false,
		``:                                                false,
		`{"orderNo":"orderNo","termTransNo":"termTransNo"}`: true,
	} {
		var q reverseRequest
		if r := decode([]byte(body), &q); (r == nil) != ok {
			t.Errorf("%s: %v", body, r)
		}
	}
	if repeated([]byte(`{"a":[{"b":1},{"b":2}],"b":["a","a"],"c":{"a":1}}`)) != "" || repeated([]byte(`{"a":{"b":[],"b":1}}`)) != "b" {
		t.Error("repeated names are judged per object")
	}
}

func TestAnOrderPaidAtTheKioskIsRefundedWhenGivenBack(t *testing.T) {
	world(t, good, func(p *Platform, a, _ *kiosk) {
		b := a.loadBody("T1", "", a.card(0), 900, 300, 7)
		b["loadMode"], b["payType"], b["payTransNo"], b["payTime"] = 2, "WX", "W1", "20260101000000"
		no := a.must("4006", nil, b)["orderNo"].(string)
		body := a.reportBody("T1", "L1", 1, 1, "log", m{"orderNo": no, "amount": 900, "gasVolume": 300})
		want(t, "not written", a.must("6002", nil, body)["state"], any("R"))
		wantState(t, p, no, StateReturned)
		want(t, "6006", a.query("", no)["state"], any("R"))
	})
}
