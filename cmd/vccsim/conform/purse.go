package conform

import (
	"crypto/cipher"
	"crypto/des"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
)

// initialise is what a purse with this load key answers to INITIALIZE FOR
// LOAD, as 4006 carries it. Nothing is ever credited: there is no card.
func (b *bench) initialise(amount int64, seq int) map[string]any {
	key, _ := hex.DecodeString(b.Card.LoadKey)       // checked
	terminal, _ := hex.DecodeString(b.Card.Terminal) // checked
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	in := binary.BigEndian.AppendUint16(random[:4:4], uint16(seq))
	in = append(in, 0x80, 0)
	session := make([]byte, 8)
	ede, err := des.NewTripleDESCipher(append(key[:16:16], key[:8]...))
	if err != nil {
		return nil // the length was checked
	}
	ede.Encrypt(session, in)
	data := binary.BigEndian.AppendUint32(nil, uint32(b.Card.Balance))
	data = binary.BigEndian.AppendUint32(data, uint32(amount))
	data = append(data, 2)
	data = append(data, terminal...)
	return map[string]any{
		"type": 2, "keyIndex": max(b.Card.KeyIndex, 1), "keyVersion": 0, "algId": 0, "balance": b.Card.Balance,
		"onlineSeq": seq, "random": upper(random[:]), "mac1": upper(mac(session, data)),
	}
}

// mac is the left half of a single-DES CBC-MAC, padded with 80 00.
func mac(key, data []byte) []byte {
	c, err := des.NewCipher(key)
	if err != nil {
		return nil
	}
	data = append(data, 0x80)
	for len(data)%c.BlockSize() != 0 {
		data = append(data, 0)
	}
	acc := make([]byte, 8)
	for ; len(data) > 0; data = data[8:] {
		encrypt(c, acc, data[:8])
	}
	return acc[:4]
}

func encrypt(c cipher.Block, acc, block []byte) {
	subtle.XORBytes(acc, acc, block)
	c.Encrypt(acc, acc)
}
