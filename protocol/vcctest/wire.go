package vcctest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"
)

// The wire of the money calls. Money in fen, gas in 0.01 m3, both JSON
// integers; hex in upper case is what we send, either case is accepted.

type cardInfoRequest struct {
	DeviceID   string     `json:"deviceId"`
	OrgCode    string     `json:"orgCode"`
	TerminalNo string     `json:"terminalNo"`
	CardType   string     `json:"cardType"`
	ATR        string     `json:"atr"`
	UID        string     `json:"uid"`
	CardNo     string     `json:"cardNo"`
	Balance    int64      `json:"balance"`
	Log        []LogEntry `json:"log"`
	CardData   string     `json:"cardData"`
}

type cardInfoAnswer struct {
	CardNo        string         `json:"cardNo"`
	SubsCode      string         `json:"subsCode"`
	Name          string         `json:"name"`
	DisplayAddr   string         `json:"displayAddr"`
	MeterCode     string         `json:"meterCode"`
	MeterType     string         `json:"meterType"`
	CardState     string         `json:"cardState"`
	CanCharge     string         `json:"canCharge"`
	DenyCode      string         `json:"denyCode,omitempty"`
	DenyMsg       string         `json:"denyMsg,omitempty"`
	Remaining     int64          `json:"remaining"`
	Unit          string         `json:"unit"`
	PendingOrders []pendingOrder `json:"pendingOrders"`
	Challenge     string         `json:"challenge,omitempty"`
}

type pendingOrder struct {
	OrderNo   string `json:"orderNo"`
	Amount    int64  `json:"amount"`
	GasVolume int64  `json:"gasVolume"`
	PayTime   string `json:"payTime"`
	Source    string `json:"source"`
}

type authRequest struct {
	TransNo    string     `json:"termTransNo"`
	Challenge  string     `json:"challenge"`
	OrderNo    string     `json:"orderNo"`
	DeviceID   string     `json:"deviceId"`
	OrgCode    string     `json:"orgCode"`
	TerminalNo string     `json:"terminalNo"`
	CardNo     string     `json:"cardNo"`
	SubsCode   string     `json:"subsCode"`
	MeterCode  string     `json:"meterCode"`
	CardType   string     `json:"cardType"`
	LoadMode   int        `json:"loadMode"`
	Amount     int64      `json:"amount"`
	GasVolume  int64      `json:"gasVolume"`
	Kind       string     `json:"kind"`
	Load       *loadPart  `json:"load"`
	Image      *imagePart `json:"image"`
	PayType    string     `json:"payType"`
	PayTransNo string     `json:"payTransNo"`
	PayTime    string     `json:"payTime"`
}

type loadPart struct {
	Type       int    `json:"type"`
	KeyIndex   int    `json:"keyIndex"`
	KeyVersion int    `json:"keyVersion"`
	AlgID      int    `json:"algId"`
	Balance    int64  `json:"balance"`
	OnlineSeq  int    `json:"onlineSeq"`
	Random     string `json:"random"`
	MAC1       string `json:"mac1"`
}

type imagePart struct {
	CardData string `json:"cardData"`
	Count    int    `json:"count"`
}

type authAnswer struct {
	TransNo    string            `json:"termTransNo"`
	OrderNo    string            `json:"orderNo"`
	CardNo     string            `json:"cardNo"`
	Kind       string            `json:"kind"`
	Amount     int64             `json:"amount"`
	GasVolume  int64             `json:"gasVolume"`
	AuthExpire int               `json:"authExpire"`
	Load       *loadAnswer       `json:"load,omitempty"`
	Image      *imageAnswer      `json:"image,omitempty"`
	Receipt    map[string]string `json:"receipt,omitempty"`
}

type loadAnswer struct {
	HostDate string `json:"hostDate"`
	HostTime string `json:"hostTime"`
	MAC2     string `json:"mac2"`
}

type imageAnswer struct {
	Count     int          `json:"count"`
	Writes    []imageWrite `json:"writes"`
	Commit    imageField   `json:"commit"`
	CRCBefore string       `json:"crcBefore"`
	CRCAfter  string       `json:"crcAfter"`
	PSCOld    string       `json:"pscOld"`
	PSCNew    string       `json:"pscNew"`
}

type imageWrite struct {
	Zone   string `json:"zone"`
	Offset int    `json:"offset"`
	Data   string `json:"data"`
}

type imageField struct {
	Zone   string `json:"zone"`
	Offset int    `json:"offset"`
	Len    int    `json:"len"`
}

type reportRequest struct {
	TransNo         string    `json:"termTransNo"`
	Rev             int       `json:"rev"`
	OrderNo         string    `json:"orderNo"`
	DeviceID        string    `json:"deviceId"`
	OrgCode         string    `json:"orgCode"`
	TerminalNo      string    `json:"terminalNo"`
	CardNo          string    `json:"cardNo"`
	Kind            string    `json:"kind"`
	Amount          int64     `json:"amount"`
	GasVolume       int64     `json:"gasVolume"`
	Result          *int      `json:"result"`
	Evidence        string    `json:"evidence"`
	NoAttempt       string    `json:"noAttempt"`
	OnlineSeqBefore *int      `json:"onlineSeqBefore"`
	OnlineSeqAfter  *int      `json:"onlineSeqAfter"`
	BalanceAfter    *int64    `json:"balanceAfter"`
	TAC             string    `json:"tac"`
	LogRecord       *LogEntry `json:"logRecord"`
	HostDate        string    `json:"hostDate"`
	HostTime        string    `json:"hostTime"`
	CardDataAfter   string    `json:"cardDataAfter"`
	FailCode        string    `json:"failCode"`
	FailReason      string    `json:"failReason"`
	WriteTime       string    `json:"writeTime"`
	OfflineSeconds  int64     `json:"offlineSeconds"`
	Firmware        string    `json:"firmware"`
}

type reportAnswer struct {
	TransNo   string `json:"termTransNo"`
	OrderNo   string `json:"orderNo"`
	Rev       int    `json:"rev"`
	State     string `json:"state"`
	Duplicate string `json:"duplicate"`
}

type reverseRequest struct {
	TransNo  string `json:"termTransNo"`
	OrderNo  string `json:"orderNo"`
	DeviceID string `json:"deviceId"`
	OrgCode  string `json:"orgCode"`
	Reason   string `json:"reason"`
	Time     string `json:"time"`
}

type reverseAnswer struct {
	TransNo string `json:"termTransNo"`
	OrderNo string `json:"orderNo"`
	State   string `json:"state"`
}

type stateAnswer struct {
	TransNo       string      `json:"termTransNo,omitempty"`
	OrderNo       string      `json:"orderNo"`
	State         string      `json:"state"`
	Holder        string      `json:"holder,omitempty"`
	Amount        int64       `json:"amount"`
	GasVolume     int64       `json:"gasVolume"`
	Count         int         `json:"count"`
	AuthExpire    int         `json:"authExpire"`
	Authorization *authAnswer `json:"authorization,omitempty"`
}

// refusal is a resultCode other than success.
type refusal struct{ code, msg string }

func refuse(code, msg string) *refusal { return &refusal{code, msg} }

// Codes. 10xxx system, 20xxx and 30xxx access and parameters, 46xxx business.
const (
	codeAPI        = "10031"
	codeMethod     = "10045"
	codeDuplicate  = "10056"
	codeToken      = "20001"
	codePassword   = "20002"
	codeMediaType  = "20010"
	codeMediaSize  = "20011"
	codeNoMedia    = "20012"
	codeParameter  = "30002"
	codeAppID      = "30009"
	codeSign       = "30010"
	codeBody       = "10027"
	codeNoToken    = "40058"
	codeOrder      = "46001"
	codeContent    = "46002"
	codeHeld       = "46003"
	codeGivenBack  = "46004"
	codeMAC1       = "46005"
	codeTAC        = "46006"
	codeNotAllowed = "46007"
	codeGas        = "46008"
	codeChallenge  = "46009"
	codeSerial     = "46101" // registration: ours, as are those above
	codeCodeUsed   = "46102"
)

// decode reads a request body strictly: one JSON object, no unknown field, no
// duplicate one, nothing behind it.
func decode(body []byte, into any) *refusal {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return refuse(codeParameter, "body: "+err.Error())
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return refuse(codeParameter, "body: something behind the object")
	}
	if trimmed := bytes.TrimSpace(body); len(trimmed) == 0 || trimmed[0] != '{' {
		return refuse(codeParameter, "body: not an object")
	}
	if name := repeated(body); name != "" {
		return refuse(codeParameter, "body: field twice: "+name)
	}
	return nil
}

// repeated returns a name that occurs twice in one object of a valid document.
func repeated(body []byte) string {
	d := json.NewDecoder(bytes.NewReader(body))
	var stack []map[string]bool // nil for an array
	name := true                // the next string in an object is a name
	for {
		tok, err := d.Token()
		if err != nil {
			return ""
		}
		top := len(stack) - 1
		switch v := tok.(type) {
		case json.Delim:
			switch v {
			case '{':
				stack, name = append(stack, map[string]bool{}), true
				continue
			case '[':
				stack = append(stack, nil)
				continue
			}
			stack, name = stack[:top], true
			continue
		case string:
			if top >= 0 && stack[top] != nil && name {
				key := strings.ToLower(v)
				if stack[top][key] {
					return v
				}
				stack[top][key], name = true, false
				continue
			}
		}
		name = true
	}
}

var (
	transForm    = regexp.MustCompile(`^[0-9A-F]{32}$`)
	terminalForm = regexp.MustCompile(`^[0-9A-Fa-f]{12}$`)
	nameForm     = regexp.MustCompile(`^[0-9A-Za-z._-]{1,64}$`)
	stampForm    = regexp.MustCompile(`^[0-9]{14}$`)
)

// field is one check of a request.
type field struct {
	name string
	ok   bool
}

// check refuses the first field that is not ok.
func check(fields ...field) *refusal {
	for _, f := range fields {
		if !f.ok {
			return refuse(codeParameter, f.name)
		}
	}
	return nil
}

func oneOf(s string, list ...string) bool {
	for _, v := range list {
		if s == v {
			return true
		}
	}
	return false
}
