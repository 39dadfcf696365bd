package protocol

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"

	"vcckiosk/protocol/sign"
)

// RegisterRequest is what a kiosk tells of itself for 6001. All but OrgCode and
// DeviceSN may be empty.
type RegisterRequest struct {
	OrgCode   string   `json:"orgCode"`
	ChannelID string   `json:"channelId,omitempty"`
	AppID     string   `json:"appId,omitempty"`
	DeviceSN  string   `json:"deviceSn"`
	IMEI      string   `json:"imei,omitempty"`
	ICCID     string   `json:"iccid,omitempty"`
	MSISDN    string   `json:"msisdn,omitempty"` // a telephone number: never logged
	MAC       string   `json:"mac,omitempty"`
	Model     string   `json:"model,omitempty"`
	Firmware  string   `json:"firmware,omitempty"`
	CardTypes []string `json:"cardTypes,omitempty"`
	Lng       string   `json:"lng,omitempty"` // decimal degrees, WGS 84
	Lat       string   `json:"lat,omitempty"`
	Address   string   `json:"address,omitempty"`
}

// Registered is the answer of 6001. It prints without its secrets; whoever
// called clears them.
type Registered struct {
	DeviceID   string
	CreateTime string
	BaseKey    []byte // nil: the platform does not give keys this way
	Token      []byte // registerToken, nil for none
}

// Format prints the device id only.
func (r Registered) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "registered as "+r.DeviceID)
}

// LogValue logs the device id only.
func (r Registered) LogValue() slog.Value { return slog.StringValue("registered as " + r.DeviceID) }

// Clear wipes the secrets.
func (r Registered) Clear() { clear(r.BaseKey); clear(r.Token) }

// CheckRegistration tells whether a request could be sent: a FieldError names
// the first field that is against its format. It sends nothing.
func (c *Client) CheckRegistration(q RegisterRequest) error {
	_, err := c.registerBody(q)
	return err
}

func (c *Client) registerBody(q RegisterRequest) ([]byte, error) {
	q.OrgCode = or(q.OrgCode, c.OrgCode)
	q.AppID, q.ChannelID = or(q.AppID, c.AppID), or(q.ChannelID, c.ChannelID)
	q.Firmware = cleanName(q.Firmware, "firmware")
	return body(codeRegister, q)
}

// Register calls 6001, signed with secret, which is the enterprise key or a
// technician's one-time code and stays the caller's. It needs no session and no
// base key. OrgCode, AppID and ChannelID are filled in from the configuration.
//
// A CodeError is the platform's refusal: its code says why, and a person has to
// act on it. ErrTransport: nobody knows whether the platform has made the
// registration; repeat it as it is, the answer to a repeat is the same. The
// base key in the answer is taken out before anything is decoded, and never in
// a Go string; copies in the buffers of TLS and HTTP are not ours to clear.
func (c *Client) Register(ctx context.Context, q RegisterRequest, secret []byte) (Registered, error) {
	r := request{name: codeRegister, end: c.catalogue[codeRegister], strict: true}
	r.path = r.end.Path
	if len(secret) == 0 {
		return Registered{}, &FieldError{Interface: codeRegister, Field: "sign", Why: "neither enterprise key nor code to sign with"}
	}
	var err error
	if r.body, err = c.registerBody(q); err != nil {
		return Registered{}, err
	}
	ctx, cancel := c.limit(ctx)
	defer cancel()
	m := r.end.mask("baseKey", "registerToken")
	defer m.clear()
	r.mask, r.key = m, codeSecret(secret)
	pw := func(message []byte) string { return sign.Sum(message, secret) }
	a, err := c.exchange(ctx, r, nil, pw, func(*value) []password { return []password{m.restored(pw)} })
	if err != nil {
		return Registered{}, err
	}
	in := newReader(a.value)
	out := Registered{DeviceID: in.form("deviceId", formats["deviceId"], true), CreateTime: in.literal("createTime", 32)}
	for name, to := range map[string]*[]byte{"baseKey": &out.BaseKey, "registerToken": &out.Token} {
		if *to = m.value(in.v.member(name)); *to == nil && in.literal(name, 512) != "" {
			in.fail(name, "not plain letters and digits")
		}
	}
	if *in.fault == "" && out.BaseKey != nil && len(out.BaseKey) != 32 {
		in.fail("baseKey", "not 32 letters and digits")
	}
	if err := c.closed(codeRegister, in); err != nil {
		out.Clear()
		return Registered{}, err
	}
	return out, nil
}

// SetDeviceID names this kiosk from now on: what 6001 has answered. It takes
// the place of Config.DeviceID; a session opened under another name is dropped.
func (c *Client) SetDeviceID(id string) error {
	if why := formats["deviceId"].check(id); why != "" {
		return fmt.Errorf("deviceId: %s", why)
	}
	if old := c.device.Swap(&id); old == nil || *old != id {
		c.DropToken()
	}
	return nil
}

func (c *Client) deviceID() string {
	if id := c.device.Load(); id != nil {
		return *id
	}
	return c.DeviceID
}

// Time calls 6005: the platform's clock. Its skew is used from now on (Skew),
// from the answer's Date header or, without one, from its timestamp, whose
// grain is a second too. The system clock is not touched. A repeat is harmless.
func (c *Client) Time(ctx context.Context) (time.Time, error) {
	ctx, cancel := c.limit(ctx)
	defer cancel()
	var a answer
	var began time.Time
	r := request{name: codeTime, end: c.catalogue[codeTime]}
	err := c.attempts(ctx, r, func(r request, s *session, pw password) (err error) {
		began = time.Now()
		a, err = c.exchange(ctx, r, s, pw, func(*value) []password { return []password{pw} })
		return err
	})
	if err != nil {
		return time.Time{}, err
	}
	middle := began.Add(time.Since(began) / 2)
	in := newReader(a.value)
	at, ok := readTime(in.literal("timestamp", 32))
	if !ok {
		in.fail("timestamp", "not a time")
	}
	if err := c.closed(codeTime, in); err != nil {
		return time.Time{}, err
	}
	if a.date.IsZero() {
		c.sawDate(at, middle)
	}
	return at, nil
}

// readTime reads what a platform calls a time: yyyyMMddHHmmss or
// yyyy-MM-dd HH:mm:ss in Shanghai, or seconds or milliseconds since 1970. A year
// before 2000 or after 2099 is none.
func readTime(s string) (time.Time, bool) {
	var at time.Time
	var err error
	switch len(s) {
	case 14:
		at, err = time.ParseInLocation("20060102150405", s, shanghai())
	case 19:
		at, err = time.ParseInLocation(time.DateTime, s, shanghai())
	case 9, 10, 12, 13:
		var n int64
		n, err = strconv.ParseInt(s, 10, 64)
		if at = time.Unix(n, 0); len(s) > 10 {
			at = time.UnixMilli(n)
		}
	default:
		return time.Time{}, false
	}
	if y := at.In(shanghai()).Year(); err != nil || y < 2000 || y > 2099 {
		return time.Time{}, false
	}
	return at, true
}
