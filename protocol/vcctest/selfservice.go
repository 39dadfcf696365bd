package vcctest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Selfservice is the Dialect of a kiosk protocol of an earlier generation:
// terminal authentication, card query, charge calculation, payment, write
// report and reversal as calls of their own, with other names and another
// envelope (docs/dialects.md). It is put into the document's terms at the edge,
// so that both have the same books.
const Selfservice = "selfservice"

const commandCalculate = "0102"

// selfserviceCall is one call: the document's code, the one that leads its sequence
// number, its path, and the document's name of each field by the dialect's.
type selfserviceCall struct {
	code, seq, path string
	names           map[string]string
}

func selfserviceCalls() []selfserviceCall {
	with := func(sum bool, pairs ...string) map[string]string {
		m := map[string]string{"terminalBizSN": "termTransNo", "entrustUnitNo": "orgCode", "terminalCode": "deviceId"}
		if sum {
			m["buyCost"], m["buyGas"] = "amount", "gasVolume"
		}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	card := []string{"userCode", "subsCode", "controller", "meterCode", "type", "cardType", "purse", "load", "validSeconds", "authExpire"}
	session := []string{"session", "token", "workKey", "sessionKey", "validSeconds", "expireTime"}
	return []selfserviceCall{
		{"1001", "0001", "/selfservice/authenticateDevice", with(false, session...)},
		{"1002", "0001", "/selfservice/authenticate", with(false, append(session, "terminalCode", "appId")...)},
		{"3010", "0101", "/selfservice/queryCard", with(true, "type", "cardType", "prestore", "balance", "data", "cardData",
			"userCode", "subsCode", "userName", "name", "controller", "meterCode")},
		{commandCalculate, commandCalculate, "/selfservice/calculate", with(true, card...)},
		{"4006", "0103", "/selfservice/pay", with(true, card...)},
		{"6002", "0104", "/selfservice/reportWrite", with(true, "dataAfterWrite", "cardDataAfter", "exceptionCause", "failReason",
			"paymentDate", "writeTime", "prestore", "balanceAfter")},
		{"6003", "0105", "/selfservice/rollback", with(false, "cause", "reason", "rollbackMoney", "amount", "buyGas", "gasVolume")},
		{"6006", "0106", "/selfservice/queryOrder", with(true, "buyTimes", "count", "validSeconds", "authExpire")},
	}
}

func selfserviceCallOf(code string) selfserviceCall {
	for _, c := range selfserviceCalls() {
		if c.code == code {
			return c
		}
	}
	return selfserviceCall{code: code, seq: code} // as the document has it, in the dialect's envelope
}

// selfserviceEndpoints replace the document's; what the dialect does not have
// stays.
func selfserviceEndpoints(list []endpoint) []endpoint {
	for _, c := range selfserviceCalls() {
		found := false
		for i := range list {
			if list[i].code == c.code {
				list[i], found = endpoint{c.code, http.MethodPost, c.path}, true
			}
		}
		if !found {
			list = append(list, endpoint{c.code, http.MethodPost, c.path})
		}
	}
	return list
}

// fromSelfservice puts a request into the document's terms. What it is signed
// over stays as it came.
func (q *request) fromSelfservice() {
	c := selfserviceCallOf(q.code)
	q.seqCode = c.seq
	common := map[string]string{"datagramSN": "seq", "session": "token", "mac": "sign"}
	query := url.Values{}
	for k := range q.query {
		if to, has := common[k]; has {
			query.Set(to, q.query.Get(k))
		}
	}
	q.sentQuery, q.sentBody = maps.Clone(q.query), q.body
	q.sentQuery.Set("sign", q.query.Get("mac"))
	q.sentQuery.Del("mac")
	q.query = query
	fields, ok := object(q.body)
	if c.path == "" || !ok || repeated(q.body) != "" {
		if c.path != "" && q.refuse == nil {
			q.refuse = refuse(codeParameter, "body: not an object")
		}
		return
	}
	out := map[string]any{}
	for k, v := range fields {
		if to, has := c.names[k]; has {
			k = to
		} else if slices.Contains(slices.Collect(maps.Values(c.names)), k) {
			q.refuse = refuse(codeParameter, "body: "+k)
		}
		out[k] = v
	}
	if v, has := out["gasVolume"]; has {
		out["gasVolume"] = hundredths(v)
	}
	length := func(of string) {
		if n, has := out["dataLength"]; has && n == json.Number(strconv.Itoa(len(text(out[of]))/2)) {
			delete(out, "dataLength") // a wrong one stays and is refused as an unknown field
		}
	}
	switch q.code {
	case "1001", "1002", "6006":
		for k, v := range out {
			q.query.Set(k, text(v))
		}
	case "4006", commandCalculate:
		length("data")
		out["kind"] = KindLoad
		if data, has := out["data"]; has {
			out["kind"], out["image"] = KindImage, map[string]any{"cardData": data, "count": out["buyTimes"]}
			delete(out, "data")
			delete(out, "buyTimes")
		}
		q.calcNo = text(out["calcNo"])
		delete(out, "calcNo")
	case "6002":
		length("cardDataAfter")
		if n, known := map[string]int{"SUCCESS": 0, "FAIL": 1, "UNKNOWN": 2}[text(out["writeState"])]; known {
			out["result"] = n
		}
		delete(out, "writeState")
	case "6003":
		q.rollback = out
		out = map[string]any{}
		for _, k := range []string{"termTransNo", "orderNo", "deviceId", "orgCode", "reason", "time"} {
			if v, has := q.rollback[k]; has {
				out[k] = v
			}
		}
	}
	q.body, _ = json.Marshal(out) // what was read as JSON can be written as JSON
}

// toSelfservice puts an answer into the dialect's terms. What is no object of
// the document's stays as it is.
func (q *request) toSelfservice(body []byte) []byte {
	fields, ok := object(body)
	if !ok {
		return body
	}
	if code := text(fields["resultCode"]); code != "" && code != "0" {
		if word, has := map[string]string{"10001": "ERROR", codeToken: "NO_SESSION", codeSign: "MAC_ERROR"}[code]; has {
			code = word
		}
		return encode(map[string]any{"respondState": code, "respondMsg": fields["resultMsg"]})
	}
	names := map[string]string{}
	for k, v := range selfserviceCallOf(q.code).names {
		names[v] = k
	}
	if q.code == "4006" {
		q.content(fields)
		delete(fields, "kind")
	}
	return encode(map[string]any{"respondState": "SUCCESS", "payload": outward(fields, names)})
}

// outward renames fields and those of lists in them, and tells gas in m³.
func outward(fields map[string]any, names map[string]string) map[string]any {
	out := map[string]any{}
	for k, v := range fields {
		if k == "gasVolume" || k == "remaining" {
			v = decimal(v)
		}
		if list, is := v.([]any); is {
			for i := range list {
				if o, is := list[i].(map[string]any); is {
					list[i] = outward(o, names)
				}
			}
		}
		if to, has := names[k]; has {
			k = to
		}
		out[k] = v
	}
	return out
}

// content replaces the writes of an image by the whole content they make.
func (q *request) content(fields map[string]any) {
	im, is := fields["image"].(map[string]any)
	if !is {
		return
	}
	delete(fields, "image")
	var asked struct {
		Image imagePart `json:"image"`
	}
	if json.Unmarshal(q.body, &asked) != nil {
		return
	}
	data, _ := hex.DecodeString(asked.Image.CardData)
	b, _ := json.Marshal(im)
	var given imageAnswer
	if json.Unmarshal(b, &given) != nil {
		return
	}
	for _, w := range given.Writes {
		run, _ := hex.DecodeString(w.Data)
		copy(data[w.Offset:], run) // our own plan lies within the card
	}
	for k, v := range map[string]any{
		"data": upperHex(data), "dataLength": len(data), "buyTimes": given.Count, "commitOffset": given.Commit.Offset, "commitLength": given.Commit.Len,
		"crcBefore": given.CRCBefore, "crcAfter": given.CRCAfter, "pwOld": given.PSCOld, "pwNew": given.PSCNew,
	} {
		fields[k] = v
	}
}

func object(body []byte) (map[string]any, bool) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var m map[string]any
	return m, d.Decode(&m) == nil && m != nil
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return []byte("{}")
	}
	return b
}

func text(v any) string {
	switch t := v.(type) {
	case string:
		return t
	case json.Number:
		return t.String()
	}
	return ""
}

// hundredths turns 12.34 into 1234; what is no such number stays and is
// refused as what it is.
func hundredths(v any) any {
	n, is := v.(json.Number)
	whole, part, _ := strings.Cut(n.String(), ".")
	if !is || len(part) > 2 || strings.ContainsAny(n.String(), "eE") {
		return v
	}
	digits := strings.TrimLeft(whole+(part + "00")[:2], "0")
	if digits == "" {
		digits = "0"
	}
	return json.Number(digits)
}

func decimal(v any) any {
	n, err := strconv.ParseInt(text(v), 10, 64)
	if err != nil || n < 0 {
		return v
	}
	return json.Number(strconv.FormatInt(n/100, 10) + "." + string([]byte{'0' + byte(n/10%10), '0' + byte(n%10)}))
}

// calculate is the first half of 4006: what it would be, and a number that the
// payment must bring. Only the newest of a card is good. It holds no order.
func (b *books) calculate(q *authRequest) (any, *refusal) {
	if r := q.check(); r != nil {
		return nil, r
	}
	if t := b.known(q.TransNo); t == nil {
		if _, _, _, r := b.wanted(q); r != nil {
			return nil, r
		}
	} else if t.state == TransReturned {
		return nil, refuse(codeGivenBack, "order given back under this number")
	} else if t.content != q.content() {
		return nil, refuse(codeContent, "number was used with other content")
	}
	c := b.cards[q.CardNo]
	c.calc = b.hex16()
	return map[string]any{
		"termTransNo": q.TransNo, "cardNo": q.CardNo, "amount": q.Amount, "gasVolume": q.GasVolume, "calcNo": c.calc,
	}, nil
}

// pay is the second half.
func (b *books) pay(q *authRequest, calcNo string) (any, *refusal) {
	c := b.cards[q.CardNo]
	if c != nil && b.known(q.TransNo) == nil && !b.lapses.NoChallenge && !b.lapses.FreeOnStale && (calcNo == "" || calcNo != c.calc) {
		return nil, refuse(codeChallenge, "calculation is not the newest")
	}
	a, r := b.authorise(q)
	if r == nil {
		c.calc = ""
	}
	return a, r
}

// sameRollback: what a reversal tells besides its number is the top-up's.
func (b *books) sameRollback(sent map[string]any) *refusal {
	t := b.known(text(sent["termTransNo"]))
	if t == nil || t.fence {
		return nil
	}
	if text(sent["cardNo"]) != t.cardNo || text(sent["amount"]) != itoa(t.amount) || text(sent["gasVolume"]) != itoa(t.volume) {
		return refuse(codeContent, "number was used with other content")
	}
	return nil
}
