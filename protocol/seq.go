package protocol

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

const (
	maxSerial = 99_999_999_999_999
	seqBlock  = 1000
)

// shanghai is the platform's zone. It is fixed and not taken from the zone
// database: China has had no other offset since 1991, and a kiosk without
// tzdata, or with a damaged one, must not sign another hour.
func shanghai() *time.Location { return time.FixedZone("CST", 8*60*60) }

// Stamp writes a time as the platform wants it: yyyyMMddHHmmss, Asia/Shanghai.
func Stamp(t time.Time) string { return t.In(shanghai()).Format("20060102150405") }

// SeqBlocks is a SeqSource over the bucket "seq". It reserves blocks of 1,000
// serials in one durable transaction before it gives out the first of them, so
// that a power cut skips serials and never repeats one. After 99999999999999
// it starts again at 1. Use it by pointer; it is safe for concurrent use.
type SeqBlocks struct {
	// Reserve runs one durable transaction and returns after its commit.
	Reserve func(ctx context.Context, fn func(*bbolt.Tx) error) error

	mu   sync.Mutex
	next uint64
	left uint64
}

// Next returns the next serial. It blocks for a commit once in 1,000 calls, and
// at the first. An error means that no serial was used.
func (s *SeqBlocks) Next(ctx context.Context) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 {
		var first, count uint64
		err := s.Reserve(ctx, func(tx *bbolt.Tx) error {
			var err error
			first, count, err = reserveSeq(tx)
			return err
		})
		// Just before the commit nothing of the block was given out; just after
		// it the block is ours, and a crash loses its numbers unused.
		if err != nil {
			return 0, fmt.Errorf("reserve sequence numbers: %w", err)
		}
		s.next, s.left = first, count
	}
	n := s.next
	s.next++
	s.left--
	return n, nil
}

// reserveSeq takes the next block. The value is the first serial that is not
// reserved, 8 bytes. Without one, or with a damaged one, serials begin at a
// random place: nothing is looked up by a serial, but kiosks that are switched
// on for the first time in the same second would otherwise all send the same
// sequence number, which the platform answers with 10056.
func reserveSeq(tx *bbolt.Tx) (first, count uint64, err error) {
	b, err := tx.CreateBucketIfNotExists([]byte("seq"))
	if err != nil {
		return 0, 0, err
	}
	if v := b.Get([]byte("next")); len(v) == 8 {
		first = binary.BigEndian.Uint64(v)
	}
	if first < 1 || first > maxSerial {
		var r [8]byte
		_, _ = rand.Read(r[:]) // never fails
		first = binary.BigEndian.Uint64(r[:])%maxSerial + 1
	}
	count = min(seqBlock, maxSerial-first+1)
	next := first + count
	if next > maxSerial {
		next = 1
	}
	return first, count, b.Put([]byte("next"), binary.BigEndian.AppendUint64(nil, next))
}

func (s *settings) checkSeq() error {
	q := &s.Seq
	if q.CodeWidth == 0 {
		q.CodeWidth = 4
	}
	if q.SerialWidth == 0 {
		q.SerialWidth = 14
	}
	if q.CodeWidth < 4 || q.CodeWidth > 5 {
		return fmt.Errorf("seq.code_width %d: want 4 or 5", q.CodeWidth)
	}
	if q.SerialWidth < 10 || q.SerialWidth > 14 {
		return fmt.Errorf("seq.serial_width %d: want 10 to 14", q.SerialWidth)
	}
	if q.Partition < 0 || q.Partition > 9999 {
		return fmt.Errorf("seq.partition %d: want 0 to 9999", q.Partition)
	}
	switch fixed, ok := strings.CutPrefix(q.CodeMode, "fixed:"); {
	case q.CodeMode == "" || q.CodeMode == "own":
		q.CodeMode = "own"
	case ok && codeForm.MatchString(fixed) && len(fixed) <= q.CodeWidth:
	default:
		return fmt.Errorf("seq.code_mode %q: want own or fixed: and a code no wider than code_width", q.CodeMode)
	}
	return nil
}

// format writes a sequence number: code, time, serial.
func (q SeqConfig) format(code string, at time.Time, serial uint64) string {
	if fixed, ok := strings.CutPrefix(q.CodeMode, "fixed:"); ok {
		code = fixed
	}
	for len(code) < q.CodeWidth {
		code = "0" + code
	}
	width := q.SerialWidth
	part := ""
	if q.Partition > 0 {
		part = fmt.Sprintf("%04d", q.Partition)
		width -= 4
	}
	limit := uint64(1)
	for range width {
		limit *= 10
	}
	serial = (serial-1)%(limit-1) + 1 // 1..limit-1: a serial of zero does not exist
	digits := strconv.FormatUint(serial, 10)
	return code + Stamp(at) + part + strings.Repeat("0", width-len(digits)) + digits
}
