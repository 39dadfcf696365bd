package simtest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"vcckiosk/protocol/reconcile/sftp"
)

// fileServer is the platform's file server. A day's sum that arrives is answered
// from the platform's books, an hour later as far as anybody can see.
type fileServer struct {
	w *World

	mu    sync.Mutex
	files map[string][]byte
	puts  []string // in order, with the time of day in China
	// fail, when set, is asked before anything is done.
	fail func(op, name string) error
	// edit, when set, is what the answer becomes.
	edit func(file []byte) []byte
}

func newFileServer(w *World) *fileServer {
	s := &fileServer{w: w, files: map[string][]byte{}}
	w.files = s
	return s
}

// failing sets fail.
func (s *fileServer) failing(f func(op, name string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = f
}

// editing sets edit.
func (s *fileServer) editing(f func(file []byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.edit = f
}

var china = time.FixedZone("CST", 8*3600)

func (s *fileServer) put(name string, content []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail("put", path.Base(name)); err != nil {
			return err
		}
	}
	s.files[name] = slices.Clone(content)
	s.puts = append(s.puts, time.Now().In(china).Format("20060102 15:04 ")+path.Base(name))
	if id, is := strings.CutSuffix(path.Base(name), ".sum"); is {
		device, day, _ := strings.Cut(strings.TrimPrefix(id, "QC_"), "_")
		file, sum := s.w.Platform.DayAnswer(device, "SU0105", day)
		if s.edit != nil {
			if file = s.edit(file); file == nil {
				return nil
			}
			sum = nil
		}
		s.answer(path.Dir(name), device, day, file, sum)
	}
	return nil
}

// sumOf is a sum by somebody else's code than the kiosk's.
func sumOf(file []byte) []byte {
	rows, amount, volume := -1, 0, 0 // the header is no row
	var at []int
	for line := range strings.Lines(string(file)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if rows++; rows == 0 {
			at = []int{slices.Index(cells, "金额(分)"), slices.Index(cells, "气量")}
			continue
		}
		for i, into := range []*int{&amount, &volume} {
			if at[i] >= 0 && at[i] < len(cells) {
				n, _ := strconv.Atoi(cells[at[i]])
				*into += n
			}
		}
	}
	return fmt.Appendf(nil, "%d|%d|%d|%x\n", rows, amount, volume, sha256.Sum256(file))
}

// answer needs s.mu. A nil sum is made to fit.
func (s *fileServer) answer(dir, device, day string, file, sum []byte) {
	if sum == nil {
		sum = sumOf(file)
	}
	name := path.Join(dir, fmt.Sprintf("QR_%s_%s", device, day))
	s.files[name+".txt"], s.files[name+".sum"] = file, sum
}

func (s *fileServer) get(name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail("get", path.Base(name)); err != nil {
			return nil, err
		}
	}
	b, ok := s.files[name]
	if !ok {
		return nil, fmt.Errorf("get %s: %w", path.Base(name), fs.ErrNotExist)
	}
	return slices.Clone(b), nil
}

// sent are the names of the files that were put, with day and hour.
func (s *fileServer) sent() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.puts)
}

// wire is a kiosk's line to the file server; it ends with the kiosk's power.
type wire struct {
	s *fileServer
	p *power
}

func (l *wire) Put(_ context.Context, name string, content []byte) error {
	id, err := l.p.begin("put " + name)
	if err != nil {
		return fmt.Errorf("%w: %w", sftp.ErrLost, err)
	}
	if err := l.s.put(name, content); err != nil {
		return err
	}
	return l.p.end(id)
}

func (l *wire) Get(_ context.Context, name string, limit int64) ([]byte, error) {
	id, err := l.p.begin("get " + name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", sftp.ErrLost, err)
	}
	b, err := l.s.get(name)
	if err == nil && int64(len(b)) > limit {
		err = sftp.ErrTooLarge
	}
	if off := l.p.end(id); off != nil {
		return nil, off
	}
	return b, err
}
