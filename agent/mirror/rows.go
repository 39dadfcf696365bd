package mirror

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"vcckiosk/protocol/table"
)

// Interface codes of the tables.
const (
	addresses    = "3001"
	supplyPoints = "3002"
	subscribers  = "3003"
	meters       = "3004"
)

// layout is what is kept of a table: the columns, by their place in the
// catalogue, that make the key, and those that make the value, each with what is
// done to it first.
type layout struct {
	key   []int
	value []part
	owner int // column whose rows are looked up by it, -1 for none
}

type part struct {
	column int
	mask   func(dst, v []byte) []byte // nil: as it is
}

// rows says what is kept. What is not named here never reaches the disk: the
// telephone numbers of 3003, where a meter hangs, the rest of a supply point's
// address.
var rows = map[string]layout{
	addresses:    {key: []int{0}, value: []part{{4, nil}, {3, nil}, {6, nil}}, owner: -1},
	supplyPoints: {key: []int{0}, value: []part{{1, nil}, {2, nil}, {3, nil}}, owner: -1},
	subscribers:  {key: []int{0}, value: []part{{1, maskName}, {2, nil}, {3, maskAddress}, {4, nil}, {5, nil}}, owner: -1},
	meters:       {key: []int{0, 1}, value: []part{{6, nil}, {2, nil}, {4, nil}, {7, nil}, {8, nil}}, owner: 6},
}

// Subscriber is a gas account as far as the mirror holds it.
type Subscriber struct {
	Code     string `json:"subsCode"`
	Name     string `json:"name"`     // masked before it was stored
	AddrCode string `json:"addrCode"` // of 3001
	Street   string `json:"street"`   // of 3001; empty when not mirrored
	Address  string `json:"address"`  // rest of the address, masked
	Kind     string `json:"kind"`     // 1 household, 2 business
	State    string `json:"state"`    // appendix D
}

// Meter is a meter of an account.
type Meter struct {
	Code    string `json:"meterCode"`
	Type    string `json:"type"`  // appendix E
	Model   string `json:"model"` // appendix F
	State   string `json:"state"` // A usable, X not
	Mode    string `json:"mode"`
	Factory string `json:"factory"`
}

// hidden stands for what was masked; how much it was is not told.
const hidden = "***"

// printable is unicode.IsPrint; the usual characters are not looked up.
func printable(r rune) bool {
	return r >= 0x4E00 && r < 0x9FA6 || r >= ' ' && r < 0x7F || unicode.IsPrint(r)
}

// maskName keeps the first character of a name, if it has more.
func maskName(dst, v []byte) []byte {
	r, n := utf8.DecodeRune(v)
	if n < len(v) && printable(r) {
		dst = append(dst, v[:n]...)
	}
	return append(dst, hidden...)
}

// maskAddress keeps the first half of an address.
func maskAddress(dst, v []byte) []byte {
	keep := utf8.RuneCount(v) / 2
	for i := 0; i < len(v) && keep > 0; keep-- {
		r, n := utf8.DecodeRune(v[i:])
		if !printable(r) {
			break
		}
		dst = append(dst, v[i:i+n]...)
		i += n
	}
	return append(dst, hidden...)
}

// code reports whether v can be the code of something: it stands in keys, and
// is asked for by what a card says.
func code(v []byte) bool {
	for _, c := range v {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return len(v) > 0
}

// separator stands between the parts of a key; no field has it.
const separator = 0

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumLen is the length of a value's check sum: eight hex digits.
const sumLen = 8

// appendSum ends a value: its text from start on, the key before it included,
// gets its check sum.
func appendSum(dst []byte, start int) []byte {
	const digits = "0123456789abcdef"
	sum := crc32.Checksum(dst[start:], castagnoli)
	for shift := 28; shift >= 0; shift -= 4 {
		dst = append(dst, digits[sum>>shift&15])
	}
	return dst
}

// open splits a stored value. An error: not what was stored.
func openValue(key, value []byte, fields int) ([]string, error) {
	if len(value) < sumLen {
		return nil, fmt.Errorf("a row is too short: %w", errDamaged)
	}
	text, sum := value[:len(value)-sumLen], value[len(value)-sumLen:]
	want := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, text)
	got, err := strconv.ParseUint(string(sum), 16, 32)
	if err != nil || uint32(got) != want {
		return nil, fmt.Errorf("a row has a wrong check sum: %w", errDamaged)
	}
	list := strings.Split(string(text), "|")
	if len(list) != fields+1 {
		return nil, fmt.Errorf("a row has %d fields: %w", len(list)-1, errDamaged)
	}
	return list[:fields], nil
}

const (
	// batchRows and batchBytes bound one transaction.
	batchRows  = 1000
	batchBytes = 256 << 10
	// batchPages is how many bytes of pages a transaction should write. Rows in
	// order share pages; in no order each touches a leaf and a branch of its own,
	// which bbolt holds in memory until the commit. The next batch is smaller
	// then.
	batchPages = 3 << 20
	leastRows  = 100
)

// batch is rows on their way into the file. What it holds is used again and
// again.
type batch struct {
	code   string
	layout layout
	arena  []byte
	items  []item
	limit  int // rows
}

// item is a row in the arena: key, then value, the owner at its beginning.
type item struct{ key, value, end int }

func (b *batch) begin(code string) {
	b.code, b.layout, b.limit = code, rows[code], batchRows
	b.reset()
}

func (b *batch) reset() { b.arena, b.items = b.arena[:0], b.items[:0] }

func (b *batch) full() bool { return len(b.items) >= b.limit || len(b.arena) >= batchBytes }

// wrote adapts the size of the next batch to what this one has written.
func (b *batch) wrote(pages int64) {
	if len(b.items) < leastRows {
		return // the last of a window
	}
	fit := int64(len(b.items)) * batchPages / max(pages, 1)
	b.limit = max(leastRows, min(batchRows, int(fit), 2*b.limit))
}

// take adds a row, or tells why it is none.
func (b *batch) take(row *table.Reader) string {
	start := len(b.arena)
	for i, c := range b.layout.key {
		v := row.Field(c)
		if !code(v) {
			b.arena = b.arena[:start]
			return "the key is not made of letters and digits"
		}
		if i > 0 {
			b.arena = append(b.arena, separator)
		}
		b.arena = append(b.arena, v...)
	}
	if o := b.layout.owner; o >= 0 && !code(row.Field(o)) {
		b.arena = b.arena[:start]
		return "the account is not made of letters and digits"
	}
	value := len(b.arena)
	for _, p := range b.layout.value {
		if v := row.Field(p.column); p.mask != nil {
			b.arena = p.mask(b.arena, v)
		} else {
			b.arena = append(b.arena, v...)
		}
		b.arena = append(b.arena, '|')
	}
	b.arena = appendSum(b.arena, start)
	b.items = append(b.items, item{key: start, value: value, end: len(b.arena)})
	return ""
}

// owner is whose a stored row of a table with owners is.
func owner(value []byte) []byte {
	before, _, _ := bytes.Cut(value, []byte("|"))
	return before
}
