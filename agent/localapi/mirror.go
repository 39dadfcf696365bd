package localapi

import (
	"vcckiosk/agent"
	"vcckiosk/agent/mirror"
)

// mirrored serves the mirror: everybody may see how far it is, a technician may
// look an account up and have it pulled or dropped.
func mirrored(a *agent.Agent, role Role, get, tech func(string, func(*call) (any, error))) {
	get("/v1/mirror", func(*call) (any, error) {
		if a.Mirror == nil {
			return nil, mirror.ErrOff
		}
		return a.Mirror.Status(), nil
	})
	get("/v1/mirror/{code}", func(c *call) (any, error) {
		if role != Technician {
			return nil, errRole
		}
		return a.Account(c.Context(), c.PathValue("code"), c.peer())
	})
	tech("/v1/mirror/pull", func(*call) (any, error) {
		if a.Mirror == nil {
			return nil, mirror.ErrOff
		}
		a.Mirror.Wake()
		return done, nil
	})
	tech("/v1/mirror/resync", func(c *call) (any, error) {
		return done, a.ResyncMirror(c.Context(), c.peer())
	})
}
