// Package command is what the back office can have a kiosk do from afar: which
// commands there are, how one is read, and the ledger of what was taken. Acting
// is the agent's.
//
// A command comes in the answer to a heartbeat, in an envelope of
// protocol/signed with the purpose "command". There is no way in for one that
// is not signed.
//
// # Once
//
// A command is written into the ledger, with its counter, in one transaction,
// before it acts. Disable, enable and key check are over with that transaction:
// their effect is in it. The others are begun by it and act after it. A cut
// before the commit: nothing happened, the platform sends the command again. A
// cut after it: the command is never begun a second time; if it had not told its
// end yet, it is acknowledged as failed, "interrupted", and whoever gave it
// decides. So each command acts at most once, and its acknowledgement says ok
// only if it did.
//
// # Acknowledgement
//
// What became of a command goes with the next heartbeat and every one after it,
// over restarts, until one that carried it was answered. The mark that it was
// answered is written with the next commit: a cut before that repeats the
// acknowledgement.
//
// The bucket "command" has one value, "ledger": CRC32C in hex, blank, JSON.
package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"unicode"
	"unicode/utf8"
)

// Purpose is that of a command's envelope.
const Purpose = "command"

// Name says what is to be done.
type Name string

// The commands.
const (
	SyncNow   Name = "syncNow"   // pull master data now; args: code (3001 to 3004)
	Reload    Name = "reload"    // take up what may change while running
	KeyCheck  Name = "keyCheck"  // answer the check value of the base key in use
	UploadLog Name = "uploadLog" // send the log
	Disable   Name = "disable"   // no new customer, until Enable; never interrupts a write
	Enable    Name = "enable"    // serve again
	Reconcile Name = "reconcile" // send a day's file; args: day (yyyyMMdd)
)

// Command is one command as its envelope's payload has it:
//
//	{"cmdId":"C-1","cmd":"reconcile","args":{"day":"20261124"}}
//
// args may be absent. Its values are text.
type Command struct {
	ID   string            `json:"cmdId"`
	Name Name              `json:"cmd"`
	Args map[string]string `json:"args,omitempty"`
}

// Limits of a payload.
const (
	maxPayload = 4096
	maxArgs    = 8
	maxArg     = 128
)

var (
	// ErrForm: the payload is not a command. Its text quotes nothing.
	ErrForm = errors.New("not a command")
	// ErrUnknown: a command this program does not know.
	ErrUnknown = errors.New("unknown command")
	// ErrArgs: arguments that this command does not take.
	ErrArgs = errors.New("wrong arguments")

	idForm   = regexp.MustCompile(`^[0-9A-Za-z._-]{1,64}$`)
	nameForm = regexp.MustCompile(`^[A-Za-z][0-9A-Za-z]{0,31}$`)
)

// args is what each command takes; a name that is not there is ErrArgs.
var args = map[Name]map[string]*regexp.Regexp{
	SyncNow:   {"code": regexp.MustCompile(`^300[1-4]$`)},
	Reload:    {},
	KeyCheck:  {},
	UploadLog: {"from": regexp.MustCompile(`^[0-9]{8}$`), "to": regexp.MustCompile(`^[0-9]{8}$`)},
	Disable:   {"reason": nil}, // any text: it is kept for technicians
	Enable:    {},
	Reconcile: {"day": regexp.MustCompile(`^20[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])$`)},
}

// Decode reads a payload. With ErrUnknown and ErrArgs the command is returned
// besides the error, so that its refusal can name it.
func Decode(payload []byte) (Command, error) {
	if len(payload) > maxPayload || !utf8.Valid(payload) {
		return Command{}, fmt.Errorf("%w: too long, or not UTF-8", ErrForm)
	}
	if err := once(payload); err != nil {
		return Command{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	var c Command
	if err := json.Unmarshal(payload, &c); err != nil {
		return Command{}, fmt.Errorf("%w: not the JSON of one", ErrForm)
	}
	switch {
	case !idForm.MatchString(c.ID):
		return Command{}, fmt.Errorf("%w: cmdId", ErrForm)
	case !nameForm.MatchString(string(c.Name)):
		return Command{}, fmt.Errorf("%w: cmd", ErrForm)
	case len(c.Args) > maxArgs:
		return Command{}, fmt.Errorf("%w: args", ErrForm)
	}
	takes, known := args[c.Name]
	if !known {
		return c, ErrUnknown
	}
	for k, v := range c.Args {
		form, takes := takes[k]
		if !takes || len(v) > maxArg || form != nil && !form.MatchString(v) || slices.ContainsFunc([]rune(v), unicode.IsControl) {
			return c, ErrArgs
		}
	}
	return c, nil
}

// once demands one object, with no name twice, no list and nothing deeper than
// args: the decoder would take the last of two, another reader the first.
func once(b []byte) error {
	if !json.Valid(b) {
		return errors.New("not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	var seen []map[string]bool // of the objects that are open
	for value := true; ; {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return errors.New("not JSON")
		}
		switch {
		case tok == json.Delim('}'):
			seen, value = seen[:len(seen)-1], false
		case tok == json.Delim('{') && len(seen) < 2:
			seen, value = append(seen, map[string]bool{}), false
		case tok == json.Delim('{'), tok == json.Delim('['):
			return errors.New("a list, or too deep")
		case len(seen) == 0:
			return errors.New("not an object")
		case value:
			value = false
		default:
			name, _ := tok.(string) // valid JSON has nothing else here
			if len(seen) == 1 && name != "cmdId" && name != "cmd" && name != "args" {
				return errors.New("a field that is not known") // the decoder takes names in any case
			}
			if seen[len(seen)-1][name] {
				return errors.New("a name stands there twice")
			}
			seen[len(seen)-1][name], value = true, true
		}
	}
}
