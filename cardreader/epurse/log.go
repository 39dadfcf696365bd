package epurse

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"vcckiosk/cardreader/apdu"
)

// LogRecordLen is the length in bytes of one record of the transaction log.
const LogRecordLen = 23

var (
	// ErrEmptySlot: the record was never written (all 00 or all FF).
	ErrEmptySlot = errors.New("empty log record")
	// ErrBadRecord: the card gave something that is no log record. Such a log proves what it shows, never what it lacks.
	ErrBadRecord = errors.New("malformed log record")
)

// LogRecord is one record of the card's transaction log, as the card holds it.
type LogRecord struct {
	// Seq is the online sequence of a load, the offline sequence of a purchase. Cards differ in whether a load's is the one
	// before or after it was counted up.
	Seq       uint16
	Overdraft [3]byte
	// Amount is in the card's units.
	Amount uint32
	// Type is the transaction type: TypeDepositLoad, TypePurseLoad, others are purchases, unloads and changes of limits.
	Type     byte
	Terminal [6]byte
	// Date is BCD YYYYMMDD, Time BCD hhmmss: for a load those the platform gave with MAC2.
	Date [4]byte
	Time [3]byte
}

// ParseLogRecord takes one record of 23 bytes apart: sequence 2, overdraft 3, amount 4, type 1, terminal 6, date 4, time 3.
// The error is ErrEmptySlot or ErrBadRecord: wrong length, no transaction type, or a load whose date or time is not BCD
// (loads carry the platform's; terminals of purchases are not held to it).
func ParseLogRecord(b []byte) (LogRecord, error) {
	if len(b) != LogRecordLen {
		return LogRecord{}, fmt.Errorf("%w: %d bytes instead of %d", ErrBadRecord, len(b), LogRecordLen)
	}
	if blank(b) {
		return LogRecord{}, ErrEmptySlot
	}
	r := LogRecord{
		Seq:       binary.BigEndian.Uint16(b[0:2]),
		Overdraft: [3]byte(b[2:5]),
		Amount:    binary.BigEndian.Uint32(b[5:9]),
		Type:      b[9],
		Terminal:  [6]byte(b[10:16]),
		Date:      [4]byte(b[16:20]),
		Time:      [3]byte(b[20:23]),
	}
	switch r.Type {
	case 0x00, 0xFF:
		return LogRecord{}, fmt.Errorf("%w: no transaction type", ErrBadRecord)
	case TypeDepositLoad, TypePurseLoad:
		if !bcd(b[16:23]) {
			return LogRecord{}, fmt.Errorf("%w: date or time of a load is not BCD", ErrBadRecord)
		}
	}
	return r, nil
}

// Bytes is the record as the card holds it, the reverse of ParseLogRecord.
func (r LogRecord) Bytes() []byte {
	b := make([]byte, 0, LogRecordLen)
	b = binary.BigEndian.AppendUint16(b, r.Seq)
	b = append(b, r.Overdraft[:]...)
	b = binary.BigEndian.AppendUint32(b, r.Amount)
	b = append(b, r.Type)
	b = append(b, r.Terminal[:]...)
	b = append(b, r.Date[:]...)
	return append(b, r.Time[:]...)
}

func bcd(b []byte) bool {
	for _, v := range b {
		if v>>4 > 9 || v&0x0F > 9 {
			return false
		}
	}
	return true
}

// Log is what the card's transaction log showed.
type Log struct {
	// Records are the used records, newest first.
	Records []LogRecord
	// Room: a free place was seen, so the log holds every transaction since it was empty.
	Room bool
	// Complete: read without error up to a free place or to LogCapacity. Only then does the absence of a record say anything.
	Complete bool
}

// Log reads the transaction log, record 1 (the newest) first, until the card has no more or LogCapacity is reached. It only
// reads and may be repeated. With an error it also returns the records read before, Complete being false: these are still
// evidence of what they show. A used record after an empty one makes the log malformed (ErrBadRecord): then the empty place
// may be where a torn record stood.
func (p *Purse) Log(ctx context.Context) (Log, error) {
	var l Log
	for n := 1; n <= p.p.LogCapacity; n++ {
		r, err := p.ask(ctx, apdu.Command{INS: 0xB2, P1: byte(n), P2: p.p.LogSFI<<3 | 4, Le: LogRecordLen})
		if err != nil {
			return l, fmt.Errorf("read log record %d: %w", n, err)
		}
		if r.SW == apdu.RecordNotFound {
			l.Room = true
			break
		}
		if !r.SW.OK() {
			return l, fmt.Errorf("read log record %d: %w", n, r.SW)
		}
		rec, err := ParseLogRecord(r.Data)
		switch {
		case errors.Is(err, ErrEmptySlot):
			l.Room = true
		case err != nil:
			return l, fmt.Errorf("read log record %d: %w", n, err)
		case l.Room:
			l.Room = false
			return l, fmt.Errorf("read log record %d: %w: used after an empty one", n, ErrBadRecord)
		default:
			l.Records = append(l.Records, rec)
		}
	}
	l.Complete = true
	return l, nil
}
