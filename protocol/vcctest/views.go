package vcctest

import "time"

// Kinds of cards and authorisations.
const (
	KindLoad  = "load"  // CPU card with a purse
	KindImage = "image" // memory card
)

// States of an order.
const (
	StatePaid       = "paid"       // paid, free to be collected
	StateAuthorised = "authorised" // held by Holder
	StateSettled    = "settled"
	StateReturned   = "returned" // money went back to the payer (orders paid at the kiosk)
)

// States of one termTransNo.
const (
	TransOpen     = "open"     // authorised, undecided
	TransSettled  = "settled"  // S
	TransReturned = "returned" // R; a fence too
)

// CardBook is a card as the platform knows it.
type CardBook struct {
	CardNo, SubsCode, Name, Addr, MeterCode, MeterType string
	Kind                                               string   // KindLoad or KindImage
	Unit                                               string   // load: "fen" (default) or "cl": what the purse counts
	DLK, DTK                                           [16]byte // load
	PSC                                                [3]byte  // image: present code; zero means FFFFFF
	NextPSC                                            [3]byte  // image: code to change to with the next order; zero means unchanged
	Deny                                               string   // a denyCode, "" means allowed
}

// OrderBook is a paid order.
type OrderBook struct {
	OrderNo string
	CardNo  string
	Amount  int64 // fen
	Volume  int64 // 0.01 m3
	PayTime time.Time
	Source  string
}

// OrderView is a copy of one order's books.
type OrderView struct {
	OrderNo string    `json:"orderNo"`
	CardNo  string    `json:"cardNo"`
	Amount  int64     `json:"amount"`
	Volume  int64     `json:"gasVolume"`
	PayTime time.Time `json:"payTime"`
	State   string    `json:"state"`
	// Holder is the number that holds the order, or that settled it.
	Holder string `json:"holder,omitempty"`
	// SettledBy is the evidence an order was settled on: answer, tac, log, image, operator ...
	SettledBy string      `json:"settledBy,omitempty"`
	Trans     []TransView `json:"trans,omitempty"`
	Issued    []Issue     `json:"issued,omitempty"`
	Reports   []Report    `json:"reports,omitempty"`
	Conflicts []Conflict  `json:"conflicts,omitempty"`
}

// Collectable reports whether some kiosk could still draw the order.
func (o OrderView) Collectable() bool { return o.State == StatePaid || o.State == StateAuthorised }

// TransView is a copy of what is known of one termTransNo.
type TransView struct {
	TransNo   string `json:"termTransNo"`
	OrderNo   string `json:"orderNo"`
	State     string `json:"state"`
	Fence     bool   `json:"fence,omitempty"`     // given back before it was seen
	Forgotten bool   `json:"forgotten,omitempty"` // the platform no longer knows it (ForgetAuth)
	Why       string `json:"why,omitempty"`       // what decided the state
	Reported  int    `json:"reported"`            // result of the highest revision, -1 none
	Rev       int    `json:"rev"`                 // highest revision
}

// Issue is one content the platform ever gave out for an order. A repeat that
// got the same answer adds none.
type Issue struct {
	TransNo    string    `json:"termTransNo"`
	TerminalNo string    `json:"terminalNo"`
	DeviceID   string    `json:"deviceId"`
	Kind       string    `json:"kind"`
	Seq        int       `json:"seq"` // load: online sequence before the load
	MAC2       string    `json:"-"`
	HostDate   string    `json:"hostDate,omitempty"`
	HostTime   string    `json:"hostTime,omitempty"`
	Count      int       `json:"count"` // image: the target's count
	Target     []byte    `json:"-"`     // image: the whole target, 256 bytes
	CRC        string    `json:"crcAfter,omitempty"`
	At         time.Time `json:"at"`
	Expire     time.Time `json:"expire"`
}

// Report is one 6002 or 6003 that arrived, in order of arrival, duplicates and
// refused ones included.
type Report struct {
	TransNo    string    `json:"termTransNo"`
	TerminalNo string    `json:"terminalNo,omitempty"`
	DeviceID   string    `json:"deviceId"`
	Rev        int       `json:"rev"`
	Result     int       `json:"result"` // -1: a reversal (6003)
	Evidence   string    `json:"evidence,omitempty"`
	Reason     string    `json:"reason,omitempty"` // of a reversal
	Answer     string    `json:"answer"`           // S, R, P or the refusal's code
	Duplicate  bool      `json:"duplicate,omitempty"`
	At         time.Time `json:"at"`
}

// Conflict is a clause of the contract that the platform itself broke, or
// (Clause 0) a contradiction between what it decided and what a kiosk reported.
// It is told from the platform's memory alone.
type Conflict struct {
	Clause  int       `json:"clause"`
	OrderNo string    `json:"orderNo"`
	TransNo string    `json:"termTransNo"`
	What    string    `json:"what"`
	At      time.Time `json:"at"`
}

// CardView is a copy of one card's books, without keys.
type CardView struct {
	CardNo     string     `json:"cardNo"`
	Kind       string     `json:"kind"`
	SubsCode   string     `json:"subsCode"`
	Count      int        `json:"count"` // image: the highest count settled
	LastSeen   time.Time  `json:"lastSeen"`
	LastLog    []LogEntry `json:"lastLog,omitempty"`
	CodeChange bool       `json:"codeChange,omitempty"` // a code change is still to be made
}

// LogEntry is one load record of a purse as 3010 and 6002 carry it.
type LogEntry struct {
	Seq      int    `json:"seq"`
	Amount   int64  `json:"amount"`
	Terminal string `json:"terminal"`
	Date     string `json:"date"`
	Time     string `json:"time"`
}

// Snapshot is a copy of all books, sorted by number, without keys.
type Snapshot struct {
	At        time.Time      `json:"at"`
	Cards     []CardView     `json:"cards"`
	Orders    []OrderView    `json:"orders"`
	Conflicts []Conflict     `json:"conflicts"`
	Calls     map[string]int `json:"calls"`
}

// Account is a further holder of a base key: an appId (1002) or a deviceId (1001).
type Account struct {
	AppID    string
	DeviceID string
	BaseKey  string
}
