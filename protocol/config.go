package protocol

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"vcckiosk/protocol/sign"
)

// AuthMode chooses how a session is opened.
type AuthMode string

// The two ways to open a session.
const (
	AuthEnterprise AuthMode = "enterprise" // 1002: appId; the default
	AuthDevice     AuthMode = "device"     // 1001: channelId and deviceId
)

// Config is what the client needs to know of its platform. The zero value of
// every field but BaseURL, DeviceID, OrgCode and the ids of the chosen
// AuthMode works.
type Config struct {
	// BaseURL is the address before the catalogue's paths, such as
	// https://host/vcc-openapi. http is allowed to a loopback address only.
	BaseURL string
	// Endpoints replaces rows of the catalogue, by its code. Empty fields keep
	// what the catalogue says.
	Endpoints map[string]Endpoint
	// Dialect is the protocol the platform speaks: empty for the document's,
	// selfservice for the kiosk protocol with calculation and payment as two
	// calls (docs/dialects.md). Endpoints and Envelope are laid over it.
	Dialect string
	// Auth is AuthEnterprise when empty.
	Auth AuthMode
	// AppID is issued by the platform, for AuthEnterprise.
	AppID string
	// ChannelID is issued by the platform, for AuthDevice.
	ChannelID string
	// DeviceID and OrgCode name this kiosk in every call.
	DeviceID, OrgCode string
	// Registers says that the device id comes from 6001 (Client.SetDeviceID);
	// DeviceID may be empty then, and calls that need one are not sent before.
	Registers bool
	Sign      SignConfig
	Body      BodyConfig
	Envelope  Envelope
	Seq       SeqConfig
	Token     TokenConfig
	TLS       TLSConfig
	// TimeoutLive bounds a whole call, renewal of the token included, while a
	// customer waits; 15 s when zero.
	TimeoutLive time.Duration
	// TimeoutBacklog bounds the calls marked by Backlog; 30 s when zero.
	TimeoutBacklog time.Duration
}

// SignConfig chooses among the readings of the platform's rule for signs. The
// zero value is the reading with the best evidence.
type SignConfig struct {
	ExcludeKeys    bool   // values only; default keys and values
	KeepEmpty      bool   // a parameter with an empty value keeps its key
	LowerHex       bool   // lower case digits
	Sort           string // byte (default) or fold
	Value          string // raw (default) or encoded
	Charset        string // utf-8 (default) or gbk
	Requests       string // always (default) or token_only: sign getToken only
	Password       string // auto (default: session key, else token), token, session, base
	VerifyResponse string // off, if_present (default), require
	// Place is query (default) or header: the document calls where the sign
	// stands 请求头, its samples put it into the query.
	Place string
}

// SeqConfig shapes the message sequence number.
type SeqConfig struct {
	CodeWidth   int    // 4 (default) or 5, zero-padded
	SerialWidth int    // 10 to 14; default 14
	CodeMode    string // own (default) or fixed:NNNN
	// Partition, 1 to 9999, takes the upper four digits of the serial when
	// several kiosks share an appId; 0 for none.
	Partition int
}

// TokenConfig shapes the renewal of the token.
type TokenConfig struct {
	// DefaultLife is used when the answer has no usable expireTime; 7200 s when
	// zero.
	DefaultLife time.Duration
	// MinLife is how long a token is used at least, whatever its expireTime
	// says, so that renewals never loop faster; 30 s when zero.
	MinLife time.Duration
}

// settings is a Config after validation, with every default filled in.
type settings struct {
	Config
	base      string // without a trailing slash
	catalogue map[string]*endpoint
	sign      sign.Options
	dialect   *dialect // nil for the document's
	suite     *suite   // nil: bodies are not encrypted
}

func (c Config) validate() (*settings, error) {
	s := &settings{Config: c}
	if err := s.checkBase(); err != nil {
		return nil, err
	}
	if s.Auth == "" {
		s.Auth = AuthEnterprise
	}
	check := []struct{ field, value string }{{"deviceId", c.DeviceID}, {"orgCode", c.OrgCode}}
	switch s.Auth {
	case AuthEnterprise:
		check = append(check, struct{ field, value string }{"appId", c.AppID})
	case AuthDevice:
		check = append(check, struct{ field, value string }{"channelId", c.ChannelID})
	default:
		return nil, fmt.Errorf("auth mode %q: want enterprise or device", c.Auth)
	}
	for _, f := range check {
		if f.field == "deviceId" && f.value == "" && c.Registers {
			continue
		}
		if why := formats[f.field].check(f.value); why != "" {
			return nil, fmt.Errorf("%s: %s", f.field, why)
		}
	}
	if err := s.checkSign(); err != nil {
		return nil, err
	}
	if err := s.checkBody(); err != nil {
		return nil, err
	}
	if err := s.checkSeq(); err != nil {
		return nil, err
	}
	if err := s.checkDialect(); err != nil {
		return nil, err
	}
	var err error
	if err := s.Envelope.defaults(); err != nil {
		return nil, err
	}
	if s.catalogue, err = override(s.dialect.table(), s.Endpoints, &s.Envelope); err != nil {
		return nil, err
	}
	if c.TimeoutLive < 0 || c.TimeoutBacklog < 0 || c.Token.DefaultLife < 0 || c.Token.MinLife < 0 {
		return nil, fmt.Errorf("negative duration")
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&s.TimeoutLive, 15*time.Second)
	def(&s.TimeoutBacklog, 30*time.Second)
	def(&s.Token.DefaultLife, 7200*time.Second)
	def(&s.Token.MinLife, 30*time.Second)
	return s, nil
}

func (s *settings) checkBase() error {
	u, err := url.Parse(s.BaseURL)
	if err != nil {
		return fmt.Errorf("base_url: not an address") // the text of url.Parse repeats its input
	}
	switch {
	case u.Host == "" || u.Hostname() == "":
		return fmt.Errorf("base_url: no host")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return fmt.Errorf("base_url: only scheme, host and path are allowed")
	case u.Scheme == "https":
	case u.Scheme == "http":
		if h := u.Hostname(); h != "localhost" {
			if ip := net.ParseIP(h); ip == nil || !ip.IsLoopback() {
				return fmt.Errorf("base_url: http is allowed to a loopback address only, use https")
			}
		}
	default:
		return fmt.Errorf("base_url: scheme must be https")
	}
	s.base = strings.TrimRight(u.String(), "/")
	return nil
}

func oneOf(name, v string, allowed ...string) (string, error) {
	if v == "" {
		return allowed[0], nil
	}
	for _, a := range allowed {
		if v == a {
			return v, nil
		}
	}
	return "", fmt.Errorf("%s %q: want %s", name, v, strings.Join(allowed, ", "))
}

func (s *settings) checkSign() error {
	for _, f := range []struct {
		name    string
		v       *string
		allowed []string
	}{
		{"sign.sort", &s.Sign.Sort, []string{"byte", "fold"}},
		{"sign.value", &s.Sign.Value, []string{"raw", "encoded"}},
		{"sign.charset", &s.Sign.Charset, []string{"utf-8", "gbk"}},
		{"sign.requests", &s.Sign.Requests, []string{"always", "token_only"}},
		{"sign.password", &s.Sign.Password, []string{"auto", "token", "session", "base"}},
		{"sign.place", &s.Sign.Place, []string{"query", "header"}},
		{"sign.verify_response", &s.Sign.VerifyResponse, []string{"if_present", "off", "require"}},
	} {
		v, err := oneOf(f.name, *f.v, f.allowed...)
		if err != nil {
			return err
		}
		*f.v = v
	}
	s.sign = sign.Options{ExcludeKeys: s.Sign.ExcludeKeys, KeepEmpty: s.Sign.KeepEmpty, LowerHex: s.Sign.LowerHex}
	if s.Sign.Sort == "fold" {
		s.sign.Sort = sign.FoldOrder
	}
	if s.Sign.Value == "encoded" {
		s.sign.Value = sign.Encoded
	}
	if s.Sign.Charset == "gbk" {
		s.sign.Charset = sign.GBK
	}
	return nil
}
