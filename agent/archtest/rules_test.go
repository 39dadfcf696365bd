package archtest

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// maxLines bounds a Go file, tests alike: a file over it is two files.
const maxLines = 600

// topLevel is every folder the module may have.
var topLevel = []string{"cmd", "agent", "cardreader", "keystore", "modem", "protocol", "queue", "deploy", "docs", ".ci"}

// notOurs lies in a working tree and is not part of it: git's own, and what the Makefile builds.
var notOurs = []string{".git", "bin", "dist"}

// leaves import neither each other nor agent; what they share is *bbolt.Tx and the standard library.
var leaves = []string{"cardreader", "keystore", "modem", "protocol", "queue"}

// inside says, for packages below a leaf or the agent, which packages of ours they may import beyond the standard library
// and third parties. Tests are free. A folder that is not named is bound by the leaf's rule only.
var inside = map[string][]string{
	"agent/topup":             nil,
	"agent/chain":             nil,
	"agent/journal":           {"agent/chain", "agent/topup"},
	"agent/audit":             {"agent/chain"},
	"agent/command":           nil,
	"agent/registration":      nil,
	"agent/media":             nil,
	"cardreader":              nil,
	"cardreader/apdu":         {"cardreader"}, // a status word leads to the contract's errors
	"cardreader/epurse":       {"cardreader", "cardreader/apdu"},
	"cardreader/memcard":      {"cardreader", "cardreader/apdu"},
	"cardreader/pcsc":         {"cardreader"},
	"cardreader/vpcd":         {"cardreader"},
	"cardreader/simcard":      {"cardreader", "cardreader/apdu"}, // never epurse or memcard: a card is a second opinion
	"cardreader/cardtest":     {"cardreader", "cardreader/apdu", "cardreader/simcard"},
	"protocol/sign":           nil,
	"protocol/signed":         nil,
	"protocol/push":           nil,
	"protocol/keysms":         nil,
	"protocol/catalogue":      nil,                    // a table
	"protocol/vcctest":        {"protocol/catalogue"}, // never protocol or sign: a platform is a second opinion
	"cardreader/transcript":   {"cardreader"},
	"cardreader/qualify":      {"cardreader", "cardreader/apdu", "cardreader/epurse", "cardreader/memcard", "cardreader/transcript"},
	"cmd/vccsim/conform":      {"protocol", "protocol/sign", "protocol/catalogue"}, // asks any platform, so it knows no simulated one
	"protocol/reconcile":      nil,                                                 // a day's file is a function of its rows
	"protocol/reconcile/sftp": nil,                                                 // carries bytes and knows no rows
	"agent/daybook":           {"agent/chain", "agent/topup"},
	"protocol/table":          {"protocol/catalogue"},                                        // pure: what it reads is handed in
	"agent/mirror":            {"protocol", "protocol/catalogue", "protocol/table", "queue"}, // no top-up may come to depend on it
}

// simulators make money and gas out of nothing: they are for tests and for the tools named in mayUseSimulators.
var simulators = []string{"cardreader/simcard", "cardreader/cardtest", "modem/simmodem", "protocol/vcctest", "agent/simtest"}

// topupMayImport is everything pure Decide may stand on. No time, no os, no net, no random numbers.
var topupMayImport = []string{
	"bytes", "cmp", "crypto/sha256", "encoding/binary", "encoding/hex", "encoding/json", "errors", "fmt", "hash/crc32", "iter", "maps", "math", "math/bits", "slices", "sort", "strconv", "strings", "unicode", "unicode/utf8",
}

// topupMayDraw is the one file of agent/topup that may draw a random number: it names a new attempt and decides nothing.
const topupMayDraw = "agent/topup/record.go"

// writers may open a write transaction: queue owns agent.db's, the others own a file of their own.
var writers = []string{"queue", "keystore", "agent/mirror", "agent/simtest"}

// emptyNames say nothing of the field.
var emptyNames = []string{"util", "utils", "common", "helper", "helpers", "types", "models", "model", "misc", "base", "shared", "lib"}

// builds are the binaries and the ways they are made that must stay free of something.
var builds = []build{
	{pkg: "cmd/kioskd"},
	{pkg: "cmd/kioskd", tags: "pcsc", cgo: true},
	{pkg: "cmd/kioskd", tags: "sim"},
	{pkg: "cmd/kioskctl"},
	{pkg: "cmd/kioskctl", tags: "pcsc", cgo: true},
	{pkg: "cmd/kioskkeys"},
	{pkg: "cmd/kioskkeys", tags: "sim"},
}

type rule struct {
	name  string
	check func(*tree) []string
}

var treeRules = []rule{
	{"top-level folders are those of the map", checkTop},
	{"imports go cmd to agent to leaves", checkDirections},
	{"packages inside a leaf keep their order", checkInside},
	{"simulators stay with tests and tools", checkSimulators},
	{"cgo and scard live in cardreader/pcsc", checkScard},
	{"agent/topup is pure", checkTopup},
	{"one writer opens write transactions", checkWriters},
	{"no file over 600 lines", checkLines},
	{"packages are named after things of the field", checkNames},
}

func checkTop(t *tree) (bad []string) {
	for _, d := range t.top {
		if !slices.Contains(topLevel, d) && !slices.Contains(notOurs, d) {
			bad = append(bad, fmt.Sprintf("%s/ is not a folder of the map (%s)", d, strings.Join(topLevel, ", ")))
		}
	}
	for _, d := range t.dirs {
		if d == "." {
			bad = append(bad, "Go files in the module's root: it holds no package")
		}
	}
	return bad
}

// under reports whether dir is one of the folders or lies below one.
func under(dir string, folders ...string) bool {
	for _, f := range folders {
		if dir == f || strings.HasPrefix(dir, f+"/") {
			return true
		}
	}
	return false
}

// ours returns the folder of an import of this module.
func ours(imp string) (string, bool) {
	return strings.CutPrefix(imp, module+"/")
}

func area(dir string) string {
	a, _, _ := strings.Cut(dir, "/")
	return a
}

// checkDirections holds for tests too: a test that needs two leaves belongs to agent.
func checkDirections(t *tree) (bad []string) {
	for _, f := range t.files {
		for _, imp := range f.imports {
			to, ok := ours(imp)
			if !ok {
				continue
			}
			from := area(f.dir)
			switch {
			case slices.Contains(leaves, from) && area(to) != from:
				bad = append(bad, fmt.Sprintf("%s imports %s: a leaf imports nothing of ours outside itself", f.path, imp))
			case from == "agent" && area(to) == "cmd":
				bad = append(bad, fmt.Sprintf("%s imports %s: agent does not know cmd", f.path, imp))
			case from == "cmd" && area(to) == "cmd" && !under(to, path.Join("cmd", binary(f.dir))):
				bad = append(bad, fmt.Sprintf("%s imports %s: one command does not import another", f.path, imp))
			}
		}
	}
	return bad
}

// binary is the second element of a folder below cmd.
func binary(dir string) string {
	_, rest, _ := strings.Cut(dir, "/")
	b, _, _ := strings.Cut(rest, "/")
	return b
}

func checkInside(t *tree) (bad []string) {
	for _, f := range t.files {
		may, bound := inside[f.dir]
		if !bound || f.test {
			continue
		}
		for _, imp := range f.imports {
			if to, ok := ours(imp); ok && !slices.Contains(may, to) {
				bad = append(bad, fmt.Sprintf("%s imports %s: %s may import %s of ours", f.path, imp, f.dir, orNothing(may)))
			}
		}
	}
	return bad
}

func orNothing(s []string) string {
	if len(s) == 0 {
		return "nothing"
	}
	return strings.Join(s, ", ")
}

func mayUseSimulators(f file) bool {
	return f.test || under(f.dir, simulators...) || under(f.dir, "cmd/vccsim") || under(f.dir, "cmd") && path.Base(f.dir) == "rigtest"
}

func checkSimulators(t *tree) (bad []string) {
	for _, f := range t.files {
		if mayUseSimulators(f) {
			continue
		}
		for _, imp := range f.imports {
			if to, ok := ours(imp); ok && under(to, simulators...) {
				bad = append(bad, fmt.Sprintf("%s imports %s: simulators are for tests, agent/simtest, cmd/vccsim and cmd/*/rigtest", f.path, imp))
			}
			if imp == "testing" || strings.HasPrefix(imp, "testing/") {
				bad = append(bad, fmt.Sprintf("%s imports %s outside a test", f.path, imp))
			}
		}
	}
	return bad
}

func checkScard(t *tree) (bad []string) {
	for _, f := range t.files {
		for _, imp := range f.imports {
			if (imp == "github.com/ebfe/scard" || imp == "C") && f.dir != "cardreader/pcsc" {
				bad = append(bad, fmt.Sprintf("%s imports %s: only cardreader/pcsc may", f.path, imp))
			}
		}
	}
	return bad
}

func checkTopup(t *tree) (bad []string) {
	for _, f := range t.files {
		if f.dir != "agent/topup" || f.test {
			continue
		}
		for _, imp := range f.imports {
			if imp == "crypto/rand" && f.path == topupMayDraw {
				continue
			}
			if !slices.Contains(topupMayImport, imp) {
				bad = append(bad, fmt.Sprintf("%s imports %s: Decide is a function of its arguments, without clock or I/O", f.path, imp))
			}
		}
	}
	return bad
}

func checkWriters(t *tree) (bad []string) {
	for _, f := range t.files {
		if f.test || under(f.dir, writers...) {
			continue
		}
		for _, line := range f.updates {
			bad = append(bad, fmt.Sprintf("%s:%d opens a write transaction: agent.db is written through queue.Writer.Do alone", f.path, line))
		}
	}
	return bad
}

func checkLines(t *tree) (bad []string) {
	for _, f := range t.files {
		if f.lines > maxLines && !f.generated {
			bad = append(bad, fmt.Sprintf("%s has %d lines, more than %d: it is two files", f.path, f.lines, maxLines))
		}
	}
	return bad
}

func checkNames(t *tree) (bad []string) {
	for _, f := range t.files {
		name := strings.TrimSuffix(f.pkg, "_test")
		if slices.Contains(emptyNames, name) || slices.Contains(emptyNames, path.Base(f.dir)) {
			bad = append(bad, fmt.Sprintf("%s: package %q in %s says nothing of the field", f.path, f.pkg, f.dir))
		}
	}
	return bad
}

// checkLinked looks at everything one binary links.
//
// Without the tag sim the simulated reader may be there as a stub, which is known by not reaching the network.
func checkLinked(b build, deps []dep) (bad []string) {
	for _, d := range deps {
		dir, own := ours(d.ImportPath)
		switch {
		case own && under(dir, simulators...):
			bad = append(bad, fmt.Sprintf("%s links %s: a simulator in a binary", b.name(), d.ImportPath))
		case own && dir == "cardreader/vpcd" && !strings.Contains(b.tags, "sim") && slices.Contains(d.Imports, "net"):
			bad = append(bad, fmt.Sprintf("%s links the simulated reader (%s)", b.name(), strings.Join(d.GoFiles, ", ")))
		case d.ImportPath == "testing" || d.ImportPath == "github.com/rogpeppe/go-internal/testscript":
			bad = append(bad, fmt.Sprintf("%s links %s", b.name(), d.ImportPath))
		case d.ImportPath == "github.com/ebfe/scard" && !b.cgo:
			bad = append(bad, fmt.Sprintf("%s links %s without the tag pcsc: it would not build without PC/SC", b.name(), d.ImportPath))
		case own && !b.cgo && len(d.CgoFiles) > 0:
			bad = append(bad, fmt.Sprintf("%s needs a C compiler for %s", b.name(), d.ImportPath))
		}
	}
	if len(deps) == 0 {
		bad = append(bad, b.name()+": go list named no package, so nothing was checked")
	}
	return bad
}
