// Package openapi checks the printed description of a platform with a library
// that has no part in writing it. It is a module of its own, so that the
// library stays out of the program's.
package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
)

func printed(t *testing.T) []byte {
	t.Helper()
	path := os.Getenv("OPENAPI")
	if path == "" {
		t.Fatal("OPENAPI names no file: run by make openapi")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func check(t *testing.T, doc []byte) validator.Validator {
	t.Helper()
	d, err := libopenapi.NewDocument(doc)
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(d)
	if errs != nil {
		t.Fatal(errs)
	}
	return v
}

// TestThePrintedDocumentIsOpenAPI.
func TestThePrintedDocumentIsOpenAPI(t *testing.T) {
	doc := printed(t)
	if ok, errs := check(t, doc).ValidateDocument(); !ok {
		for _, e := range errs {
			t.Errorf("%s: %s", e.Message, e.Reason)
			for _, s := range e.SchemaValidationErrors {
				t.Errorf("  %s at %s", s.Reason, s.KeywordLocation)
			}
		}
	}
	bad := bytes.Replace(doc, []byte(`"openapi": "3.1.0"`), []byte(`"openapi": "3.1.0", "paths": 7, "was": 0`), 1)
	if d, err := libopenapi.NewDocument(bad); err == nil {
		if v, errs := validator.NewValidator(d); errs == nil {
			if ok, _ := v.ValidateDocument(); ok {
				t.Error("a broken document passes: the check is none")
			}
		}
	}
}

// TestEveryExampleIsValid sends each operation's own example and answers with
// its own.
func TestEveryExampleIsValid(t *testing.T) {
	doc := printed(t)
	v := check(t, doc)
	var d struct {
		Paths map[string]map[string]struct {
			Parameters []struct {
				Ref, Name string
				Example   any
				Required  bool
			}
			RequestBody struct {
				Content map[string]struct{ Example json.RawMessage }
			}
			Responses map[string]struct {
				Content map[string]struct{ Example json.RawMessage }
			}
		}
	}
	if err := json.Unmarshal(doc, &d); err != nil {
		t.Fatal(err)
	}
	n := 0
	for path, methods := range d.Paths {
		for method, op := range methods {
			q := url.Values{"seq": {"10022017080109300000000000000001"}, "token": {"1Z5M011v4P5joM9VqMr0"}, "sign": {strings.Repeat("A", 32)}}
			for _, p := range op.Parameters {
				if p.Name != "" {
					q.Set(p.Name, fmt.Sprint(p.Example))
				}
			}
			var body io.Reader
			example := op.RequestBody.Content["application/json"].Example
			if example != nil {
				body = bytes.NewReader(example)
			}
			r, err := http.NewRequest(strings.ToUpper(method), "https://platform.example/vcc-openapi"+path+"?"+q.Encode(), body)
			if err != nil {
				t.Fatal(err)
			}
			if example != nil {
				r.Header.Set("Content-Type", "application/json")
			}
			if _, multipart := op.RequestBody.Content["multipart/form-data"]; !multipart {
				if ok, errs := v.ValidateHttpRequest(r); !ok {
					for _, e := range errs {
						t.Errorf("%s %s: %s: %s %v", method, path, e.Message, e.Reason, e.SchemaValidationErrors)
					}
				}
			}
			for _, text := range []string{string(op.Responses["200"].Content["application/json"].Example), `{"resultCode":"46003","resultMsg":"held"}`} {
				if text == "" || op.Responses["200"].Content["application/json"].Example == nil {
					continue
				}
				resp := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(text)), Request: r}
				if ok, errs := v.ValidateHttpResponse(r, resp); !ok {
					for _, e := range errs {
						t.Errorf("%s %s: answer %s: %s: %s %v", method, path, text, e.Message, e.Reason, e.SchemaValidationErrors)
					}
				}
				n++
			}
		}
	}
	if n < 50 {
		t.Errorf("only %d answers were checked", n)
	}
	fmt.Printf("openapi: %d paths, %d answers checked\n", len(d.Paths), n)
}
