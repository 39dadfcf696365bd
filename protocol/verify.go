package protocol

import (
	"vcckiosk/protocol/sign"
)

// verify checks the sign of an answer: over its top-level scalars, resultCode,
// resultMsg and timestamp among them, in their literal text (2.1, second
// table). It returns why the answer cannot be used.
//
// What the document says of requests only is not done here: an answer is no
// query, so that its values are not encoded, and one without a value takes no
// part whatever sign.keep_empty says. It does not say whether a platform trims
// its own values; either is accepted. A bare array has no place for a sign.
func (c *Client) verify(v *value, strict bool, check passwords) string {
	mode := c.Sign.VerifyResponse
	if mode == "off" {
		return ""
	}
	m := v.member(c.Envelope.Sign)
	if m == nil || m.kind == kindNull || m.kind == kindString && m.text == "" {
		if mode == "require" {
			return "answer has no sign"
		}
		return ""
	}
	params, nested := v.scalars(c.Envelope.Sign)
	if m.kind == kindString && c.signedBy(params, m.text, check(v)) {
		return ""
	}
	if nested && !strict && mode == "if_present" {
		// How nested values are signed is not documented.
		if c.nestedSign.CompareAndSwap(false, true) {
			c.log.Warn("sign of an answer with nested values does not match; accepted, logged once")
		}
		return ""
	}
	return "answer has a wrong sign"
}

// signedBy tells whether one of the passwords gives the sign.
func (c *Client) signedBy(params map[string]string, text string, all []password) bool {
	for _, literal := range []bool{true, false} {
		o := c.sign
		o.Value, o.KeepEmpty, o.KeepBlanks = sign.Raw, false, literal
		message, err := sign.Canonical(params, nil, o)
		if err != nil {
			return false
		}
		for _, pw := range all {
			if sign.Equal(pw(message), text) {
				return true
			}
		}
	}
	return false
}

// found gives the member of an answer that has one of the catalogue's names,
// before the answer is translated.
func (e *endpoint) found(v *value, name string) *value {
	if e.envelope.Data != "" {
		v = v.member(e.envelope.Data)
	}
	if v == nil || v.kind != kindObject {
		return nil
	}
	for i, wire := range v.names {
		if r := e.in.fields[wire]; r != nil && r.to == name || r == nil && wire == name {
			return v.items[i]
		}
	}
	return nil
}
