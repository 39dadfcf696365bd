package protocol

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"vcckiosk/protocol/catalogue"
)

// dialect is a platform that serves the same kiosk by other calls. What is a
// name, a unit, a path, a method or a code is data, laid over the catalogue
// before the configured rows; what is not is its mapper's.
type dialect struct {
	rows     map[string]Endpoint
	envelope Envelope
	steps    []catalogue.Interface        // calls the catalogue does not have; reached through the mapper only
	fields   map[string][]catalogue.Field // further fields of a request, by interface
	mapper   mapper
}

// mapper makes one call of the catalogue out of the platform's own. It reads
// and writes the catalogue's names and decides nothing: its answer is compared
// with what was asked by the same code as everybody's. An answerFault it
// returns says that an answer cannot be used.
type mapper interface {
	call(code string, request *value, ask func(code string, request *value) (*value, error)) (*value, error)
}

// fullReverse is a ReverseRequest that tells all it has.
type fullReverse struct {
	TransNo   string `json:"termTransNo"`
	OrderNo   string `json:"orderNo"`
	DeviceID  string `json:"deviceId"`
	OrgCode   string `json:"orgCode"`
	Reason    string `json:"reason"`
	Time      string `json:"time"`
	CardNo    string `json:"cardNo"`
	Amount    Fen    `json:"amount"`
	GasVolume Volume `json:"gasVolume"`
}

// dialects by their name in the configuration.
func dialects() map[string]*dialect {
	return map[string]*dialect{"": nil, "selfservice": selfservice()}
}

// over lays r over what a dialect says of the same interface.
func (r Endpoint) over(below Endpoint) Endpoint {
	for _, f := range []struct{ to, from *string }{
		{&r.Code, &below.Code}, {&r.Method, &below.Method}, {&r.Path, &below.Path}, {&r.Fallback, &below.Fallback},
	} {
		*f.to = or(*f.to, *f.from)
	}
	r.Names, r.Units = merged(below.Names, r.Names), merged(below.Units, r.Units)
	return r
}

func (e Envelope) over(below Envelope) Envelope {
	for _, f := range []struct{ to, from *string }{
		{&e.Code, &below.Code},
		{&e.Msg, &below.Msg},
		{&e.Data, &below.Data},
		{&e.Seq, &below.Seq},
		{&e.Token, &below.Token},
		{&e.Sign, &below.Sign},
	} {
		*f.to = or(*f.to, *f.from)
	}
	e.Success, e.Codes = slices.Concat(below.Success, e.Success), merged(below.Codes, e.Codes)
	return e
}

func merged(below, above map[string]string) map[string]string {
	all := maps.Clone(below)
	if all == nil {
		return above
	}
	maps.Copy(all, above)
	return all
}

// checkDialect finds the configured dialect and lays the configured rows over
// its own.
func (s *settings) checkDialect() error {
	d, known := dialects()[s.Dialect]
	switch {
	case !known:
		return fmt.Errorf("dialect %q: want none or selfservice", s.Dialect)
	case d == nil:
		return nil
	}
	s.dialect = d
	rows := maps.Clone(d.rows)
	for code, row := range s.Endpoints {
		rows[code] = row.over(rows[code])
	}
	s.Endpoints, s.Envelope = rows, s.Envelope.over(d.envelope)
	return nil
}

// table is the catalogue with what the dialect adds.
func (d *dialect) table() []catalogue.Interface {
	all := catalogue.All()
	if d == nil {
		return all
	}
	for i := range all {
		all[i].Request = slices.Concat(all[i].Request, d.fields[all[i].Code])
	}
	return append(all, d.steps...)
}

// isStep reports whether an interface is a part of another call.
func (d *dialect) isStep(code string) bool {
	return d != nil && slices.ContainsFunc(d.steps, func(i catalogue.Interface) bool { return i.Code == code })
}

// steps makes one call by the mapper. Once a step has left this machine the
// call counts as sent, whatever the step is said to do: nobody here knows what
// a platform reserves, and "not written" for a number it never saw does no
// harm (contract clause 3).
func (c *Client) steps(ctx context.Context, code string, body []byte, strict bool) (*value, error) {
	whole := request{name: code, end: c.catalogue[code], path: c.catalogue[code].Path}
	asked, why := parseAnswer(body)
	if why != "" {
		return nil, c.fail(whole, "request: "+why, ErrPermanent, ErrNotSent)
	}
	sent := false
	v, err := c.dialect.mapper.call(code, asked, func(step string, body *value) (*value, error) {
		v, err := c.ask(ctx, step, nil, body.appendJSON(nil), strict)
		if sent && errors.Is(err, ErrNotSent) {
			err = &attemptError{call: code, err: err, sent: true}
		}
		sent = sent || !errors.Is(err, ErrNotSent)
		return v, err
	})
	if fault, is := errors.AsType[answerFault](err); is {
		return nil, c.fail(whole, string(fault), ErrTransport)
	}
	return v, err
}
