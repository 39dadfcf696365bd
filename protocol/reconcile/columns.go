package reconcile

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// State is how a top-up stands between kiosk and platform, column 上报状态.
type State string

// The states. The first three are the platform's own words and the only ones it
// may use in an answer; the others tell why a kiosk has none of them.
const (
	Settled   State = "S" // the platform has booked the load
	GivenBack State = "R" // the order is free again, or the money went back
	Pending   State = "P" // told, not decided
	Waiting   State = "W" // the kiosk's report is not acknowledged yet
	Parked    State = "K" // kept at the kiosk for a person
	Conflict  State = "X" // the platform has contradicted the card
	Nowhere   State = "N" // the platform does not know the order
)

// Row is one top-up, as either side has it.
type Row struct {
	TransNo  string `json:"termTransNo"` // names the attempt; unique in a file
	OrderNo  string `json:"orderNo"`
	DeviceID string `json:"deviceId,omitempty"`
	OrgCode  string `json:"orgCode,omitempty"`
	SubsCode string `json:"subsCode,omitempty"`
	CardNo   string `json:"cardNo,omitempty"`
	// Count is the card's count the load was authorised under: purchases of a
	// memory card, online sequence of a purse. nil: there was none yet.
	Count   *int   `json:"count,omitempty"`
	Amount  Fen    `json:"amount"`
	Volume  Volume `json:"gasVolume"`
	PayType string `json:"payType,omitempty"` // empty: the order was paid elsewhere
	// Result as in 6002: 0 written, 1 not written, 2 unknown, 3 written but the
	// card's code was not changed; nil in an answer that has no such column.
	Result    *int   `json:"result,omitempty"`
	WriteTime string `json:"writeTime,omitempty"` // yyyyMMddHHmmss, when the outcome was found
	Reversed  bool   `json:"reversed,omitempty"`
	State     State  `json:"state"`
	// Verdict is the platform's own class of the row, in answers only.
	Verdict string `json:"verdict,omitempty"`
}

// Column is one column of the files.
type Column struct {
	Name    string   // as our header has it
	Aliases []string // also understood in an answer's header
	Field   string   // its name elsewhere in the protocol
	Max     int      // bytes of a cell, unescaped
	Form    string   // what a value looks like, in words
	Needed  bool     // an answer without it is refused
	Means   string

	put func(*Row) string
	get func(*Row, string) bool
}

// Columns are the columns in our order. An answer may have them in any order and
// more of them; 对账结果 is the platform's alone and optional.
var Columns = []Column{
	text("终端流水号", "termTransNo", 32, "32 upper-case hex digits", true, "number of the attempt, unique in a file", isTransNo, func(r *Row) *string { return &r.TransNo }),
	text("订单号", "orderNo", 64, "text", true, "order the load was drawn from", isText, func(r *Row) *string { return &r.OrderNo }),
	text("设备编号", "deviceId", 64, "text", false, "kiosk", isText, func(r *Row) *string { return &r.DeviceID }),
	text("组织机构编码", "orgCode", 20, "text", false, "company", isText, func(r *Row) *string { return &r.OrgCode }, "机构编码"),
	text("气户户号", "subsCode", 64, "text", false, "gas account", isText, func(r *Row) *string { return &r.SubsCode }, "户号"),
	text("卡号", "cardNo", 64, "text", false, "card", isText, func(r *Row) *string { return &r.CardNo }),
	count("购气次数", "count", "integer", "memory card: purchase count; purse: online sequence the load was authorised under", func(r *Row) **int { return &r.Count }, 1<<24),
	{
		Name: "金额(分)", Aliases: []string{"金额", "金额（分）"}, Field: "amount", Max: 18, Form: "integer", Needed: true, Means: "money in fen",
		put: func(r *Row) string { return strconv.FormatInt(int64(r.Amount), 10) },
		get: func(r *Row, s string) bool { n, ok := number(s); r.Amount = Fen(n); return ok },
	},
	{
		Name: "气量", Aliases: []string{"气量(0.01立方)"}, Field: "gasVolume", Max: 18, Form: "integer", Needed: true, Means: "gas in 0.01 m³",
		put: func(r *Row) string { return strconv.FormatInt(int64(r.Volume), 10) },
		get: func(r *Row, s string) bool { n, ok := number(s); r.Volume = Volume(n); return ok },
	},
	text("支付方式", "payType", 16, "text", false, "empty: paid elsewhere, drawn here", isText, func(r *Row) *string { return &r.PayType }),
	count("写卡结果", "result", "0 to 3", "0 written, 1 not written, 2 unknown, 3 written but the card's code was not changed", func(r *Row) **int { return &r.Result }, 3),
	text("写卡时间", "writeTime", 14, "yyyyMMddHHmmss", false, "when the outcome was found, China Standard Time", isStamp, func(r *Row) *string { return &r.WriteTime }),
	{
		Name: "冲正标志", Field: "reversed", Max: 1, Form: "Y or N", Means: "Y: given back",
		put: func(r *Row) string {
			if r.Reversed {
				return "Y"
			}
			return "N"
		},
		get: func(r *Row, s string) bool { r.Reversed = s == "Y"; return s == "Y" || s == "N" || s == "" },
	},
	text("上报状态", "state", 1, "S R P W K X N", true, "S settled, R given back, P pending; a kiosk also: W not acknowledged, K parked, X contradicted, N order not known",
		func(s string) bool { return len(s) == 1 && strings.Contains("SRPWKXN", s) }, func(r *Row) *string { return (*string)(&r.State) }, "订单状态"),
	text("对账结果", "verdict", 8, "0 or a class", false, "answers only: the platform's own class, 0 for none", isClass, func(r *Row) *string { return &r.Verdict }, "结果码"),
}

// ours are the columns of a kiosk's own file.
func ours() []Column { return Columns[:len(Columns)-1] }

func text(name, field string, limit int, form string, needed bool, means string, is func(string) bool, at func(*Row) *string, aliases ...string) Column {
	return Column{
		Name: name, Aliases: aliases, Field: field, Max: limit, Form: form, Needed: needed, Means: means,
		put: func(r *Row) string { return *at(r) },
		get: func(r *Row, s string) bool {
			*at(r) = s
			return is(s) || s == "" && !needed
		},
	}
}

func count(name, field, form, means string, at func(*Row) **int, limit int64) Column {
	return Column{
		Name: name, Field: field, Max: 8, Form: form, Means: means,
		put: func(r *Row) string {
			if n := *at(r); n != nil {
				return strconv.Itoa(*n)
			}
			return ""
		},
		get: func(r *Row, s string) bool {
			if s == "" {
				*at(r) = nil
				return true
			}
			v, ok := number(s)
			n := int(v)
			*at(r) = &n
			return ok && v <= limit
		},
	}
}

// number reads a cell of digits alone; a sign or a fraction is another unit's.
func number(s string) (int64, bool) {
	if s == "" || len(s) > 15 || strings.Trim(s, "0123456789") != "" || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

func isTransNo(s string) bool { return len(s) == 32 && strings.Trim(s, "0123456789ABCDEF") == "" }

func isStamp(s string) bool {
	t, err := time.ParseInLocation(stampForm, s, Zone)
	return err == nil && t.Format(stampForm) == s
}

func isClass(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

func isText(s string) bool { return s != "" && utf8.ValidString(s) }

// cell reads or writes one cell by its column; the error names what is wrong
// and never quotes the cell, which may hold a customer's number.
func (c *Column) cell(r *Row, s string) error {
	switch {
	case len(s) > c.Max:
		return fmt.Errorf("%s: %d bytes, at most %d", c.Name, len(s), c.Max)
	case !c.get(r, s):
		return fmt.Errorf("%s: want %s", c.Name, c.Form)
	}
	return nil
}

// escape writes a value as a cell.
func escape(s string) string {
	if !strings.ContainsFunc(s, special) {
		return s
	}
	var b strings.Builder
	for _, c := range s {
		if !special(c) {
			b.WriteRune(c)
			continue
		}
		for _, x := range []byte(string(c)) {
			fmt.Fprintf(&b, "%%%02X", x)
		}
	}
	return b.String()
}

func special(c rune) bool { return c == '|' || c == '%' || unicode.IsControl(c) }

// unescape reads a cell.
func unescape(s string) (string, bool) {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return "", false
	}
	if !strings.Contains(s, "%") {
		return s, true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+3 > len(s) || strings.Trim(s[i+1:i+3], "0123456789ABCDEF") != "" {
			return "", false
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(n))
		i += 2
	}
	out := b.String()
	return out, utf8.ValidString(out)
}
