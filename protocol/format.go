package protocol

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"vcckiosk/protocol/catalogue"
)

// format is the rule of one field. Text goes by form (or, without one, by
// printable) and length in characters; numbers by the range. The sign has no
// field boundaries (see package sign), so that no value is sent unchecked.
type format struct {
	form      *regexp.Regexp // nil: any printable text
	max       int            // characters
	empty     bool           // may be empty
	low, high int64          // of a number
	text      string         // the rule in words
	hex       bool           // hex digits: accepted in either case from outside
}

const (
	maxFen    = 100_000_000_00 // a hundred million yuan
	maxVolume = 1_000_000_000
)

func pattern(re string, limit int, text string) format {
	return format{form: regexp.MustCompile(`^(?:` + re + `)$`), max: limit, text: text}
}

func optional(f format) format { f.empty = true; return f }

func number(low, high int64) format {
	return format{low: low, high: high, text: fmt.Sprintf("want %d..%d", low, high)}
}

func upperHex(digits int) format {
	f := pattern(fmt.Sprintf("[0-9A-F]{%d}", digits), digits, fmt.Sprintf("want %d upper-case hex digits", digits))
	f.hex = true
	return f
}

func hexText(limit int) format {
	f := pattern("(?:[0-9A-F]{2})+", limit, fmt.Sprintf("want pairs of upper-case hex digits, at most %d digits", limit))
	f.hex = true
	return f
}

func name(limit int) format {
	return pattern("[0-9A-Za-z._-]+", limit, fmt.Sprintf("want letters, digits, dot, dash, underscore, at most %d", limit))
}

func words(list ...string) format {
	return pattern(strings.Join(list, "|"), 64, "want one of "+strings.Join(list, ", "))
}

func printable(limit int) format {
	return format{max: limit, text: fmt.Sprintf("want printable text, at most %d characters", limit)}
}

var (
	dateForm  = pattern(`20[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])`, 8, "want yyyyMMdd")
	clockForm = pattern(`(?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]`, 6, "want HHmmss")
	stampForm = pattern(`20[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])(?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]`, 14, "want yyyyMMddHHmmss")
	yesNo     = words("Y", "N")

	integerForm  = pattern("-?(?:0|[1-9][0-9]{0,14})", 16, "want an integer")
	dateTimeForm = pattern(`20[0-9]{2}-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9]`, 19, "want yyyy-MM-dd HH:mm:ss")

	// A card's own log shows whatever some terminal wrote there: digits only,
	// no calendar.
	bcdDate  = pattern("[0-9A-F]{8}", 8, "want 8 digits")
	bcdClock = pattern("[0-9A-F]{6}", 6, "want 6 digits")
)

// formats is the rule of every field this program sends, by its name on the
// wire; a field inside another by both names. A field without a rule is not
// sent.
var formats = map[string]format{
	"seq":       pattern("[0-9]{24,33}", 33, "want digits"),
	"token":     pattern("[!-~]+", 512, "want printable ASCII, at most 512"),
	"sign":      pattern("[0-9A-Fa-f]{32}", 32, "want 32 hex digits"),
	"appId":     name(20),
	"channelId": name(32),
	"deviceId":  name(32),
	"mediaId":   name(64),
	"orgCode":   pattern("[A-Z0-9]{2,20}", 20, "want 2 to 20 upper-case letters and digits"),

	"terminalNo":  upperHex(12),
	"cardType":    name(20),
	"atr":         optional(hexText(66)),
	"uid":         optional(hexText(20)),
	"cardNo":      pattern("[0-9A-Za-z]+", 32, "want letters and digits, at most 32"),
	"subsCode":    name(20),
	"meterCode":   name(20),
	"challenge":   pattern("[0-9A-Za-z]+", 64, "want letters and digits, at most 64"),
	"termTransNo": upperHex(32),
	"orderNo":     name(64),
	"amount":      number(0, maxFen),
	"gasVolume":   number(0, maxVolume),
	"balance":     number(0, maxFen),
	"cardData":    optional(hexText(8192)),
	"kind":        words(KindLoad, KindImage, KindScript),
	"loadMode":    number(ModeDraw, ModePaid),
	"payType":     name(20),
	"payTransNo":  name(64),
	"payTime":     stampForm,

	"log.seq":      number(0, 0xFFFF),
	"log.amount":   number(0, 0xFFFFFFFF),
	"log.terminal": upperHex(12),
	"log.date":     bcdDate,
	"log.time":     bcdClock,

	"load.type":       number(0, 255),
	"load.keyIndex":   number(0, 255),
	"load.keyVersion": number(0, 255),
	"load.algId":      number(0, 255),
	"load.balance":    number(0, 0xFFFFFFFF),
	"load.onlineSeq":  number(0, 0xFFFF),
	"load.random":     upperHex(8),
	"load.mac1":       upperHex(8),
	"image.cardData":  hexText(8192),
	"image.count":     number(0, 0xFFFFFF),

	"rev":                number(1, 1_000_000),
	"result":             number(ResultWritten, ResultCodeFailed),
	"evidence":           words("answer", "proof", "log", "image", "journal", "operator"),
	"noAttempt":          yesNo,
	"onlineSeqBefore":    number(0, 0xFFFF),
	"onlineSeqAfter":     number(0, 0xFFFF),
	"balanceAfter":       number(0, maxFen),
	"tac":                upperHex(8),
	"logRecord.seq":      number(0, 0xFFFF),
	"logRecord.amount":   number(0, 0xFFFFFFFF),
	"logRecord.terminal": upperHex(12),
	"logRecord.date":     bcdDate,
	"logRecord.time":     bcdClock,
	"hostDate":           dateForm,
	"hostTime":           clockForm,
	"cardDataAfter":      hexText(8192),
	"failCode":           name(32),
	"failReason":         printable(256),
	"writeTime":          stampForm,
	"offlineSeconds":     number(0, 1<<40),
	"firmware":           pattern("[0-9A-Za-z._+~-]+", 64, "want a version, at most 64"),

	"reason": words(ReasonNotWritten, ReasonAnswerLost, ReasonCardGone, ReasonCancelled, ReasonDeviceFault, ReasonOperator),
	"time":   stampForm,

	"state":        name(32),
	"kcv":          upperHex(6),
	"keyGen":       number(0, 1<<62),
	"queueDepth":   number(0, 1<<31),
	"oldestQueued": number(0, 1<<40),
	"parked":       number(0, 1<<31),
	"alarms":       name(64),
	"diskFree":     number(0, 1<<60),
	"acks.cmdId":   name(64),
	"acks.result":  words("ok", "refused", "expired", "failed"),
	"acks.reason":  name(32),
	"acks.kcv":     upperHex(6),

	"readerState":      name(32),
	"lastTransTime":    stampForm,
	"modemState.csq":   number(0, 99),
	"modemState.iccid": pattern("[0-9A-F]{18,22}", 22, "want 18 to 22 digits"),

	"deviceSn":  name(64),
	"imei":      pattern("[0-9]{14,16}", 16, "want 14 to 16 digits"),
	"iccid":     pattern("[0-9A-F]{18,22}", 22, "want 18 to 22 digits"),
	"msisdn":    pattern(`\+?[0-9]{5,15}`, 16, "want 5 to 15 digits, a plus before them if need be"),
	"mac":       pattern("[0-9A-F]{2}(?::?[0-9A-F]{2}){5}", 17, "want 12 upper-case hex digits"),
	"model":     name(64),
	"cardTypes": name(20),
	"lng":       pattern(`-?(?:180|1[0-7][0-9]|[0-9]{1,2})(?:\.[0-9]{1,8})?`, 13, "want decimal degrees"),
	"lat":       pattern(`-?(?:90|[0-8]?[0-9])(?:\.[0-9]{1,8})?`, 12, "want decimal degrees"),
	"address":   printable(255),
}

// check returns why the text breaks the rule, or "".
func (f format) check(v string) string {
	if v == "" {
		if f.empty {
			return ""
		}
		return "empty"
	}
	if f.max == 0 {
		return "no rule for text"
	}
	if len(v) > 4*f.max || utf8.RuneCountInString(v) > f.max {
		return fmt.Sprintf("longer than %d characters", f.max)
	}
	if f.form == nil {
		if !printableText(v) {
			return f.text
		}
		return ""
	}
	if !f.form.MatchString(v) {
		return f.text
	}
	return ""
}

func (f format) checkNumber(v int64) string {
	if f.high == 0 {
		return "no rule for a number"
	}
	if v < f.low || v > f.high {
		return f.text
	}
	return ""
}

func printableText(v string) bool {
	if !utf8.ValidString(v) {
		return false
	}
	for _, r := range v {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// cleanText makes a remark fit its format: what is not printable becomes a
// blank, what is too long is cut.
func cleanText(v, field string) string {
	v = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, v)
	if r := []rune(v); len(r) > formats[field].max {
		v = string(r[:formats[field].max])
	}
	return strings.TrimSpace(v)
}

// cleanName makes a label fit its format: a character outside it becomes an
// underscore.
func cleanName(v, field string) string {
	f := formats[field]
	v = strings.Map(func(r rune) rune {
		if f.form.MatchString(string(r)) {
			return r
		}
		return '_'
	}, v)
	return v[:min(len(v), f.max)]
}

// body checks every value of a request against its rule and returns the JSON
// that is signed and sent, byte for byte.
func body(code string, request any) ([]byte, error) {
	if err := checkStruct(code, "", reflect.ValueOf(request)); err != nil {
		return nil, err
	}
	b, err := json.Marshal(request)
	if err != nil {
		return nil, &FieldError{Interface: code, Field: "body", Why: "cannot be encoded"}
	}
	return b, nil
}

func checkStruct(code, prefix string, v reflect.Value) error {
	t := v.Type()
	for i := range t.NumField() {
		tag, opts, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		f := v.Field(i)
		if tag == "-" {
			continue // not of this call
		}
		if strings.Contains(opts, "omitempty") && (f.IsZero() || f.Kind() == reflect.Slice && f.Len() == 0) {
			continue
		}
		if err := checkValue(code, prefix+tag, f); err != nil {
			return err
		}
	}
	return nil
}

func checkValue(code, field string, v reflect.Value) error {
	why := ""
	switch v.Kind() {
	case reflect.String:
		why = formats[field].check(v.String())
	case reflect.Int, reflect.Int64:
		why = formats[field].checkNumber(v.Int())
	case reflect.Uint64:
		why = formats[field].checkNumber(int64(min(v.Uint(), 1<<63-1)))
	case reflect.Pointer:
		if v.IsNil() {
			why = "missing"
			break
		}
		return checkInner(code, field, v.Elem())
	case reflect.Slice:
		if v.Len() > 64 {
			why = "more than 64 entries"
			break
		}
		for i := range v.Len() {
			if err := checkInner(code, field, v.Index(i)); err != nil {
				return err
			}
		}
	default:
		why = "no rule for its type"
	}
	if why != "" {
		return &FieldError{Interface: code, Field: field, Why: why}
	}
	return nil
}

func checkInner(code, field string, v reflect.Value) error {
	if v.Kind() == reflect.Struct {
		return checkStruct(code, field+".", v)
	}
	return checkValue(code, field, v)
}

// checkParams checks the parameters of a query. A name that neither has a rule
// nor stands in the catalogue is not sent.
func (e *endpoint) checkParams(code string, params map[string]string) error {
	for k, v := range params {
		if why := e.rule(k).check(v); why != "" {
			return &FieldError{Interface: code, Field: k, Why: why}
		}
	}
	return nil
}

// rule is the rule of a field: the one of its name, else the one its type in
// the catalogue gives.
func (e *endpoint) rule(name string) format {
	if f, has := formats[name]; has && f.max > 0 {
		return f
	}
	f, has := e.fields[name]
	if !has {
		return format{}
	}
	return typeRule(f)
}

// defaultLen is how long a text may be whose length the document does not say.
const defaultLen = 256

func typeRule(f catalogue.Field) format {
	limit := f.Len
	if limit == 0 {
		limit = defaultLen
	}
	switch f.Type {
	case catalogue.Integer:
		return integerForm
	case catalogue.Timestamp:
		return stampForm
	case catalogue.DateTime:
		return dateTimeForm
	case catalogue.Hex:
		return hexText(limit)
	}
	return printable(limit)
}
