// Package media keeps files that wait for upload: photos, scanned receipts,
// voices. The content lies in a folder, what is known of it in bucket "media"
// of agent.db, and the message that brings it to the platform in the outbox.
//
// Requirements
//   - Content is durable before anything refers to it, and is removed only after
//     the platform's mediaId is.
//   - The same content is one file: its id is its digest. A mediaId that is known
//     is used again for two days.
//   - How many files and bytes wait is bounded; a full folder refuses new files
//     and never drops one.
//
// What an interrupted step leaves: a temporary file or content nobody refers to,
// which Open sweeps; or an entry that has its mediaId and still its content,
// likewise swept. Never an entry without content.
//
// Layout: "<dir>/<id>" is the content, "<dir>/.new-*" is being written; bucket
// "media" has "crc32c-hex SP json" under the id.
package media

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

var (
	// ErrFull: so much waits already that no more is taken. Try again when some
	// of it has been delivered or dropped.
	ErrFull = errors.New("too many files wait for upload")
	// ErrTooLarge: no file of that size is taken.
	ErrTooLarge = errors.New("file is too large")
	// ErrUnknown: there is no such file.
	ErrUnknown = errors.New("no such file")
	// ErrDamaged: the content is not what was stored.
	ErrDamaged = errors.New("stored content is damaged")
)

// Options of a Store; zero values are the defaults.
type Options struct {
	MaxFiles int           // that wait, parked ones included; default 32
	MaxBytes int64         // of all that wait; default 32 MB
	MaxFile  int64         // default 2 MB, the document's limit
	Keep     int           // entries kept after delivery; default 200
	Reuse    time.Duration // how long a mediaId is used again; default 48 h
	// Effect runs each change of a file; nil: as it is. Tests cut the power there.
	Effect func(do func() error) error
}

// Entry is what is known of a file.
type Entry struct {
	ID          string    `json:"id"` // hex digits of a digest over type and content
	Type        string    `json:"type"`
	Name        string    `json:"name"`
	ContentType string    `json:"contentType"`
	Purpose     string    `json:"purpose"` // what it is for: who asked, which order
	Size        int64     `json:"size"`
	Created     time.Time `json:"created"`
	// MediaID is the platform's name; empty while the file waits.
	MediaID string    `json:"mediaId,omitempty"`
	Done    time.Time `json:"done,omitzero"`
}

// Store keeps files and entries. Memory holds a copy of the entries that
// follows each commit.
type Store struct {
	dir    string
	o      Options
	effect func(do func() error) error

	mu      sync.Mutex
	entries map[string]Entry
}

var bucket = []byte("media")

// Open reads the entries, makes the folder and sweeps what no entry waits for.
// view runs a read transaction. An entry that does not verify is left where it
// is and not used.
func Open(dir string, view func(func(*bbolt.Tx) error) error, o Options) (*Store, error) {
	if o.MaxFiles == 0 {
		o.MaxFiles = 32
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 32 << 20
	}
	if o.MaxFile == 0 {
		o.MaxFile = 2 << 20
	}
	if o.Keep == 0 {
		o.Keep = 200
	}
	if o.Reuse == 0 {
		o.Reuse = 48 * time.Hour
	}
	s := &Store{dir: dir, o: o, effect: o.Effect, entries: map[string]Entry{}}
	if s.effect == nil {
		s.effect = func(do func() error) error { return do() }
	}
	err := view(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			if e, ok := decode(v); ok && e.ID == string(k) {
				s.entries[e.ID] = e
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read media: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("media folder: %w", err)
	}
	return s, s.sweep()
}

// sweep removes what a crash has left: half-written files, content that was
// stored before its entry was, content that has been delivered.
func (s *Store) sweep() error {
	list, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("media folder: %w", err)
	}
	for _, f := range list {
		e, known := s.entries[f.Name()]
		ours := strings.HasPrefix(f.Name(), ".new-") || len(f.Name()) == 2*sha256.Size && !f.IsDir()
		if !ours || known && e.MediaID == "" {
			continue
		}
		if err := os.Remove(filepath.Join(s.dir, f.Name())); err != nil {
			return fmt.Errorf("media folder: %w", err)
		}
	}
	return nil
}

// Staged is content that is being taken in.
type Staged struct {
	Entry
	s   *Store
	tmp string
}

// Stage writes content to the disk under a temporary name, whole or not at
// all, and finds its id and size. Discard or Keep must follow.
func (s *Store) Stage(kind string, content io.Reader) (*Staged, error) {
	var f *os.File
	err := s.effect(func() (err error) { f, err = os.CreateTemp(s.dir, ".new-*"); return err })
	if err != nil {
		return nil, fmt.Errorf("store media: %w", err)
	}
	st := &Staged{s: s, tmp: f.Name(), Entry: Entry{Type: kind, Created: time.Now()}}
	sum := digest(kind)
	st.Size, err = io.Copy(io.MultiWriter(f, sum), io.LimitReader(content, s.o.MaxFile+1))
	if err == nil && st.Size > s.o.MaxFile {
		err = fmt.Errorf("%w: more than %d bytes", ErrTooLarge, s.o.MaxFile)
	}
	if err == nil {
		err = s.effect(f.Sync)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		st.Discard()
		return nil, fmt.Errorf("store media: %w", err)
	}
	st.ID = hex.EncodeToString(sum.Sum(nil))
	return st, nil
}

// Content reads what was staged from its beginning.
func (st *Staged) Content() (io.ReadCloser, error) { return os.Open(st.tmp) }

// Discard removes what was staged. It does nothing after Keep.
func (st *Staged) Discard() {
	if st.tmp != "" {
		_ = st.s.effect(func() error { return os.Remove(st.tmp) }) // else swept
	}
	st.tmp = ""
}

// Keep gives the content its name, durably. A crash just before leaves a
// temporary file, one just after content without an entry: both are swept. The
// entry follows by Put. ErrFull: nothing is kept.
func (st *Staged) Keep() error {
	s := st.s
	files, bytes := s.waiting()
	if files+1 > s.o.MaxFiles || bytes+st.Size > s.o.MaxBytes {
		return fmt.Errorf("%w: %d files, %d bytes", ErrFull, files, bytes)
	}
	err := s.effect(func() error { return os.Rename(st.tmp, s.path(st.ID)) })
	if err == nil {
		st.tmp = ""
		err = s.effect(s.syncDir)
	}
	if err != nil {
		return fmt.Errorf("store media: %w", err)
	}
	return nil
}

func digest(kind string) interface {
	io.Writer
	Sum([]byte) []byte
} {
	h := sha256.New()
	h.Write([]byte(kind + "\n"))
	return h
}

func (s *Store) path(id string) string { return filepath.Join(s.dir, id) }

func (s *Store) syncDir() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s *Store) waiting() (files int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if e.MediaID == "" {
			files++
			bytes += e.Size
		}
	}
	return files, bytes
}

// Content opens the content of a file that waits.
func (s *Store) Content(id string) (io.ReadCloser, error) { return os.Open(s.path(id)) }

// Verify reads the content of a file that waits to its end: ErrDamaged when it
// is not what was stored, an error of the file when it cannot be read.
func (s *Store) Verify(e Entry) error {
	f, err := os.Open(s.path(e.ID))
	if err != nil {
		return fmt.Errorf("read media: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	sum := digest(e.Type)
	if _, err := io.Copy(sum, f); err != nil {
		return fmt.Errorf("read media: %w", err)
	}
	if hex.EncodeToString(sum.Sum(nil)) != e.ID {
		return ErrDamaged
	}
	return nil
}

// Remove removes the content of a file that waits no more. Failing is harmless:
// the next Open sweeps it.
func (s *Store) Remove(id string) error {
	err := s.effect(func() error { return os.Remove(s.path(id)) })
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove media: %w", err)
	}
	return nil
}

// Usable returns the entry of the same content whose mediaId may be used again,
// or that waits already.
func (s *Store) Usable(id string) (Entry, bool) {
	e, ok := s.Get(id)
	return e, ok && (e.MediaID == "" || time.Since(e.Done).Abs() < s.o.Reuse)
}

// Get returns an entry.
func (s *Store) Get(id string) (Entry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[id]
	return e, ok
}

// List returns all entries, newest first.
func (s *Store) List() []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Entry, 0, len(s.entries))
	for _, e := range s.entries {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Entry) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// Put stores the entry of kept content; it belongs into the transaction that
// puts its message into the outbox.
func (s *Store) Put(tx *bbolt.Tx, e Entry) error { return s.put(tx, e) }

// Delivered notes the platform's name; it belongs into the transaction that
// removes the message. Of those delivered, the oldest beyond Options.Keep go.
func (s *Store) Delivered(tx *bbolt.Tx, id, mediaID string, at time.Time) error {
	e, ok := s.Get(id)
	if !ok {
		return fmt.Errorf("media %.8s: %w", id, ErrUnknown)
	}
	e.MediaID, e.Done = mediaID, at
	done := 1
	for _, old := range s.List() {
		if old.MediaID == "" || old.ID == id {
			continue
		}
		if done++; done > s.o.Keep {
			if err := s.Drop(tx, old.ID); err != nil {
				return err
			}
		}
	}
	return s.put(tx, e)
}

// Drop forgets an entry. Its content goes by Remove, after the commit.
func (s *Store) Drop(tx *bbolt.Tx, id string) error {
	b := tx.Bucket(bucket)
	if b == nil {
		return nil
	}
	if err := b.Delete([]byte(id)); err != nil {
		return fmt.Errorf("drop media: %w", err)
	}
	tx.OnCommit(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.entries, id)
	})
	return nil
}

func (s *Store) put(tx *bbolt.Tx, e Entry) error {
	b, err := tx.CreateBucketIfNotExists(bucket)
	if err != nil {
		return fmt.Errorf("put media: %w", err)
	}
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("put media: %w", err)
	}
	if err := b.Put([]byte(e.ID), fmt.Appendf(nil, "%08x %s", crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)), body)); err != nil {
		return fmt.Errorf("put media: %w", err)
	}
	tx.OnCommit(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.entries[e.ID] = e
	})
	return nil
}

func decode(v []byte) (e Entry, ok bool) {
	if len(v) < 10 || v[8] != ' ' || fmt.Sprintf("%08x", crc32.Checksum(v[9:], crc32.MakeTable(crc32.Castagnoli))) != string(v[:8]) {
		return Entry{}, false
	}
	if err := json.Unmarshal(v[9:], &e); err != nil {
		return Entry{}, false
	}
	return e, true
}
