//go:build cgo && pcsc

package pcsc

import (
	"encoding/hex"
	"testing"

	"vcckiosk/cardreader"
	"vcckiosk/cardreader/epurse"
	"vcckiosk/cardreader/simcard"
)

// A whole load, with the public vector, over pcscd: by both protocols, of which T=0 answers commands with data by 61xx.
func TestALoadOverARealPCSCD(t *testing.T) {
	withPeer(t, 7, func(p *peer) {
		r, ctx := p.reader()
		p.event(ctx, r, cardreader.CardOut)
		for _, t0 := range []bool{false, true} {
			card := simcard.NewPurse(simcard.PurseConfig{
				Serial: [8]byte{0x86, 0, 0, 0, 0x12, 0x34, 0x56, 0x78},
				DLK:    [16]byte(unhex(p.T, "EB9BC6DCDF74FF4E4B43F2E34A6727B6")),
				DTK:    [16]byte(unhex(p.T, "CEB726EDC01B793BC37DC09E2F768534")),
				PIN:    []byte{0x12, 0x34, 0x56},
				Random: func() [4]byte { return [4]byte{0x6C, 0x55, 0x44, 0x79} },
				T0:     t0,
			})
			p.insert(card)
			p.until(ctx, r, cardreader.CardIn)
			s, err := r.Open(ctx)
			if err != nil {
				p.Fatal(err)
			}
			purse := epurse.New(s, epurse.Params{
				KeyIndex: 1, PIN: []byte{0x12, 0x34, 0x56}, Terminal: [6]byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66},
			})
			if _, err := purse.Identify(ctx); err != nil {
				p.Fatal(err)
			}
			if _, err := purse.Init(ctx, 5000); err != nil {
				p.Fatalf("T=0 %v: %v", t0, err)
			}
			got, err := purse.Credit(ctx, [4]byte{0x20, 0x26, 0x01, 0x02}, [3]byte{0x03, 0x04, 0x05}, [4]byte{0x25, 0xD2, 0xB6, 0x47})
			if err != nil || got.TAC != [4]byte{0xC3, 0x24, 0xA0, 0xEF} {
				p.Errorf("T=0 %v: %X, %v", t0, got.TAC, err)
			}
			if n := len(card.Loads()); n != 1 || card.Balance() != 5000 {
				p.Errorf("T=0 %v: %d loads, balance %d", t0, n, card.Balance())
			}
			if got := s.(*session).t0; got != t0 {
				p.Errorf("session speaks T=0: %v, want %v", got, t0)
			}
			if err := s.Close(); err != nil {
				p.Error(err)
			}
		}
	})
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
