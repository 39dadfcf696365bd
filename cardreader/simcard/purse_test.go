package simcard

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func key16(t testing.TB, s string) [16]byte { t.Helper(); return [16]byte(unhex(t, s)) }

// say sends one APDU and wants this answer; "-" is no answer.
func say(t testing.TB, c Card, cmd, want string) {
	t.Helper()
	got := c.Exchange(unhex(t, cmd))
	if want == "-" {
		if got != nil {
			t.Fatalf("%s answers %X, want no answer", cmd, got)
		}
		return
	}
	if !bytes.Equal(got, unhex(t, want)) {
		t.Fatalf("%s answers %X, want %s", cmd, got, want)
	}
}

const (
	selectEP = "00A4040009A0000000038698070100"
	fci      = "6F108409A00000000386980701A503880115"
	initEP   = "805000020B 01 00001388 112233445566 10"
	creditA  = "805200000B 20260102 030405 25D2B647 04"
)

func vectorA(t testing.TB) PurseConfig {
	return PurseConfig{
		Serial: [8]byte{1, 2, 3, 4, 5, 6, 7, 8},
		DLK:    key16(t, "EB9BC6DCDF74FF4E4B43F2E34A6727B6"),
		DTK:    key16(t, "CEB726EDC01B793BC37DC09E2F768534"),
		Random: func() [4]byte { return [4]byte{0x6C, 0x55, 0x44, 0x79} },
	}
}

// powered is a purse in a reader with its application selected.
func powered(t testing.TB, c PurseConfig) *Purse {
	t.Helper()
	p := NewPurse(c)
	p.PowerOn()
	if got := p.Exchange(unhex(t, "00A40000023F01")); !bytes.HasSuffix(got, []byte{0x90, 0}) && got[0] != 0x61 {
		t.Fatalf("select: %X", got)
	}
	return p
}

func TestCryptographyOfTheVectors(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		name, dlk, dtk, random   string
		balance, amount          uint32
		seq                      uint16
		sesLK, mac1, mac2, keyT  string
		tac                      string
		terminal, date, hostTime string
	}{
		{
			name: "A, confirmed by an independent card",
			dlk:  "EB9BC6DCDF74FF4E4B43F2E34A6727B6", dtk: "CEB726EDC01B793BC37DC09E2F768534",
			random: "6C554479", amount: 0x1388, terminal: "112233445566", date: "20260102", hostTime: "030405",
			sesLK: "E66E4515D6C2E267", mac1: "A72BE5CF", mac2: "25D2B647", keyT: "0DCAE673EF6DFC0F", tac: "C324A0EF",
		},
		{
			name: "B, with balance and sequence",
			dlk:  "B809B2F4B06B9FFE8273FACE16E62F9D", dtk: "8956ECBF72016D3FBD464171C5045F6D",
			random: "A1B2C3D4", balance: 0x4D2, seq: 0x2A, amount: 0x1388,
			terminal: "112233445566", date: "20260102", hostTime: "030405",
			sesLK: "CA57A284185A200E", mac1: "E00D3105", mac2: "97CE96E0", keyT: "3410ADCEB7053252", tac: "A2E9D403",
		},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			c := PurseConfig{
				DLK: key16(t, v.dlk), DTK: key16(t, v.dtk), Balance: v.balance, Seq: v.seq,
				Random: func() [4]byte { return [4]byte(unhex(t, v.random)) },
			}
			k := sessionKey(c.DLK, c.Random(), v.seq)
			if got := fmt.Sprintf("%X", k); got != v.sesLK {
				t.Errorf("SESLK %s, want %s", got, v.sesLK)
			}
			if got := fmt.Sprintf("%X", tacKey(c.DTK)); got != v.keyT {
				t.Errorf("TAC key %s, want %s", got, v.keyT)
			}
			p := powered(t, c)
			say(t, p, fmt.Sprintf("805000020B01%08X%s10", v.amount, v.terminal),
				fmt.Sprintf("%08X%04X0000%s%s9000", v.balance, v.seq, v.random, v.mac1))
			say(t, p, "805200000B"+v.date+v.hostTime+v.mac2+"04", v.tac+"9000")
			if p.Balance() != v.balance+v.amount || p.Seq() != v.seq+1 {
				t.Errorf("balance %d, sequence %d after the load", p.Balance(), p.Seq())
			}
		})
	}
}

func TestPublishedVectorAndKeyDerivation(t *testing.T) {
	t.Parallel()
	k := diversify(key16(t, "00112233445566778899AABBCCDDEEFF"), [8]byte(unhex(t, "3948BC1100008000")))
	if got := fmt.Sprintf("%X", k); got != "3FF239BBDB26018A" {
		t.Errorf("session key %s", got)
	}
	if got := fmt.Sprintf("%X", mac4(k, unhex(t, "00000000 00002000 02 001122334455"))); got != "C47312E9" {
		t.Errorf("MAC1 %s", got)
	}
	serial := [8]byte(unhex(t, "8600000012345678"))
	if got := fmt.Sprintf("%X", CardKey(key16(t, "000102030405060708090A0B0C0D0E0F"), serial)); got != "B809B2F4B06B9FFE8273FACE16E62F9D" {
		t.Errorf("DLK %s", got)
	}
	if got := fmt.Sprintf("%X", CardKey(key16(t, "101112131415161718191A1B1C1D1E1F"), serial)); got != "8956ECBF72016D3FBD464171C5045F6D" {
		t.Errorf("DTK %s", got)
	}
}

func TestALoadCommitsEverythingOrNothing(t *testing.T) {
	t.Parallel()
	for _, when := range []When{Before, After, Byte} {
		p := powered(t, vectorA(t))
		say(t, p, initEP, "00000000 0000 0000 6C554479 A72BE5CF 9000")
		p.Arm(Fault{INS: 0x52, When: when, N: 1})
		say(t, p, creditA, "-")
		p.PowerOff()
		loaded := when == After
		if got := len(p.Loads()) == 1 && p.Balance() == 5000 && p.Seq() == 1 && len(p.LogRecords()) == 1 && p.HasProof(); got != loaded {
			t.Errorf("torn %v: loads %v, balance %d, sequence %d, log %X, proof %v",
				when, p.Loads(), p.Balance(), p.Seq(), p.LogRecords(), p.HasProof())
		}
		if got := len(p.Loads()) == 0 && p.Balance() == 0 && p.Seq() == 0 && len(p.LogRecords()) == 0 && !p.HasProof(); got == loaded {
			t.Errorf("torn %v: a load in parts", when)
		}
		p.PowerOn()
		say(t, p, selectEP, fci+"9000")
		if loaded {
			say(t, p, "805A000202000008", "00000000C324A0EF9000")
		}
		say(t, p, creditA, "6985") // the pending load went with the power
	}
}

func TestACardRefusesAReplay(t *testing.T) {
	t.Parallel()
	p := powered(t, vectorA(t))
	say(t, p, creditA, "6985")
	say(t, p, initEP, "00000000 0000 0000 6C554479 A72BE5CF 9000")
	say(t, p, creditA, "C324A0EF9000")
	say(t, p, creditA, "6985")
	if got := p.Exchange(unhex(t, initEP)); len(got) != 18 {
		t.Fatalf("second initialise: %X", got)
	}
	say(t, p, creditA, "9302")
	say(t, p, creditA, "6985") // the wrong MAC2 has ended the load
	if len(p.Loads()) != 1 || p.Balance() != 5000 {
		t.Errorf("loads %v, balance %d", p.Loads(), p.Balance())
	}
}

func TestAnyCommandBetweenEndsTheLoad(t *testing.T) {
	t.Parallel()
	p := powered(t, vectorA(t))
	say(t, p, initEP, "00000000 0000 0000 6C554479 A72BE5CF 9000")
	say(t, p, "805C000204", "000000009000")
	say(t, p, creditA, "6985")
}

func TestProofConventions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		conv     Convention
		keep     bool
		yes, no  string
		secondly string
	}{
		{ProofBefore, false, "0000", "0001", "6985"},
		{ProofAfter, false, "0001", "0000", "6985"},
		{ProofBefore, true, "0000", "0001", "00000000C324A0EF9000"},
		{ProofAfter, true, "0001", "0000", "00000000C324A0EF9000"},
	} {
		cfg := vectorA(t)
		cfg.Convention, cfg.KeepProof = c.conv, c.keep
		p := powered(t, cfg)
		say(t, p, "805A00020200 0008", "6985")
		p.Exchange(unhex(t, initEP))
		say(t, p, creditA, "C324A0EF9000")
		p.PowerOff()
		p.PowerOn()
		say(t, p, selectEP, fci+"9000")
		say(t, p, "805A000202"+c.no+"08", "9406")
		say(t, p, "805A000202"+c.yes+"08", "00000000C324A0EF9000")
		say(t, p, "805A000202"+c.yes+"08", c.secondly)
		p.Exchange(unhex(t, initEP))
		say(t, p, "805A000202"+c.yes+"08", "6985")
	}
}

func TestLogKeepsTheNewestRecords(t *testing.T) {
	t.Parallel()
	cfg := vectorA(t)
	cfg.LogCapacity, cfg.LogSeq = 2, ProofAfter
	p := powered(t, cfg)
	say(t, p, "00B201C417", "6A83")
	p.Exchange(unhex(t, initEP))
	say(t, p, creditA, "C324A0EF9000")
	say(t, p, "00B201C417", "0001 000000 00001388 02 112233445566 20260102 030405 9000")
	say(t, p, "00B202C417", "6A83")
	if !p.Consume(100) || !p.Consume(200) || p.Consume(5000) {
		t.Error("consume: two of three have the balance for it")
	}
	say(t, p, "805C000204", "0000125C9000")
	say(t, p, "00B201C417", "0001 000000 000000C8 06 990000000001 20260101 120000 9000")
	say(t, p, "00B202C417", "0000 000000 00000064 06 990000000001 20260101 120000 9000")
	say(t, p, "00B203C417", "6A83")
	if p.Seq() != 1 || p.OfflineSeq() != 2 {
		t.Errorf("sequences %d online, %d offline", p.Seq(), p.OfflineSeq())
	}
}

func TestT0CardsHandOutAnswersOnDemand(t *testing.T) {
	t.Parallel()
	cfg := vectorA(t)
	cfg.T0 = true
	p := powered(t, cfg)
	say(t, p, selectEP, "6112")
	say(t, p, "00C0000020", "6C12")
	say(t, p, "00C0000012", fci+"9000")
	say(t, p, "00B0950000", "6C1E")
	say(t, p, "805C000200", "6C04")
	say(t, p, "805C000204", "000000009000")
	say(t, p, initEP, "6110")
	say(t, p, "00C0000010", "00000000 0000 0000 6C554479 A72BE5CF 9000")
	say(t, p, creditA, "6104")
	if p.Balance() != 5000 {
		t.Error("61 04 means committed")
	}
	say(t, p, "00C0000003", "C324A06101")
	say(t, p, "00C0000001", "EF9000")
	say(t, p, "00C0000001", "6985")
}

func TestPINGuardsTheLoad(t *testing.T) {
	t.Parallel()
	cfg := vectorA(t)
	cfg.PIN = []byte{0x12, 0x34}
	p := powered(t, cfg)
	say(t, p, initEP, "6982")
	say(t, p, "00200000021235", "63C2")
	say(t, p, "00200000021234", "9000")
	say(t, p, initEP, "00000000 0000 0000 6C554479 A72BE5CF 9000")
	p.PowerOff()
	p.PowerOn()
	say(t, p, selectEP, fci+"9000")
	say(t, p, initEP, "6982")
	for _, want := range []string{"63C2", "63C1", "63C0", "6983"} {
		say(t, p, "00200000021235", want)
	}
	say(t, p, "00200000021234", "6983")
}

func TestTheATRNamesTheProtocol(t *testing.T) {
	t.Parallel()
	for t0, want := range map[bool]string{
		true: "3B690000 80318065B0831148C8", false: "3B8901 80318065B0831148C8 7E",
	} {
		if got := NewPurse(PurseConfig{T0: t0}).ATR(); !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("T=0 %v: ATR %X, want %s", t0, got, want)
		}
	}
}

func TestAPurseRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	p := NewPurse(vectorA(t))
	say(t, p, selectEP, "6700") // no power
	p.PowerOn()
	for _, c := range [][2]string{
		{"00A4040005A000000099", "6A82"},
		{"00A4000002DDDD", "6A82"},
		{"805C000204", "6985"},
		{initEP, "6985"},
		{"00A40000021001", fci + "9000"},
		{"00B095001E", "8698070 0FFFFFFFF 0201 0000 0102030405060708 20200101 20991231 0000 9000"},
		{"00B0950C08", "01020304050607089000"},
		{"00B0950C20", "6C12"},
		{"805C000104", "6A86"},
		{"805000020B 02 00001388 112233445566 10", "9403"},
		{"805000020B 01 80000000 112233445566 10", "6985"},
		{"80500002050100001388", "6700"},
		{"FFA400000106", "6E00"},
		{"80FF0000", "6D00"},
		{"0084000008", "6C5544796C5544799000"},
	} {
		say(t, p, c[0], c[1])
	}
}

func FuzzPurseExchange(f *testing.F) {
	for _, s := range []string{selectEP, initEP, creditA, "805A000202000008", "00C0000010", "00B201C417", ""} {
		f.Add(unhex(f, s), false)
		f.Add(unhex(f, s), true)
	}
	f.Fuzz(func(t *testing.T, cmd []byte, t0 bool) {
		cfg := vectorA(t)
		cfg.T0 = t0
		p := powered(t, cfg)
		p.Exchange(unhex(t, initEP))
		for range 2 {
			if got := p.Exchange(cmd); len(got) < 2 {
				t.Fatalf("%X answers %X without a fault", cmd, got)
			}
		}
		if n := len(p.Loads()); n > 1 || p.Balance() != uint32(n)*5000 {
			t.Fatalf("%X: loads %d, balance %d", cmd, n, p.Balance())
		}
	})
}
