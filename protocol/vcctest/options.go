package vcctest

import (
	"crypto/ed25519"
	"time"
)

// Options configure a Platform. The zero value is the worst plausible platform
// with base key "" (which nobody can sign with): set at least BaseKey.
type Options struct {
	// Good keeps the contract and answers every call. Lapses set beside it are
	// applied all the same, one by one.
	Good bool
	// Lapses are the ways in which the platform misbehaves. The zero value means
	// none with Good, and WorstLapses without.
	Lapses Lapses
	// Odds is the probability of a lapse at each chance it gets: one chance per
	// call for everything between LoseRequests and Evictions together, one for
	// each repeat (NoIdempotency) and each authorisation (ForgetAuth). 0 means
	// 0.2, 1 means always and at once. The other lapses have no odds.
	Odds float64
	// Seed makes tokens, challenges and lapses repeatable. Equal seeds and equal
	// order of calls give equal answers.
	Seed uint64

	// BaseKey is the password of getToken. AppID and DeviceID restrict who may
	// use it: both empty means any appId (1002) and any deviceId (1001), each
	// with its own live token. More holders: AddAccount.
	BaseKey  string
	AppID    string
	DeviceID string

	Sign  SignReading
	Token TokenOptions
	Seq   SeqForms
	// ResultCode says how success is written: absent (default), "0" or 0.
	// Errors always carry a code, as a number only with ResultNumber.
	ResultCode ResultForm
	// SignAnswers adds timestamp and sign to every answer.
	SignAnswers bool
	Body        BodyOptions
	Media       MediaOptions

	// AuthExpire is the life of an authorisation told in 4006; 0 means 300 s.
	AuthExpire time.Duration
	// Layout places the fields in the image of a memory card; the zero value
	// means DefaultLayout.
	Layout Layout
	// PurseKeys answers the load and TAC keys of purse cards whose CardBook has
	// none. It is called with the books locked and must not call the Platform.
	PurseKeys func(cardNo string) (dlk, dtk [16]byte, ok bool)
	// PendNotWritten answers P instead of R to a purse's "not written", so that
	// only 6003 gives the order back. It breaks no clause.
	PendNotWritten bool

	// EnterpriseKey signs registrations (6001), besides one-time codes; "" means
	// none. GiveKeys answers them with a base key of their own. Serials are the
	// serial numbers that may register; empty means any.
	EnterpriseKey string
	GiveKeys      bool
	Serials       []string
	// CommandKey signs commands; see Platform.Command.
	CommandKey ed25519.PrivateKey
	// NoDate leaves out the Date header.
	NoDate bool

	// Dialect is the protocol spoken: "" is the document's, else Selfservice. Its
	// answers are not signed.
	Dialect string

	// Download shapes the tables 3001 to 3004.
	Download DownloadOptions

	// Endpoints replaces paths by interface code, as "/iccard/recharge". A
	// request matches whatever prefix its path has.
	Endpoints map[string]string
	// NotFound answers a path of no interface with a page and status 404, as a
	// web server before the platform does; else it is told by result code.
	NotFound bool

	// Hook is asked before each call is executed and may spoil it. It is called
	// without any lock and may read the books.
	Hook func(Call) Action
}

// Lapses are independent ways to misbehave.
type Lapses struct {
	NoIdempotency   bool // breaks clause 1: a repeated 4006 gets another MAC2, another image or a refusal
	ReissueAtExpiry bool // breaks clause 4: an expired authorisation is free for another number
	ForgetAuth      bool // breaks clause 2: an authorisation is forgotten some minutes after it was made
	FreeOnStale     bool // breaks clause 2: frees an unused sequence on the word of a delayed 4006 (no challenge check)
	ForgetFences    bool // breaks clause 3: a give-back of an unseen number is answered R and forgotten
	NoFences        bool // a give-back of an unseen number is answered "unknown" (46001)
	NoChallenge     bool // knows no challenge: gives none, checks none, so an unused sequence stays with its holder
	DoubleCount     bool // breaks clause 6: another order for a memory card while one is held

	ListLoaded bool // 3010 goes on listing an order for an hour after it was settled
	ShortPage  bool // 3010 silently lists 10 orders at most

	LoseRequests bool // the request never arrives
	LoseAnswers  bool // the call is executed, its answer lost
	LateAnswers  bool // the answer comes after 20 s
	LateRequests bool // the call is executed 20 s to 10 minutes later, its answer lost
	EmptyAnswers bool // {} with status 200, executed or not
	HTMLAnswers  bool // an HTML page with status 200, executed or not
	Evictions    bool // another holder of the same appId takes the token
	ClockOff     bool // the platform's clock is a day ahead
}

// WorstLapses is the worst plausible platform: everything an agent must survive
// without losing an order or loading it twice. ForgetFences, FreeOnStale,
// DoubleCount are not in it (no kiosk can survive them alone; they are there to
// test the judge), nor LoseRequests, which LateRequests covers.
func WorstLapses() Lapses {
	return Lapses{
		NoIdempotency: true, ReissueAtExpiry: true, ForgetAuth: true,
		NoFences: true, NoChallenge: true,
		ListLoaded: true, ShortPage: true,
		LoseAnswers: true, LateAnswers: true, LateRequests: true,
		EmptyAnswers: true, HTMLAnswers: true, Evictions: true, ClockOff: true,
	}
}

// SignReading is how the platform reads the ambiguous parts of the sign rule.
// The zero value is the default reading: keys included, byte order, raw UTF-8
// values, empty values out, sessionKey if the token answer had one, else token,
// the sign in the query and in either letter case.
type SignReading struct {
	ExcludeKeys bool
	FoldOrder   bool         // sort without regard to case
	Encoded     bool         // values percent-encoded, blank as +
	KeepEmpty   bool         // keys of empty values take part
	GBK         bool         // text is turned into GBK before it is digested
	TrimAnswers bool         // values of an answer are trimmed before it is signed
	Password    PasswordForm // of calls after getToken
	TokenOnly   bool         // only getToken must be signed
	Header      bool         // the sign stands in a header of its name, never in the query
	Hex         HexCase
}

// HexCase is the letter case a sign must have.
type HexCase int

// Letter cases.
const (
	HexAny HexCase = iota
	HexUpper
	HexLower
)

// SeqForms are the forms of a sequence number that are taken; 0 means all.
type SeqForms int

// Forms of a sequence number: code, time, serial.
const (
	SeqOwn   SeqForms = 1 << iota // 4+14+14 under the interface's own code
	SeqFixed                      // the same under 1001, as the document's tables say
	SeqFive                       // 5+14+13, the code with a leading zero
	SeqShort                      // 4+14+10, of the drafts
)

// BodyOptions are how bodies are encrypted. The zero value is not at all.
type BodyOptions struct {
	// Encrypted demands bodies sealed with AES-256-GCM and answers alike. What a
	// caller without a session is told stays plain, and so do files.
	Encrypted bool
	// WithBase derives the key from the base key always; else from what signs.
	WithBase bool
	// PlainToken answers getToken in plain text, as the document allows.
	PlainToken bool
}

// PasswordForm is what is appended before MD5 on calls after getToken.
type PasswordForm int

// Password forms.
const (
	PasswordAuto    PasswordForm = iota // sessionKey if one was given, else token
	PasswordToken                       // token always
	PasswordSession                     // the same as auto, but refuses to serve without SessionKey
	PasswordBase                        // base key always
)

// TokenOptions shape the answer of getToken.
type TokenOptions struct {
	Life       time.Duration // 0 means 7200 s
	Form       ExpireForm
	AsString   bool // expireTime as a JSON string
	SessionKey bool // 1002 gives a sessionKey too; 1001 always does
	KeepOld    bool // a new token does not end the one before
}

// ExpireForm is how expireTime is told.
type ExpireForm int

// Forms of expireTime.
const (
	ExpireSeconds ExpireForm = iota // seconds from now
	ExpireEpoch                     // Unix seconds
	ExpireMillis                    // Unix milliseconds
	ExpireAbsent                    // not told at all
)

// ResultForm is how a successful answer carries resultCode.
type ResultForm int

// Result forms.
const (
	ResultAbsent ResultForm = iota
	ResultString
	ResultNumber
)

// Field is a stretch of a memory card's 256 bytes.
type Field struct {
	Offset int `json:"offset"`
	Len    int `json:"len"`
}

// Layout places the fields in a memory card's image. Numbers are big endian.
type Layout struct {
	Count Field // purchase count: the commit field, always written last
	Gas   Field // gas in 0.01 m3, zeroed by the meter
	Aux   Field // prices and checks, changed by every purchase
}

// DefaultLayout is the layout of the simulated memory card; its meter writes
// back at 0x60, where no order writes.
func DefaultLayout() Layout {
	return Layout{Count: Field{0x40, 2}, Gas: Field{0x42, 4}, Aux: Field{0x48, 8}}
}

// Call is what a Hook sees of a request that passed no check yet.
type Call struct {
	Code       string // interface code, "4006"
	N          int    // n-th call of this code, from 1
	TransNo    string
	OrderNo    string
	CardNo     string
	DeviceID   string
	TerminalNo string
	Rev        int
	Result     int // of 6002, else -1
}

// Action is what a Hook wants done with a call; the zero value lets it pass.
type Action struct {
	// Delay is waited before anything else, or until the request's context ends
	// (then nothing is executed).
	Delay time.Duration
	// DropRequest: nothing is executed, the connection breaks.
	DropRequest bool
	// DropAnswer: executed, then the connection breaks.
	DropAnswer bool
	// AnswerDelay is waited after execution, or until the request's context ends.
	AnswerDelay time.Duration
	// Late: the request is kept on the way for so long and executed then, with
	// its answer lost; the connection breaks at once. Forever keeps it until
	// ReleaseLate.
	Late time.Duration
	// Code, when set, is answered as resultCode and nothing is executed.
	Code string
	// Status and Body, when set, replace the answer. The call is executed first
	// unless NotExecuted is set.
	Status      int
	Body        string
	NotExecuted bool
	// WrongSign spoils the sign of the answer (adds one if there is none).
	WrongSign bool
	// Cut, when not 0, ends a download behind so many bytes, though the whole was
	// announced; negative: at once.
	Cut int64
	// Edit, when set, may change the JSON answer of an executed call.
	Edit func(body []byte) []byte
}

// Forever is a Late that ends with ReleaseLate only.
const Forever = time.Duration(1<<63 - 1)
