package queue

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"
)

// Item is one message that waits for its acknowledgement.
type Item struct {
	ID   uint64 `json:"id"` // order of creation; never used twice
	Kind string `json:"kind"`
	Ref  string `json:"ref"` // what it is about; (Kind, Ref) is unique
	Rev  int    `json:"rev"`
	// Lane keeps items in order. Items of different lanes never wait for each
	// other.
	Lane string `json:"lane"`
	// Spare items go only while no other is due, and are broken off when one
	// becomes due: they may be long, and they may wait.
	Spare     bool      `json:"spare,omitempty"`
	Created   time.Time `json:"created"`
	NotBefore time.Time `json:"notBefore,omitzero"` // zero: at once
	Attempts  int       `json:"attempts"`
	FirstTry  time.Time `json:"firstTry,omitzero"`
	LastTry   time.Time `json:"lastTry,omitzero"`
	Parked    string    `json:"parked,omitempty"` // reason; "" = live
	LastError string    `json:"lastError,omitempty"`
}

// wireItem is the value on disk: short keys, so that a few items stay inside
// the root page.
type wireItem struct {
	Kind      string `json:"k"`
	Ref       string `json:"r"`
	Rev       int    `json:"v,omitempty"`
	Lane      string `json:"l,omitempty"`
	Created   int64  `json:"c"`
	NotBefore int64  `json:"n,omitempty"`
	Attempts  int    `json:"a,omitempty"`
	FirstTry  int64  `json:"f,omitempty"`
	Parked    string `json:"p,omitempty"`
	LastError string `json:"e,omitempty"`
	Spare     bool   `json:"s,omitempty"`
}

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// errDamaged: a stored item does not verify.
var errDamaged = errors.New("stored item is damaged")

const maxText = 200 // of reasons and errors kept with an item

func clip(s string) string {
	if len(s) > maxText {
		return strings.ToValidUTF8(s[:maxText], "")
	}
	return s
}

func encodeItem(it Item) ([]byte, error) {
	ms := func(t time.Time) int64 {
		if t.IsZero() {
			return 0
		}
		return t.UnixMilli()
	}
	body, err := json.Marshal(wireItem{
		it.Kind, it.Ref, it.Rev, it.Lane, ms(it.Created), ms(it.NotBefore), it.Attempts, ms(it.FirstTry),
		clip(it.Parked), clip(it.LastError), it.Spare,
	})
	if err != nil {
		return nil, fmt.Errorf("encode item: %w", err)
	}
	return sealLine(body), nil
}

func decodeItem(id uint64, v []byte) (Item, error) {
	body, ok := openLine(v)
	if !ok {
		return Item{ID: id}, errDamaged
	}
	var w wireItem
	if err := json.Unmarshal(body, &w); err != nil || w.Kind == "" || w.Ref == "" {
		return Item{ID: id}, errDamaged
	}
	at := func(ms int64) time.Time {
		if ms == 0 {
			return time.Time{}
		}
		return time.UnixMilli(ms)
	}
	return Item{
		ID: id, Kind: w.Kind, Ref: w.Ref, Rev: w.Rev, Lane: w.Lane, Created: at(w.Created), NotBefore: at(w.NotBefore),
		Attempts: w.Attempts, FirstTry: at(w.FirstTry), Parked: w.Parked, LastError: w.LastError, Spare: w.Spare,
	}, nil
}
