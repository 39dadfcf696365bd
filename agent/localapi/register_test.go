package localapi_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"vcckiosk/agent"
	"vcckiosk/agent/localapi"
	"vcckiosk/agent/registration"
	"vcckiosk/protocol"
	"vcckiosk/protocol/vcctest"
)

func TestRegisterOverTheSocket(t *testing.T) {
	t.Parallel()
	k := newAgentWith(t, vcctest.Options{Good: true, BaseKey: baseKey, Serials: []string{"SN1"}}, &agent.Registering{Request: protocol.RegisterRequest{DeviceSN: "SN1"}})
	k.platform.AddCode("31415926")
	k.serve(t)
	if _, err := k.op.Register(t.Context(), []byte("31415926")); problemOf(err) != http.StatusForbidden {
		t.Errorf("an operator: %v", err)
	}
	code := []byte("00000000")
	st, err := k.tech.Register(t.Context(), code)
	if err != nil || st.State != registration.Refused || st.Reason == nil || st.Reason.Code != "20002" || strings.Trim(string(code), "\x00") != "" {
		t.Errorf("a wrong code: %+v %v, code %q", st, err, code)
	}
	if st, err = k.tech.Register(t.Context(), []byte("31415926")); err != nil || st.State != registration.Registered || st.DeviceID != "QCSN1" || st.Reason != nil {
		t.Errorf("the code: %+v %v", st, err)
	}
	var status localapi.Status
	if err := k.op.Get(t.Context(), "/v1/status", &status); err != nil || status.Registration == nil || status.Registration.DeviceID != "QCSN1" || status.Device != "QCSN1" {
		t.Errorf("status %+v, %v", status.Registration, err)
	}
	if strings.Contains(k.log.String(), "31415926") {
		t.Error("the code is in the log")
	}
}

func TestRegisterWhereNothingRegisters(t *testing.T) {
	t.Parallel()
	k := newAgent(t)
	k.serve(t)
	if _, err := k.tech.Register(t.Context(), []byte("31415926")); problemOf(err) != http.StatusConflict {
		t.Errorf("%v", err)
	}
	if err := k.tech.Post(t.Context(), "/v1/register", []int{1}, nil); problemOf(err) != http.StatusBadRequest {
		t.Errorf("a body that is no code: %v", err)
	}
}

func problemOf(err error) int {
	if p, is := errors.AsType[*localapi.Problem](err); is {
		return p.Status
	}
	return 0
}
