package localapi

import (
	"context"
	"net/http"

	"vcckiosk/agent"
	"vcckiosk/agent/registration"
)

// register asks the platform to register the kiosk. What the platform refused
// is an answer, with the reason a technician can act on; an error is what could
// not be asked.
func register(a *agent.Agent, c *call) (any, error) {
	var in struct {
		Code secretText `json:"code"`
	}
	defer func() { in.Code.wipe() }()
	if len(c.body) > 0 {
		if err := c.json(&in); err != nil {
			return nil, err
		}
	}
	st, err := a.Registrar.Register(c.Context(), in.Code, "technician "+c.peer())
	switch {
	case err == nil, st != nil && st.State == registration.Registered:
		return st, nil
	case st != nil && st.State == registration.Refused && agent.IsRefusal(err):
		return st, nil
	}
	return nil, err
}

// Register has the kiosk registered, with a one-time code or, when it is empty,
// with the enterprise key it has. The slice is cleared. It waits while the
// daemon asks the platform.
func (c *Client) Register(ctx context.Context, code []byte) (agent.RegistrationStatus, error) {
	defer clear(code)
	body := make([]byte, 0, 6*len(code)+16)
	body = append(appendQuoted(append(body, `{"code":`...), code), '}')
	posted := &secretBody{left: body, all: body}
	defer posted.wipe()
	var out agent.RegistrationStatus
	err := c.call(ctx, http.MethodPost, "/v1/register", posted, int64(len(body)), &out)
	return out, err
}
