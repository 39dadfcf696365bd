package registration

import (
	"bytes"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

func TestRecordIsKept(t *testing.T) {
	t.Parallel()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "x.db"), 0o600, &bbolt.Options{NoSync: true, NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	load := func(sn string) Record {
		t.Helper()
		r, err := Load(db.View, sn)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	save := func(r Record) {
		t.Helper()
		if err := db.Update(func(tx *bbolt.Tx) error { return Save(tx, r) }); err != nil {
			t.Fatal(err)
		}
	}
	if r := load("S1"); r.State != None || r.DeviceSN != "S1" {
		t.Errorf("of nothing: %+v", r)
	}
	full := Record{State: Registered, DeviceSN: "S1", DeviceID: "QC1", At: 5, CreateTime: "20260101000000", Token: []byte{1, 2}}
	save(full)
	if r := load("S1"); r.State != Registered || r.DeviceID != "QC1" || !bytes.Equal(r.Token, full.Token) {
		t.Errorf("%+v", r)
	}
	if r := load("S2"); r.State != None || r.DeviceID != "" {
		t.Errorf("of another board: %+v", r)
	}
	save(Record{State: Registered, DeviceSN: "S1"})
	if r := load("S1"); r.State != None {
		t.Errorf("registered under no name: %+v", r)
	}
	save(full)
	for _, spoil := range []func([]byte) []byte{
		func(v []byte) []byte { return bytes.Replace(v, []byte("QC1"), []byte("QC2"), 1) },
		func(v []byte) []byte { return v[:len(v)/2] },
		func([]byte) []byte { return nil },
	} {
		save(full)
		err := db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucket)
			return b.Put(keyState, spoil(bytes.Clone(b.Get(keyState))))
		})
		if err != nil {
			t.Fatal(err)
		}
		if r := load("S1"); r.State != None || r.DeviceID != "" {
			t.Errorf("damaged: %+v", r)
		}
	}
}

func TestEveryStateHasWords(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range []Record{
		{State: None},
		{State: Asked},
		{State: Refused, Code: "20002"},
		{State: Refused, Code: "46101"},
		{State: Refused, Code: "46102"},
		{State: Refused, Code: NoCredential},
		{State: Refused, Code: Keystore},
		{State: Registered, Code: KeyRefused},
		{State: Refused, Code: Field},
		{State: Refused, Code: "30002"},
		{State: Refused, Code: "59999"},
	} {
		w := r.Why()
		if w.Code == "" || w.ZH == "" || w.EN == "" || w.Next == "" {
			t.Errorf("%+v: %+v", r, w)
		}
		if seen[w.EN] {
			t.Errorf("%+v has the words of another", r)
		}
		seen[w.EN] = true
	}
	if w := (Record{State: Registered, DeviceID: "QC1"}).Why(); w != (Reason{}) {
		t.Errorf("nothing is wrong: %+v", w)
	}
}
