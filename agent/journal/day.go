package journal

import (
	"bytes"
	"fmt"

	"go.etcd.io/bbolt"

	"vcckiosk/agent/topup"
)

// Day are the records whose outcome was entered under a day, as the last of
// their versions of that day has them, in the order they were begun; high is the
// newest line there was. It reads the whole journal.
//
// A record that got another outcome on a later day belongs to both: what a day
// file said stays true of its day.
func (j *Journal) Day(day string) (out []topup.Record, high uint64, err error) {
	at := map[topup.TransNo]int{}
	err = j.v.View(func(tx *bbolt.Tx) error {
		return j.dayAfter(tx, 0, day, func(n uint64, r topup.Record) {
			high = n
			if r.ReconDay != day {
				return
			}
			i, known := at[r.TransNo]
			if !known {
				i = len(out)
				at[r.TransNo] = i
				out = append(out, r)
			}
			out[i] = r
		})
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read day %s: %w", day, err)
	}
	return out, high, nil
}

// FirstDay is the earliest day from the given one on under which an outcome was
// entered, "" for none. It reads the whole journal.
func (j *Journal) FirstDay(from string) (first string, err error) {
	mark := []byte(`"reconDay":"`)
	err = j.v.View(func(tx *bbolt.Tx) error {
		return lines.After(tx, 0, func(_ uint64, body []byte) error {
			_, rest, ok := bytes.Cut(body, mark)
			day, _, ended := bytes.Cut(rest, []byte(`"`))
			if d := string(day); ok && ended && len(d) == len("20060102") && d >= from && (first == "" || d < first) {
				first = d
			}
			return nil
		})
	})
	if err != nil {
		return "", fmt.Errorf("look for days: %w", err)
	}
	return first, nil
}

// DaySince are the numbers of the records with a version of a day behind line
// n, as tx sees it.
func (j *Journal) DaySince(tx *bbolt.Tx, n uint64, day string) (nos []topup.TransNo, err error) {
	err = j.dayAfter(tx, n, day, func(_ uint64, r topup.Record) {
		if r.ReconDay == day {
			nos = append(nos, r.TransNo)
		}
	})
	return nos, err
}

// dayAfter gives f each line behind n: the record if it may be of the day, an
// empty one else.
func (j *Journal) dayAfter(tx *bbolt.Tx, n uint64, day string, f func(n uint64, r topup.Record)) error {
	mark := []byte(`"reconDay":"` + day + `"`)
	return lines.After(tx, n, func(n uint64, body []byte) error {
		var r topup.Record
		if bytes.Contains(body, mark) {
			if v, err := decode(body); err == nil {
				r = v
			}
		}
		f(n, r)
		return nil
	})
}
