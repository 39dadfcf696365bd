package localapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"vcckiosk/agent"
	"vcckiosk/protocol/reconcile"
	"vcckiosk/protocol/reconcile/sftp"
)

// runTime is what a day's run may take before its caller hears that it has not
// ended; less than the caller's patience.
const runTime = 50 * time.Second

var errNotInTime = fmt.Errorf("not done within %v; what has arrived is kept, run it again", runTime)

// reconcileRoutes are the daily reconciliation: look for everybody, run for
// technicians.
func reconcileRoutes(a *agent.Agent, get, tech func(string, func(*call) (any, error))) {
	get("/v1/reconcile", func(*call) (any, error) {
		days, err := a.ReconDays()
		return list(days), err
	})
	get("/v1/reconcile/{day}", func(c *call) (any, error) {
		day := c.PathValue("day")
		if day == "latest" {
			day = ""
		}
		return a.ReconDay(day)
	})
	tech("/v1/reconcile/run", func(c *call) (any, error) {
		var in struct {
			Day string `json:"day"` // yyyyMMdd; empty: yesterday
		}
		if err := c.json(&in); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeoutCause(c.Context(), runTime, errNotInTime)
		defer cancel()
		got, err := a.Reconcile(ctx, in.Day, c.peer())
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return got, err
	})
}

func reconcileStatus(err error) (int, bool) {
	for _, m := range []struct {
		status int
		errs   []error
	}{
		{http.StatusBadRequest, []error{reconcile.ErrDay}},
		{http.StatusNotFound, []error{agent.ErrNoDay}},
		{http.StatusConflict, []error{agent.ErrReconOff, agent.ErrDayOpen, agent.ErrQuiet, agent.ErrDayShrunk, agent.ErrNoTime}},
		{http.StatusBadGateway, []error{
			sftp.ErrUnknownHost, sftp.ErrHostKey, sftp.ErrAuth, sftp.ErrRefused, sftp.ErrLost, sftp.ErrTooLarge,
			reconcile.ErrForm, reconcile.ErrCut, reconcile.ErrSum,
		}},
		{http.StatusGatewayTimeout, []error{errNotInTime}},
	} {
		for _, e := range m.errs {
			if errors.Is(err, e) {
				return m.status, true
			}
		}
	}
	return 0, false
}
