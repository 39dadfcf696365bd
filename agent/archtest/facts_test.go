package archtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// module is the import path in go.mod.
const module = "vcckiosk"

// file is what the rules need to know of one Go file.
type file struct {
	path      string // slash path from the module's root
	dir       string // its folder, "." for the root
	test      bool   // a _test.go file
	pkg       string // name in the package clause
	imports   []string
	lines     int
	generated bool
	updates   []int // lines that open a bbolt write transaction with a literal function
}

// tree is the module as it lies on disk.
type tree struct {
	top   []string // top-level folders
	dirs  []string // every folder that holds Go files
	files []file
}

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// readTree parses every Go file below fsys, whatever its build tags. It leaves out what the go command leaves out
// too (testdata, folders that begin with . or _) and what is built (bin, dist).
func readTree(fsys fs.FS) (*tree, error) {
	t := new(tree)
	seen := make(map[string]bool)
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) { // removed while we walk: an editor's temporary file
				return nil
			}
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if p == "." {
				return nil
			}
			if !strings.Contains(p, "/") {
				t.top = append(t.top, p)
			}
			if name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || p == "bin" || p == "dist" {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		src, err := fs.ReadFile(fsys, p)
		if err != nil {
			return fmt.Errorf("read %s: %w", p, err)
		}
		f, err := parseFile(p, src)
		if err != nil {
			return err
		}
		t.files = append(t.files, f)
		if !seen[f.dir] {
			seen[f.dir] = true
			t.dirs = append(t.dirs, f.dir)
		}
		return nil
	})
	return t, err
}

func parseFile(p string, src []byte) (file, error) {
	fset := token.NewFileSet()
	a, err := parser.ParseFile(fset, p, src, parser.SkipObjectResolution|parser.ParseComments)
	if err != nil {
		return file{}, fmt.Errorf("parse %s: %w", p, err)
	}
	f := file{
		path:      p,
		dir:       path.Dir(p),
		test:      strings.HasSuffix(p, "_test.go"),
		pkg:       a.Name.Name,
		lines:     bytes.Count(src, []byte("\n")),
		generated: generated.Match(src),
	}
	for _, s := range a.Imports {
		v, err := strconv.Unquote(s.Path.Value)
		if err != nil {
			return file{}, fmt.Errorf("parse %s: import %s: %w", p, s.Path.Value, err)
		}
		f.imports = append(f.imports, v)
	}
	ast.Inspect(a, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok && opensWrite(c) {
			f.updates = append(f.updates, fset.Position(c.Pos()).Line)
		}
		return true
	})
	return f, nil
}

// opensWrite reports x.Update(func(tx *bbolt.Tx) ...) and x.Batch of the same.
func opensWrite(c *ast.CallExpr) bool {
	s, ok := c.Fun.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != "Update" && s.Sel.Name != "Batch" || len(c.Args) != 1 {
		return false
	}
	fn, ok := c.Args[0].(*ast.FuncLit)
	if !ok || fn.Type.Params.NumFields() != 1 {
		return false
	}
	star, ok := fn.Type.Params.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	t, ok := star.X.(*ast.SelectorExpr)
	return ok && t.Sel.Name == "Tx"
}

// dep is one package a binary links, as `go list` tells it.
type dep struct {
	ImportPath string
	Standard   bool
	Imports    []string
	GoFiles    []string
	CgoFiles   []string
}

// build is one way a binary is made.
type build struct {
	pkg  string
	tags string
	cgo  bool
}

func (b build) name() string {
	n := path.Base(b.pkg)
	if b.tags != "" {
		n += " with " + b.tags
	}
	return n
}

// listDeps never compiles and never runs cgo, so it needs neither a C compiler nor PC/SC headers.
func listDeps(ctx context.Context, dir string, b build) ([]dep, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-e", "-deps", "-tags="+b.tags, "-json=ImportPath,Standard,Imports,GoFiles,CgoFiles", "./"+b.pkg)
	cmd.Dir = dir
	cgo := "CGO_ENABLED=0"
	if b.cgo {
		cgo = "CGO_ENABLED=1"
	}
	cmd.Env = append(os.Environ(), cgo)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w: %s", b.pkg, err, stderr.String())
	}
	var deps []dep
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var v dep
		switch err := d.Decode(&v); {
		case errors.Is(err, io.EOF):
			return deps, nil
		case err != nil:
			return nil, fmt.Errorf("go list %s: %w", b.pkg, err)
		}
		deps = append(deps, v)
	}
}
