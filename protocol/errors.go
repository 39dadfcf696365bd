package protocol

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"vcckiosk/protocol/catalogue"
)

// Classes of failure. Test with errors.Is; one error can belong to several.
//
// For a call that moves money (4006, 6002, 6003) only two classes tell that
// nothing was executed: ErrNotSent, and ErrBusiness as the answer to the only
// request ever sent under that number. Everything else is outcome unknown.
var (
	// ErrTransport says that no usable answer came: network, TLS, HTML, an
	// empty or truncated body, a wrong type, a wrong sign, an answer about
	// something else than what was asked. Retry later. For a money call the
	// outcome is unknown.
	ErrTransport = errors.New("no usable answer from the platform")
	// ErrAuth says that the token or the key was not accepted, or that there is
	// none. Retry later; it never means anything about the business content.
	ErrAuth = errors.New("not authorised by the platform")
	// ErrKeyRefused says that the platform answered getToken with a refusal of
	// the base key. It is also ErrAuth.
	ErrKeyRefused = errors.New("base key refused")
	// ErrNoKey says that the kiosk has no active base key. It is also ErrAuth
	// and ErrNotSent.
	ErrNoKey = errors.New("no base key")
	// ErrBusiness is a definite refusal by the platform: never retry as it is.
	ErrBusiness = errors.New("refused by the platform")
	// ErrPermanent says that the call cannot succeed until the configuration,
	// or the program that built the request, changes.
	ErrPermanent = errors.New("not possible with this configuration")
	// ErrUnknownOrder is 46001: the platform knows no such order or number. It
	// is also ErrBusiness, as are the five below.
	ErrUnknownOrder = errors.New("order unknown")
	// ErrContent is 46002: this number was used with other content.
	ErrContent = errors.New("number already used with other content")
	// ErrHeld is 46003: the order is held by another number.
	ErrHeld = errors.New("order held by another number")
	// ErrGivenBack is 46004: the order was given back under this number.
	ErrGivenBack = errors.New("order given back")
	// ErrMAC is 46005: the platform found MAC1 wrong.
	ErrMAC = errors.New("MAC1 wrong")
	// ErrChallenge is 46009: the challenge is not the newest one given for this
	// card. Start again with 3010.
	ErrChallenge = errors.New("challenge not the newest")
	// ErrNotSent says that the request never left this machine: no token, no
	// sequence number, a value against its format, name resolution or connection
	// refused. Nothing can have been executed.
	ErrNotSent = errors.New("request not sent")
)

// CodeError is an answer of the platform that carries a result code other
// than 0. Its class is told by errors.Is: 46001 and the like by their own
// sentinel, 20000 and above ErrBusiness, the token and key codes ErrAuth
// (which are not ErrBusiness), 10031, 10045 and 3000x ErrPermanent, any other
// code below 20000 ErrTransport.
type CodeError struct {
	// Interface is the catalogue code of the call, such as "4006".
	Interface string
	// Code is the result code as decimal text.
	Code string
	// Msg is the platform's text, at most 256 characters, without control
	// characters and without this session's secrets. It can name a person: it
	// is for the screen and is not part of Error.
	Msg string

	after time.Duration
}

// Error names interface and code, never the platform's text.
func (e *CodeError) Error() string {
	if m := codeMeaning(e.Code); m != "" {
		return fmt.Sprintf("interface %s answered %s (%s)", e.Interface, e.Code, m)
	}
	return fmt.Sprintf("interface %s answered %s", e.Interface, e.Code)
}

// Is maps the code to its classes.
func (e *CodeError) Is(target error) bool {
	n, err := strconv.Atoi(e.Code)
	if err != nil {
		return target == ErrTransport
	}
	switch target {
	case ErrAuth:
		return authCode(n)
	case ErrKeyRefused:
		return authCode(n) && (e.Interface == codeDeviceToken || e.Interface == codeToken)
	case ErrPermanent:
		return permanentCode(n)
	case ErrBusiness:
		return n >= 20000 && !authCode(n)
	case ErrUnknownOrder:
		return n == 46001
	case ErrContent:
		return n == 46002
	case ErrHeld:
		return n == 46003
	case ErrGivenBack:
		return n == 46004
	case ErrMAC:
		return n == 46005
	case ErrChallenge:
		return n == 46009
	case ErrTransport:
		return n < 20000 && !permanentCode(n)
	}
	return false
}

// authCode reports the codes that speak of token and key: access token
// expired, credentials wrong, appid or secret wrong, token wrong, token
// missing or invalid.
func authCode(n int) bool {
	switch n {
	case 20001, 20002, 30009, 30010, 40058:
		return true
	}
	return false
}

func permanentCode(n int) bool {
	return n == 10031 || n == 10045 || (n >= 30001 && n <= 30008)
}

func codeMeaning(code string) string {
	for _, r := range catalogue.Results() {
		if r.Code == code {
			return r.EN
		}
	}
	return ""
}

// FieldError says that a value of a request is against the format of its
// field. It is ErrNotSent and ErrPermanent. It never shows the value.
type FieldError struct {
	Interface string // catalogue code
	Field     string // name on the wire, nested ones with a dot
	Why       string // the rule that was broken
}

// Error names the field and the rule.
func (e *FieldError) Error() string {
	return fmt.Sprintf("interface %s: field %s: %s", e.Interface, e.Field, e.Why)
}

// Is makes a FieldError ErrNotSent and ErrPermanent.
func (e *FieldError) Is(target error) bool {
	return target == ErrNotSent || target == ErrPermanent
}

// CallError is a call that got no usable answer, or was not made. It is built
// from the interface's code, method and path and a fixed text, never from the
// error of the network stack: that one can carry the query with its token.
type CallError struct {
	Interface, Method, Path string
	Reason                  string
	// Status is the HTTP status when there was one.
	Status int

	class []error
	cause error
	after time.Duration
}

// Error names the interface, the reason and the classes that matter to a
// person, and nothing that came from the query.
func (e *CallError) Error() string {
	s := "interface " + e.Interface
	if e.Method != "" {
		s += " " + e.Method + " " + e.Path
	}
	s += ": " + e.Reason
	if e.Status != 0 {
		s += " (HTTP " + strconv.Itoa(e.Status) + ")"
	}
	return s
}

// Is reports the classes given at construction, context.Canceled and
// context.DeadlineExceeded among them.
func (e *CallError) Is(target error) bool {
	for _, c := range e.class {
		if c == target {
			return true
		}
	}
	return false
}

// Unwrap leads to a cause from this machine, such as the queue's or the
// keystore's error; never to one of the network stack.
func (e *CallError) Unwrap() error { return e.cause }

// attemptError is the failure of a call in more than one step. It keeps the
// classes of the step that failed apart from the call's own: a refusal of
// getToken says nothing about the business content of a report, and a repeat
// that did not leave does not unsend the attempt before it.
type attemptError struct {
	call    string
	err     error
	session bool // getToken failed
	sent    bool // an attempt of the call itself left this machine
}

func (e *attemptError) Error() string {
	if e.session {
		return "interface " + e.call + ": no session: " + e.err.Error()
	}
	return e.err.Error()
}

// Is reports the classes of the failed step, masked as the type says.
func (e *attemptError) Is(target error) bool {
	switch {
	case target == ErrNotSent:
		return !e.sent && (e.session || errors.Is(e.err, ErrNotSent))
	case !e.session:
	case target == ErrAuth:
		return errors.Is(e.err, ErrAuth) || errors.Is(e.err, ErrBusiness)
	}
	switch target {
	case ErrBusiness, ErrUnknownOrder, ErrContent, ErrHeld, ErrGivenBack, ErrMAC, ErrChallenge:
		if e.session {
			return false
		}
	}
	return errors.Is(e.err, target)
}

// RetryAfter tells how long the platform, or the local guard of getToken,
// asked to wait before the next try; 0 when nobody asked.
func RetryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*attemptError](err); ok {
		return RetryAfter(e.err)
	}
	if e, ok := errors.AsType[*CallError](err); ok {
		return e.after
	}
	if e, ok := errors.AsType[*CodeError](err); ok {
		return e.after
	}
	return 0
}

type backlogKey struct{}

// Backlog marks the calls made with the context as backlog: nobody stands at
// the machine, so they get the longer deadline. Default is live.
func Backlog(ctx context.Context) context.Context {
	return context.WithValue(ctx, backlogKey{}, true)
}

type asideKey struct{}

// Aside marks the calls made with the context as backlog that goes over a
// connection of its own: a customer who comes meanwhile finds the open one free
// and waits for no handshake. It is for what is not about a customer at all, and
// may cost a handshake itself: heartbeats, the mirror, files.
func Aside(ctx context.Context) context.Context {
	return context.WithValue(Backlog(ctx), asideKey{}, true)
}

func isAside(ctx context.Context) bool {
	b, _ := ctx.Value(asideKey{}).(bool)
	return b
}

func isBacklog(ctx context.Context) bool {
	b, _ := ctx.Value(backlogKey{}).(bool)
	return b
}
