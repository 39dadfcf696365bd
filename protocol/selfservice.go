package protocol

import (
	"encoding/hex"
	"strconv"
	"strings"

	"vcckiosk/protocol/catalogue"
)

const (
	// codeCalculate is the first of the two calls that authorise.
	codeCalculate = "0102"
	calcNo        = "calcNo" // what 0x0102 gives and 0x0103 brings back
)

// selfservice is the kiosk protocol of an earlier generation of platforms:
// terminal authentication 0x0001, card query 0x0101, charge calculation 0x0102,
// payment 0x0103, write report 0x0104, reversal 0x0105, each command a path
// here and each body a JSON object. The names are those of its server; what is
// not among them it never had (docs/dialects.md says which).
func selfservice() *dialect {
	ids := map[string]string{"termTransNo": "terminalBizSN", "orgCode": "entrustUnitNo", "deviceId": "terminalCode"}
	number := map[string]string{"termTransNo": "terminalBizSN"}
	sum := map[string]string{"amount": "buyCost", "gasVolume": "buyGas"}
	card := map[string]string{"subsCode": "userCode", "meterCode": "controller", "cardType": "type", "load": "purse"}
	session := map[string]string{"token": "session", "sessionKey": "workKey", "expireTime": "validSeconds"}
	gas := map[string]string{"gasVolume": "m3"}
	pay, _ := catalogue.Find(codeAuthorize)
	return &dialect{
		envelope: Envelope{
			Code: "respondState", Msg: "respondMsg", Data: "payload", Success: []string{"SUCCESS"},
			Codes: map[string]string{"ERROR": "10001", "NO_SESSION": "20001", "MAC_ERROR": "30010"},
			Seq:   "datagramSN", Token: "session", Sign: "mac",
		},
		rows: map[string]Endpoint{
			codeDeviceToken: {
				Code: "0001", Method: catalogue.Post, Path: "/selfservice/authenticateDevice",
				Names: merged(session, map[string]string{"deviceId": "terminalCode"}),
			},
			codeToken: {
				Code: "0001", Method: catalogue.Post, Path: "/selfservice/authenticate",
				Names: merged(session, map[string]string{"appId": "terminalCode"}),
			},
			codeCardInfo: {
				Code: "0101", Path: "/selfservice/queryCard",
				Names: map[string]string{
					"orgCode": "entrustUnitNo", "deviceId": "terminalCode", "cardType": "type", "balance": "prestore", "cardData": "data",
					"subsCode": "userCode", "name": "userName", "meterCode": "controller",
					"pendingOrders.amount": "buyCost", "pendingOrders.gasVolume": "buyGas",
				},
				Units: map[string]string{"pendingOrders.gasVolume": "m3", "remaining": "m3"},
			},
			codeCalculate: {Names: merged(merged(ids, sum), card), Units: gas},
			codeAuthorize: {
				Code: "0103", Path: "/selfservice/pay",
				Names: merged(merged(ids, sum), merged(card, map[string]string{"authExpire": "validSeconds"})), Units: gas,
			},
			codeReport: {
				Code: "0104", Path: "/selfservice/reportWrite",
				Names: merged(merged(ids, sum), map[string]string{
					"cardDataAfter": "dataAfterWrite", "failReason": "exceptionCause", "writeTime": "paymentDate", "balanceAfter": "prestore",
				}), Units: gas,
			},
			codeReverse: {
				Code: "0105", Path: "/selfservice/rollback",
				Names: merged(ids, map[string]string{"reason": "cause", "amount": "rollbackMoney", "gasVolume": "buyGas"}), Units: gas,
			},
			codeQueryOrder: { // ours: it had none
				Code: "0106", Method: catalogue.Post, Path: "/selfservice/queryOrder",
				Names: merged(number, map[string]string{"amount": "buyCost", "gasVolume": "buyGas", "count": "buyTimes", "authExpire": "validSeconds"}), Units: gas,
			},
		},
		steps: []catalogue.Interface{{
			Code: codeCalculate, ZH: "充值计费请求", EN: "charge calculation", Method: catalogue.Post, Path: "/selfservice/calculate",
			Evidence: catalogue.Inferred, Kiosk: true, Read: true, Shape: catalogue.Object, Request: pay.Request, Answer: pay.Answer,
		}},
		// What its reversal tells besides number, order and cause.
		fields: map[string][]catalogue.Field{codeReverse: {
			{Name: "cardNo", Type: catalogue.String, Len: 32},
			{Name: "amount", Type: catalogue.Integer, Unit: catalogue.Fen},
			{Name: "gasVolume", Type: catalogue.Integer, Unit: catalogue.CL},
		}},
		mapper: selfserviceCalls{},
	}
}

// selfserviceCalls is what is not data: two calls that authorise, a memory
// card as its whole content, and a result in words.
type selfserviceCalls struct{}

func (selfserviceCalls) call(code string, r *value, ask func(string, *value) (*value, error)) (*value, error) {
	switch code {
	case codeAuthorize:
		before := r.member("image").member("cardData")
		flat(r)
		calc, err := ask(codeCalculate, r)
		if err != nil {
			return nil, err
		}
		// A charge that is not the order's is not paid.
		for _, name := range []string{"termTransNo", "cardNo", "amount", "gasVolume"} {
			if !r.member(name).same(calc.member(name)) {
				return nil, answerFault("answer field " + name + " of " + codeCalculate + ": is not what was asked")
			}
		}
		no := calc.member(calcNo)
		if no == nil || no.kind != kindString || formats["challenge"].check(no.text) != "" {
			return nil, answerFault("answer field " + calcNo + ": missing")
		}
		r.set(calcNo, no)
		v, err := ask(codeAuthorize, r)
		if err != nil {
			return nil, err
		}
		return v, permission(v, before)
	case codeReport:
		if m := r.member("result"); m != nil {
			// Nothing but these three words. Unknown is never told as FAIL: it
			// would give the gas away twice.
			m.kind, m.text = kindString, map[string]string{"0": "SUCCESS", "1": "FAIL", "2": "UNKNOWN", "3": "SUCCESS"}[m.text]
			if r.rename("result", "writeState"); m.text == "" {
				return nil, answerFault("result has no word")
			}
		}
		if m := r.member("cardDataAfter"); m != nil {
			r.set("dataLength", numeral(len(m.text)/2))
		}
	}
	return ask(code, r)
}

// flat puts the part of a memory card beside the rest.
func flat(r *value) {
	m := r.take("image")
	data, count := m.member("cardData"), m.member("count")
	if data != nil && count != nil {
		r.set("data", data)
		r.set("dataLength", numeral(len(data.text)/2))
		r.set("buyTimes", count)
	}
	r.take("kind")
}

// permission makes the part of the kind out of a payment's answer: of a memory
// card what differs between its content and the new one, from its end towards
// its beginning, the commit field last.
func permission(v, before *value) error {
	data := v.take("data")
	switch {
	case data == nil:
		v.set("kind", &value{kind: kindString, text: KindLoad})
		return nil
	case before == nil:
		return answerFault("answer field data: does not belong to this kind")
	}
	old, err1 := hex.DecodeString(before.text)
	target, err2 := hex.DecodeString(data.text)
	at, err3 := strconv.Atoi(v.take("commitOffset").given().text)
	n, err4 := strconv.Atoi(v.take("commitLength").given().text)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || data.kind != kindString ||
		len(old) != len(target) || at < 0 || n < 1 || at > len(target)-n {
		return answerFault("answer field data: is not a content of this card with its commit field")
	}
	writes := &value{kind: kindArray}
	write := func(from, to int) {
		w := &value{kind: kindObject}
		w.set("zone", &value{kind: kindString, text: "main"})
		w.set("offset", numeral(from))
		w.set("data", &value{kind: kindString, text: strings.ToUpper(hex.EncodeToString(target[from:to]))})
		writes.items = append(writes.items, w)
	}
	differs := func(i int) bool { return i >= 0 && old[i] != target[i] && (i < at || i >= at+n) }
	for end := len(target); end > 0; end-- {
		if !differs(end - 1) {
			continue
		}
		from := end - 1
		for differs(from - 1) {
			from--
		}
		write(from, end)
		end = from
	}
	write(at, at+n)
	commit := &value{kind: kindObject}
	commit.set("zone", &value{kind: kindString, text: "main"})
	commit.set("offset", numeral(at))
	commit.set("len", numeral(n))
	image := &value{kind: kindObject}
	image.set("count", v.take("buyTimes").given())
	image.set("writes", writes)
	image.set("commit", commit)
	for _, name := range []string{"crcBefore", "crcAfter"} {
		image.set(name, v.take(name).given())
	}
	image.set("pscOld", v.take("pwOld").given())
	image.set("pscNew", v.take("pwNew").given())
	v.set("image", image)
	v.set("kind", &value{kind: kindString, text: KindImage})
	return nil
}
