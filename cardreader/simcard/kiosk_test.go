package simcard_test

import (
	"bytes"
	"errors"
	"testing"

	"vcckiosk/cardreader"
	"vcckiosk/cardreader/epurse"
	"vcckiosk/cardreader/memcard"
	"vcckiosk/cardreader/simcard"
)

// The kiosk's drivers and the virtual cards were written apart; here they meet.

func session(t *testing.T, c simcard.Card) (*simcard.Slot, cardreader.Session) {
	t.Helper()
	slot := simcard.NewSlot("slot")
	slot.Insert(c)
	s, err := slot.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return slot, s
}

func TestKioskLoadsThePurse(t *testing.T) {
	t.Parallel()
	terminal := [6]byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66}
	for name, cfg := range map[string]simcard.PurseConfig{
		"T=1":                  {},
		"T=0":                  {T0: true},
		"PIN":                  {PIN: []byte{0x12, 0x34, 0x56}},
		"T=0, PIN, seq after":  {T0: true, PIN: []byte{0x12, 0x34}, Convention: simcard.ProofAfter, LogSeq: simcard.ProofAfter},
		"deposit, long memory": {Type: epurse.TypeDepositLoad, KeepProof: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg.Serial = [8]byte{0x86, 0, 0, 0, 0x12, 0x34, 0x56, 0x78}
			cfg.Balance, cfg.Seq = 1234, 42
			purse := simcard.NewPurse(cfg)
			slot, s := session(t, purse)
			p := epurse.New(s, epurse.Params{Terminal: terminal, PIN: cfg.PIN, KeyIndex: 1, Type: cfg.Type})
			id, err := p.Identify(t.Context())
			if err != nil || id.Serial != cfg.Serial {
				t.Fatalf("identify: %v, serial %X", err, id.Serial)
			}
			if b, err := p.Balance(t.Context()); err != nil || b != 1234 {
				t.Fatalf("balance %d, %v", b, err)
			}
			log, err := p.Log(t.Context())
			if err != nil || len(log.Records) != 0 || !log.Room || !log.Complete {
				t.Fatalf("empty log: %+v, %v", log, err)
			}
			in, err := p.Init(t.Context(), 5000)
			if err != nil || in.Balance != 1234 || in.Seq != 42 {
				t.Fatalf("init: %+v, %v", in, err)
			}
			date, tm := [4]byte{0x20, 0x26, 0x01, 0x02}, [3]byte{3, 4, 5}
			mac2 := simcard.MAC2(cfg.DLK, in.Random, in.Seq, purse.Type(), 5000, terminal, date, tm)
			cr, err := p.Credit(t.Context(), date, tm, mac2)
			if err != nil || !cr.HasTAC {
				t.Fatalf("credit: %v", err)
			}
			loads := purse.Loads()
			if len(loads) != 1 || loads[0].TAC != cr.TAC || loads[0].MAC2 != mac2 || loads[0].Seq != 42 || purse.Balance() != 6234 {
				t.Fatalf("the card's books: %+v", loads)
			}
			log, err = p.Log(t.Context())
			if err != nil || len(log.Records) != 1 || log.Records[0].Terminal != terminal || log.Records[0].Amount != 5000 {
				t.Fatalf("log: %+v, %v", log, err)
			}
			seq := uint16(42 + cfg.Convention)
			if _, ok, err := p.Prove(t.Context(), 85-seq); ok || err != nil {
				t.Fatalf("proof under the other sequence: %v, %v", ok, err)
			}
			if pr, ok, err := p.Prove(t.Context(), seq); !ok || err != nil || pr.TAC != cr.TAC {
				t.Fatalf("proof: %v, %v", ok, err)
			}

			in, err = p.Init(t.Context(), 100)
			if err != nil || in.Seq != 43 {
				t.Fatalf("second init: %+v, %v", in, err)
			}
			var refused *epurse.RefusedError
			if _, err := p.Credit(t.Context(), date, tm, mac2); !errors.As(err, &refused) {
				t.Fatalf("old MAC2: %v", err)
			}
			if in, err = p.Init(t.Context(), 100); err != nil || in.Seq != 43 {
				t.Fatalf("third init: %+v, %v", in, err)
			}
			purse.Arm(simcard.Fault{INS: 0x52, When: simcard.After})
			mac2 = simcard.MAC2(cfg.DLK, in.Random, in.Seq, purse.Type(), 100, terminal, date, tm)
			if _, err := p.Credit(t.Context(), date, tm, mac2); !errors.Is(err, epurse.ErrOutcomeUnknown) {
				t.Fatalf("torn: %v", err)
			}
			if purse.Balance() != 6334 || slot.Card() != nil {
				t.Errorf("balance %d after the tear", purse.Balance())
			}
		})
	}
}

func TestKioskWritesTheMemoryCard(t *testing.T) {
	t.Parallel()
	psc := [3]byte{1, 2, 3}
	for _, protection := range []bool{false, true} {
		card := simcard.NewSLE4442([256]byte{0xA2, 0x13}, psc)
		card.ProtectionInRead = protection
		_, s := session(t, card)
		c := memcard.New(s, memcard.ACS)
		if err := c.Select(t.Context()); err != nil {
			t.Fatal(err)
		}
		image := card.Image()
		if got, err := c.Read(t.Context()); err != nil || !bytes.Equal(got, image[:]) {
			t.Fatalf("read %d bytes, %v", len(got), err)
		}
		if n, err := c.Counter(t.Context()); n != 3 || err != nil {
			t.Fatalf("tries %d, %v", n, err)
		}
		if err := c.Present(t.Context(), psc); err != nil {
			t.Fatal(err)
		}
		data := bytes.Repeat([]byte{0x5A}, 70)
		if err := c.Write(t.Context(), 0x40, data); err != nil {
			t.Fatal(err)
		}
		if err := c.ChangeCode(t.Context(), [3]byte{7, 8, 9}); err != nil || !card.CodeIs([3]byte{7, 8, 9}) {
			t.Fatalf("change code: %v", err)
		}
		image = card.Image()
		if got, err := c.Read(t.Context()); err != nil || !bytes.Equal(got, image[:]) || !bytes.Equal(got[0x40:0x40+70], data) {
			t.Fatalf("read back %d bytes, %v", len(got), err)
		}
		card.Arm(simcard.Fault{INS: 0xD0, When: simcard.Byte, N: 3})
		if err := c.Write(t.Context(), 0x40, make([]byte, 10)); !errors.Is(err, memcard.ErrOutcomeUnknown) {
			t.Fatalf("torn: %v", err)
		}
		if m := card.Image(); !bytes.Equal(m[0x40:0x45], []byte{0, 0, 0, 0x5A, 0x5A}) {
			t.Errorf("torn image % X", m[0x40:0x45])
		}
	}
}
