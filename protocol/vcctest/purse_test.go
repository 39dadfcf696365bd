package vcctest

import (
	"encoding/hex"
	"testing"
)

func fix[T [3]byte | [4]byte | [6]byte | [16]byte](t *testing.T, s string) (v T) {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	switch p := any(&v).(type) {
	case *[3]byte:
		copy(p[:], b)
	case *[4]byte:
		copy(p[:], b)
	case *[6]byte:
		copy(p[:], b)
	case *[16]byte:
		copy(p[:], b)
	}
	return v
}

func TestPurseVectors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                        string
		dlk, dtk                    string
		l                           load
		seslk, mac1, mac2, tac, rnd string
	}{
		{
			name: "A", dlk: "EB9BC6DCDF74FF4E4B43F2E34A6727B6", dtk: "CEB726EDC01B793BC37DC09E2F768534", rnd: "6C554479",
			l: load{Type: 2, Amount: 0x1388}, seslk: "E66E4515D6C2E267", mac1: "A72BE5CF", mac2: "25D2B647", tac: "C324A0EF",
		},
		{
			name: "B", dlk: "B809B2F4B06B9FFE8273FACE16E62F9D", dtk: "8956ECBF72016D3FBD464171C5045F6D", rnd: "A1B2C3D4",
			l: load{Type: 2, Amount: 0x1388, Balance: 0x4D2, Seq: 0x2A}, seslk: "CA57A284185A200E", mac1: "E00D3105", mac2: "97CE96E0", tac: "A2E9D403",
		},
	} {
		l := c.l
		l.Random = fix[[4]byte](t, c.rnd)
		l.Terminal = fix[[6]byte](t, "112233445566")
		l.Date, l.Time = fix[[4]byte](t, "20260102"), fix[[3]byte](t, "030405")
		dlk, dtk := fix[[16]byte](t, c.dlk), fix[[16]byte](t, c.dtk)
		m1, m2, tac := l.mac1(dlk), l.mac2(dlk), l.tac(dtk)
		for what, p := range map[string][2]string{
			"session key": {upperHex(l.sessionKey(dlk)), c.seslk},
			"MAC1":        {upperHex(m1[:]), c.mac1},
			"MAC2":        {upperHex(m2[:]), c.mac2},
			"TAC":         {upperHex(tac[:]), c.tac},
		} {
			if p[0] != p[1] {
				t.Errorf("vector %s: %s is %s, want %s", c.name, what, p[0], p[1])
			}
		}
	}
	// Vector C, published.
	out := make([]byte, 8)
	in, _ := hex.DecodeString("3948BC1100008000")
	key := fix[[16]byte](t, "00112233445566778899AABBCCDDEEFF")
	block(key[:]).Encrypt(out, in)
	if upperHex(out) != "3FF239BBDB26018A" {
		t.Errorf("vector C: session key %X", out)
	}
	data, _ := hex.DecodeString("000000000000200002001122334455")
	if m := mac(out, data); upperHex(m[:]) != "C47312E9" {
		t.Errorf("vector C: MAC1 %X", m)
	}
}
