// Package topup is the pure heart of the money path: what a top-up is on disk,
// what a card's evidence means (Decide), and what a platform's answer means
// (Settle). It does no I/O, knows no clock and no randomness, and is total:
// every phase meets every evidence with a verdict. The same functions run in
// the kiosk and in the exhaustive model of model_test.go.
//
// Two rules hold everything else up. The card decides, never an error value
// and never the balance. And what nobody knows is called Unknown and stays
// so until somebody who can know speaks.
package topup

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// Fen is money in 0.01 yuan.
type Fen int64

// Volume is gas in 0.01 m³.
type Volume int64

// Millis is a wall clock reading in milliseconds since 1970. It is data for
// reports and people; nothing is ordered or scheduled by it.
type Millis int64

// TransNo names one top-up attempt: 32 upper-case hex digits of 16 random
// bytes. One number means one 80 50 (or one image plan) and one outcome; it is
// kept for every repeat of interface 4006, every revision of 6002, for 6003,
// the receipt and the day file.
type TransNo string

// NewTransNo draws a number.
func NewTransNo() TransNo {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return TransNo(strings.ToUpper(hex.EncodeToString(b[:])))
}

// Valid reports whether t has the form of a number.
func (t TransNo) Valid() bool {
	if len(t) != 32 {
		return false
	}
	for _, c := range []byte(t) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

// Kind says how the gas gets onto the card.
type Kind string

// The kinds of a top-up.
const (
	Load   Kind = "load"   // PBOC purse: 80 50, 80 52
	Image  Kind = "image"  // memory card: absolute content with a monotone count
	Script Kind = "script" // APDUs supplied by the platform
)

// Phase is where a record stands on disk.
type Phase string

// The durable phases. Intent: the order is chosen, nothing changing was sent.
// Writing: the marker that stands before the first changing command. Written,
// NotWritten, Unknown: the outcome is stored together with its report.
// Closed: the platform has acknowledged, nothing is left to do on this kiosk.
// Paying to Refunded are for payment at the kiosk; the record has room for
// them from the start and nothing writes them yet.
const (
	Intent     Phase = "intent"
	Writing    Phase = "writing"
	Written    Phase = "written"
	NotWritten Phase = "notWritten"
	Unknown    Phase = "unknown"
	Closed     Phase = "closed"

	Paying    Phase = "paying"
	Paid      Phase = "paid"
	Refunding Phase = "refunding"
	Refunded  Phase = "refunded"
)

// Outcome is what happened on the card. It survives Closed.
type Outcome string

// The outcomes. NoOutcome is a record that is still under way.
const (
	NoOutcome         Outcome = ""
	OutcomeWritten    Outcome = "written"
	OutcomeNotWritten Outcome = "notWritten"
	OutcomeUnknown    Outcome = "unknown"
)

// Basis says who vouches for an outcome; it travels as field evidence of 6002.
type Basis string

// The bases.
const (
	ByAnswer   Basis = "answer"   // the card's own answer (80 52, or 80 50: sequence unchanged)
	ByProof    Basis = "proof"    // 80 5A gave a TAC; the platform must check it
	ByLog      Basis = "log"      // the card's log
	ByImage    Basis = "image"    // the card's content
	ByJournal  Basis = "journal"  // no durable Writing: nothing changing was ever sent
	ByOperator Basis = "operator" // a person decided
)

// Card names a card. Hash is the lane of its reports and the key of every
// look-up: upper hex SHA-256 of its identity bytes, first 32 digits. No is the
// printed number as the platform knows it; logs show its last four digits.
type Card struct {
	Type string `json:"type"`
	No   string `json:"no"`
	Hash string `json:"hash"`
}

// CPU reports whether the card can vouch for itself. A memory card cannot: it
// can be copied, so its "unchanged" never gives money back.
func (c Card) CPU() bool { return c.Type == "CPU" }

// LogRecord is one entry of a purse's transaction log as the card tells it.
// Hex fields are upper case: Terminal 12 digits, Date yyyyMMdd, Time HHmmss.
type LogRecord struct {
	Seq      uint16 `json:"seq"`
	Amount   uint32 `json:"amount"`
	Type     byte   `json:"type"`
	Terminal string `json:"terminal"`
	Date     string `json:"date"`
	Time     string `json:"time"`
}

// LoadPlan is the purse half of a record. Seq, Random, KeyVersion and AlgID
// are what 80 50 answered; HostDate, HostTime and MAC2 what 4006 answered.
type LoadPlan struct {
	Type       byte   `json:"type"` // 01 ED, 02 EP
	KeyIndex   byte   `json:"keyIndex"`
	KeyVersion byte   `json:"keyVersion"`
	AlgID      byte   `json:"algId"`
	Terminal   string `json:"terminal"`
	Amount     uint32 `json:"amount"` // in card units, as 80 50 carried it
	Balance    uint32 `json:"balance"`
	Seq        uint16 `json:"seq"`
	Random     string `json:"random"`
	HostDate   string `json:"hostDate"`
	HostTime   string `json:"hostTime"`
	MAC2       string `json:"mac2"`
	// Newest is the newest log record seen before 80 50. LogSeen is false when
	// the log could not be read then; with LogSeen and Newest nil it was empty.
	Newest  *LogRecord `json:"newest,omitempty"`
	LogSeen bool       `json:"logSeen"`
}

// ImagePlan is the memory card half of a record. Plan is sealed on disk
// (Sealed) and present in memory only while the keystore is open.
type ImagePlan struct {
	Count        int    `json:"count"`
	BeforeSHA256 string `json:"beforeSha256"`
	TargetSHA256 string `json:"targetSha256"`
	Sealed       []byte `json:"sealed"`
	Plan         *Plan  `json:"-"`
}

// Observed is the evidence that goes with an outcome, as 6002 carries it.
type Observed struct {
	SeqAfter     *uint16    `json:"seqAfter,omitempty"`
	BalanceAfter *uint32    `json:"balanceAfter,omitempty"`
	TAC          string     `json:"tac,omitempty"`
	LogRecord    *LogRecord `json:"logRecord,omitempty"`
	// SealedImage is the content read back, sealed by the root key; ImageSHA256
	// lets an auditor compare without the key.
	SealedImage []byte `json:"sealedImage,omitempty"`
	ImageSHA256 string `json:"imageSha256,omitempty"`
}

// Conflict is the evidence of a broken contract, ours and the platform's side
// by side.
type Conflict struct {
	Message Message `json:"message"`
	Rev     int     `json:"rev"`
	Said    int     `json:"said"` // result we reported
	State   State   `json:"state"`
	Code    string  `json:"code,omitempty"`
	Clause  int     `json:"clause"` // of docs/contract.md
}

// Payment is room for payment at the kiosk; absent for a paid order.
type Payment struct {
	Type    string `json:"type"`
	TransNo string `json:"transNo"`
	Time    string `json:"time"`
}

// Record is one top-up attempt as the journal keeps it. No key, PIN, PSC,
// phone number or name is in it.
type Record struct {
	Version int     `json:"v"`
	TransNo TransNo `json:"termTransNo"`
	Phase   Phase   `json:"phase"`
	Kind    Kind    `json:"kind"`

	OrderNo   string `json:"orderNo"`
	SubsCode  string `json:"subsCode,omitempty"`
	MeterCode string `json:"meterCode,omitempty"`
	Amount    Fen    `json:"amount"`
	Volume    Volume `json:"gasVolume"`
	Card      Card   `json:"card"`
	Begun     Millis `json:"begun"`
	// PowerSession names the run of the process that made the record. Only the
	// same run may go on with an Intent.
	PowerSession string `json:"powerSession"`
	// AuthExpire is the life of the authorisation in seconds, as answered.
	AuthExpire int `json:"authExpire,omitempty"`

	Load    *LoadPlan  `json:"load,omitempty"`
	Image   *ImagePlan `json:"image,omitempty"`
	Payment *Payment   `json:"payment,omitempty"`

	Outcome    Outcome  `json:"outcome,omitempty"`
	Basis      Basis    `json:"basis,omitempty"`
	CodeFailed bool     `json:"codeFailed,omitempty"` // written, but the card's code was not changed
	NoAttempt  bool     `json:"noAttempt,omitempty"`  // no changing command was ever sent
	FailCode   string   `json:"failCode,omitempty"`
	FailReason string   `json:"failReason,omitempty"`
	Reason     Reason   `json:"reason,omitempty"` // of 6003, should it come to that
	Decided    Millis   `json:"decided,omitempty"`
	ReconDay   string   `json:"reconDay,omitempty"`
	Observed   Observed `json:"observed,omitzero"`

	// Rev is the newest revision of the report, 0 before the first.
	Rev      int   `json:"rev,omitempty"`
	AckRev   int   `json:"ackRev,omitempty"`
	AckState State `json:"ackState,omitempty"`

	// Manual: the card has been read again and cannot tell; it is free for
	// other orders, never for this one.
	Manual bool `json:"manual,omitempty"`
	// Awaiting: closed here, the platform still owes its decision (6006 daily).
	Awaiting bool `json:"awaiting,omitempty"`
	// Asked: 6006 was asked once because the platform did not know the order.
	Asked      bool      `json:"asked,omitempty"`
	Conflict   *Conflict `json:"conflict,omitempty"`
	Parked     string    `json:"parked,omitempty"`
	Salvaged   bool      `json:"salvaged,omitempty"`
	Reconciled bool      `json:"reconciled,omitempty"`
}

// Reason is field reason of 6003.
type Reason string

// The reasons of a give-back.
const (
	ReasonNotWritten Reason = "01" // not written, proven by a CPU card
	ReasonNoAnswer   Reason = "02" // the authorise answer was lost
	ReasonCardGone   Reason = "03" // the card was gone before the first write
	ReasonCancelled  Reason = "04"
	ReasonDevice     Reason = "05"
	ReasonOperator   Reason = "06"
)

// ResultCode is field result of 6002: 0 written, 1 not written, 2 unknown,
// 3 written but the code change failed.
func (r Record) ResultCode() int {
	switch r.Outcome {
	case OutcomeWritten:
		if r.CodeFailed {
			return 3
		}
		return 0
	case OutcomeNotWritten:
		return 1
	default:
		return 2
	}
}

// BlocksCard reports whether no new order may be started on r's card here.
// Unknown blocks its card until the card has been read again and cannot tell,
// or somebody else settled it.
func (r Record) BlocksCard() bool {
	switch r.Phase {
	case Intent, Writing:
		return true
	case Unknown:
		return !r.Manual
	default:
		return false
	}
}

// BlocksOrder reports whether r.OrderNo may not be authorised again here,
// whatever 3010 lists. Only an order that is proven not to be on the card, and
// whose report the platform has acknowledged, is free again.
func (r Record) BlocksOrder() bool {
	if r.Conflict != nil {
		return true
	}
	return r.Phase != Closed || r.Outcome != OutcomeNotWritten
}

// NeedsCard reports whether r waits for evidence only its card can give.
func (r Record) NeedsCard() bool {
	return r.Phase == Writing || r.Phase == Unknown
}

// GiveBack reports whether r's "not written" is strong enough for money: the
// journal's own proof or a CPU card's. A salvaged record has no journal proof.
func (r Record) GiveBack() bool {
	if r.Outcome != OutcomeNotWritten {
		return false
	}
	if r.Basis == ByJournal {
		return r.NoAttempt && !r.Salvaged
	}
	return r.Card.CPU() && (r.Basis == ByAnswer || r.Basis == ByLog)
}
