//go:build sim

package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vcckiosk/protocol/vcctest"
)

// Not real, as the rest of what the simulated world agrees on.
var (
	simCommandKey = ed25519.NewKeyFromSeed([]byte("vccsim commands, never a real on"))
	simCode       = "31415926"
)

// remoteOrder is what POST /sim/commands takes.
type remoteOrder struct {
	DeviceID string            `json:"deviceId"`
	Cmd      string            `json:"cmd"`
	Args     map[string]string `json:"args,omitempty"`
	Life     string            `json:"life,omitempty"` // as "1h"
}

// remote adds commands and registrations to the control of a platform.
func remote(mux *http.ServeMux, p *vcctest.Platform) {
	mux.HandleFunc("GET /sim/acks", func(w http.ResponseWriter, _ *http.Request) { encode(w, p.Acks()) })
	mux.HandleFunc("GET /sim/registrations", func(w http.ResponseWriter, _ *http.Request) { encode(w, p.Registrations()) })
	mux.HandleFunc("POST /sim/codes", posted(func(code string) error {
		if code == "" {
			return errors.New("code: empty")
		}
		p.AddCode(code)
		return nil
	}))
	mux.HandleFunc("POST /sim/commands", func(w http.ResponseWriter, r *http.Request) {
		var in remoteOrder
		err := json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&in)
		o := vcctest.Order{DeviceID: in.DeviceID, Cmd: in.Cmd, Args: in.Args}
		if err == nil && in.Life != "" {
			o.Life, err = time.ParseDuration(in.Life)
		}
		id := ""
		if err == nil {
			id, err = p.Command(o)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		encode(w, map[string]string{"cmdId": id})
	})
}

func commandCommand() *cobra.Command {
	var sim, life string
	c := &cobra.Command{
		Use: "command DEVICE CMD [NAME=VALUE...]", Short: "Give a kiosk a signed command", Args: cobra.MinimumNArgs(2),
		Long: `Has a running "vccsim serve" sign a command and give it out with the kiosk's heartbeats until
it is acknowledged. The kiosk must have the key that serve prints as command.key. What
became of commands is at /sim/acks.`,
		Example: "  vccsim command QC0001 disable reason=年检\n  vccsim command QC0001 reconcile day=20261124",
		RunE: func(cmd *cobra.Command, args []string) error {
			o := remoteOrder{DeviceID: args[0], Cmd: args[1], Life: life}
			for _, a := range args[2:] {
				name, v, ok := strings.Cut(a, "=")
				if !ok || name == "" {
					return fmt.Errorf("%q: want NAME=VALUE", a)
				}
				if o.Args == nil {
					o.Args = map[string]string{}
				}
				o.Args[name] = v
			}
			said, err := postJSON(cmd.Context(), strings.TrimRight(sim, "/")+"/sim/commands", o)
			if err != nil {
				return err
			}
			fmt.Fprint(cmd.OutOrStdout(), said)
			return nil
		},
	}
	c.Flags().StringVar(&sim, "sim", "http://127.0.0.1:8443", "`address` of the running simulator")
	c.Flags().StringVar(&life, "life", "1h", "how long the command is good")
	return c
}

func postJSON(ctx context.Context, url string, v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(b))
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	out, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the simulator answered %d: %s", resp.StatusCode, bytes.TrimSpace(out))
	}
	return string(out), nil
}

func pushCommand() *cobra.Command {
	var e vcctest.Event
	var token string
	var only bool
	c := &cobra.Command{
		Use: "push URL", Short: "Push an event to a kiosk, as the platform does", Args: cobra.ExactArgs(1),
		Long: `Checks the address by a handshake with echo, as the platform does before it pushes there, and
then pushes one event. With --subscribe it ends after the handshake.`,
		Example: "  vccsim push http://127.0.0.1:8480/ --token of-the-tests --event 7003 --org SU0105",
		RunE: func(cmd *cobra.Command, args []string) error {
			p := vcctest.Pusher{URL: args[0], Token: token, Client: &http.Client{Timeout: 10 * time.Second}}
			if err := p.Subscribe(cmd.Context()); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "the address answers the handshake")
			if only {
				return nil
			}
			if e.ID == "" {
				e.ID = time.Now().Format("20060102150405.000000000")
			}
			if err := p.Push(cmd.Context(), e); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "pushed", e.Code, e.ID)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&token, "token", "", "`text` shared with the kiosk; a test's, it is visible to others here")
	f.StringVar(&e.Code, "event", "7003", "`code`, 7001 to 7005")
	f.StringVar(&e.ID, "id", "", "event `id`; default: the time")
	f.StringVar(&e.OrgCode, "org", "SU0105", "organisation `code`")
	f.BoolVar(&only, "subscribe", false, "only the handshake")
	return c
}
