package keystore

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Names of the records in the one bucket of keystore.db.
const (
	bucketName = "keystore"
	recManif   = "manifest"
	recActive  = "active"
	recPending = "pending"
	recPrev    = "previous"
	recDevice  = "deviceSecret"
)

// Info is what may be shown of a stored key.
type Info struct {
	Generation uint64
	KCV        string
	// Source says who brought the key, as given to Stage.
	Source string
	// Digest is of the message that carried the key, as given to Stage.
	Digest [32]byte
	// Since is when the key took its present place (staged, promoted,
	// replaced), by the wall clock of then: data, not a schedule.
	Since time.Time
}

// Expired tells whether a pending or previous key has outlived life at now.
// A Since later than now (the clock was wrong then, or is now) has not.
func (i Info) Expired(now time.Time, life time.Duration) bool {
	return now.Sub(i.Since) >= life
}

// entry is one key in RAM.
type entry struct {
	info    Info
	secret  *secret
	version uint64
}

// The plain text of a record is
//
//	generation 8 | since, ms of the epoch 8 | digest 32 | n 1 | source n | m 1 | key m
//
// and is only ever put together and taken apart in locked memory.
const (
	plainFixed  = 8 + 8 + 32
	maxSource   = 64
	maxPlain    = plainFixed + 1 + maxSource + 1 + secretLong
	maxManifest = 4096
)

var errRecord = errors.New("record has a wrong form")

// encodeRecord writes a record into a fresh region.
func encodeRecord(info Info, key *secret) (*region, error) {
	r, err := newRegion(maxPlain)
	if err != nil {
		return nil, err
	}
	b := r.b[:0]
	b = binary.BigEndian.AppendUint64(b, info.Generation)
	b = binary.BigEndian.AppendUint64(b, uint64(info.Since.UnixMilli()))
	b = append(b, info.Digest[:]...)
	b = append(b, byte(len(info.Source)))
	b = append(b, info.Source...)
	key.with(func(k []byte) {
		b = append(b, byte(len(k)))
		b = append(b, k...)
	})
	r.b = b
	return r, nil
}

// sealRecord seals an entry for its place.
func sealRecord(v *vault, name string, e entry) ([]byte, error) {
	plain, err := encodeRecord(e.info, e.secret)
	if err != nil {
		return nil, err
	}
	defer plain.free()
	return v.seal(place{bucket: bucketName, name: name}, e.version, plain.b)
}

// decodeRecord takes the plain text b apart; key points into b.
func decodeRecord(b []byte) (info Info, key []byte, err error) {
	if len(b) < plainFixed+1 {
		return Info{}, nil, errRecord
	}
	info.Generation = binary.BigEndian.Uint64(b)
	info.Since = time.UnixMilli(int64(binary.BigEndian.Uint64(b[8:])))
	copy(info.Digest[:], b[16:])
	b = b[plainFixed:]
	n := int(b[0])
	if n > maxSource || len(b) < 1+n+1 {
		return Info{}, nil, errRecord
	}
	info.Source = string(b[1 : 1+n])
	b = b[1+n:]
	if m := int(b[0]); m < 1 || m > secretLong || len(b) != 1+m {
		return Info{}, nil, errRecord
	}
	return info, b[1:], nil
}

// openRecord unseals a record into locked memory.
func openRecord(v *vault, name string, sealed []byte) (entry, error) {
	scratch, err := newRegion(maxPlain)
	if err != nil {
		return entry{}, err
	}
	defer scratch.free()
	if len(sealed) > overhead+maxPlain {
		return entry{}, fmt.Errorf("%w: too long", errRecord)
	}
	plain, version, err := v.open(scratch.b[:0], place{bucket: bucketName, name: name}, sealed)
	if err != nil {
		return entry{}, err
	}
	info, key, err := decodeRecord(plain)
	if err != nil {
		return entry{}, err
	}
	held, err := newRegion(len(key))
	if err != nil {
		return entry{}, err
	}
	copy(held.b, key)
	e := entry{info: info, secret: newSecret(held, info.Generation), version: version}
	e.info.KCV = e.secret.kcv
	return e, nil
}

// manifest is sealed beside the records, as JSON. It names every record with
// its version: one that was removed, or put back from an older copy of the
// file, does not agree with it. Only a copy of the whole file put back is not
// seen; that needs a counter outside the file.
type manifest struct {
	// Serial counts the changes and is the version of what a change wrote.
	Serial uint64 `json:"serial"`
	// Next is the generation the next staged key gets.
	Next uint64 `json:"next"`
	// Records holds the version of each stored record.
	Records map[string]uint64 `json:"records"`
}

func sealManifest(v *vault, m manifest) ([]byte, error) {
	plain, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return v.seal(place{bucket: bucketName, name: recManif}, m.Serial, plain)
}

func openManifest(v *vault, sealed []byte) (manifest, error) {
	if len(sealed) > maxManifest {
		return manifest{}, fmt.Errorf("%w: manifest too long", errRecord)
	}
	plain, version, err := v.open(nil, place{bucket: bucketName, name: recManif}, sealed)
	if err != nil {
		return manifest{}, err
	}
	var m manifest
	if err := json.Unmarshal(plain, &m); err != nil {
		return manifest{}, fmt.Errorf("%w: manifest", errRecord)
	}
	if m.Serial != version {
		return manifest{}, fmt.Errorf("%w: manifest serial", errRecord)
	}
	return m, nil
}

// damagedUnlessNewer is the error class of a record that did not open.
func damagedUnlessNewer(err error) error {
	if errors.Is(err, ErrNewer) {
		return ErrNewer
	}
	return ErrDamaged
}
