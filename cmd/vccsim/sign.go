//go:build sim

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"vcckiosk/protocol/sign"
)

// maxSigned bounds a body that is signed here.
const maxSigned = 1 << 20

func signCommand() *cobra.Command {
	var o sign.Options
	var key, body, sort, value, charset string
	c := &cobra.Command{
		Use: "sign [NAME=VALUE...]", Short: "Show the canonical text and sign of any parameters, with a test key",
		Long: `Shows what is signed and the sign, so that who builds a platform can compare. Any text may
be signed here, and therefore only with test keys: a kiosk signs nothing but its own calls.
Without --key it is the simulator's. --body - reads the body from standard input.`,
		Example: "  vccsim sign appId=6A5B0E0F1C seq=10022017080109300000000000000001\n  vccsim sign --sort fold --values-only a=1 b=",
		RunE: func(cmd *cobra.Command, args []string) error {
			params := map[string]string{}
			for _, a := range args {
				name, v, ok := strings.Cut(a, "=")
				if _, twice := params[name]; !ok || name == "" || twice {
					return fmt.Errorf("%q: want NAME=VALUE, each name once", a)
				}
				params[name] = sign.Trim(v)
			}
			for _, x := range []struct {
				flag, v string
				words   map[string]func()
			}{
				{"sort", sort, map[string]func(){"byte": func() {}, "fold": func() { o.Sort = sign.FoldOrder }}},
				{"value", value, map[string]func(){"raw": func() {}, "encoded": func() { o.Value = sign.Encoded }}},
				{"charset", charset, map[string]func(){"utf-8": func() {}, "gbk": func() { o.Charset = sign.GBK }}},
			} {
				set, known := x.words[x.v]
				if !known {
					return fmt.Errorf("--%s %q is not known", x.flag, x.v)
				}
				set()
			}
			var content []byte
			if body != "" {
				var err error
				if content, err = readBody(cmd.InOrStdin(), body); err != nil {
					return err
				}
			}
			text, err := sign.Canonical(params, content, o)
			if err != nil {
				return fmt.Errorf("sign: %w", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "text  %s\nsign  %s\n", text, o.Case(sign.Sum(text, []byte(key))))
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&key, "key", simKey, "access password: a test `key`, token or session key")
	f.StringVar(&body, "body", "", "`file` with the request's body")
	f.StringVar(&sort, "sort", "byte", "byte or fold")
	f.StringVar(&value, "value", "raw", "raw or encoded")
	f.StringVar(&charset, "charset", "utf-8", "utf-8 or gbk")
	f.BoolVar(&o.ExcludeKeys, "values-only", false, "keys take no part")
	f.BoolVar(&o.KeepEmpty, "keep-empty", false, "keys of empty values take part")
	f.BoolVar(&o.LowerHex, "lower", false, "lower-case digits")
	return c
}

func readBody(in io.Reader, name string) ([]byte, error) {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("body: %w", err)
		}
		defer f.Close() //nolint:errcheck // only read
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxSigned+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("body: %w", err)
	case len(b) > maxSigned:
		return nil, errors.New("body: longer than 1 MB")
	}
	return b, nil
}
