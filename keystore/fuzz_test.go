package keystore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

func FuzzDecodeHeader(f *testing.F) {
	h := header{Format: 1, Suite: suiteIntl, Store: "00112233445566778899aabbccddeeff", Serial: 1, Epoch: 1, Slot: headerSlot{"file", []byte{1, 2, 3}}}
	b, err := h.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		// As it stands, and with a checksum that fits, for what lies behind it.
		for _, b := range [][]byte{b, appendCRC(bytes.Clone(b))} {
			h, err := decodeHeader(b)
			if err != nil {
				if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
					t.Fatalf("decode: %v", err)
				}
				continue
			}
			again, err := h.encode()
			must(t, err)
			if back, err := decodeHeader(again); err != nil || back.Store != h.Store || back.Serial != h.Serial || !bytes.Equal(back.Slot.Blob, h.Slot.Blob) {
				t.Fatalf("encoded again: %v", err)
			}
		}
	})
}

func FuzzSealedRecord(f *testing.F) {
	r, err := newRegion(rootLength)
	if err != nil {
		f.Fatal(err)
	}
	v := &vault{root: r, uuid: "store", epoch: 1}
	good, err := v.seal(place{bucket: bucketName, name: recActive}, 1, []byte("plain"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:overhead])
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := openRecord(v, recActive, b)
		if err == nil {
			t.Fatal("a record nobody sealed opened")
		}
		if !errors.Is(err, ErrUnseal) && !errors.Is(err, ErrNewer) && !errors.Is(err, errRecord) {
			t.Fatalf("open: %v", err)
		}
	})
}

func FuzzRecordText(f *testing.F) {
	f.Add(append(make([]byte, plainFixed), "\x03sms\x20"+sampleKey...))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, key, err := decodeRecord(b)
		if err != nil {
			return
		}
		r, err := newRegion(len(key))
		must(t, err)
		defer r.free()
		copy(r.b, key)
		again, err := encodeRecord(info, &secret{with: func(use func([]byte)) { use(r.b) }})
		must(t, err)
		defer again.free()
		if !bytes.Equal(again.b, b) {
			t.Fatalf("%x became %x", b, again.b)
		}
	})
}

// FuzzPages alters a whole file at one place. What is let through must not
// make bbolt panic, not even when it is changed.
func FuzzPages(f *testing.F) {
	dir := f.TempDir()
	s, err := Open(dir, slot, Options{})
	if err != nil {
		f.Fatal(err)
	}
	for i := range 3 {
		if err := errors.Join(s.Stage(keyText(i), "a", digestOf(byte(i+1))), s.Promote()); err != nil {
			f.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, dbName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint16(pageSize+16), []byte{1})
	f.Add(uint16(2*pageSize+8), []byte{0x10, 0, 1})
	f.Add(uint16(4*pageSize+10), []byte{9})
	f.Fuzz(func(t *testing.T, at uint16, with []byte) {
		b := bytes.Clone(whole)
		copy(b[at:], with)
		if checkPages(b) != nil {
			return
		}
		path := filepath.Join(t.TempDir(), dbName)
		must(t, os.WriteFile(path, b, 0o600))
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, Timeout: time.Second})
		must(t, err)
		must(t, db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(bucketName))
			if err != nil {
				return err
			}
			return errors.Join(b.Put([]byte(recActive), make([]byte, 3000)), b.Put([]byte("x"), make([]byte, 3000)), b.Delete([]byte(recPrev)))
		}), db.Close())
	})
}
