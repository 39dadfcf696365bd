package protocol

// Fen is an amount of money in 1/100 yuan.
type Fen int64

// Volume is an amount of gas in 0.01 m³.
type Volume int64

// LogEntry is one load record of a purse's log.
type LogEntry struct {
	Seq      int    `json:"seq"`      // online sequence of the load, 0..65535
	Amount   Fen    `json:"amount"`   //
	Terminal string `json:"terminal"` // 12 hex digits
	Date     string `json:"date"`     // yyyyMMdd
	Time     string `json:"time"`     // HHmmss
}

// CardInfoRequest asks 3010 what the platform knows of the card in the reader.
// Empty DeviceID and OrgCode are filled from the configuration, here and in
// every other request.
type CardInfoRequest struct {
	DeviceID   string     `json:"deviceId"`
	OrgCode    string     `json:"orgCode"`
	TerminalNo string     `json:"terminalNo"` // 12 hex digits
	CardType   string     `json:"cardType"`
	ATR        string     `json:"atr,omitempty"`
	UID        string     `json:"uid,omitempty"`
	CardNo     string     `json:"cardNo,omitempty"` // empty when the card does not tell it
	Balance    Fen        `json:"balance"`
	Log        []LogEntry `json:"log,omitempty"`      // newest first, at most 10
	CardData   string     `json:"cardData,omitempty"` // image cards: the content in hex
}

// PendingOrder is an order paid elsewhere that can be drawn onto the card.
type PendingOrder struct {
	OrderNo   string `json:"orderNo"`
	Amount    Fen    `json:"amount"`
	GasVolume Volume `json:"gasVolume"`
	PayTime   string `json:"payTime"`
	Source    string `json:"source"`
}

// CardInfo is the answer of 3010. Name is masked by the platform and still
// belongs to a person: it never reaches a log.
type CardInfo struct {
	CardNo        string         `json:"cardNo"`
	SubsCode      string         `json:"subsCode"`
	Name          string         `json:"name"`
	DisplayAddr   string         `json:"displayAddr"`
	MeterCode     string         `json:"meterCode"`
	MeterType     string         `json:"meterType"`
	CardState     string         `json:"cardState"`
	CanCharge     string         `json:"canCharge"` // Y or N
	DenyCode      string         `json:"denyCode"`
	DenyMsg       string         `json:"denyMsg"`
	Remaining     Volume         `json:"remaining"` // gas still on the card
	Unit          string         `json:"unit"`
	PendingOrders []PendingOrder `json:"pendingOrders"`
	// Challenge is single use; the next 4006 of this card must carry the newest.
	Challenge string `json:"challenge"`
}

// CardPrice is the answer of 3019. Prices and bounds keep the platform's
// literal text: their unit differs per company.
type CardPrice struct {
	PriceVersion  string      `json:"priceVersion"`
	EffectiveDate string      `json:"effectiveDate"`
	Unit          string      `json:"unit"`
	Steps         []PriceStep `json:"stepList"`
}

// PriceStep is one step of a price list.
type PriceStep struct {
	Seq   string `json:"priceseq"`
	Price string `json:"price"`
	Lower string `json:"lower"`
	Upper string `json:"upper"`
}

// Kinds of authorisation.
const (
	KindLoad   = "load"   // PBOC purse, credit for load
	KindImage  = "image"  // memory card, a list of writes
	KindScript = "script" // card driven by the platform's APDUs
)

// Load modes of 4006.
const (
	ModeDraw = 1 // draw an order that is already paid
	ModePaid = 2 // paid at the kiosk
)

// LoadRequest is what the card answered to INITIALIZE FOR LOAD.
type LoadRequest struct {
	Type       int    `json:"type"`
	KeyIndex   int    `json:"keyIndex"`
	KeyVersion int    `json:"keyVersion"`
	AlgID      int    `json:"algId"`
	Balance    Fen    `json:"balance"`
	OnlineSeq  int    `json:"onlineSeq"`
	Random     string `json:"random"` // 8 hex digits
	MAC1       string `json:"mac1"`   // 8 hex digits
}

// ImageRequest is the content of a memory card.
type ImageRequest struct {
	CardData string `json:"cardData"` // the whole content in hex
	Count    int    `json:"count"`    // purchase count read from the card
}

// AuthorizeRequest asks 4006 for the permission to load one order. TransNo is
// made and stored before the call and kept for every repeat.
type AuthorizeRequest struct {
	TransNo    string        `json:"termTransNo"` // 32 upper hex digits
	Challenge  string        `json:"challenge,omitempty"`
	OrderNo    string        `json:"orderNo,omitempty"`
	DeviceID   string        `json:"deviceId"`
	OrgCode    string        `json:"orgCode"`
	TerminalNo string        `json:"terminalNo"`
	CardNo     string        `json:"cardNo"`
	SubsCode   string        `json:"subsCode,omitempty"`
	MeterCode  string        `json:"meterCode,omitempty"`
	CardType   string        `json:"cardType"`
	LoadMode   int           `json:"loadMode"`
	Amount     Fen           `json:"amount"`
	GasVolume  Volume        `json:"gasVolume"`
	Kind       string        `json:"kind"`
	Load       *LoadRequest  `json:"load,omitempty"`
	Image      *ImageRequest `json:"image,omitempty"`
	PayType    string        `json:"payType,omitempty"`    // mode 2
	PayTransNo string        `json:"payTransNo,omitempty"` // mode 2
	PayTime    string        `json:"payTime,omitempty"`    // mode 2, yyyyMMddHHmmss
}

// LoadAnswer carries what CREDIT FOR LOAD needs.
type LoadAnswer struct {
	HostDate string `json:"hostDate"` // yyyyMMdd
	HostTime string `json:"hostTime"` // HHmmss
	MAC2     string `json:"mac2"`     // 8 hex digits; never logged
}

// ImageWrite is one run of bytes to write.
type ImageWrite struct {
	Zone   string `json:"zone"`   // "main"
	Offset int    `json:"offset"` // 0..255
	Data   string `json:"data"`   // hex
}

// ImageField names a place on the card.
type ImageField struct {
	Zone   string `json:"zone"`
	Offset int    `json:"offset"`
	Len    int    `json:"len"`
}

// ImageAnswer is the plan for a memory card. Writes do not overlap and Commit
// lies within one of them; both are checked by the client.
type ImageAnswer struct {
	Count     int          `json:"count"` // the new count
	Writes    []ImageWrite `json:"writes"`
	Commit    ImageField   `json:"commit"`
	CRCBefore string       `json:"crcBefore"` // CRC-32 (IEEE) of the 256 bytes, 8 hex digits
	CRCAfter  string       `json:"crcAfter"`
	PSCOld    string       `json:"pscOld"` // 6 hex digits or empty; never logged
	PSCNew    string       `json:"pscNew"`
}

// ScriptStep is one APDU of a script.
type ScriptStep struct {
	APDU     string `json:"apdu"`
	Expect   string `json:"expect"`
	Changing bool   `json:"changing"`
}

// ScriptCheck is a read-only APDU whose answer means written or not.
type ScriptCheck struct {
	APDU       string `json:"apdu"`
	Written    string `json:"written"`
	NotWritten string `json:"notWritten"`
}

// ScriptAnswer is a card driven by the platform's APDUs. It always has at
// least one check.
type ScriptAnswer struct {
	Steps  []ScriptStep  `json:"steps"`
	Check  []ScriptCheck `json:"check"`
	Resume string        `json:"resume"` // restart or never
}

// Authorization is the answer of 4006. Every echoed field was compared with
// the request before the caller sees it.
type Authorization struct {
	TransNo    string            `json:"termTransNo"`
	OrderNo    string            `json:"orderNo"`
	CardNo     string            `json:"cardNo"`
	Kind       string            `json:"kind"`
	Amount     Fen               `json:"amount"`
	GasVolume  Volume            `json:"gasVolume"`
	AuthExpire int               `json:"authExpire"` // seconds from the answer, 1..86400
	Load       *LoadAnswer       `json:"load,omitempty"`
	Image      *ImageAnswer      `json:"image,omitempty"`
	Script     *ScriptAnswer     `json:"script,omitempty"`
	Receipt    map[string]string `json:"receipt,omitempty"`
}

// Results of a report.
const (
	ResultWritten    = 0
	ResultNotWritten = 1
	ResultUnknown    = 2
	ResultCodeFailed = 3 // written, but the change of the card's code failed
)

// States an order is in, as reports, reversals and queries answer it.
const (
	StateSettled    = "S"
	StateGivenBack  = "R"
	StatePending    = "P"
	StateAuthorised = "A" // 6006 only
)

// ReportRequest tells 6002 what happened on the card.
type ReportRequest struct {
	TransNo         string    `json:"termTransNo"`
	Rev             int       `json:"rev"` // 1, 2, 3 ...
	OrderNo         string    `json:"orderNo"`
	DeviceID        string    `json:"deviceId"`
	OrgCode         string    `json:"orgCode"`
	TerminalNo      string    `json:"terminalNo"`
	CardNo          string    `json:"cardNo"`
	Kind            string    `json:"kind"`
	Amount          Fen       `json:"amount"`
	GasVolume       Volume    `json:"gasVolume"`
	Result          int       `json:"result"`
	Evidence        string    `json:"evidence"`  // answer, proof, log, image, journal, operator
	NoAttempt       string    `json:"noAttempt"` // Y or N
	OnlineSeqBefore *int      `json:"onlineSeqBefore,omitempty"`
	OnlineSeqAfter  *int      `json:"onlineSeqAfter,omitempty"`
	BalanceAfter    *Fen      `json:"balanceAfter,omitempty"`
	TAC             string    `json:"tac,omitempty"` // 8 hex digits
	LogRecord       *LogEntry `json:"logRecord,omitempty"`
	HostDate        string    `json:"hostDate,omitempty"`
	HostTime        string    `json:"hostTime,omitempty"`
	CardDataAfter   string    `json:"cardDataAfter,omitempty"`
	FailCode        string    `json:"failCode,omitempty"`
	FailReason      string    `json:"failReason,omitempty"`
	WriteTime       string    `json:"writeTime,omitempty"` // yyyyMMddHHmmss
	OfflineSeconds  int64     `json:"offlineSeconds"`
	Firmware        string    `json:"firmware,omitempty"`
}

// ReportAnswer is an acknowledged report: same number, same rev, state S, R
// or P. Anything less is an error.
type ReportAnswer struct {
	TransNo   string `json:"termTransNo"`
	OrderNo   string `json:"orderNo"`
	Rev       int    `json:"rev"`
	State     string `json:"state"`
	Duplicate string `json:"duplicate"` // Y, N or empty
}

// Reasons of a reversal.
const (
	ReasonNotWritten  = "01" // proven by a CPU card
	ReasonAnswerLost  = "02" // authorise answer lost
	ReasonCardGone    = "03" // card gone before the first write
	ReasonCancelled   = "04"
	ReasonDeviceFault = "05"
	ReasonOperator    = "06"
)

// ReverseRequest gives an authorised order back by 6003, under the number of
// the top-up it gives back.
type ReverseRequest struct {
	TransNo  string `json:"termTransNo"`
	OrderNo  string `json:"orderNo"`
	DeviceID string `json:"deviceId"`
	OrgCode  string `json:"orgCode"`
	Reason   string `json:"reason"`
	Time     string `json:"time"` // yyyyMMddHHmmss
	// What a dialect's reversal tells besides; the document's does not.
	CardNo    string `json:"-"`
	Amount    Fen    `json:"-"`
	GasVolume Volume `json:"-"`
}

// ReverseAnswer is an acknowledged reversal.
type ReverseAnswer struct {
	TransNo string `json:"termTransNo"`
	OrderNo string `json:"orderNo"`
	State   string `json:"state"`
}

// QueryOrderRequest names an order by number of the top-up, by order, or both.
type QueryOrderRequest struct {
	TransNo string `json:"termTransNo,omitempty"`
	OrderNo string `json:"orderNo,omitempty"`
}

// OrderState is the answer of 6006.
type OrderState struct {
	TransNo    string `json:"termTransNo"`
	OrderNo    string `json:"orderNo"`
	State      string `json:"state"`  // S, R, P or A
	Holder     string `json:"holder"` // termTransNo it is authorised under, or empty
	Amount     Fen    `json:"amount"`
	GasVolume  Volume `json:"gasVolume"`
	Count      int    `json:"count"`
	AuthExpire int    `json:"authExpire"` // seconds; 0 when past or none
	// Authorization repeats what 4006 gave, while the order is authorised and
	// held by the number asked for; nil otherwise. It was checked for form only:
	// the caller compares it with its own record.
	Authorization *Authorization `json:"authorization,omitempty"`
}

// HeartbeatRequest is the kiosk's state for 6004.
type HeartbeatRequest struct {
	DeviceID     string   `json:"deviceId"`
	OrgCode      string   `json:"orgCode"`
	State        string   `json:"state"`
	KCV          string   `json:"kcv,omitempty"` // 6 hex digits
	KeyGen       uint64   `json:"keyGen"`
	QueueDepth   int      `json:"queueDepth"`
	OldestQueued int64    `json:"oldestQueued"` // seconds
	Parked       int      `json:"parked"`
	Alarms       []string `json:"alarms,omitempty"`
	Firmware     string   `json:"firmware,omitempty"`
	DiskFree     int64    `json:"diskFree"` // bytes
	// ReaderState is what the reader said last, LastTransTime when the newest
	// top-up was begun.
	ReaderState   string       `json:"readerState,omitempty"`
	LastTransTime string       `json:"lastTransTime,omitempty"`
	ModemState    *ModemState  `json:"modemState,omitempty"` // nil without a modem
	Acks          []CommandAck `json:"acks,omitempty"`
}

// ModemState is the modem's signal and card.
type ModemState struct {
	CSQ   int    `json:"csq"` // 0..31, 99 unknown
	ICCID string `json:"iccid,omitempty"`
}

// CommandAck tells what became of a command.
type CommandAck struct {
	ID     string `json:"cmdId"`
	Result string `json:"result"`           // ok, refused, expired, failed
	Reason string `json:"reason,omitempty"` // why not ok
	KCV    string `json:"kcv,omitempty"`    // of keyCheck
}

// Command is an order from the back office that came with a heartbeat. Only
// what is inside the envelope counts: ID is outside text, for the refusal of an
// envelope that does not open.
type Command struct {
	ID string `json:"cmdId"`
	// Signed is an envelope of protocol/signed as text, empty when the platform
	// sent none: such a command is refused.
	Signed string `json:"signed,omitempty"`
}

// HeartbeatAnswer is the answer of 6004.
type HeartbeatAnswer struct {
	Timestamp string    `json:"timestamp"`
	Commands  []Command `json:"commands,omitempty"`
}
