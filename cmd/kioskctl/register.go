package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"vcckiosk/agent"
	"vcckiosk/agent/registration"
)

func (t *tool) register() *cobra.Command {
	var code bool
	c := t.leaf("register", "Have the platform register this kiosk", `Asks the platform to register this kiosk and to give it its device id; only where the
configuration has register.use on. With --code it is signed with a one-time code of the
back office, typed unseen or piped in; it is never an argument. Without --code it is
signed with the enterprise key of the configuration.

It may be repeated: the platform answers a repeat, with the same code, as it did first.

Ends with 0 when the kiosk is registered, else with 1 and the reason, with what to do.`,
		"  kioskctl register --code\n  kioskctl register --code < code.txt", cobra.NoArgs, func(ctx context.Context, _ []string) error {
			var secret []byte
			if code {
				var err error
				if secret, err = readSecret(ctx, t.in, t.prompt, "one-time code", "注册码"); err != nil {
					return err
				}
			}
			st, err := t.api().Register(ctx, secret) // clears the code
			if err != nil {
				return err
			}
			t.show(st, func(w io.Writer) { printRegistration(w, st) })
			if st.State != registration.Registered {
				return errors.New("not registered")
			}
			return nil
		})
	c.Flags().BoolVar(&code, "code", false, "read a one-time code from standard input")
	return c
}

func printRegistration(w io.Writer, st agent.RegistrationStatus) {
	fmt.Fprintf(w, "registration\t%s, serial number %s", st.State, st.DeviceSN)
	if st.DeviceID != "" {
		fmt.Fprintf(w, ", device %s", st.DeviceID)
	}
	fmt.Fprintln(w)
	if r := st.Reason; r != nil {
		fmt.Fprintf(w, "  %s\t%s / %s; %s\n", r.Code, r.ZH, r.EN, r.Next)
	}
}
