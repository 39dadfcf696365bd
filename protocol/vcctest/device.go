package vcctest

import (
	"encoding/json"
	"maps"
	"net/url"
	"regexp"
	"slices"
)

// Registration is a kiosk the platform has registered.
type Registration struct {
	DeviceSN string          `json:"deviceSn"`
	DeviceID string          `json:"deviceId"`
	Times    int             `json:"times"` // how often it asked
	Request  json.RawMessage `json:"request"`
	BaseKey  string          `json:"-"` // "" when the platform gives none on line
}

type registry struct {
	codes map[string]string // one-time code -> the serial number that used it
	known map[string]*Registration
}

var (
	serialForm = regexp.MustCompile(`^[0-9A-Za-z._-]{1,64}$`)
	orgForm    = regexp.MustCompile(`^[A-Z0-9]{2,20}$`)
)

// AddCode makes a one-time code for a technician who registers a kiosk. It is
// good for one serial number, and for its repeats.
func (p *Platform) AddCode(code string) {
	defer p.open()()
	p.registry.codes[code] = ""
}

// Registrations are the registered kiosks, by serial number.
func (p *Platform) Registrations() (out []Registration) {
	defer p.open()()
	for _, sn := range slices.Sorted(maps.Keys(p.registry.known)) {
		out = append(out, *p.registry.known[sn])
	}
	return out
}

// register is 6001. A repeat with the same number gives the same answer: a
// kiosk that lost the first one asks again.
func (p *Platform) register(q url.Values, body []byte) (any, string, *refusal) {
	var in struct {
		OrgCode   string   `json:"orgCode"`
		ChannelID string   `json:"channelId"`
		AppID     string   `json:"appId"`
		DeviceSN  string   `json:"deviceSn"`
		IMEI      string   `json:"imei"`
		ICCID     string   `json:"iccid"`
		MSISDN    string   `json:"msisdn"`
		MAC       string   `json:"mac"`
		Model     string   `json:"model"`
		Firmware  string   `json:"firmware"`
		CardTypes []string `json:"cardTypes"`
		Lng       string   `json:"lng"`
		Lat       string   `json:"lat"`
		Address   string   `json:"address"`
	}
	if r := decode(body, &in); r != nil {
		return nil, "", r
	}
	if r := check(
		field{"orgCode", orgForm.MatchString(in.OrgCode)}, field{"deviceSn", serialForm.MatchString(in.DeviceSN)},
		field{"address", len(in.Address) <= 1020}, field{"cardTypes", len(in.CardTypes) <= 20},
	); r != nil {
		return nil, "", r
	}
	o, g := p.b.o, &p.registry
	password := ""
	if o.EnterpriseKey != "" && o.Sign.signed(q, body, o.EnterpriseKey) {
		password = o.EnterpriseKey
	}
	for code, by := range g.codes {
		if password != "" || !o.Sign.signed(q, body, code) {
			continue
		}
		if by != "" && by != in.DeviceSN {
			return nil, code, refuse(codeCodeUsed, "code was used for another kiosk")
		}
		g.codes[code], password = in.DeviceSN, code
	}
	if password == "" {
		return nil, "", refuse(codePassword, "bad credentials")
	}
	if len(o.Serials) > 0 && !slices.Contains(o.Serials, in.DeviceSN) {
		return nil, password, refuse(codeSerial, "serial number unknown")
	}
	r := g.known[in.DeviceSN]
	if r == nil {
		r = &Registration{DeviceSN: in.DeviceSN, DeviceID: "QC" + in.DeviceSN}
		if o.GiveKeys {
			r.BaseKey = p.b.random(32)
			p.accounts = append(p.accounts, Account{DeviceID: r.DeviceID, AppID: in.AppID, BaseKey: r.BaseKey})
		}
		g.known[in.DeviceSN] = r
	}
	r.Times++
	r.Request = slices.Clone(body)
	a := map[string]any{"deviceId": r.DeviceID, "createTime": p.b.stamp(), "registerToken": "reg" + p.b.random(29)}
	if r.BaseKey != "" {
		a["baseKey"] = r.BaseKey
	}
	return a, password, nil
}

// heartbeat is 6004: the state is kept as it came, the acknowledgements are
// taken, and what waits for the kiosk is given out.
func (p *Platform) heartbeat(body []byte) (any, *refusal) {
	var q struct {
		DeviceID string `json:"deviceId"`
		Acks     []struct {
			CmdID  string `json:"cmdId"`
			Result string `json:"result"`
			Reason string `json:"reason"`
			KCV    string `json:"kcv"`
		} `json:"acks"`
	}
	if json.Unmarshal(body, &q) != nil || !nameForm.MatchString(q.DeviceID) {
		return nil, refuse(codeParameter, "deviceId")
	}
	var acks []Ack
	for _, a := range q.Acks {
		if !nameForm.MatchString(a.CmdID) || !oneOf(a.Result, "ok", "refused", "expired", "failed") {
			return nil, refuse(codeParameter, "acks")
		}
		acks = append(acks, Ack{CmdID: a.CmdID, Result: a.Result, Reason: a.Reason, KCV: a.KCV})
	}
	p.beats[q.DeviceID] = append(json.RawMessage{}, body...)
	p.commands.acknowledge(q.DeviceID, acks, p.b.now)
	return map[string]any{"timestamp": p.b.stamp(), "commands": p.commands.give(q.DeviceID)}, nil
}

// clock is 6005.
func (b *books) clock() any { return map[string]any{"timestamp": b.stamp()} }
