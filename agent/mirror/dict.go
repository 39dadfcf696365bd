package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"vcckiosk/protocol"
	"vcckiosk/protocol/catalogue"
)

// Dictionary gives the platform's words for codes (3025); *protocol.Client. A
// Source that is none leaves the appendices as the catalogue has them.
type Dictionary interface {
	Dictionary(ctx context.Context, dictType string) ([]protocol.DictEntry, error)
}

var dictBucket = []byte("dictionary")

const (
	dictLife = 24 * time.Hour // how often it is asked for
	dictKey  = "asked"        // in the bucket: when, whatever came of it
	maxWord  = 60
)

// appendices that 3025 refreshes.
var appendices = [...]string{"B", "C", "D", "E", "F"}

// Word is what a code of an appendix ("B" to "F") means, in Chinese: by the
// platform's dictionary, else by the catalogue; "" for a code neither knows.
// Codes are opaque: an unknown one is no error.
func (m *Mirror) Word(appendix, code string) (word string) {
	if m != nil {
		_ = m.view(func(root *bbolt.Bucket) error { // no file: the catalogue is all there is
			word = string(root.Bucket(dictBucket).Get([]byte(appendix + code)))
			return nil
		})
	}
	if word != "" {
		return word
	}
	for _, e := range catalogue.Appendix(appendix) {
		if e.Code == code {
			return e.ZH
		}
	}
	return ""
}

// refresh asks for the dictionary once a day, after the tables. A platform that
// has none, or answers nonsense, is asked again tomorrow; one that cannot be
// reached, with the next pull.
func (m *Mirror) refresh(ctx context.Context) error {
	src, has := m.d.Source.(Dictionary)
	if !has || !m.dictDue() {
		return nil
	}
	lctx, release, err := m.d.Lane(ctx, false)
	if err != nil {
		return fmt.Errorf("wait for the lane: %w", err)
	}
	defer release()
	words := map[string]string{}
	for _, a := range appendices {
		list, err := src.Dictionary(protocol.Backlog(lctx), catalogue.DictType(a))
		switch {
		case errors.Is(context.Cause(lctx), ErrYield):
			return ErrYield
		case errors.Is(err, protocol.ErrBusiness) || errors.Is(err, protocol.ErrPermanent):
			continue // it has none
		case err != nil:
			return fmt.Errorf("dictionary: %w", err)
		}
		for _, e := range list {
			if e.State != "X" && len(e.Code) <= maxWord && len([]rune(e.Name)) <= maxWord && e.Name != "" {
				words[a+e.Code] = e.Name
			}
		}
	}
	return m.storeDict(words)
}

func (m *Mirror) dictDue() (due bool) {
	now, sane := m.d.Now()
	if !sane {
		return false
	}
	err := m.view(func(root *bbolt.Bucket) error {
		var at time.Time
		err := json.Unmarshal(root.Bucket(dictBucket).Get([]byte(dictKey)), &at)
		due = err != nil || now.Sub(at).Abs() >= dictLife
		return nil //nolint:nilerr // none yet, or not a time: it is asked for
	})
	return err == nil && due
}

// storeDict replaces the words by those that came, and keeps the others: an
// appendix that was refused is no reason to forget it. One transaction: a cut
// leaves the words of yesterday.
func (m *Mirror) storeDict(words map[string]string) error {
	if err := m.room(); err != nil {
		return err
	}
	db := m.file()
	if db == nil {
		return ErrOff
	}
	now, _ := m.d.Now()
	stamp, err := json.Marshal(now)
	if err != nil {
		return fmt.Errorf("dictionary: %w", err)
	}
	err = guard(func() error {
		return db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucket).Bucket(dictBucket)
			for k, v := range words {
				if err := b.Put([]byte(k), []byte(v)); err != nil {
					return err
				}
			}
			return b.Put([]byte(dictKey), stamp)
		})
	})
	if err != nil {
		return fmt.Errorf("store dictionary: %w", err)
	}
	return nil
}
