package epurse_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"vcckiosk/cardreader"
	"vcckiosk/cardreader/apdu"
	"vcckiosk/cardreader/epurse"
)

func TestIdentify(t *testing.T) {
	t.Parallel()
	for _, t0 := range []bool{false, true} {
		c := newCard(vectorA)
		c.t0 = t0
		id, err := epurse.New(c, params()).Identify(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if id.Serial != serial || id.CardNo() != "8600000012345678" || id.AppType != 2 || id.Version != 1 ||
			id.Start != [4]byte(unhex("20250101")) || id.Expiry != [4]byte(unhex("20351231")) {
			t.Fatalf("got %+v", id)
		}
	}
	id, err := epurse.ParseIdentity(join(unhex("4741532020202020"), []byte{2, 1, 0x00, 0x31}, serial[:], make([]byte, 10)))
	if err != nil || id.CardNo() != "00318600000012345678" {
		t.Fatalf("20 digits: %s %v", id.CardNo(), err)
	}
}

func TestIdentifySelectsByNameOrByFile(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		aid  []byte
		noLe bool
		want string
	}{
		"nothing configured":   {nil, false, "00A4040009A0000000038698070100"},
		"a name":               {unhex("A000000632010105"), false, "00A4040008A00000063201010500"},
		"a file":               {unhex("1001"), false, "00A4000002100100"},
		"a file, T=0 reader":   {unhex("1001"), true, "00A40000021001"},
		"a name, T=0 and 61xx": {unhex("A000000632010105"), true, "00A4040008A000000632010105"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ps := params()
			ps.AID, ps.NoLe = tc.aid, tc.noLe
			s := &script{t: t, answers: []string{"6102", "6F009000", fmt.Sprintf("%X9000", info())}}
			if _, err := epurse.New(s, ps).Identify(context.Background()); err != nil {
				t.Fatal(err)
			}
			if s.got[0] != tc.want || s.got[2] != "00B095001E" {
				t.Fatalf("sent %v", s.got)
			}
		})
	}
}

func TestIdentifyTellsForeignBlockedAndTorn(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answers []string
		is, not error
	}{
		"no such application":      {[]string{"6A82"}, cardreader.ErrForeign, cardreader.ErrBlocked},
		"no such class":            {[]string{"6E00"}, cardreader.ErrForeign, cardreader.ErrBlocked},
		"application locked":       {[]string{"6283"}, cardreader.ErrBlocked, cardreader.ErrForeign},
		"card locked":              {[]string{"6A81"}, cardreader.ErrBlocked, cardreader.ErrForeign},
		"locked for ever":          {[]string{"9303"}, cardreader.ErrBlocked, cardreader.ErrForeign},
		"another status":           {[]string{"6581"}, apdu.Status(0x6581), cardreader.ErrForeign},
		"no public information":    {[]string{"9000", "6A82"}, cardreader.ErrForeign, cardreader.ErrBlocked},
		"not personalised":         {[]string{"9000", strings.Repeat("FF", 30) + "9000"}, cardreader.ErrForeign, cardreader.ErrBlocked},
		"torn":                     {[]string{"!"}, errTorn, cardreader.ErrForeign},
		"torn in the second":       {[]string{"9000", "!"}, errTorn, cardreader.ErrForeign},
		"empty answer":             {[]string{""}, apdu.ErrEmptyAnswer, cardreader.ErrForeign},
		"torn while fetching more": {[]string{"6110", "!"}, errTorn, cardreader.ErrForeign},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := epurse.New(&script{t: t, answers: tc.answers}, params()).Identify(context.Background())
			if !errors.Is(err, tc.is) || errors.Is(err, tc.not) || errors.Is(err, epurse.ErrOutcomeUnknown) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// rec is the answer for one log record.
func rec(seq uint16, kind byte) string {
	return fmt.Sprintf("%X", epurse.LogRecord{Seq: seq, Amount: 5000, Type: kind, Terminal: terminal, Date: date, Time: tm}.Bytes()) + "9000"
}

func TestLog(t *testing.T) {
	t.Parallel()
	blank, zero := strings.Repeat("FF", 23)+"9000", strings.Repeat("00", 23)+"9000"
	noDate := strings.Replace(rec(2, 2), "20260102", "FF260102", 1)
	full := make([]string, 10)
	for i := range full {
		full[i] = rec(uint16(10-i), 2)
	}
	empty := make([]string, 10)
	for i := range empty {
		empty[i] = blank
	}
	for name, tc := range map[string]struct {
		answers        []string
		n              int
		room, complete bool
		is             error // nil: none
	}{
		"no records":                   {[]string{"6A83"}, 0, true, true, nil},
		"two, then a free place":       {[]string{rec(2, 2), rec(1, 2), "6A83"}, 2, true, true, nil},
		"full":                         {full, 10, false, true, nil},
		"one short of full":            {append(full[:9:9], "6A83"), 9, true, true, nil},
		"filled with FF":               {empty, 0, true, true, nil},
		"used, then filled with zeros": {append([]string{rec(1, 6)}, zero, zero, "6A83"), 1, true, true, nil},
		"wrong Le, then right":         {[]string{"6C17", rec(1, 2), "6A83"}, 1, true, true, nil},
		"torn after one":               {[]string{rec(1, 2), "!"}, 1, false, false, errTorn},
		"empty answer after one":       {[]string{rec(1, 2), ""}, 1, false, false, apdu.ErrEmptyAnswer},
		"refused":                      {[]string{"6982"}, 0, false, false, apdu.SecurityStatus},
		"no log file":                  {[]string{"6A82"}, 0, false, false, apdu.FileNotFound},
		"record too short":             {[]string{rec(2, 2), "00019000"}, 1, false, false, epurse.ErrBadRecord},
		"a load without a date":        {[]string{rec(3, 2), noDate, rec(1, 2)}, 1, false, false, epurse.ErrBadRecord},
		"used after empty":             {[]string{rec(3, 2), blank, rec(1, 2)}, 1, false, false, epurse.ErrBadRecord},
		"torn newest record":           {[]string{"0002" + strings.Repeat("FF", 21) + "9000"}, 0, false, false, epurse.ErrBadRecord},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{t: t, answers: tc.answers}
			l, err := epurse.New(s, params()).Log(context.Background())
			if !errors.Is(err, tc.is) {
				t.Fatalf("error %v, want %v", err, tc.is)
			}
			if len(l.Records) != tc.n || l.Complete != tc.complete || tc.complete && l.Room != tc.room {
				t.Fatalf("got %d records, room %v, complete %v", len(l.Records), l.Room, l.Complete)
			}
			if !l.Complete && l.Room {
				t.Fatal("room in a log that was not read")
			}
			if s.got[0] != "00B201C417" {
				t.Fatalf("sent %v", s.got)
			}
			for i := 1; i < len(l.Records); i++ {
				if l.Records[i-1].Seq <= l.Records[i].Seq {
					t.Fatal("not newest first")
				}
			}
		})
	}
}

func TestLogOfTheFakeCard(t *testing.T) {
	t.Parallel()
	for _, filled := range []bool{false, true} {
		c := newCard(vectorB)
		c.emptyLog = filled
		p := epurse.New(c, params())
		if _, err := load(p, c); err != nil {
			t.Fatal(err)
		}
		l, err := p.Log(context.Background())
		want := epurse.LogRecord{Seq: 0x2A, Amount: 5000, Type: 2, Terminal: terminal, Date: date, Time: tm}
		if err != nil || len(l.Records) != 1 || l.Records[0] != want || !l.Room || !l.Complete {
			t.Fatalf("got %+v, %v", l, err)
		}
	}
}

func TestPINNeverShows(t *testing.T) {
	t.Parallel()
	ps := params()
	ps.PIN = []byte{0x73, 0x91}
	p := epurse.New(nil, ps)
	var out bytes.Buffer
	type holder struct{ in epurse.Purse } // fmt cannot call the methods of what is in an unexported field
	for _, v := range []any{ps, &ps, p, *p, holder{*p}, &holder{*p}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
		b, _ := json.Marshal(v)
		out.Write(b)
	}
	for _, leak := range []string{"7391", "115 145", "115, 145", "0x73", "c5E=", `s\x91`} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q in\n%s", leak, out.String())
		}
	}
}

func FuzzParseLogRecord(f *testing.F) {
	f.Add(unhex(strings.TrimSuffix(rec(1, 2), "9000")))
	f.Add(bytes.Repeat([]byte{0xFF}, 23))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := epurse.ParseLogRecord(b)
		switch {
		case errors.Is(err, epurse.ErrEmptySlot):
			if len(b) != epurse.LogRecordLen || len(bytes.Trim(b, "\x00")) != 0 && len(bytes.Trim(b, "\xFF")) != 0 {
				t.Fatalf("%X is not empty", b)
			}
		case errors.Is(err, epurse.ErrBadRecord):
		case err != nil:
			t.Fatalf("an error of another kind: %v", err)
		case !bytes.Equal(r.Bytes(), b):
			t.Fatalf("%X became %X", b, r.Bytes())
		}
	})
}

func FuzzParseIdentity(f *testing.F) {
	f.Add(info())
	f.Add(bytes.Repeat([]byte{0xFF}, 30))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := epurse.ParseIdentity(b)
		if err != nil {
			return
		}
		no := id.CardNo()
		if len(no) != 16 && len(no) != 20 || strings.Trim(no, "0123456789ABCDEF") != "" {
			t.Fatalf("card number %q", no)
		}
		if !bytes.Equal(id.AppNo[:], b[10:20]) || !bytes.Equal(id.Serial[:], b[12:20]) {
			t.Fatalf("%X: %+v", b, id)
		}
	})
}

// FuzzAnswers lets a card answer anything to everything: no panic, no second 80 52, no end that never comes.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte("\x02\x90\x00\x02\x61\x04\x02\x6C\x04"))
	f.Fuzz(func(t *testing.T, tape []byte) {
		w := &tapeCard{tape: tape, left: 200}
		ps := params()
		ps.PIN = []byte{0x12, 0x34}
		p := epurse.New(w, ps)
		ctx := context.Background()
		_, _ = p.Identify(ctx)
		_, _ = p.Balance(ctx)
		if l, err := p.Log(ctx); (err == nil) != l.Complete {
			t.Fatalf("complete %v with %v", l.Complete, err)
		}
		_, _, _ = p.Prove(ctx, 1)
		_, _ = p.Init(ctx, 1)
		_, _ = p.Credit(ctx, date, tm, [4]byte{})
		_, _ = p.Credit(ctx, date, tm, [4]byte{})
		if w.credits > 1 {
			t.Fatalf("80 52 sent %d times", w.credits)
		}
		if w.left < 0 {
			t.Fatal("no end")
		}
	})
}

// tapeCard answers from a tape of length-prefixed answers, then with transport errors.
type tapeCard struct {
	tape          []byte
	credits, left int
}

func (c *tapeCard) Transmit(_ context.Context, cmd []byte) ([]byte, error) {
	c.left--
	if cmd[0] == 0x80 && cmd[1] == 0x52 {
		c.credits++
	}
	if len(c.tape) == 0 {
		return nil, errTorn
	}
	n := min(int(c.tape[0]), len(c.tape)-1)
	answer := bytes.Clone(c.tape[1 : 1+n])
	c.tape = c.tape[1+n:]
	return answer, nil
}

func TestAWrongLengthIsMendedOnce(t *testing.T) {
	t.Parallel()
	s := &script{t: t, answers: []string{"6C1E", "00000000" + "9000"}}
	if _, err := epurse.New(s, params()).Balance(context.Background()); err != nil {
		t.Fatal(err)
	}
	if s.got[0] != "805C000204" || s.got[1] != "805C00021E" {
		t.Fatalf("sent %v", s.got)
	}
	s = &script{t: t, answers: []string{"6C1E", "6C04"}} // a third command fails the test
	if _, err := epurse.New(s, params()).Balance(context.Background()); !errors.Is(err, apdu.Status(0x6C04)) {
		t.Fatalf("got %v", err)
	}
}
