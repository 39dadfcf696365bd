package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"vcckiosk/protocol/catalogue"
)

func (t *tool) callCommand() *cobra.Command {
	var list bool
	c := t.leaf("call CODE [FIELD=VALUE...]", "Ask the platform by hand", `Calls an interface of the platform that only reads, by its code. Each field is checked
before anything is sent; the kiosk's own deviceId and orgCode need not be given. Values of
lists and objects are JSON. Who asked what is recorded, and how often one may ask is
limited. --list shows the interfaces and their fields.`,
		"  kioskctl call --list\n  kioskctl call 3005 subsCode=1400123456\n  kioskctl --json call 3016 subsCode=1400123456 beginDate=20260101 endDate=20260131 pageIndex=1 pageSize=10",
		cobra.ArbitraryArgs, func(ctx context.Context, args []string) error {
			switch {
			case list:
				t.listInterfaces()
				return nil
			case len(args) == 0:
				return &coded{exitUsage, fmt.Errorf("no CODE given; kioskctl call --list shows them")}
			}
			return t.callPlatform(ctx, args[0], args[1:])
		})
	c.Flags().BoolVar(&list, "list", false, "list the interfaces that may be called, with their fields")
	return c
}

func reading() []catalogue.Interface {
	return slices.DeleteFunc(catalogue.All(), func(i catalogue.Interface) bool {
		return !i.Read || i.Shape == catalogue.Table || i.Shape == catalogue.File
	})
}

func (t *tool) listInterfaces() {
	t.show(reading(), func(w io.Writer) {
		for _, i := range reading() {
			var fields []string
			for _, f := range i.Request {
				if strings.Contains(f.Name, ".") {
					continue
				}
				if f.Required {
					fields = append(fields, f.Name)
				} else {
					fields = append(fields, "["+f.Name+"]")
				}
			}
			fmt.Fprintf(w, "%s\t%s / %s\t%s\n", i.Code, i.ZH, i.EN, strings.Join(fields, " "))
		}
	})
}

func (t *tool) callPlatform(ctx context.Context, code string, args []string) error {
	fields := map[string]string{}
	for _, a := range args {
		name, value, ok := strings.Cut(a, "=")
		if _, twice := fields[name]; !ok || name == "" || twice {
			return &coded{exitUsage, fmt.Errorf("%q: want FIELD=VALUE, each field once", plain(name))}
		}
		fields[name] = value
	}
	var raw json.RawMessage
	if err := t.api().Post(ctx, "/v1/call", map[string]any{"code": code, "fields": fields}, &raw); err != nil {
		return err
	}
	t.show(raw, func(w io.Writer) { printAnswer(w, code, raw) })
	return nil
}

// printAnswer shows an answer as a table: of an object a line a field, of a
// list a line a row.
func printAnswer(w io.Writer, code string, raw json.RawMessage) {
	i, _ := catalogue.Find(code)
	var rows []map[string]json.RawMessage
	switch i.Shape {
	case catalogue.Array:
		_ = json.Unmarshal(raw, &rows) // kioskd has checked it
	case catalogue.List:
		var page struct {
			Datas []map[string]json.RawMessage `json:"datas"`
			Total json.Number                  `json:"total"`
		}
		_ = json.Unmarshal(raw, &page)
		rows = page.Datas
		if page.Total != "" {
			defer fmt.Fprintf(w, "total %s\n", page.Total)
		}
	default:
		var one map[string]json.RawMessage
		_ = json.Unmarshal(raw, &one)
		for _, f := range i.Answer {
			if v, has := one[f.Name]; has {
				fmt.Fprintf(w, "%s\t%s\t%s\n", f.Name, f.ZH, cell(v))
			}
		}
		return
	}
	var used []catalogue.Field
	for _, f := range i.Answer {
		if slices.ContainsFunc(rows, func(r map[string]json.RawMessage) bool { return r[f.Name] != nil }) {
			used = append(used, f)
		}
	}
	line := func(text func(catalogue.Field) string) {
		var cells []string
		for _, f := range used {
			cells = append(cells, text(f))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	if len(rows) > 0 {
		line(func(f catalogue.Field) string { return f.Name })
	}
	for _, r := range rows {
		line(func(f catalogue.Field) string { return cell(r[f.Name]) })
	}
}

// cell is a value as it is read: a text without its quotes.
func cell(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) == nil {
		return strings.ReplaceAll(strings.ReplaceAll(s, "\t", " "), "\n", " ")
	}
	var b bytes.Buffer
	if json.Compact(&b, v) == nil {
		return b.String()
	}
	return ""
}
