package reconcile

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Fen is money in 0.01 yuan.
type Fen int64

// Volume is gas in 0.01 m³.
type Volume int64

// Zone is the zone of all times in the files. A fixed one: China has had no
// daylight saving since 1991, and a kiosk may have no time zone database.
var Zone = time.FixedZone("CST", 8*3600)

const (
	dayForm   = "20060102"
	stampForm = "20060102150405"
)

// Day is a calendar day in China, yyyyMMdd. Days compare like text.
type Day string

// ErrDay: not a day written yyyyMMdd.
var ErrDay = errors.New("not a day such as 20260801")

// ParseDay checks s.
func ParseDay(s string) (Day, error) {
	t, err := time.ParseInLocation(dayForm, s, Zone)
	if err != nil || t.Year() < 2000 || t.Format(dayForm) != s {
		return "", fmt.Errorf("%w: %.20q", ErrDay, s)
	}
	return Day(s), nil
}

// DayOf is the day t lies in.
func DayOf(t time.Time) Day { return Day(t.In(Zone).Format(dayForm)) }

// Start is the day's first moment; d must come from ParseDay or DayOf.
func (d Day) Start() time.Time {
	t, _ := time.ParseInLocation(dayForm, string(d), Zone)
	return t
}

// Add is the day n days later, earlier when n is negative.
func (d Day) Add(n int) Day { return DayOf(d.Start().AddDate(0, 0, n)) }

// holds reports whether a stamp lies in d.
func (d Day) holds(stamp string) bool { return strings.HasPrefix(stamp, string(d)) }

// Names are the names of a day's four files.
type Names struct{ File, Sum, Answer, AnswerSum string }

// NamesOf makes the names; device must satisfy CheckNames.
func NamesOf(device string, d Day) Names {
	ours, theirs := fmt.Sprintf("QC_%s_%s", device, d), fmt.Sprintf("QR_%s_%s", device, d)
	return Names{ours + ".txt", ours + ".sum", theirs + ".txt", theirs + ".sum"}
}

// DefaultFolder is clause 3.6's.
const DefaultFolder = "/recon/{orgCode}/{yyyyMMdd}"

var (
	safeName   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	safeFolder = regexp.MustCompile(`^/?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$`)
)

// Errors of CheckNames.
var (
	ErrName   = errors.New("cannot be part of a file's name: want letters, digits, _ and -")
	ErrFolder = errors.New("not a folder such as " + DefaultFolder)
)

// CheckNames tells whether files of this kiosk can be named and put into
// pattern, which may have {orgCode}, {deviceId} and {yyyyMMdd} in it.
func CheckNames(pattern, org, device string) error {
	for what, s := range map[string]string{"deviceId": device, "orgCode": org} {
		if !safeName.MatchString(s) {
			return fmt.Errorf("%s %.80q: %w", what, s, ErrName)
		}
	}
	if f := Folder(pattern, org, device, "20260801"); len(f) > 200 || !safeFolder.MatchString(f) || strings.Contains(f, "..") {
		return fmt.Errorf("%.80q: %w", pattern, ErrFolder)
	}
	return nil
}

// Folder is where a day's files lie.
func Folder(pattern, org, device string, d Day) string {
	return strings.NewReplacer("{orgCode}", org, "{deviceId}", device, "{yyyyMMdd}", string(d)).Replace(pattern)
}
