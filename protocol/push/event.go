package push

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"unicode/utf8"
)

// Event is a push as far as it is read.
type Event struct {
	Code    string // 7001 to 7005
	ID      string // of this event; a repeat has the same
	Time    string // as the platform wrote it
	OrgCode string
	Rows    int // how many rows came with it; they are not kept
}

// Pulls is the code of the interface that tells what has changed, empty for
// 7005: no interface of this program lists work orders.
func (e Event) Pulls() string {
	switch e.Code {
	case "7001", "7002", "7003", "7004":
		return "300" + e.Code[3:]
	}
	return ""
}

// ErrEvent: the body is no event of 7001 to 7005; the text says why and quotes
// nothing of it. Never retry.
var ErrEvent = errors.New("not an event")

// Bounds of a body.
const (
	MaxBody   = 64 << 10
	maxDepth  = 8
	maxValues = 8192
	maxRows   = 1000
)

var (
	idForm   = regexp.MustCompile(`^[0-9A-Za-z._-]{1,64}$`)
	timeForm = regexp.MustCompile(`^[0-9]{10,14}$|^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$`)
	orgForm  = regexp.MustCompile(`^[A-Z0-9]{2,20}$`)
)

// Decode reads the body of a push. eventCode and eventTime may be strings or
// numbers; fields that are not named here are passed over.
func Decode(body []byte) (Event, error) {
	if len(body) > MaxBody {
		return Event{}, fmt.Errorf("%w: longer than %d bytes", ErrEvent, MaxBody)
	}
	if !utf8.Valid(body) || !json.Valid(body) {
		return Event{}, fmt.Errorf("%w: not JSON in UTF-8", ErrEvent)
	}
	w := walk{d: json.NewDecoder(bytes.NewReader(body))}
	w.d.UseNumber()
	e, err := w.event()
	if err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrEvent, err)
	}
	return e, nil
}

// walk goes through a document that json.Valid has let pass.
type walk struct {
	d     *json.Decoder
	count int
}

var (
	errDeep  = errors.New("nested too deep")
	errLarge = errors.New("too many values")
	errTwice = errors.New("a name stands there twice")
)

func (w *walk) event() (e Event, err error) {
	first, err := w.d.Token()
	if err != nil || first != json.Delim('{') {
		return e, errors.New("not an object")
	}
	fields := map[string]struct {
		to    *string
		form  *regexp.Regexp
		digit bool // a number will do
	}{
		"eventCode": {&e.Code, nil, true}, "eventId": {&e.ID, idForm, false},
		"eventTime": {&e.Time, timeForm, true}, "orgCode": {&e.OrgCode, orgForm, false},
	}
	names := map[string]bool{}
	for w.d.More() {
		name, err := w.name(names)
		if err != nil {
			return e, err
		}
		f, known := fields[name]
		switch {
		case known:
			tok, err := w.d.Token()
			if err != nil {
				return e, errors.New("not JSON")
			}
			s, is := tok.(string)
			if n, number := tok.(json.Number); !is && number && f.digit {
				s, is = n.String(), true
			}
			if !is || f.form != nil && !f.form.MatchString(s) {
				return e, fmt.Errorf("field %s: not of its form", name)
			}
			*f.to = s
		case name == "datas":
			if e.Rows, err = w.rows(); err != nil {
				return e, fmt.Errorf("field datas: %w", err)
			}
		default:
			if err := w.skip(1); err != nil {
				return e, err
			}
		}
	}
	switch {
	case !slices.Contains([]string{"7001", "7002", "7003", "7004", "7005"}, e.Code):
		return e, errors.New("field eventCode: not one of 7001 to 7005")
	case e.ID == "" || e.Time == "" || e.OrgCode == "":
		return e, errors.New("eventId, eventTime or orgCode is missing")
	}
	return e, nil
}

// name reads the name of a member, which must be new in its object.
func (w *walk) name(seen map[string]bool) (string, error) {
	tok, err := w.d.Token()
	name, is := tok.(string)
	if err != nil || !is {
		return "", errors.New("not JSON")
	}
	if seen[name] {
		return "", errTwice
	}
	seen[name] = true
	return name, nil
}

// rows counts an array of objects.
func (w *walk) rows() (n int, err error) {
	if tok, err := w.d.Token(); err != nil || tok != json.Delim('[') {
		return 0, errors.New("not an array")
	}
	for w.d.More() {
		if n++; n > maxRows {
			return n, errors.New("too many rows")
		}
		tok, err := w.d.Token()
		if err != nil || tok != json.Delim('{') {
			return n, errors.New("a row is not an object")
		}
		if err := w.inside('{', 2); err != nil {
			return n, err
		}
	}
	_, err = w.d.Token()
	return n, err
}

// skip passes over one value.
func (w *walk) skip(depth int) error {
	if w.count++; w.count > maxValues {
		return errLarge
	}
	tok, err := w.d.Token()
	if err != nil {
		return errors.New("not JSON")
	}
	if d, is := tok.(json.Delim); is {
		return w.inside(d, depth)
	}
	return nil
}

// inside passes over the rest of an object or array that has been opened.
func (w *walk) inside(open json.Delim, depth int) error {
	if depth >= maxDepth {
		return errDeep
	}
	seen := map[string]bool{}
	for w.d.More() {
		if open == '{' {
			if _, err := w.name(seen); err != nil {
				return err
			}
		}
		if err := w.skip(depth + 1); err != nil {
			return err
		}
	}
	if _, err := w.d.Token(); err != nil && !errors.Is(err, io.EOF) {
		return errors.New("not JSON")
	}
	return nil
}
