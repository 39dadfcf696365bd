package protocol_test

import (
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"vcckiosk/protocol"
	"vcckiosk/protocol/vcctest"
)

// TestRegistrationAndClock: a kiosk without a name and a key gets both, asks
// the time, and opens a session under the name it was given.
func TestRegistrationAndClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, signs := range []bool{false, true} {
			p := vcctest.New(vcctest.Options{Good: true, BaseKey: "of others", EnterpriseKey: "ENTERPRISE", GiveKeys: true, NoDate: true, SignAnswers: signs})
			p.AddCode("31415926")
			given := key
			c, err := protocol.NewClient(protocol.Config{
				BaseURL: "https://platform.invalid/vcc-openapi", Auth: protocol.AuthDevice, ChannelID: "C1", OrgCode: "WJ0105", Registers: true,
			}, protocol.Deps{
				Transport: p.RoundTripper(), Seq: &serials{}, Key: func() (protocol.BaseKey, error) { return base(given), nil },
			})
			check(t, err)
			request := protocol.RegisterRequest{DeviceSN: "SN1", IMEI: "860000000000001", CardTypes: []string{"CPU"}, Address: "木渎镇", Lng: "120.58", Lat: "31.30"}
			_, err = c.Register(t.Context(), request, []byte("00000000"))
			if e, is := errors.AsType[*protocol.CodeError](err); !is || e.Code != "20002" {
				t.Errorf("with a wrong code: %v", err)
			}
			first, err := c.Register(t.Context(), request, []byte("31415926"))
			check(t, err)
			again, err := c.Register(t.Context(), request, []byte("31415926"))
			check(t, err)
			if first.DeviceID != again.DeviceID || string(first.BaseKey) != string(again.BaseKey) || len(first.BaseKey) != 32 || first.Token == nil {
				t.Errorf("registered as %v, and again as %v", first, again)
			}
			if rs := p.Registrations(); len(rs) != 1 || !json.Valid(rs[0].Request) || rs[0].BaseKey != string(first.BaseKey) {
				t.Errorf("the platform's books: %+v", rs)
			}
			check(t, c.SetDeviceID(first.DeviceID))
			given = string(first.BaseKey)
			if _, known := c.Skew(); known {
				t.Error("a skew without any date")
			}
			at, err := c.Time(t.Context())
			skew, known := c.Skew()
			if err != nil || time.Until(at).Abs() > time.Second || !known || skew.Abs() > time.Second {
				t.Errorf("the time is %v, skew %v %t, %v", at, skew, known, err)
			}
			if _, err := c.Heartbeat(t.Context(), protocol.HeartbeatRequest{State: "serving"}); err != nil {
				t.Error(err)
			}
			if _, beats := p.LastHeartbeat(first.DeviceID); !beats {
				t.Error("no heartbeat under the new name")
			}
		}
	})
}
