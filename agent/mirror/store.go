package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"vcckiosk/queue"
)

// bucket is this package's one bucket; in it lies one for each table, one for
// the marks, one for the meters by their owner and one for the dictionary.
var bucket = []byte("mirror")

var (
	marksBucket = []byte("marks")
	ownerBucket = []byte("owners")
)

// Dropped tells when and why the file was deleted last, in this run.
type Dropped struct {
	At  time.Time `json:"at"`
	Why string    `json:"why"`
}

func (m *Mirror) file() *bbolt.DB {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.db
}

// open opens the file or makes a new one. A file that is not whole, that
// another program made or that others may read is deleted: what is in it can be
// had again.
func (m *Mirror) open(ctx context.Context) {
	db, err := m.openFile(ctx)
	if errors.Is(err, queue.ErrDamaged) || errors.Is(err, queue.ErrNewer) || errors.Is(err, queue.ErrPermissions) || errors.Is(err, errDamaged) {
		m.forget(err.Error())
		db, err = m.openFile(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.db, m.fault = db, ""
	if err != nil {
		m.fault = err.Error()
		if ctx.Err() == nil {
			m.d.Log.Error("mirror not opened", "err", err)
		}
	}
}

// openFile opens the file as agent.db is opened (its pages are walked before
// bbolt sees them) and reads the marks.
func (m *Mirror) openFile(ctx context.Context) (*bbolt.DB, error) {
	db, err := queue.OpenFile(ctx, m.cfg.Path, queue.FileOptions{Reserve: -1})
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	marks := map[string]mark{}
	err = guard(func() error {
		return db.Update(func(tx *bbolt.Tx) error {
			root, err := tx.CreateBucketIfNotExists(bucket)
			if err != nil {
				return err
			}
			for _, name := range [][]byte{marksBucket, ownerBucket, dictBucket, []byte(addresses), []byte(supplyPoints), []byte(subscribers), []byte(meters)} {
				if _, err := root.CreateBucketIfNotExists(name); err != nil {
					return err
				}
			}
			return root.Bucket(marksBucket).ForEach(func(k, v []byte) error {
				var at mark
				if json.Unmarshal(v, &at) != nil {
					return fmt.Errorf("mark of %q: %w", k, errDamaged)
				}
				marks[string(k)] = at
				return nil
			})
		})
	})
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", errors.Join(err, guard(db.Close)))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for code, s := range m.tables {
		s.mark = marks[code]
	}
	return db, nil
}

func (m *Mirror) close() {
	m.mu.Lock()
	db := m.db
	m.db = nil
	m.mu.Unlock()
	if db == nil {
		return
	}
	if err := guard(db.Close); err != nil { // waits for lookups
		m.d.Log.Warn("mirror not closed", "err", err)
	}
}

// forget deletes the file, which is not open.
func (m *Mirror) forget(why string) {
	m.d.Log.Warn("mirror dropped, it will be pulled again", "why", why)
	if err := os.Remove(m.cfg.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		m.d.Log.Error("mirror not deleted", "err", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dropped = &Dropped{At: time.Now(), Why: why}
	for _, s := range m.tables {
		s.mark = mark{}
	}
}

// guard turns what bbolt does on a damaged page, a panic or a fault in the
// mapped file, into errDamaged.
func guard(f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	return f()
}

// store writes a batch in one transaction, with the new mark if there is one,
// and empties it.
func (m *Mirror) store(b *batch, next *mark) error {
	if err := m.room(); err != nil {
		return err
	}
	db := m.file()
	if db == nil {
		return ErrOff
	}
	stats := db.Stats().TxStats
	before := stats.GetPageAlloc()
	err := guard(func() error {
		return db.Update(func(tx *bbolt.Tx) error {
			root := tx.Bucket(bucket)
			if err := b.put(root); err != nil || next == nil {
				return err
			}
			line, err := json.Marshal(next)
			if err != nil {
				return err
			}
			return root.Bucket(marksBucket).Put([]byte(b.code), line)
		})
	})
	if err != nil {
		return fmt.Errorf("store rows of %s: %w", b.code, err)
	}
	stats = db.Stats().TxStats
	b.wrote(stats.GetPageAlloc() - before)
	b.reset()
	if next != nil {
		m.mu.Lock()
		m.tables[b.code].mark = *next
		m.mu.Unlock()
	}
	return nil
}

// put stores the rows. A meter that has moved to another account leaves the
// list of the old one.
func (b *batch) put(root *bbolt.Bucket) error {
	into := root.Bucket([]byte(b.code))
	var owners *bbolt.Bucket
	if b.layout.owner >= 0 {
		owners = root.Bucket(ownerBucket)
	}
	var name []byte
	for _, it := range b.items {
		key, value := b.arena[it.key:it.value], b.arena[it.value:it.end]
		if owners != nil {
			now := owner(value)
			if old := into.Get(key); old != nil {
				if was := owner(old); !bytes.Equal(was, now) {
					name = ownerKey(name, was, key)
					if err := owners.Delete(name); err != nil {
						return err
					}
				}
			}
			name = ownerKey(name, now, key)
			if err := owners.Put(name, nil); err != nil {
				return err
			}
		}
		if err := into.Put(key, value); err != nil {
			return err
		}
	}
	return nil
}

func ownerKey(dst, owner, key []byte) []byte {
	return append(append(append(dst[:0], owner...), separator), key...)
}

// view reads from the file; damage found on the way has it pulled again.
func (m *Mirror) view(f func(root *bbolt.Bucket) error) error {
	db := m.file()
	if db == nil {
		return ErrOff
	}
	err := guard(func() error {
		return db.View(func(tx *bbolt.Tx) error { return f(tx.Bucket(bucket)) })
	})
	if errors.Is(err, errDamaged) {
		m.d.Log.Error("mirror damaged", "err", err)
		m.discard(err.Error())
	}
	if errors.Is(err, bbolterrors.ErrDatabaseNotOpen) {
		return ErrOff
	}
	return err
}

// Subscriber looks an account up. ErrNotHeld says nothing about whether it
// exists.
func (m *Mirror) Subscriber(subsCode string) (s Subscriber, err error) {
	err = m.view(func(root *bbolt.Bucket) error {
		v := root.Bucket([]byte(subscribers)).Get([]byte(subsCode))
		if v == nil {
			return ErrNotHeld
		}
		f, err := openValue([]byte(subsCode), v, 5)
		if err != nil {
			return err
		}
		s = Subscriber{Code: subsCode, Name: f[0], AddrCode: f[1], Address: f[2], Kind: f[3], State: f[4]}
		if v := root.Bucket([]byte(addresses)).Get([]byte(s.AddrCode)); v != nil {
			a, err := openValue([]byte(s.AddrCode), v, 3)
			if err != nil {
				return err
			}
			if s.Street = a[0]; s.Street == "" {
				s.Street = a[1]
			}
		}
		return nil
	})
	return s, err
}

// maxMeters is how many meters of one account are told.
const maxMeters = 100

// Meters lists the meters of an account by number and type, usable or not. None
// says nothing about whether it has any.
func (m *Mirror) Meters(subsCode string) (list []Meter, err error) {
	err = m.view(func(root *bbolt.Bucket) error {
		prefix := append([]byte(subsCode), separator)
		c := root.Bucket(ownerBucket).Cursor()
		for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix) && len(list) < maxMeters; k, _ = c.Next() {
			key := k[len(prefix):]
			v := root.Bucket([]byte(meters)).Get(key)
			number, kind, two := bytes.Cut(key, []byte{separator})
			if v == nil || !two {
				return fmt.Errorf("a meter is in no table: %w", errDamaged)
			}
			f, err := openValue(key, v, 5)
			if err != nil {
				return err
			}
			list = append(list, Meter{Code: string(number), Type: string(kind), Model: f[1], State: f[2], Mode: f[3], Factory: f[4]})
		}
		return nil
	})
	return list, err
}
