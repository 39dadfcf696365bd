// Package registration keeps how far a kiosk's registration with the platform
// (6001) has come, and the words for what keeps it from going on. Asking is the
// agent's.
//
// A registration is a step that can be repeated: the platform answers a repeat
// with the same serial number as it answered the first time. So what is stored
// is enough to go on after a power cut at any place:
//
//	none        nothing was asked yet
//	asked       a request may have left; nobody here knows what became of it: ask again
//	refused     the platform said no, or what it gave could not be kept; Code says why
//	registered  DeviceID is the kiosk's name from now on
//
// The bucket "registration" has one value, "state": CRC32C in hex, blank, JSON.
// One that is damaged counts as none: asking again does no harm.
package registration

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strings"

	"go.etcd.io/bbolt"
)

// State is how far it has come.
type State string

// The states.
const (
	None       State = "none"
	Asked      State = "asked"
	Refused    State = "refused"
	Registered State = "registered"
)

// Record is what is stored. Nothing in it is secret but Token, which is sealed.
type Record struct {
	State    State  `json:"state"`
	DeviceSN string `json:"deviceSn"` // of the kiosk that asked
	DeviceID string `json:"deviceId,omitempty"`
	// Code is the platform's result code or one of ours, of Refused.
	Code       string `json:"code,omitempty"`
	At         int64  `json:"at"` // milliseconds since 1970: data, not order
	CreateTime string `json:"createTime,omitempty"`
	Token      []byte `json:"token,omitempty"` // registerToken, sealed by the keystore
}

// Codes of ours.
const (
	NoCredential = "noCredential" // neither enterprise key nor code
	Keystore     = "keystore"     // the base key that came cannot be kept
	KeyRefused   = "keyRefused"   // the platform refuses the base key it gave
	Field        = "field"        // a field of the request is against its format
)

var (
	bucket   = []byte("registration")
	keyState = []byte("state")
	crcTable = crc32.MakeTable(crc32.Castagnoli)
)

// Load reads the record; that of another serial number, a damaged one and none
// are None.
func Load(view func(func(*bbolt.Tx) error) error, deviceSN string) (r Record, err error) {
	err = view(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		if b == nil {
			return nil
		}
		v := b.Get(keyState)
		if len(v) < 10 || v[8] != ' ' || string(fmt.Appendf(nil, "%08x", crc32.Checksum(v[9:], crcTable))) != string(v[:8]) || json.Unmarshal(v[9:], &r) != nil {
			r = Record{}
		}
		return nil
	})
	if err != nil {
		return Record{}, fmt.Errorf("read registration: %w", err)
	}
	if r.DeviceSN != deviceSN || r.State == Registered && r.DeviceID == "" {
		r = Record{State: None, DeviceSN: deviceSN}
	}
	return r, nil
}

// Save writes the record in tx.
func Save(tx *bbolt.Tx, r Record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write registration: %w", err)
	}
	b, err := tx.CreateBucketIfNotExists(bucket)
	if err != nil {
		return fmt.Errorf("write registration: %w", err)
	}
	if err := b.Put(keyState, append(fmt.Appendf(nil, "%08x ", crc32.Checksum(text, crcTable)), text...)); err != nil {
		return fmt.Errorf("write registration: %w", err)
	}
	return nil
}

// Reason is what a technician reads and does.
type Reason struct {
	Code string `json:"code"`
	ZH   string `json:"zh"`
	EN   string `json:"en"`
	Next string `json:"next"`
}

// Why finds the words for a state and code; the zero Reason for Registered
// without a code.
func (r Record) Why() Reason {
	switch {
	case r.State == Registered && r.Code == "":
		return Reason{}
	case r.State == None:
		return Reason{"none", "尚未注册", "not registered yet", "kioskctl register, with --code if the back office gave one"}
	case r.State == Asked:
		return Reason{"asked", "已申请注册，结果未知", "registration was asked for, its answer is not known", "check the network, then kioskctl register again with the same code; repeating does no harm"}
	}
	for _, w := range reasons {
		if w.Code == r.Code {
			return w
		}
	}
	if strings.HasPrefix(r.Code, "3000") {
		return Reason{r.Code, "平台认为注册参数有误", "the platform found a parameter wrong", "compare [device] and [register] in the configuration with what the back office entered"}
	}
	return Reason{r.Code, "平台拒绝注册", "the platform refused the registration", "tell the back office the code"}
}

var reasons = []Reason{
	{"20002", "注册码或企业密钥错误", "the code or the enterprise key is wrong", "type the code again, or ask for a new one"},
	{"30009", "应用ID或企业密钥错误", "appId or enterprise key is wrong", "compare auth.app_id and register.key_file"},
	{"30010", "签名不被接受", "the sign was not accepted", "type the code again; compare the [sign] readings"},
	{"46101", "平台没有该设备序列号", "the platform does not know this serial number", "have the back office enter register.device_sn"},
	{"46102", "注册码已被其他设备使用", "the code was used for another kiosk", "ask for a new code"},
	{"46103", "设备属于其他机构", "the serial number belongs to another organisation", "compare device.org_code"},
	{"20031", "没有注册权限", "this appId may not register kiosks", "ask the back office"},
	{"10031", "平台不支持注册接口", "the platform has no interface for this", "have the device id given and put it into device.id; turn register.use off"},
	{NoCredential, "没有注册码，也没有企业密钥", "neither a code nor an enterprise key", "kioskctl register --code, or set register.key_file"},
	{Keystore, "密钥库无法打开，收到的密钥未保存", "the keystore is locked, the key that came was not kept", "mend the keystore, then kioskctl register again"},
	{KeyRefused, "已注册，但平台拒绝其下发的密钥", "registered, but the platform refuses the key it gave", "provision a key by hand; tell the back office"},
	{Field, "注册资料格式有误", "a value in the configuration is against its format", "kioskd's log names the field; correct [register]"},
}
