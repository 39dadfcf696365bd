package vcctest

import (
	"crypto/cipher"
	"crypto/des" //nolint:gosec // PBOC 2.0 part 2 purses are DES cards
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// load is one INITIALIZE FOR LOAD as the card and the platform both know it.
type load struct {
	Type     byte
	Balance  uint32 // before, in the purse's own unit
	Amount   uint32 // in the purse's own unit
	Seq      uint16 // online sequence before the load
	Random   [4]byte
	Terminal [6]byte
	Date     [4]byte
	Time     [3]byte
}

// block returns the DES cipher of an 8-byte key or the EDE2 cipher of a 16-byte key.
func block(key []byte) cipher.Block {
	var c cipher.Block
	var err error
	if len(key) == 8 {
		c, err = des.NewCipher(key) //nolint:gosec // see the import
	} else {
		k := append(append(make([]byte, 0, 24), key...), key[:8]...)
		c, err = des.NewTripleDESCipher(k) //nolint:gosec // see the import
	}
	if err != nil {
		panic("vcctest: key length " + err.Error()) // keys are arrays: cannot happen
	}
	return c
}

// sessionKey is SESLK: the load key over random, online sequence and 8000.
func (l load) sessionKey(dlk [16]byte) []byte {
	var in [8]byte
	copy(in[:4], l.Random[:])
	binary.BigEndian.PutUint16(in[4:], l.Seq)
	in[6] = 0x80
	out := make([]byte, 8)
	block(dlk[:]).Encrypt(out, in[:])
	return out
}

// mac is the left half of the single-DES CBC-MAC, padded with 80 00 ...
func mac(key, data []byte) [4]byte {
	c := block(key)
	padded := append(append([]byte{}, data...), 0x80)
	for len(padded)%8 != 0 {
		padded = append(padded, 0)
	}
	var acc [8]byte
	for ; len(padded) > 0; padded = padded[8:] {
		subtle.XORBytes(acc[:], acc[:], padded[:8])
		c.Encrypt(acc[:], acc[:])
	}
	return [4]byte(acc[:4])
}

func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// join concatenates the fields of a MAC input.
func join(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// mac1 proves the card: old balance, amount, type, terminal.
func (l load) mac1(dlk [16]byte) [4]byte {
	return mac(l.sessionKey(dlk), join(u32(l.Balance), u32(l.Amount), []byte{l.Type}, l.Terminal[:]))
}

// mac2 is the host's permission: amount, type, terminal, date, time.
func (l load) mac2(dlk [16]byte) [4]byte {
	return mac(l.sessionKey(dlk), join(u32(l.Amount), []byte{l.Type}, l.Terminal[:], l.Date[:], l.Time[:]))
}

// tac is the card's receipt: new balance, sequence before, amount, type,
// terminal, date, time under the folded TAC key.
func (l load) tac(dtk [16]byte) [4]byte {
	key := make([]byte, 8)
	subtle.XORBytes(key, dtk[:8], dtk[8:])
	seq := binary.BigEndian.AppendUint16(nil, l.Seq)
	return mac(key, join(u32(l.Balance+l.Amount), seq, u32(l.Amount), []byte{l.Type}, l.Terminal[:], l.Date[:], l.Time[:]))
}

// unhex decodes exactly len(dst) bytes of hex and reports whether it could.
func unhex(dst []byte, text string) bool {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(dst) {
		return false
	}
	copy(dst, b)
	return true
}

func upperHex(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }
