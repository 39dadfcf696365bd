package protocol

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Evidence tells how sure the name and path of an interface are.
type Evidence string

// Grades of evidence.
const (
	Documented Evidence = "documented" // in the platform's document, or read in a client of it
	Inferred   Evidence = "inferred"   // observed on a sister gateway, or built after its pattern
	Ours       Evidence = "ours"       // proposed here: expect the real one to differ
)

// Endpoint is one interface of the platform.
type Endpoint struct {
	// Code is the interface code; it leads the sequence number.
	Code string
	Name string
	// Method is GET, POST (a JSON body) or MULTIPART (a POST form). Empty for
	// pushes, which the platform sends.
	Method string
	// Path follows the base address.
	Path string
	// Fallback is tried once when Path is answered 404.
	Fallback string
	Evidence Evidence
	// Kiosk says that a load kiosk has a use for it.
	Kiosk bool
}

// Codes of the interfaces this program calls.
const (
	codeDeviceToken = "1001"
	codeToken       = "1002"
	codeCardInfo    = "3010"
	codeCardPrice   = "3019"
	codeAuthorize   = "4006"
	codeReport      = "6002"
	codeReverse     = "6003"
	codeHeartbeat   = "6004"
	codeQueryOrder  = "6006"
)

const (
	get       = "GET"
	post      = "POST"
	multipart = "MULTIPART"
)

// Catalogue returns the table of interfaces, ordered by code. Names and paths
// marked Ours stand in for titles the document leaves empty; Config.Endpoints
// replaces them.
func Catalogue() []Endpoint {
	return []Endpoint{
		{"1001", "device session key", get, "/oauth/getToken", "", Documented, true},
		{"1002", "enterprise session key", get, "/oauth2/getToken", "", Documented, true},
		{"2001", "media upload", multipart, "/media/upload", "", Documented, true},
		{"2002", "media download", get, "/media/get", "", Documented, false},
		{"2003", "event registration", get, "/event/register", "", Inferred, false},
		{"2004", "event cancel", get, "/event/cancel", "", Inferred, false},
		{"3001", "address download", get, "/addr/download", "", Documented, false},
		{"3002", "supply point download", get, "/suppypoint/download", "/supplypoint/download", Documented, false}, // the platform's spelling
		{"3003", "subscriber download", get, "/subs/download", "", Documented, true},
		{"3004", "meter download", get, "/meter/download", "", Documented, true},
		{"3005", "subscriber by code", get, "/subs/getSubsByCode", "/user/getSubsByCode", Documented, true},
		{"3006", "subscribers bound to a member", get, "/user/querySubsByUserCode", "", Documented, false},
		{"3007", "subscriber search", get, "/subs/querySubs", "", Documented, false},
		{"3008", "contacts", get, "/subs/queryContacts", "", Inferred, false},
		{"3009", "meters of a subscriber", get, "/meter/queryMeters", "", Inferred, false},
		{"3010", "card info", post, "/iccard/getCardInfo", "", Ours, true},
		{"3011", "gas price", get, "/price/queryPrice", "", Ours, false},
		{"3012", "used gas", get, "/acct/queryUsedGas", "", Ours, false},
		{"3013", "deposit balance", get, "/acct/queryAcctRes", "", Inferred, false},
		{"3014", "unpaid bills", get, "/bill/queryUnpaidBills", "", Inferred, true},
		{"3015", "bills", get, "/bill/queryBills", "", Inferred, false},
		{"3016", "card recharge history", get, "/iccard/queryRecharges", "", Ours, true},
		{"3017", "gas volume bills", get, "/bill/queryGasBills", "", Inferred, false},
		{"3018", "batch volume bills", post, "/bill/batchQueryGasBills", "", Inferred, false},
		{"3019", "card price", get, "/iccard/queryPrice", "", Ours, true},
		{"3020", "reading history", get, "/acct/queryLastReadings", "", Inferred, false},
		{"4006", "card recharge (authorise)", post, "/iccard/recharge", "", Ours, true},
		{"5001", "work order create", post, "/worksheet/create", "", Inferred, false},
		{"6001", "kiosk registration", post, "/device/register", "", Ours, true},
		{"6002", "write result report", post, "/iccard/reportResult", "", Ours, true},
		{"6003", "reversal", post, "/iccard/reverse", "", Ours, true},
		{"6004", "heartbeat and commands", post, "/device/heartbeat", "", Ours, true},
		{"6005", "clock", get, "/device/time", "", Ours, false},
		{"6006", "order query", get, "/iccard/queryOrder", "", Ours, true},
		{"7001", "address changed", "", "", "", Documented, false},
		{"7002", "supply point changed", "", "", "", Documented, false},
		{"7003", "subscriber changed", "", "", "", Documented, false},
		{"7004", "meter changed", "", "", "", Documented, false},
		{"7005", "work order changed", "", "", "", Documented, false},
	}
}

var (
	codeForm = regexp.MustCompile(`^[0-9]{4,5}$`)
	pathForm = regexp.MustCompile(`^(/[A-Za-z0-9_.-]+)+$`)
)

// override lays the configured rows over the catalogue. An override of a code
// the catalogue does not have is an error: it would never be called.
func override(rows map[string]Endpoint) (map[string]Endpoint, error) {
	all := map[string]Endpoint{}
	for _, e := range Catalogue() {
		all[e.Code] = e
	}
	for _, code := range slices.Sorted(maps.Keys(rows)) {
		e, known := all[code]
		if !known {
			return nil, fmt.Errorf("endpoints: no interface %q", code)
		}
		if e.Method == "" {
			return nil, fmt.Errorf("endpoints: interface %s is called by the platform", code)
		}
		r := rows[code]
		set := func(to *string, v string) {
			if v != "" {
				*to = v
			}
		}
		set(&e.Code, r.Code)
		set(&e.Name, r.Name)
		set(&e.Method, strings.ToUpper(r.Method))
		set(&e.Path, r.Path)
		set(&e.Fallback, r.Fallback)
		if r.Evidence != "" {
			e.Evidence = r.Evidence
		}
		if !codeForm.MatchString(e.Code) {
			return nil, fmt.Errorf("endpoints: interface %s: code must be 4 or 5 digits", code)
		}
		if was := all[code].Method; e.Method != was {
			// The body of a call is built for its method.
			return nil, fmt.Errorf("endpoints: interface %s: method must be %s", code, was)
		}
		for _, p := range []string{e.Path, e.Fallback} {
			if p != "" && (!pathForm.MatchString(p) || strings.Contains(p, "/.")) {
				return nil, fmt.Errorf("endpoints: interface %s: %q is not a path", code, p)
			}
		}
		all[code] = e
	}
	seen := map[string]string{}
	for _, code := range slices.Sorted(maps.Keys(all)) {
		e := all[code]
		if e.Method == "" {
			continue
		}
		k := e.Method + " " + e.Path
		if other, dup := seen[k]; dup {
			return nil, fmt.Errorf("endpoints: interfaces %s and %s share the path %s", other, code, e.Path)
		}
		seen[k] = code
	}
	return all, nil
}
