package epurse_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"vcckiosk/cardreader/apdu"
	"vcckiosk/cardreader/epurse"
)

// load runs a whole top-up: identify, log, init, credit. It stops at the first error.
func load(p *epurse.Purse, c *card) (epurse.Credit, error) {
	ctx := context.Background()
	if _, err := p.Identify(ctx); err != nil {
		return epurse.Credit{}, err
	}
	if _, err := p.Log(ctx); err != nil {
		return epurse.Credit{}, err
	}
	if _, err := p.Init(ctx, 5000); err != nil {
		return epurse.Credit{}, err
	}
	return p.Credit(ctx, date, tm, c.mac2())
}

func TestLoadGoesByTheVectors(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]vector{"A": vectorA, "B": vectorB} {
		for _, t0 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s with T=0 %v", name, t0), func(t *testing.T) {
				t.Parallel()
				ctx := context.Background()
				c := newCard(v)
				c.t0 = t0
				p := epurse.New(c, params())
				in, err := p.Init(ctx, 5000)
				if err != nil {
					t.Fatal(err)
				}
				want := epurse.Init{
					Balance: c.balance, Seq: c.seq, KeyVersion: 1,
					Random: [4]byte(unhex(v.random)), MAC1: [4]byte(unhex(v.mac1)),
				}
				if in != want {
					t.Fatalf("Init = %+v, want %+v", in, want)
				}
				before := c.balance
				cr, err := p.Credit(ctx, date, tm, c.mac2())
				if err != nil || !cr.HasTAC || cr.TAC != [4]byte(unhex(v.tac)) {
					t.Fatalf("Credit = %+v, %v, want TAC %s", cr, err, v.tac)
				}
				if c.loads != 1 || c.balance != before+5000 || c.sent[0x52] != 1 {
					t.Fatalf("card: %d loads, balance %d, %d of 80 52", c.loads, c.balance, c.sent[0x52])
				}
				if b, err := p.Balance(ctx); err != nil || b != c.balance {
					t.Fatalf("Balance = %d, %v", b, err)
				}
				for _, line := range []string{
					"805000020B" + "01" + v.amount + v.terminal + "10 -> ",
					"805200000B" + v.date + v.time + v.mac2 + "04 -> ",
				} {
					if !strings.Contains(c.trace.String(), line) {
						t.Errorf("%q was not sent:\n%s", line, c.trace.String())
					}
				}
			})
		}
	}
}

// TestCreditBelievesOnlyTheCard goes through every status word and every way of having none.
func TestCreditBelievesOnlyTheCard(t *testing.T) {
	t.Parallel()
	ok := "000000000000010012345678AABBCCDD9000"
	refusedWords := map[int]bool{
		0x9302: true, 0x6985: true, 0x6901: true, 0x6988: true, 0x6982: true,
		0x6700: true, 0x6A86: true, 0x6D00: true, 0x6E00: true,
	}
	for sw := range 0x10000 {
		s := &script{t: t, answers: []string{ok, fmt.Sprintf("%04X", sw), "!", "!"}}
		p := epurse.New(s, params())
		if _, err := p.Init(context.Background(), 1); err != nil {
			t.Fatal(err)
		}
		_, err := p.Credit(context.Background(), date, tm, [4]byte{1, 2, 3, 4})
		_, refused := errors.AsType[*epurse.RefusedError](err)
		unknown := errors.Is(err, epurse.ErrOutcomeUnknown)
		switch {
		case sw == 0x9000 || sw>>8 == 0x61:
			if err != nil {
				t.Fatalf("%04X is committed, got %v", sw, err)
			}
		case refusedWords[sw]:
			if !refused || unknown || !errors.Is(err, apdu.Status(sw)) {
				t.Fatalf("%04X is a refusal, got %v", sw, err)
			}
		default:
			if refused || !unknown || !errors.Is(err, apdu.Status(sw)) {
				t.Fatalf("%04X decides nothing, got %v", sw, err)
			}
		}
		if n := sentINS(s, "8052"); n != 1 {
			t.Fatalf("%04X: 80 52 sent %d times", sw, n)
		}
	}
	for name, answer := range map[string]string{"an empty answer": "", "half a status word": "90", "a transport error": "!"} {
		s := &script{t: t, answers: []string{ok, answer}}
		p := epurse.New(s, params())
		if _, err := p.Init(context.Background(), 1); err != nil {
			t.Fatal(err)
		}
		_, err := p.Credit(context.Background(), date, tm, [4]byte{})
		if !errors.Is(err, epurse.ErrOutcomeUnknown) {
			t.Errorf("%s: %v, want ErrOutcomeUnknown", name, err)
		}
		if answer == "!" && !errors.Is(err, errTorn) || answer != "!" && !errors.Is(err, apdu.ErrEmptyAnswer) {
			t.Errorf("%s: the cause is lost in %v", name, err)
		}
	}
}

func sentINS(s *script, prefix string) (n int) {
	for _, c := range s.got {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}

func TestCreditFetchesTheTACButDoesNotNeedIt(t *testing.T) {
	t.Parallel()
	ok := "000000000000010012345678AABBCCDD9000"
	for name, tc := range map[string]struct {
		answers []string // to 80 52 and what follows
		tac     string   // empty: none
	}{
		"in the answer":                        {[]string{"C324A0EF9000"}, "C324A0EF"},
		"all zero is a TAC":                    {[]string{"000000009000"}, "00000000"},
		"behind GET RESPONSE":                  {[]string{"6104", "C324A0EF9000"}, "C324A0EF"},
		"behind a GET RESPONSE of wrong Le":    {[]string{"6100", "6C04", "C324A0EF9000"}, "C324A0EF"},
		"in two parts":                         {[]string{"6104", "C3246102", "A0EF9000"}, "C324A0EF"},
		"no data":                              {[]string{"9000"}, ""},
		"data that is no TAC":                  {[]string{"C324A09000"}, ""},
		"GET RESPONSE torn":                    {[]string{"6104", "!"}, ""},
		"GET RESPONSE without answer":          {[]string{"6104", ""}, ""},
		"GET RESPONSE refused":                 {[]string{"6104", "6985"}, ""},
		"GET RESPONSE refused with data":       {[]string{"6104", "C324A0EF6281"}, ""},
		"GET RESPONSE that says refused":       {[]string{"6104", "9302"}, ""},
		"GET RESPONSE for ever":                {[]string{"6104", "6104", "6104", "6104", "6104"}, ""},
		"GET RESPONSE for ever the wrong Le":   {[]string{"6104", "6C04", "6C04"}, ""},
		"GET RESPONSE for ever, one at a time": {[]string{"6104", "C36104", "246104", "A06104", "EF6104"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{t: t, answers: append([]string{ok}, tc.answers...)}
			p := epurse.New(s, params())
			if _, err := p.Init(context.Background(), 1); err != nil {
				t.Fatal(err)
			}
			cr, err := p.Credit(context.Background(), date, tm, [4]byte{})
			if err != nil {
				t.Fatalf("committed, got %v", err)
			}
			if cr.HasTAC != (tc.tac != "") || cr.HasTAC && !bytes.Equal(cr.TAC[:], unhex(tc.tac)) || !cr.HasTAC && cr.TAC != [4]byte{} {
				t.Fatalf("got %+v, want TAC %q", cr, tc.tac)
			}
			if n := sentINS(s, "8052"); n != 1 {
				t.Fatalf("80 52 sent %d times", n)
			}
		})
	}
}

func TestCreditNeedsItsOwnInit(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	c := newCard(vectorA)
	p := epurse.New(c, params())
	noInit := func(what string) {
		t.Helper()
		sent := c.sent[0x52]
		if _, err := p.Credit(ctx, date, tm, c.mac2()); !errors.Is(err, epurse.ErrNoInit) || errors.Is(err, epurse.ErrOutcomeUnknown) {
			t.Fatalf("%s: %v, want ErrNoInit", what, err)
		}
		if c.sent[0x52] != sent {
			t.Fatalf("%s: 80 52 was sent", what)
		}
	}
	noInit("a new Purse")
	if _, err := load(p, c); err != nil {
		t.Fatal(err)
	}
	noInit("a second Credit")
	if _, err := p.Init(ctx, 5000); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Identify(ctx); err != nil {
		t.Fatal(err)
	}
	noInit("after selecting again")
	if _, err := p.Init(ctx, 5000); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Credit(ctx, date, tm, [4]byte{1}); !errors.Is(err, apdu.WrongMAC) {
		t.Fatalf("wrong MAC2: %v", err)
	}
	noInit("after a refusal")
	if c.loads != 1 {
		t.Fatalf("%d loads", c.loads)
	}
}

// TestEveryFaultAtEveryCommand puts every kind of failure at every command of a top-up and judges by the card.
func TestEveryFaultAtEveryCommand(t *testing.T) {
	t.Parallel()
	faults := map[string]fault{
		"fails before":      {err: errTorn},
		"fails after":       {err: errTorn, after: true},
		"data and an error": {answer: unhex("9000"), err: errTorn},
		"empty before":      {},
		"empty after":       {after: true},
		"one byte before":   {answer: []byte{0x90}},
		"one byte after":    {answer: []byte{0x90}, after: true},
	}
	for _, sw := range []string{"6200", "6281", "63C1", "6400", "6581", "6985", "6C04", "6C10", "6C1E", "6C00", "6F00", "9302", "9403", "9406", "6A82", "6A83", "FFFF", "0000"} {
		faults[sw+" before"] = fault{answer: unhex(sw)}
	}
	for _, sw := range []string{"6200", "6581", "6C04", "6C00", "6F00", "9000", "6104", "6100", "FFFF", "0000"} {
		faults[sw+" after"] = fault{answer: unhex(sw), after: true}
	}
	hits, unknown, committed := 0, 0, 0
	for _, t0 := range []bool{false, true} {
		for _, noLe := range []bool{false, true} {
			for _, pin := range [][]byte{nil, {0x12, 0x34}} {
				for name, f := range faults {
					for at := 1; ; at++ {
						c := newCard(vectorA)
						c.t0, c.pin = t0, pin
						ps := params()
						ps.PIN, ps.NoLe = pin, noLe
						w := &faulty{c: c, at: at, f: f}
						_, err := load(epurse.New(w, ps), c)
						what := fmt.Sprintf("T=0 %v, no Le %v, PIN %v, %s at command %d: err %v\n%s", t0, noLe, pin != nil, name, at, err, c.trace.String())
						if c.sent[0x52] > 1 {
							t.Fatalf("80 52 sent %d times: %s", c.sent[0x52], what)
						}
						_, refused := errors.AsType[*epurse.RefusedError](err)
						switch {
						case err == nil && c.loads != 1:
							t.Fatalf("success without a load: %s", what)
						case refused && c.loads != 0:
							t.Fatalf("refused but loaded: %s", what)
						case c.loads == 1 && err != nil && !errors.Is(err, epurse.ErrOutcomeUnknown):
							t.Fatalf("loaded, and the error does not say unknown: %s", what)
						case c.sent[0x52] == 0 && errors.Is(err, epurse.ErrOutcomeUnknown):
							t.Fatalf("unknown though nothing was sent: %s", what)
						}
						if !w.hit {
							if err != nil {
								t.Fatalf("no fault, yet: %s", what)
							}
							break
						}
						hits++
						if errors.Is(err, epurse.ErrOutcomeUnknown) {
							unknown++
						}
						if err == nil {
							committed++
						}
					}
				}
			}
		}
	}
	if hits < 1000 || unknown < 50 || committed < 50 {
		t.Fatalf("the test lost its reach: %d faults hit, %d unknown, %d committed", hits, unknown, committed)
	}
}

func TestProveUnderBothConventions(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, after := range []bool{false, true} {
		c := newCard(vectorB)
		c.after = after
		if _, err := load(epurse.New(c, params()), c); err != nil {
			t.Fatal(err)
		}
		p := epurse.New(c, params())
		used := uint16(0x002A)
		for _, seq := range []uint16{used + 1, used} {
			pr, ok, err := p.Prove(ctx, seq)
			want := (seq == used+1) == after
			if err != nil || ok != want || ok && pr.TAC != [4]byte(unhex(vectorB.tac)) {
				t.Fatalf("kept after %v, asked %04X: %+v %v %v", after, seq, pr, ok, err)
			}
		}
		if _, err := p.Init(ctx, 1); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := p.Prove(ctx, used); ok || err != nil {
			t.Fatalf("the proof survived Init: %v %v", ok, err)
		}
	}
}

func TestProveAnswers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answers []string
		ok      bool
		sw      apdu.Status // 0: no status in the error
		fails   bool
	}{
		"a zero MAC":          {[]string{"00000000C324A0EF9000"}, true, 0, false},
		"behind GET RESPONSE": {[]string{"6108", "00000000C324A0EF9000"}, true, 0, false},
		"behind a wrong Le":   {[]string{"6C08", "00000000C324A0EF9000"}, true, 0, false},
		"9406":                {[]string{"9406"}, false, 0, false},
		"6985":                {[]string{"6985"}, false, 0, false},
		"6A88":                {[]string{"6A88"}, false, 0, false},
		"6D00":                {[]string{"6D00"}, false, 0, false},
		"another status":      {[]string{"6581"}, false, 0x6581, true},
		"too short":           {[]string{"C324A0EF9000"}, false, 0, true},
		"empty":               {[]string{""}, false, 0, true},
		"torn":                {[]string{"!"}, false, 0, true},
		"torn after 61xx":     {[]string{"6108", "!"}, false, 0, true},
		"6Cxx for ever":       {[]string{"6C08", "6C08"}, false, 0x6C08, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{t: t, answers: tc.answers}
			pr, ok, err := epurse.New(s, params()).Prove(context.Background(), 0x0102)
			if ok != tc.ok || (err != nil) != tc.fails || tc.sw != 0 && !errors.Is(err, tc.sw) {
				t.Fatalf("got %v %v", ok, err)
			}
			if ok && pr != (epurse.Proof{TAC: [4]byte(unhex("C324A0EF"))}) {
				t.Fatalf("got %+v", pr)
			}
			if s.got[0] != "805A000202010208" {
				t.Fatalf("sent %s", s.got[0])
			}
		})
	}
}

func TestPINIsShownOnceAndNeverAfterARefusal(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	t.Run("right", func(t *testing.T) {
		t.Parallel()
		c := newCard(vectorA)
		c.pin = []byte{0x12, 0x34}
		ps := params()
		ps.PIN = c.pin
		p := epurse.New(c, ps)
		for range 2 {
			if _, err := p.Init(ctx, 5000); err != nil {
				t.Fatal(err)
			}
		}
		if c.sent[0x20] != 1 {
			t.Fatalf("shown %d times", c.sent[0x20])
		}
		// Selecting forgets it on the card.
		if _, err := p.Identify(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Init(ctx, 5000); err != nil || c.sent[0x20] != 2 {
			t.Fatalf("after selecting: %v, shown %d times", err, c.sent[0x20])
		}
	})
	for _, sixC := range []bool{false, true} {
		for _, tries := range []int{3, 1, 0} {
			t.Run(fmt.Sprintf("wrong, %d tries, 6C0x %v", tries, sixC), func(t *testing.T) {
				t.Parallel()
				c := newCard(vectorA)
				c.pin, c.tries, c.sixC = []byte{0x12, 0x34}, tries, sixC
				ps := params()
				ps.PIN = []byte{0x98, 0x76}
				p := epurse.New(c, ps)
				for range 3 {
					_, err := p.Init(ctx, 5000)
					bad, ok := errors.AsType[*epurse.PINError](err)
					if !ok || bad.TriesLeft != max(tries-1, 0) {
						t.Fatalf("got %v", err)
					}
					if strings.Contains(err.Error(), "9876") || strings.Contains(err.Error(), "152") {
						t.Fatalf("the PIN is in %q", err)
					}
					_, _ = p.Identify(ctx) // does not help either
				}
				if c.sent[0x20] != 1 || c.sent[0x50] != 0 {
					t.Fatalf("PIN shown %d times, 80 50 sent %d times", c.sent[0x20], c.sent[0x50])
				}
			})
		}
	}
	t.Run("none configured", func(t *testing.T) {
		t.Parallel()
		c := newCard(vectorA)
		c.pin = []byte{0x12, 0x34}
		if _, err := epurse.New(c, params()).Init(ctx, 1); !errors.Is(err, apdu.SecurityStatus) || c.sent[0x20] != 0 {
			t.Fatalf("got %v, shown %d times", err, c.sent[0x20])
		}
	})
	t.Run("too long for any card", func(t *testing.T) {
		t.Parallel()
		ps := params()
		ps.PIN = make([]byte, 9)
		c := newCard(vectorA)
		if _, err := epurse.New(c, ps).Init(ctx, 1); err == nil || c.sent[0x20] != 0 {
			t.Fatalf("got %v, shown %d times", err, c.sent[0x20])
		}
	})
}

func TestInitSaysWhyNot(t *testing.T) {
	t.Parallel()
	c := newCard(vectorA)
	ps := params()
	ps.KeyIndex = 9
	p := epurse.New(c, ps)
	_, err := p.Init(context.Background(), 1)
	if !errors.Is(err, apdu.UnknownKeyIndex) || errors.Is(err, epurse.ErrOutcomeUnknown) {
		t.Fatalf("got %v", err)
	}
	for _, answers := range [][]string{{"0000000000009000"}, {"6110", "!"}, {""}, {"!"}, {"6C10", "6C10"}} {
		s := &script{t: t, answers: answers}
		p := epurse.New(s, params())
		if _, err := p.Init(context.Background(), 1); err == nil || errors.Is(err, epurse.ErrOutcomeUnknown) {
			t.Fatalf("%v: %v", answers, err)
		}
		if _, err := p.Credit(context.Background(), date, tm, [4]byte{}); !errors.Is(err, epurse.ErrNoInit) {
			t.Fatalf("%v: Credit after a failed Init: %v", answers, err)
		}
	}
}
