package simcard

import (
	"crypto/cipher"
	"crypto/des"
	"encoding/binary"
)

// PBOC electronic purse cryptography, written from the field layout of the
// load transaction and independent of the kiosk's drivers. Single DES is what
// the cards do; nothing here protects a secret of the kiosk.

func mustBlock(b cipher.Block, err error) cipher.Block {
	if err != nil { // only a wrong key length, and the lengths are types here
		panic("simcard: " + err.Error())
	}
	return b
}

// diversify is 3DES-EDE2 of one block, the session or card key derivation.
func diversify(key [16]byte, block [8]byte) [8]byte {
	k := append(key[:], key[:8]...)
	var out [8]byte
	mustBlock(des.NewTripleDESCipher(k)).Encrypt(out[:], block[:])
	return out
}

// sessionKey is the load session key SESLK.
func sessionKey(dlk [16]byte, random [4]byte, seq uint16) [8]byte {
	return diversify(dlk, [8]byte{
		random[0], random[1], random[2], random[3], byte(seq >> 8), byte(seq), 0x80, 0x00,
	})
}

// tacKey folds DTK into the single DES key of the TAC.
func tacKey(dtk [16]byte) [8]byte {
	var k [8]byte
	for i := range k {
		k[i] = dtk[i] ^ dtk[i+8]
	}
	return k
}

// mac4 is the DES CBC-MAC over data padded with 80 00.., IV zero, left 4 bytes.
func mac4(key [8]byte, data []byte) [4]byte {
	b := mustBlock(des.NewCipher(key[:]))
	msg := append(append([]byte(nil), data...), 0x80)
	for len(msg)%8 != 0 {
		msg = append(msg, 0)
	}
	var acc [8]byte
	for ; len(msg) > 0; msg = msg[8:] {
		for i := range acc {
			acc[i] ^= msg[i]
		}
		b.Encrypt(acc[:], acc[:])
	}
	return [4]byte(acc[:4])
}

// MAC2 is the host's proof of one load, for tests that play the platform with a
// card and no platform. The virtual platform has code of its own.
func MAC2(dlk [16]byte, random [4]byte, seq uint16, typ byte, amount uint32, terminal [6]byte, date [4]byte, tm [3]byte) [4]byte {
	return mac4(sessionKey(dlk, random, seq), loadInput(amount, typ, terminal, date, tm))
}

// loadInput is what MAC2 covers and TAC covers the end of: amount, type,
// terminal, date, time.
func loadInput(amount uint32, typ byte, terminal [6]byte, date [4]byte, tm [3]byte) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 18), amount)
	b = append(append(b, typ), terminal[:]...)
	return append(append(b, date[:]...), tm[:]...)
}

// CardKey derives one card's key from a master key and the last 8 bytes of its
// application serial number: the left half from the number, the right half from
// its complement.
func CardKey(master [16]byte, serial [8]byte) [16]byte {
	var inv [8]byte
	for i, b := range serial {
		inv[i] = ^b
	}
	left, right := diversify(master, serial), diversify(master, inv)
	return [16]byte(append(left[:], right[:]...))
}
