package main

import (
	"bytes"
	"encoding"
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"vcckiosk/agent"
	"vcckiosk/agent/localapi"
	"vcckiosk/agent/mirror"
	"vcckiosk/queue"
)

func TestEveryCommandExplainsItself(t *testing.T) {
	t.Parallel()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || c.Long == "" {
			t.Errorf("%s: no Short or no Long", c.CommandPath())
		}
		if c.Runnable() && !c.HasSubCommands() && !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s: no example of itself", c.CommandPath())
		}
		for line := range strings.Lines(c.Long) {
			if columns(strings.TrimSpace(line)) > 92 {
				t.Errorf("%s: a line too long for a terminal: %s", c.CommandPath(), line)
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk((&tool{}).command())
}

// TestJSONNamesAreLowerCamel looks at every field of what --json prints.
func TestJSONNamesAreLowerCamel(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile(`^[a-z][a-zA-Z0-9]*$`)
	fields := 0
	seen := map[reflect.Type]bool{}
	var walk func(path string, x reflect.Type)
	walk = func(path string, x reflect.Type) {
		for x.Kind() == reflect.Pointer || x.Kind() == reflect.Slice || x.Kind() == reflect.Array {
			x = x.Elem()
		}
		if x.Kind() != reflect.Struct || seen[x] || reflect.PointerTo(x).Implements(reflect.TypeFor[json.Marshaler]()) ||
			reflect.PointerTo(x).Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
			return
		}
		seen[x] = true
		for f := range x.Fields() {
			tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !f.IsExported() || tag == "-" {
				continue
			}
			if !f.Anonymous {
				fields++
				if !name.MatchString(tag) {
					t.Errorf("%s.%s is printed as %q", path, f.Name, tag)
				}
			}
			walk(path+"."+f.Name, f.Type)
		}
	}
	for _, v := range []any{localapi.Status{}, localapi.Card{}, localapi.Detail{}, agent.View{}, agent.Offered{}, agent.RegistrationStatus{}, queue.Item{}, agent.Account{}, mirror.Status{}, agent.DayResult{}, agent.MediaFile{}} {
		walk(reflect.TypeOf(v).Name(), reflect.TypeOf(v))
	}
	if fields < 80 {
		t.Errorf("only %d fields were looked at", fields)
	}
}

func TestTablesLineUpWithChinese(t *testing.T) {
	t.Parallel()
	var w table
	w.WriteString("a\t名称\tend\nlong\tx\tend\n圈存机\té\tend\nno cells\n")
	var out bytes.Buffer
	if _, err := w.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	want := "a       名称  end\nlong    x     end\n圈存机  é     end\nno cells\n"
	if out.String() != want {
		t.Errorf("got\n%s, want\n%s", &out, want)
	}
	if got := plain("a\x1b[31m\u202eb\nc"); got != "a\uFFFD[31m\uFFFDb\nc" {
		t.Errorf("%q", got)
	}
}
