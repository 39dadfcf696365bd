package vcctest

import (
	"maps"
	"regexp"
	"time"
)

// token is a live session. base names the account whose key made it.
type token struct {
	value, session string
	account        int
	holder         string // "a:" appId or "d:" deviceId: one live token each
	expire         time.Time
}

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

func (b *books) random(n int) string {
	out := make([]byte, n)
	for i := range out {
		out[i] = letters[b.rng.IntN(len(letters))]
	}
	return string(out)
}

// account finds whose base key signs for an appId or deviceId; exact holders
// win over Options' key for anybody.
func (p *Platform) account(appID, deviceID string) int {
	anybody := -1
	for i, a := range p.accounts {
		if a.AppID == "" && a.DeviceID == "" {
			anybody = i
		} else if appID != "" && a.AppID == appID || deviceID != "" && a.DeviceID == deviceID {
			return i
		}
	}
	return anybody
}

// getToken is 1002 (appId) and 1001 (channelId, deviceId). A second token of
// the same holder ends the first.
func (p *Platform) getToken(call *request) (answer any, password string, r *refusal) {
	device, q := call.code == "1001", call.query
	appID, deviceID := q.Get("appId"), ""
	if device {
		appID, deviceID = "", q.Get("deviceId")
		if r := check(field{"channelId", nameForm.MatchString(q.Get("channelId"))}, field{"deviceId", nameForm.MatchString(deviceID)}); r != nil {
			return nil, "", r
		}
	} else if r := check(field{"appId", nameForm.MatchString(appID)}); r != nil {
		return nil, "", r
	}
	i := p.account(appID, deviceID)
	if i < 0 {
		return nil, "", refuse(codeAppID, "appId or deviceId unknown")
	}
	key := p.accounts[i].BaseKey
	if query, body := call.signed(); !p.b.o.Sign.signed(query, body, key) {
		return nil, "", refuse(codePassword, "bad credentials")
	}
	call.seal = key
	o := p.b.o.Token
	life := o.Life
	if life <= 0 {
		life = 2 * time.Hour
	}
	t := &token{value: p.b.random(20), account: i, holder: "a:" + appID, expire: p.b.now.Add(life)}
	if device {
		t.holder = "d:" + deviceID
	}
	if device || o.SessionKey {
		t.session = p.b.random(32)
	}
	for v, old := range p.tokens {
		if old.holder == t.holder && !o.KeepOld {
			delete(p.tokens, v)
		}
	}
	p.tokens[t.value] = t

	a := map[string]any{"token": t.value, "timestamp": p.b.stamp()}
	if t.session != "" {
		a["sessionKey"] = t.session
	}
	var n int64
	switch o.Form {
	case ExpireAbsent:
		return a, key, nil
	case ExpireEpoch:
		n = t.expire.Unix()
	case ExpireMillis:
		n = t.expire.UnixMilli()
	default:
		n = int64(life / time.Second)
	}
	a["expireTime"] = n
	if o.AsString {
		a["expireTime"] = itoa(n)
	}
	return a, key, nil
}

// session checks token and sign of a later call and returns its password.
func (p *Platform) session(call *request) (password string, r *refusal) {
	q := call.query
	value := q.Get("token")
	if value == "" {
		return "", refuse(codeNoToken, "token missing")
	}
	t := p.tokens[value]
	if t == nil || !p.b.now.Before(t.expire) {
		delete(p.tokens, value)
		return "", refuse(codeToken, "token expired")
	}
	s := p.b.o.Sign
	switch s.Password {
	case PasswordToken:
		password = t.value
	case PasswordBase:
		password = p.accounts[t.account].BaseKey
	case PasswordSession:
		password = t.session
	default:
		if password = t.session; password == "" {
			password = t.value
		}
	}
	call.seal = password
	if p.b.o.Body.WithBase {
		call.seal = p.accounts[t.account].BaseKey
	}
	if r := p.unseal(call, call.seal); r != nil { // decrypt, then check the sign
		return "", r
	}
	if s.TokenOnly && q.Get("sign") == "" {
		return password, nil
	}
	if query, body := call.signed(); !s.signed(query, body, password) {
		return "", refuse(codeSign, "sign wrong")
	}
	return password, nil
}

var seqDigits = regexp.MustCompile(`^(?:[0-9]{28}|[0-9]{32})$`)

// ok: 4+14+10, 4+14+14 or 5+14+13 digits, under the interface's own code, the
// documented 1001, or the five-digit form of either, with a time in it.
func (f SeqForms) ok(seq, code string) bool {
	if !seqDigits.MatchString(seq) {
		return false
	}
	width := 4
	var form SeqForms
	if seq[:4] == code {
		form = SeqOwn
	}
	if seq[:4] == "1001" {
		form |= SeqFixed
	}
	if form == 0 && (seq[:5] == "0"+code || seq[:5] == "01001") {
		width, form = 5, SeqFive
	}
	if form != 0 && len(seq) == 28 {
		form = SeqShort
	}
	_, err := time.Parse("20060102150405", seq[width:width+14])
	return err == nil && form != 0 && (f == 0 || f&form != 0)
}

// seqWritten tells in which of the forms that are known a message number is
// written, by its length and what it begins with, "" for none: the interface's
// own code or the documented 1001 in four digits or five, a time, and a serial
// of 14, 13 or, in the drafts, 10 digits.
func seqWritten(seq, code string) string {
	if !seqDigits.MatchString(seq) {
		return ""
	}
	own, width := "own", 4
	switch {
	case seq[:4] == code:
	case seq[:4] == "1001":
		own = "1001"
	case seq[:5] == "0"+code:
		width = 5
	case seq[:5] == "01001":
		own, width = "1001", 5
	default:
		return ""
	}
	if _, err := time.Parse("20060102150405", seq[width:width+14]); err != nil {
		return ""
	}
	return own + " " + itoa(int64(width)) + "+14+" + itoa(int64(len(seq)-width-14))
}

// seqOK also counts which form came.
func (p *Platform) seqOK(seq, code string) bool {
	if !p.b.o.Seq.ok(seq, code) {
		return false
	}
	p.seqSeen[seqWritten(seq, code)]++
	return true
}

// SeqSeen counts the message numbers by how they were written, such as
// "own 4+14+14" or "1001 5+14+13".
func (p *Platform) SeqSeen() map[string]int {
	defer p.open()()
	return maps.Clone(p.seqSeen)
}

// repeatedSeq remembers message numbers: one names one request and no other.
func (p *Platform) repeatedSeq(seq string) bool {
	if p.seqs[seq] || p.oldSeqs[seq] {
		return true
	}
	if len(p.seqs) >= 50_000 {
		p.seqs, p.oldSeqs = map[string]bool{}, p.seqs
	}
	p.seqs[seq] = true
	return false
}
