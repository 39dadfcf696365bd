//go:build sim

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"vcckiosk/protocol/catalogue"
)

func printOpenAPI(t *testing.T, args ...string) (text string, doc struct {
	OpenAPI  string
	Info     struct{ Description string }
	Paths    map[string]map[string]json.RawMessage
	Webhooks map[string]json.RawMessage
},
) {
	t.Helper()
	var out bytes.Buffer
	c := command()
	c.SetArgs(append([]string{"openapi"}, args...))
	c.SetOut(&out)
	if err := c.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	return out.String(), doc
}

// TestOpenAPIHasEveryInterface; that it is OpenAPI is checked by make openapi.
func TestOpenAPIHasEveryInterface(t *testing.T) {
	t.Parallel()
	text, doc := printOpenAPI(t)
	again, _ := printOpenAPI(t)
	if text != again {
		t.Error("printed twice, it differs")
	}
	pushes, kiosk := 0, 0
	for _, i := range catalogue.All() {
		if i.Kiosk {
			kiosk++
		}
		if i.Method == catalogue.Push {
			pushes++
			continue
		}
		if len(doc.Paths[i.Path]) != 1 {
			t.Errorf("%s %s: %d operations", i.Code, i.Path, len(doc.Paths[i.Path]))
		}
	}
	if len(doc.Webhooks) != pushes || len(doc.Paths) != len(catalogue.All())-pushes || doc.OpenAPI != "3.1.0" {
		t.Errorf("%d paths, %d webhooks, version %s", len(doc.Paths), len(doc.Webhooks), doc.OpenAPI)
	}
	_, small := printOpenAPI(t, "--kiosk")
	if len(small.Paths) != kiosk {
		t.Errorf("--kiosk has %d paths, want %d", len(small.Paths), kiosk)
	}
	for _, r := range catalogue.Results() {
		if r.Code != "0" && !strings.Contains(text, "`"+r.Code+"`") {
			t.Errorf("result %s is not told", r.Code)
		}
	}
	contract, err := os.ReadFile(filepath.Join("..", "..", "docs", "contract.md"))
	if err != nil {
		t.Fatal(err)
	}
	for n, title := range regexp.MustCompile(`(?m)^\d\. \*\*.*?\*\*`).FindAllString(string(contract), -1) {
		if !strings.Contains(doc.Info.Description, title) {
			t.Errorf("clause %d of the contract is not told: %s", n+1, title)
		}
	}
}

func TestSignShowsTextAndSign(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		args []string
		want string
	}{
		{[]string{"appId=6A5B0E0F1C", "seq=10022017080109300000000000000001"}, "sign  ED446AD8FC4F4A19B369C01D720D1579"},
		{[]string{"--values-only", "appId=6A5B0E0F1C", "seq=10022017080109300000000000000001"}, "sign  316A216A0B3DD5187B2500BD7C0413FD"},
		{[]string{"b=", "a= 1 "}, "text  a1\n"},
		{[]string{"a"}, "want NAME=VALUE"},
		{[]string{"a=1", "a=2"}, "each name once"},
		{[]string{"--sort", "x"}, "not known"},
		{[]string{"--body", "/nowhere"}, "body"},
	} {
		var out bytes.Buffer
		c := command()
		c.SetArgs(append([]string{"sign"}, x.args...))
		c.SetOut(&out)
		text := ""
		if err := c.ExecuteContext(t.Context()); err != nil {
			text = err.Error()
		}
		if !strings.Contains(out.String()+text, x.want) {
			t.Errorf("%v: %s%s, want %q", x.args, out.String(), text, x.want)
		}
	}
}
