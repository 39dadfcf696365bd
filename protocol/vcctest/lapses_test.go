package vcctest

import (
	"context"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestLapseNoIdempotency(t *testing.T) {
	world(t, Options{Good: true, Lapses: Lapses{NoIdempotency: true}}, func(p *Platform, a, _ *kiosk) {
		body := a.l1("T1", a.card(0), 7)
		answers := []m{a.must("4006", nil, body)}
		refused := 0
		for range 12 {
			again, err := a.try("4006", nil, body)
			if a.code(again, err) != "" {
				refused++
				continue
			}
			if reflect.DeepEqual(again["load"], answers[len(answers)-1]["load"]) {
				t.Error("repeat got the same answer")
			}
			answers = append(answers, again)
		}
		if refused == 0 || len(answers) < 2 {
			t.Errorf("%d refused, %d answered", refused, len(answers))
		}
		want(t, "conflicts", strings.Count(conflicts(p), "1:L1:T1"), 12)
		o, _ := p.Order("L1")
		want(t, "issued", len(o.Issued), len(answers))
		// Whatever content the card took, its record settles the order.
		a.card(0, a.entry(answers[1], 5000, 7))
		wantState(t, p, "L1", StateSettled)

		img := blankImage(3)
		ib := a.imgBody("T2", "I1", a.imgCard(img)["challenge"].(string), img)
		first := a.must("4006", nil, ib)
		for range 12 {
			again, err := a.try("4006", nil, ib)
			if a.code(again, err) != "" {
				continue
			}
			i := again["image"].(m)
			if i["crcAfter"] == first["image"].(m)["crcAfter"] || i["count"] != 4.0 {
				t.Errorf("repeat got %v", i)
			}
			want(t, "plan and crc agree", i["crcAfter"], any(crc(apply(t, img, again))))
		}
	})
}

func TestLapseReissueAtExpiry(t *testing.T) {
	world(t, Options{Good: true, Lapses: Lapses{ReissueAtExpiry: true}}, func(p *Platform, a, b *kiosk) {
		a.must("4006", nil, a.l1("TA", a.card(0), 7))
		want(t, "before expiry", b.authorise(b.l1("TB", b.card(0), 8)), "46003")
		time.Sleep(301 * time.Second)
		want(t, "after expiry", b.authorise(b.l1("TB", b.card(0), 8)), "")
		want(t, "conflicts", conflicts(p), "4:L1:TA")
		want(t, "first kiosk's written", a.report("TA", "L1", 1, 0, "answer", nil), "R")
		want(t, "second's", b.report("TB", "L1", 1, 0, "answer", nil), "S")
		want(t, "conflicts", conflicts(p), "4:L1:TA 0:L1:TA")

		img := blankImage(3)
		a.must("4006", nil, a.imgBody("IA", "I1", a.imgCard(img)["challenge"].(string), img))
		time.Sleep(301 * time.Second)
		want(t, "another order for the count", b.authorise(b.imgBody("IB", "I2", b.imgCard(img)["challenge"].(string), img)), "")
		want(t, "conflicts", conflicts(p), "4:L1:TA 0:L1:TA 4:I1:IA 6:I1:IA")
		// What the card itself frees is no breach.
		a.must("4006", nil, a.loadBody("TC", "L2", a.card(0), 7000, 2500, 9))
		time.Sleep(301 * time.Second)
		want(t, "unused", b.authorise(b.loadBody("TD", "L2", b.card(0), 7000, 2500, 9)), "")
		want(t, "conflicts", conflicts(p), "4:L1:TA 0:L1:TA 4:I1:IA 6:I1:IA")
	})
}

func TestLapseForgetAuth(t *testing.T) {
	world(t, Options{Good: true, Lapses: Lapses{ForgetAuth: true}}, func(p *Platform, a, b *kiosk) {
		a.must("4006", nil, a.l1("TA", a.card(0), 7))
		want(t, "written", a.report("TA", "L1", 1, 0, "answer", nil), "46001")
		want(t, "conflicts", conflicts(p), "2:L1:TA")
		want(t, "6006", a.query("TA", "")["resultCode"], any("46001"))
		wantState(t, p, "L1", StatePaid)
		p.SetLapses(Lapses{})
		want(t, "another kiosk", b.authorise(b.l1("TB", b.card(0), 8)), "")
		want(t, "not written of a forgotten number", a.report("TA", "L1", 2, 1, "log", nil), "R")
		wantState(t, p, "L1", StateAuthorised)
		o, _ := p.Order("L1")
		want(t, "refused report is kept", o.Reports[0].Answer, "46001")
		want(t, "both issues are kept", len(o.Issued), 2)

		img := blankImage(3)
		a.must("4006", nil, a.imgBody("IA", "I1", a.imgCard(img)["challenge"].(string), img))
		p.Forget(num("IA"))
		want(t, "count issued twice", b.authorise(b.imgBody("IB", "I2", b.imgCard(img)["challenge"].(string), img)), "")
		want(t, "conflicts", conflicts(p), "2:L1:TA 2:I1:IA 6:I2:IB")
	})
}

func TestLapseForgetsLaterAndOnlyWhileItLasts(t *testing.T) {
	world(t, Options{Good: true, Lapses: Lapses{ForgetAuth: true}, Odds: 0.999999}, func(p *Platform, a, _ *kiosk) {
		a.must("4006", nil, a.l1("T1", a.card(0), 7))
		a.must("4006", nil, a.loadBody("T2", "L2", a.card(0), 7000, 2500, 8))
		want(t, "reported in time", a.report("T1", "L1", 1, 2, "log", nil), "P")
		time.Sleep(10 * time.Minute)
		want(t, "forgotten", conflicts(p), "2:L2:T2")
		a.must("4006", nil, a.loadBody("T3", "L2", a.card(0), 7000, 2500, 8))
		p.SetLapses(Lapses{})
		time.Sleep(time.Hour)
		want(t, "forgotten", conflicts(p), "2:L2:T2")
	})
}

func TestLapseFences(t *testing.T) {
	world(t, Options{Good: true, Lapses: Lapses{NoFences: true}}, func(p *Platform, a, _ *kiosk) {
		ch := a.card(0)
		want(t, "give-back", a.report("T1", "L1", 1, 1, "journal", nil), "46001")
		want(t, "give-back", a.reverse("T1", "L1", "02"), "46001")
		want(t, "conflicts", conflicts(p), "")
		want(t, "late 4006", a.authorise(a.l1("T1", ch, 7)), "")
		want(t, "conflicts", conflicts(p), "3:L1:T1")
		want(t, "held by us", a.query("T1", "")["holder"], any(num("T1")))
		want(t, "give-back", a.report("T1", "L1", 1, 1, "journal", nil), "R")
	})
}

func TestLapseForgetFences(t *testing.T) {
	world(t, Options{Good: true, Lapses: Lapses{ForgetFences: true}}, func(p *Platform, a, _ *kiosk) {
		ch := a.card(0)
		want(t, "give-back", a.report("T1", "L1", 1, 1, "journal", nil), "R")
		want(t, "give-back again", a.reverse("T1", "L1", "02"), "R")
		want(t, "late 4006", a.authorise(a.l1("T1", ch, 7)), "")
		want(t, "conflicts", conflicts(p), "3:L1:T1")
		wantState(t, p, "L1", StateAuthorised)
	})
}

func TestLapseNoChallenge(t *testing.T) {
	world(t, Options{Good: true, Lapses: Lapses{NoChallenge: true}}, func(p *Platform, a, b *kiosk) {
		want(t, "challenge", a.card(0), "")
		want(t, "no challenge", a.authorise(a.l1("TA", "", 7)), "")
		b.card(0, LogEntry{Seq: 7, Amount: 1, Terminal: "998877665544", Date: "20250101", Time: "000001"}) // the load before, labelled after
		want(t, "unused sequence stays with its holder", b.authorise(b.l1("TB", "", 7)), "46003")
		want(t, "holder gives back", a.report("TA", "L1", 1, 1, "log", nil), "R")
		want(t, "free", b.authorise(b.l1("TC", "", 7)), "")
		want(t, "conflicts", conflicts(p), "")
	})
}

func TestLapseFreeOnStale(t *testing.T) {
	world(t, Options{Good: true, Lapses: Lapses{FreeOnStale: true}}, func(p *Platform, a, b *kiosk) {
		old := b.card(0)
		a.must("4006", nil, a.l1("TA", a.card(0), 7))
		want(t, "delayed 4006", b.authorise(b.l1("TB", old, 7)), "")
		want(t, "conflicts", conflicts(p), "2:L1:TA")
		want(t, "fresh 4006", a.authorise(a.l1("TC", a.card(0), 7)), "")
		want(t, "conflicts", conflicts(p), "2:L1:TA")
	})
}

func TestLapseDoubleCount(t *testing.T) {
	world(t, Options{Good: true, Lapses: Lapses{DoubleCount: true}}, func(p *Platform, a, b *kiosk) {
		img := blankImage(3)
		a.must("4006", nil, a.imgBody("IA", "I1", a.imgCard(img)["challenge"].(string), img))
		want(t, "same order is still held", b.authorise(b.imgBody("IC", "I1", b.imgCard(img)["challenge"].(string), img)), "46003")
		want(t, "another order", b.authorise(b.imgBody("IB", "I2", b.imgCard(img)["challenge"].(string), img)), "")
		want(t, "conflicts", conflicts(p), "6:I2:IB")
	})
}

func TestLapseListLoaded(t *testing.T) {
	world(t, Options{Good: true, Lapses: Lapses{ListLoaded: true}}, func(_ *Platform, a, _ *kiosk) {
		listed := func() int {
			i := a.must("3010", nil, m{"deviceId": "K", "terminalNo": a.terminal, "cardNo": purseNo, "balance": 0})
			return len(i["pendingOrders"].([]any))
		}
		a.must("4006", nil, a.l1("T1", a.card(0), 7))
		want(t, "held orders are listed", listed(), 2)
		a.report("T1", "L1", 1, 0, "answer", nil)
		want(t, "loaded order listed", listed(), 2)
		want(t, "but not authorised", a.authorise(a.l1("T2", a.card(0), 8)), "46003")
		time.Sleep(time.Hour)
		want(t, "no longer listed", listed(), 1)
	})
}

func TestLapseShortPage(t *testing.T) {
	world(t, Options{Good: true, Lapses: Lapses{ShortPage: true}}, func(p *Platform, a, _ *kiosk) {
		for i := range 20 {
			if err := p.AddOrder(OrderBook{OrderNo: "X" + itoa(int64(i)), CardNo: purseNo, Amount: 1}); err != nil {
				t.Fatal(err)
			}
		}
		i := a.must("3010", nil, m{"deviceId": "K", "terminalNo": a.terminal, "cardNo": purseNo, "balance": 0})
		want(t, "orders", len(i["pendingOrders"].([]any)), 10)
	})
}

func TestLapsesOfTheConnection(t *testing.T) {
	for name, c := range map[string]struct {
		l        Lapses
		executed bool
		check    func(m, error) bool
	}{
		"LoseRequests": {Lapses{LoseRequests: true}, false, func(_ m, err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		"LoseAnswers":  {Lapses{LoseAnswers: true}, true, func(_ m, err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		"LateAnswers":  {Lapses{LateAnswers: true}, true, func(a m, err error) bool { return err == nil && a["state"] == "R" }},
	} {
		t.Run(name, func(t *testing.T) {
			world(t, good, func(p *Platform, a, _ *kiosk) {
				a.must("4006", nil, a.l1("T1", a.card(0), 7))
				p.SetLapses(c.l)
				got, err := a.try("6002", nil, a.reportBody("T1", "L1", 1, 1, "log", nil))
				if !c.check(got, err) {
					t.Errorf("answer %v, %v", got, err)
				}
				want(t, "conflicts", conflicts(p), "")
				state := map[bool]string{true: StatePaid, false: StateAuthorised}
				wantState(t, p, "L1", state[c.executed])
			})
		})
	}
}

func endpointOf(code string) endpoint {
	for _, e := range endpoints(nil) {
		if e.code == code {
			return e
		}
	}
	return endpoint{}
}

func TestLapseOfUselessAnswers(t *testing.T) {
	for name, l := range map[string]Lapses{"{}": {EmptyAnswers: true}, "<html>": {HTMLAnswers: true}} {
		t.Run(name, func(t *testing.T) {
			world(t, good, func(p *Platform, a, _ *kiosk) {
				a.login()
				p.SetLapses(l)
				executed := 0
				for i := range 20 {
					no := "T" + itoa(int64(i))
					e := endpointOf("6003")
					body := []byte(`{"termTransNo":"` + num(no) + `","orderNo":"L1","deviceId":"K","orgCode":"","reason":"02","time":"20260101000000"}`)
					status, out, err := a.raw(e.code, e.method, e.path, map[string][]string{}, body)
					if err != nil || status != 200 || !strings.HasPrefix(string(out), name) {
						t.Fatalf("%d %q %v", status, out, err)
					}
					if _, ok := p.Trans(num(no)); ok {
						executed++
					}
				}
				if executed == 0 || executed == 20 {
					t.Errorf("%d of 20 executed", executed)
				}
			})
		})
	}
}

func TestLapseLateRequests(t *testing.T) {
	world(t, good, func(p *Platform, a, _ *kiosk) {
		body := a.l1("T1", a.card(0), 7)
		p.SetLapses(Lapses{LateRequests: true})
		if _, err := a.try("4006", nil, body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
		p.SetLapses(Lapses{})
		wantState(t, p, "L1", StatePaid)
		want(t, "on the way", p.Late(), 1)
		time.Sleep(10 * time.Minute)
		wantState(t, p, "L1", StateAuthorised)
		o, _ := p.Order("L1")
		if d := time.Since(o.Issued[0].At); d < 0 || d > 580*time.Second {
			t.Errorf("executed %v ago", d)
		}
	})
}

func TestLapseEvictions(t *testing.T) {
	world(t, good, func(p *Platform, a, _ *kiosk) {
		a.login()
		p.SetLapses(Lapses{Evictions: true})
		ans, err := a.try("6005", nil, nil)
		want(t, "token taken", a.code(ans, err), "20001")
	})
}

func TestLapseClockOff(t *testing.T) {
	world(t, Options{Good: true, Lapses: Lapses{ClockOff: true}}, func(_ *Platform, a, _ *kiosk) {
		auth := a.must("4006", nil, a.l1("T1", a.card(0), 7))
		want(t, "date on the card", auth["load"].(m)["hostDate"], any(time.Now().Add(24*time.Hour).In(zone).Format("20060102")))
	})
}

func TestTheWorstPlatformIsTheDefaultAndRepeatable(t *testing.T) {
	t.Parallel()
	if p := New(Options{}); p.b.lapses != WorstLapses() {
		t.Error("default is not the worst")
	}
	if p := New(Options{Good: true}); p.b.lapses != (Lapses{}) {
		t.Error("good is not good")
	}
	if p := New(Options{Lapses: Lapses{ClockOff: true}}); p.b.lapses != (Lapses{ClockOff: true}) {
		t.Error("chosen lapses were not taken")
	}
	var runs []string
	for range 2 {
		p := New(Options{Seed: 7})
		var s strings.Builder
		for range 50 {
			a := p.spoil()
			s.WriteString(a.Body + a.Late.String() + a.AnswerDelay.String())
		}
		runs = append(runs, s.String())
	}
	want(t, "same seed", runs[0], runs[1])
}

func TestHookSpoilsACall(t *testing.T) {
	world(t, good, func(p *Platform, a, _ *kiosk) {
		var seen []Call
		act := map[int]Action{}
		p.SetHook(func(c Call) Action {
			if c.Code != "6002" {
				return Action{}
			}
			p.Order(c.OrderNo) // may look into the books
			seen = append(seen, c)
			return act[c.N]
		})
		a.must("4006", nil, a.l1("T1", a.card(0), 7))
		act[1] = Action{DropRequest: true}
		act[2] = Action{Code: "10001"}
		act[3] = Action{Status: 503, Body: "busy", NotExecuted: true}
		act[4] = Action{DropAnswer: true}
		act[5] = Action{WrongSign: true}
		act[6] = Action{Edit: func([]byte) []byte { return []byte(`{"state":"X"}`) }}
		report := func() (m, error) { return a.try("6002", nil, a.reportBody("T1", "L1", 1, 0, "answer", nil)) }
		if _, err := report(); err == nil {
			t.Error("request arrived")
		}
		ans, err := report()
		want(t, "code", a.code(ans, err), "10001")
		if _, err := report(); err == nil || !strings.Contains(err.Error(), "busy") {
			t.Error(err)
		}
		wantState(t, p, "L1", StateAuthorised)
		if _, err := report(); err == nil {
			t.Error("answer arrived")
		}
		wantState(t, p, "L1", StateSettled)
		ans, _ = report()
		want(t, "sign", ans["sign"], any("00000000000000000000000000000000"))
		ans, _ = report()
		want(t, "edited", ans["state"], any("X"))
		want(t, "calls", p.Calls()["6002"], 6)
		want(t, "call", seen[0], Call{Code: "6002", N: 1, TransNo: num("T1"), OrderNo: "L1", CardNo: purseNo, DeviceID: "KA", TerminalNo: a.terminal, Rev: 1, Result: 0})

		// A 4006 kept on its way until after its give-back.
		p.SetHook(func(c Call) Action {
			if c.Code == "4006" {
				return Action{Late: Forever}
			}
			return Action{}
		})
		body := a.loadBody("T2", "L2", a.card(0), 7000, 2500, 8)
		if _, err := a.try("4006", nil, body); err == nil {
			t.Error("answered")
		}
		time.Sleep(time.Hour)
		want(t, "give-back", a.report("T2", "L2", 1, 1, "journal", nil), "R")
		want(t, "released", p.ReleaseLate(), 1)
		wantState(t, p, "L2", StatePaid)
		want(t, "conflicts", conflicts(p), "")
	})
}

func TestADelayEndsWithItsContext(t *testing.T) {
	world(t, good, func(p *Platform, a, _ *kiosk) {
		a.login()
		a.timeout = 15 * time.Second
		report := a.reportBody("T1", "L1", 1, 1, "journal", nil)
		for name, c := range map[string]struct {
			act      Action
			executed bool
		}{
			"before": {Action{Delay: time.Minute}, false},
			"after":  {Action{AnswerDelay: time.Minute}, true},
		} {
			p.SetHook(func(Call) Action { return c.act })
			report["termTransNo"] = num(name)
			start := time.Now()
			if _, err := a.try("6002", nil, report); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
			want(t, name+": waited", time.Since(start), 15*time.Second)
			_, executed := p.Trans(num(name))
			want(t, name+": executed", executed, c.executed)
		}
		p.SetHook(func(Call) Action { return Action{Delay: 10 * time.Second} })
		report["termTransNo"] = num("in time")
		want(t, "in time", a.must("6002", nil, report)["state"], any("R"))
	})
}
