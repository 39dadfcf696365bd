package epurse_test

// The load's cryptography, for the fake card of these tests only: a kiosk never holds these keys.

import (
	"bytes"
	"crypto/des"
	"encoding/hex"
	"testing"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// tripleDES enciphers one block with a two-part key.
func tripleDES(key16, block []byte) []byte {
	c, err := des.NewTripleDESCipher(join(key16, key16[:8]))
	if err != nil {
		panic(err)
	}
	out := make([]byte, 8)
	c.Encrypt(out, block)
	return out
}

// sessionKey is SESLK: the load key over random, online sequence and 8000.
func sessionKey(dlk, random, seq []byte) []byte {
	return tripleDES(dlk, join(random, seq, []byte{0x80, 0x00}))
}

// mac4 is the single DES CBC-MAC with zero IV and padding 80 00.., left 4 bytes.
func mac4(key8, data []byte) []byte {
	c, err := des.NewCipher(key8)
	if err != nil {
		panic(err)
	}
	data = append(bytes.Clone(data), 0x80)
	for len(data)%8 != 0 {
		data = append(data, 0)
	}
	acc := make([]byte, 8)
	for ; len(data) > 0; data = data[8:] {
		for i := range acc {
			acc[i] ^= data[i]
		}
		c.Encrypt(acc, acc)
	}
	return acc[:4]
}

// tacKey folds DTK: left half XOR right half.
func tacKey(dtk []byte) []byte {
	k := make([]byte, 8)
	for i := range k {
		k[i] = dtk[i] ^ dtk[i+8]
	}
	return k
}

// derive makes a card's key from a master key and the card's serial.
func derive(master, serial []byte) []byte {
	not := bytes.Clone(serial)
	for i := range not {
		not[i] = ^not[i]
	}
	return join(tripleDES(master, serial), tripleDES(master, not))
}

type vector struct {
	dlk, dtk, balance, seq, random, amount, kind, terminal, date, time string // what goes in
	seslk, mac1, mac2, tacKey, tac                                     string // what comes out
}

// vectorA was confirmed by an independent implementation of the card's application, vectorB is our own.
var (
	vectorA = vector{
		dlk: "EB9BC6DCDF74FF4E4B43F2E34A6727B6", dtk: "CEB726EDC01B793BC37DC09E2F768534",
		balance: "00000000", seq: "0000", random: "6C554479", amount: "00001388", kind: "02",
		terminal: "112233445566", date: "20260102", time: "030405",
		seslk: "E66E4515D6C2E267", mac1: "A72BE5CF", mac2: "25D2B647", tacKey: "0DCAE673EF6DFC0F", tac: "C324A0EF",
	}
	vectorB = vector{
		dlk: "B809B2F4B06B9FFE8273FACE16E62F9D", dtk: "8956ECBF72016D3FBD464171C5045F6D",
		balance: "000004D2", seq: "002A", random: "A1B2C3D4", amount: "00001388", kind: "02",
		terminal: "112233445566", date: "20260102", time: "030405",
		seslk: "CA57A284185A200E", mac1: "E00D3105", mac2: "97CE96E0", tacKey: "3410ADCEB7053252", tac: "A2E9D403",
	}
)

func TestVectors(t *testing.T) {
	t.Parallel()
	same := func(t *testing.T, what string, got []byte, want string) {
		t.Helper()
		if !bytes.Equal(got, unhex(want)) {
			t.Errorf("%s = %X, want %s", what, got, want)
		}
	}
	for name, v := range map[string]vector{"A": vectorA, "B": vectorB} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := sessionKey(unhex(v.dlk), unhex(v.random), unhex(v.seq))
			same(t, "session key", k, v.seslk)
			same(t, "MAC1", mac4(k, unhex(v.balance+v.amount+v.kind+v.terminal)), v.mac1)
			same(t, "MAC2", mac4(k, unhex(v.amount+v.kind+v.terminal+v.date+v.time)), v.mac2)
			same(t, "TAC key", tacKey(unhex(v.dtk)), v.tacKey)
			after := addHex(v.balance, v.amount)
			same(t, "TAC", mac4(tacKey(unhex(v.dtk)), join(after, unhex(v.seq+v.amount+v.kind+v.terminal+v.date+v.time))), v.tac)
		})
	}
	t.Run("C", func(t *testing.T) {
		t.Parallel()
		k := tripleDES(unhex("00112233445566778899AABBCCDDEEFF"), unhex("3948BC1100008000"))
		same(t, "session key", k, "3FF239BBDB26018A")
		same(t, "MAC1", mac4(k, unhex("00000000"+"00002000"+"02"+"001122334455")), "C47312E9")
	})
	t.Run("keys of B derive from master keys", func(t *testing.T) {
		t.Parallel()
		serial := unhex("8600000012345678")
		same(t, "DLK", derive(unhex("000102030405060708090A0B0C0D0E0F"), serial), vectorB.dlk)
		same(t, "DTK", derive(unhex("101112131415161718191A1B1C1D1E1F"), serial), vectorB.dtk)
	})
}
