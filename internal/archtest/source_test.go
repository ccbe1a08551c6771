package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "reagent"

// A source is one file of the module.
type source struct {
	path string // below the module, with slashes
	pkg  string // its folder below the module
	test bool
	ast  *ast.File
}

var fset = token.NewFileSet()

// sources parses the module once, all build constraints at the same time.
var sources = sync.OnceValues(func() ([]source, error) {
	top, err := root()
	if err != nil {
		return nil, err
	}
	var all []source
	err = filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != top && skipped(name, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		below, err := filepath.Rel(top, name)
		if err != nil {
			return err
		}
		below = filepath.ToSlash(below)
		f, err := parser.ParseFile(fset, below, content, parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, source{below, path.Dir(below), strings.HasSuffix(below, "_test.go"), f})
		return nil
	})
	return all, err
})

// skipped folders hold no package of this module.
func skipped(folder, name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return true
	}
	switch name {
	case "testdata", "vendor", "build", "node_modules":
		return true
	}
	_, err := os.Stat(filepath.Join(folder, "go.mod")) // a nested module
	return err == nil
}

// root finds the module's folder above the test's.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		_, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", err
		}
		dir = up
	}
}

func load(t *testing.T) []source {
	t.Helper()
	all, err := sources()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("only %d files found; this is not the module", len(all))
	}
	return all
}

// place is where a node is, for messages.
func place(n ast.Node) string { return fset.Position(n.Pos()).String() }

// imports lists what a file imports.
func (s source) imports() map[*ast.ImportSpec]string {
	all := map[*ast.ImportSpec]string{}
	for _, i := range s.ast.Imports {
		all[i], _ = strconv.Unquote(i.Path.Value)
	}
	return all
}

// ours is the path of a package below the module, false for another's.
func ours(importPath string) (pkg string, ok bool) {
	return strings.CutPrefix(importPath, module+"/")
}

// standard reports whether a path is the standard library's.
func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".") && first != module
}

// matches reports whether a package is one of the patterns.
func matches(pkg string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		folder, star := strings.CutSuffix(p, "/*")
		return p == "*" || p == pkg || star && path.Dir(pkg) == folder
	})
}

// within reports whether a package is folder or below it.
func within(pkg, folder string) bool { return pkg == folder || strings.HasPrefix(pkg, folder+"/") }

// row is the row of a package, 0 if it has none. An exact name goes before a
// pattern.
func row(pkg string) int {
	for _, r := range rows {
		if slices.Contains(r.packages, pkg) {
			return r.number
		}
	}
	for _, r := range rows {
		if matches(pkg, r.packages) {
			return r.number
		}
	}
	return 0
}

func isOutside(pkg string) bool {
	for folder := range outside {
		if within(pkg, folder) {
			return true
		}
	}
	return false
}

// uses calls f for each mention of an exported name of an imported package.
func (s source) uses(f func(importPath, name string, at ast.Node)) {
	names := map[string]string{}
	for spec, p := range s.imports() {
		name := path.Base(p)
		if major, ok := strings.CutPrefix(name, "v"); ok && strings.Trim(major, "0123456789") == "" {
			name = path.Base(path.Dir(p))
		}
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = p
	}
	ast.Inspect(s.ast, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			// A local variable of the same name has an object; a package has none.
			if id, ok := sel.X.(*ast.Ident); ok && id.Obj == nil && names[id.Name] != "" {
				f(names[id.Name], sel.Sel.Name, sel)
			}
		}
		return true
	})
}
