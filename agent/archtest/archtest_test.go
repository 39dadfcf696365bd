// Package archtest fails the build when the shape of the tree is broken: which folders there are, who imports whom,
// what is linked into a shipped binary, how large a file grows. It holds tests only.
//
// The rules are functions over facts (rules_test.go), the facts come from reading every Go file whatever its build
// tags (facts_test.go) and from `go list -deps` for what the linker would see. broken_test.go feeds each rule a tree
// that breaks it, so that a rule which no longer catches anything fails too.
package archtest

import (
	"os"
	"path/filepath"
	"testing"
)

// root finds the module this package is part of.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatalf("archtest must lie two folders below go.mod: %v", err)
	}
	return dir
}

func TestTree(t *testing.T) {
	t.Parallel()
	tr, err := readTree(os.DirFS(root(t)))
	if err != nil {
		t.Fatal(err)
	}
	if len(tr.files) == 0 {
		t.Fatal("no Go file found: the walk is broken")
	}
	for _, r := range treeRules {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			for _, v := range r.check(tr) {
				t.Error(v)
			}
		})
	}
}

// TestLinked asks the go command, not the source, what ends up in each binary.
func TestLinked(t *testing.T) {
	t.Parallel()
	dir := root(t)
	for _, b := range builds {
		t.Run(b.name(), func(t *testing.T) {
			t.Parallel()
			if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(b.pkg))); os.IsNotExist(err) {
				t.Logf("%s does not exist yet: nothing is linked", b.pkg)
				return
			}
			deps, err := listDeps(t.Context(), dir, b)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range checkLinked(b, deps) {
				t.Error(v)
			}
		})
	}
}
