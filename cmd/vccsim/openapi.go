//go:build sim

package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"vcckiosk/protocol/catalogue"
)

func openapiCommand() *cobra.Command {
	var kioskOnly bool
	c := &cobra.Command{
		Use: "openapi", Short: "Print what a platform must build, as OpenAPI 3.1", Args: cobra.NoArgs,
		Long: `Prints the interfaces of the platform as an OpenAPI 3.1 document in JSON: fields with
their limits, examples, errors, and the rules a platform must keep. It is written from the
same table the kiosk calls by. --kiosk leaves out what no load kiosk calls.`,
		Example: "  vccsim openapi --kiosk > platform.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetEscapeHTML(false)
			e.SetIndent("", "  ")
			if err := e.Encode(openapi(kioskOnly)); err != nil {
				return fmt.Errorf("print: %w", err)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&kioskOnly, "kiosk", false, "only what a load kiosk calls")
	return c
}

type object = map[string]any

// clauses are the rules of docs/contract.md, one paragraph each.
var clauses = []string{
	"1. **Authorising is idempotent.** A 4006 that repeats number, order, card, amount, kind and online sequence (or count) gets the same business answer, whatever its seq; the same number with other content is refused with 46002.",
	"2. **An order has one holder.** Under another number it is refused with 46003 until it has been given back or the card has spoken. Before it is issued again the platform looks at the card's sequence and log of 3010 and 4006. A 4006 carries the newest challenge of its card; any other is refused with 46009.",
	"3. **Giving back works in any order of arrival.** A 6002 with result 1, or a 6003, for a number not seen yet is answered R and remembered; a later 4006 under it is refused with 46004.",
	"4. **Expiry forbids the write and nothing else.** The order stays with its holder until a report, a give-back or the card releases it.",
	"5. **A report is never forgotten.** A late result 0 after R is answered R, and both sides' data are kept for a person.",
	"6. **A count of a memory card belongs to one order.** While an order is held for a memory card another one for it is refused with 46003. A report 1 with evidence image is answered P, never R.",
}

// openapi describes the platform. Its parts are maps, so that the printed
// document has its members in a fixed order.
func openapi(kioskOnly bool) object {
	paths, hooks := object{}, object{}
	for _, i := range catalogue.All() {
		switch {
		case kioskOnly && !i.Kiosk:
		case i.Method == catalogue.Push:
			hooks["event"+i.Code] = object{"post": operation(i)}
		default:
			method := "post"
			if i.Method == catalogue.Get {
				method = "get"
			}
			paths[i.Path] = object{method: operation(i)}
		}
	}
	doc := object{
		"openapi": "3.1.0",
		"info": object{
			"title": "VCC platform, as a load kiosk calls it", "version": "1",
			"description": "Fields marked x-evidence `documented` stand in the platform's document, `inferred` were observed on a sister gateway, `ours` are proposals.\n\n" +
				"A call's sign is the upper-case hex MD5 of: every non-empty query parameter but sign, sorted by name, name and value without separators; then the body's exact bytes; then the access password (the base key for getToken, later the session key, or the token where there is none).\n\n" +
				"Rules a platform must keep:\n\n" + strings.Join(clauses, "\n") +
				"\n\nAn error has HTTP status 200 and a resultCode other than 0. Money is in fen, gas in 0.01 m³, both integers; times are yyyyMMddHHmmss in Asia/Shanghai; hex is upper case.",
			"license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		},
		"servers": []any{object{"url": "https://platform.example/vcc-openapi"}},
		"paths":   paths,
		"components": object{
			"parameters": object{"seq": parameter(catalogue.Common()[0]), "token": parameter(catalogue.Common()[1]), "sign": parameter(catalogue.Common()[2])},
			"schemas":    object{"Error": errorSchema()},
			"responses": object{"Error": object{
				"description": "an error, with HTTP status 200 all the same",
				"content":     object{"application/json": object{"schema": object{"$ref": "#/components/schemas/Error"}, "example": object{"resultCode": "46003", "resultMsg": "order is held by another number"}}},
			}},
		},
	}
	if len(hooks) > 0 {
		doc["webhooks"] = hooks
	}
	return doc
}

func errorSchema() object {
	var codes []string
	for _, r := range catalogue.Results() {
		if r.Code != "0" {
			codes = append(codes, fmt.Sprintf("- `%s` %s, %s: kiosk does `%s`", r.Code, r.ZH, r.EN, r.Class))
		}
	}
	return object{
		"type": "object", "required": []string{"resultCode"},
		"properties": object{
			"resultCode": object{"type": []string{"string", "integer"}, "description": strings.Join(codes, "\n")},
			"resultMsg":  object{"type": "string", "maxLength": 256},
		},
	}
}

func operation(i catalogue.Interface) object {
	op := object{
		"operationId": "i" + i.Code, "summary": i.Code + " " + i.ZH + ", " + i.EN, "x-evidence": i.Evidence, "x-kiosk": i.Kiosk,
		"responses": object{"200": success(i)},
	}
	if i.Note != "" {
		op["description"] = i.Note
	}
	if i.Method == catalogue.Push {
		op["requestBody"] = jsonBody(i.Request)
		op["responses"] = object{"200": object{"description": "heard; the kiosk pulls what has changed"}}
		return op
	}
	parameters := []any{object{"$ref": "#/components/parameters/seq"}}
	if i.Session() {
		parameters = append(parameters, object{"$ref": "#/components/parameters/token"})
	}
	parameters = append(parameters, object{"$ref": "#/components/parameters/sign"})
	switch i.Method {
	case catalogue.Post:
		if len(i.Request) > 0 {
			op["requestBody"] = jsonBody(i.Request)
		}
	case catalogue.Multipart:
		form := object{}
		for _, f := range i.Request {
			if f.Type == catalogue.Bytes {
				form[f.Name] = object{"type": "string", "contentMediaType": "application/octet-stream", "description": f.ZH + ", " + f.EN}
			} else {
				parameters = append(parameters, parameter(f))
			}
		}
		op["requestBody"] = object{"required": true, "content": object{"multipart/form-data": object{"schema": object{"type": "object", "properties": form}}}}
	default:
		for _, f := range i.Request {
			parameters = append(parameters, parameter(f))
		}
	}
	op["parameters"] = parameters
	return op
}

func parameter(f catalogue.Field) object {
	return object{
		"name": f.Name, "in": "query", "required": f.Required, "schema": schema(f), "description": f.ZH + ", " + f.EN,
		"example": catalogue.Example(f), "x-evidence": f.Evidence,
	}
}

func jsonBody(fields []catalogue.Field) object {
	return object{"required": true, "content": object{"application/json": object{"schema": objectSchema(fields, ""), "example": example(fields)}}}
}

// example is a request as a kiosk sends it: of the parts for different kinds of
// card and ways to pay, only those of a purse and a paid order.
func example(fields []catalogue.Field) object {
	row := catalogue.Row(fields)
	if _, has := row["loadMode"]; has {
		for _, other := range []string{"image", "payType", "payTransNo", "payTime"} {
			delete(row, other)
		}
	}
	return row
}

func success(i catalogue.Interface) object {
	switch i.Shape {
	case catalogue.Table:
		var names []string
		for _, f := range i.Answer {
			names = append(names, f.Name)
		}
		return object{
			"description": "a header line, then a line a row",
			"content":     object{"text/plain": object{"schema": object{"type": "string"}, "example": strings.Join(names, "|") + "\n"}},
		}
	case catalogue.File:
		return object{"description": "the file", "content": object{"application/octet-stream": object{}}}
	}
	one, example := objectSchema(i.Answer, ""), any(catalogue.Row(i.Answer))
	switch i.Shape {
	case catalogue.List:
		one = object{
			"type": "object", "required": []string{"datas"},
			"properties": object{
				"pageIndex": object{"type": "integer"}, "pageSize": object{"type": "integer"}, "total": object{"type": "integer"},
				"datas": object{"type": "array", "items": one},
			},
		}
		example = object{"pageIndex": 1, "pageSize": 10, "total": 1, "datas": []any{example}}
	case catalogue.Array:
		one, example = object{"type": "array", "items": one}, []any{example}
	}
	return object{
		"description": "success, or an error by its resultCode",
		"content": object{"application/json": object{
			"schema": object{"anyOf": []any{one, object{"$ref": "#/components/schemas/Error"}}}, "example": example,
		}},
	}
}

// objectSchema has the fields that lie directly below prefix.
func objectSchema(fields []catalogue.Field, prefix string) object {
	properties, required := object{}, []string{}
	for _, f := range fields {
		name, in := strings.CutPrefix(f.Name, prefix)
		if !in || strings.Contains(name, ".") {
			continue
		}
		s := schema(f)
		switch f.Type {
		case catalogue.Nested:
			s = objectSchema(fields, f.Name+".")
		case catalogue.Objects:
			s = object{"type": "array", "items": objectSchema(fields, f.Name+".")}
		}
		s["description"], s["x-evidence"] = f.ZH+", "+f.EN, f.Evidence
		if f.Unit != "" {
			s["x-unit"] = f.Unit
		}
		if len(f.Aliases) > 0 {
			s["x-also-called"] = f.Aliases
		}
		properties[name] = s
		if f.Required {
			required = append(required, name)
		}
	}
	slices.Sort(required)
	out := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

func schema(f catalogue.Field) object {
	s := object{"type": "string"}
	switch f.Type {
	case catalogue.Integer:
		return object{"type": "integer"}
	case catalogue.Timestamp:
		s["pattern"] = "^[0-9]{14}$"
	case catalogue.DateTime:
		s["pattern"] = "^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$"
	case catalogue.Hex:
		s["pattern"] = "^[0-9A-F]*$"
	case catalogue.Strings:
		return object{"type": "array", "items": object{"type": "string"}}
	}
	if f.Len > 0 {
		s["maxLength"] = f.Len
	}
	return s
}
