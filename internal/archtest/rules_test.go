package archtest

import (
	"go/ast"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestEveryPackageHasARow(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range load(t) {
		if seen[s.pkg] {
			continue
		}
		seen[s.pkg] = true
		if row(s.pkg) == 0 && !matches(s.pkg, tools) && !matches(s.pkg, forTests) && !isOutside(s.pkg) {
			t.Errorf("%s is in no row: put it into one (tables_test.go, rows), or where its neighbours are", s.pkg)
		}
	}
}

func TestImportsGoDownTheRows(t *testing.T) {
	for _, s := range load(t) {
		if s.test || isOutside(s.pkg) || matches(s.pkg, forTests) {
			continue // tests stand outside the rows
		}
		for spec, path := range s.imports() {
			if to, ok := ours(path); ok {
				if why := refused(s.pkg, to); why != "" {
					t.Errorf("%s: %s imports %s: %s", place(spec), s.pkg, to, why)
				}
			} else if matches(s.pkg, tools) && !standard(path) {
				t.Errorf("%s: %s imports %s: a tool stands on the standard library alone; give it what it needs as a function", place(spec), s.pkg, path)
			}
		}
	}
}

// refused says why a package may not import another one of ours.
func refused(from, to string) string {
	switch {
	case matches(to, forTests):
		return "that is for tests; move what the program needs into a package of a row"
	case isOutside(to):
		return "that stands outside the rows; move what is needed into a package of a row"
	case matches(to, tools):
		return ""
	case matches(from, tools):
		return "a tool stands on the standard library alone; give it what it needs as a function"
	}
	for _, n := range neverImports {
		if !within(from, n.from) || slices.Contains(n.except, from) && n.to != "" {
			continue
		}
		if n.to == "" && !slices.Contains(n.except, to) || n.to != "" && within(to, n.to) {
			return n.why
		}
	}
	for _, a := range alsoImports {
		if a.from == from && a.to == to {
			return ""
		}
	}
	switch have, want := row(from), row(to); {
	case want == have:
		return "both are in one row; let them meet in the composition root, as a function or a small interface"
	case want > have:
		return "imports go down the rows only; take a small interface or a function instead, or move the shared word to protocol"
	}
	return ""
}

func TestThirdPartyModulesStayInTheirHomes(t *testing.T) {
	for _, s := range load(t) {
		if s.test || isOutside(s.pkg) || matches(s.pkg, forTests) {
			continue
		}
		for spec, path := range s.imports() {
			if _, our := ours(path); our || standard(path) {
				continue
			}
			best, allowed, why := "", []string(nil), "it is not in the table homes; is there one that does the same already?"
			for _, h := range homes {
				if within(path, h.prefix) && len(h.prefix) > len(best) {
					best, allowed, why = h.prefix, h.packages, h.why+": its home is "+strings.Join(h.packages, ", ")+"; ask that package for what is needed"
				}
			}
			if !matches(s.pkg, allowed) {
				t.Errorf("%s: %s imports %s: %s", place(spec), s.pkg, path, why)
			}
		}
	}
}

func TestFeaturesAreGivenWhatTheyStandOn(t *testing.T) {
	constructor := regexp.MustCompile(constructors)
	for _, s := range load(t) {
		if s.test || row(s.pkg) != 3 {
			continue
		}
		s.uses(func(path, name string, at ast.Node) {
			if to, ok := ours(path); ok && row(to) == 2 && constructor.MatchString(name) {
				t.Errorf("%s: %s makes its own %s with %s: take it as a small interface; the composition root makes it", place(at), s.pkg, to, name)
			}
		})
	}
}

func TestOnlyProgramsEndTheProcess(t *testing.T) {
	ends := map[string][]string{
		"os": {"Exit"}, "syscall": {"Exit"}, "golang.org/x/sys/unix": {"Exit"},
		"log": {"Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "Panicln"},
	}
	for _, s := range load(t) {
		if s.test || within(s.pkg, "cmd") || isOutside(s.pkg) || matches(s.pkg, forTests) {
			continue
		}
		s.uses(func(path, name string, at ast.Node) {
			if slices.Contains(ends[path], name) {
				t.Errorf("%s: %s.%s: return an error; only cmd/ ends the process", place(at), path, name)
			}
		})
		ast.Inspect(s.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 0 {
				return true
			}
			// zerolog's logger.Fatal() and logger.Panic()
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok && (sel.Sel.Name == "Fatal" || sel.Sel.Name == "Panic") {
				t.Errorf("%s: %s() ends the process when the line is sent: log an error and return one", place(call), sel.Sel.Name)
			}
			return true
		})
	}
}

func TestOnlyListedPackagesStartPrograms(t *testing.T) {
	starts := map[string][]string{
		"os/exec": {"Command", "CommandContext", "Cmd"}, "os": {"StartProcess"}, "syscall": {"Exec", "ForkExec", "StartProcess"},
	}
	for _, s := range load(t) {
		if s.test || isOutside(s.pkg) || matches(s.pkg, forTests) || starters[s.pkg] != "" {
			continue
		}
		s.uses(func(path, name string, at ast.Node) {
			if slices.Contains(starts[path], name) {
				t.Errorf("%s: %s.%s: %s starts no programs (tables_test.go, starters); is there a library or a system call?", place(at), path, name, s.pkg)
			}
		})
	}
}

func TestPanicsAreCaughtAtTheEdgesOnly(t *testing.T) {
	for _, s := range load(t) {
		if s.test || isOutside(s.pkg) || matches(s.pkg, forTests) || recoverers[s.pkg] != "" {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if id, ok := call.Fun.(*ast.Ident); ok && id.Name == "recover" && id.Obj == nil {
					t.Errorf("%s: recover in %s: panics are caught at the edges (tables_test.go, recoverers); return an error instead of panicking", place(call), s.pkg)
				}
			}
			return true
		})
	}
}

func TestTestsDoNotSleep(t *testing.T) {
	for _, s := range load(t) {
		if !s.test {
			continue
		}
		// In a bubble of synctest the clock is the test's own and sleeping moves it.
		// A function that names synctest runs in one, or makes one.
		var bubbles []ast.Node
		for _, d := range s.ast.Decls {
			ast.Inspect(d, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok && id.Name == "synctest" {
					bubbles = append(bubbles, d)
				}
				return true
			})
		}
		s.uses(func(path, name string, at ast.Node) {
			inside := slices.ContainsFunc(bubbles, func(b ast.Node) bool { return b.Pos() <= at.Pos() && at.End() <= b.End() })
			if path == "time" && name == "Sleep" && !inside {
				t.Errorf("%s: time.Sleep: wait on a channel, poll with a deadline, or use testing/synctest", place(at))
			}
		})
	}
}

func TestTLSIsAlwaysVerified(t *testing.T) {
	const field = "InsecureSkipVerify"
	for _, s := range load(t) {
		ast.Inspect(s.ast, func(n ast.Node) bool {
			switch n := n.(type) { // to read it, and refuse, is fine
			case *ast.KeyValueExpr:
				if id, ok := n.Key.(*ast.Ident); ok && id.Name == field && !s.test {
					t.Errorf("%s: %s: give the configuration a CA instead", place(n), field)
				}
			case *ast.AssignStmt:
				for _, left := range n.Lhs {
					if sel, ok := left.(*ast.SelectorExpr); ok && sel.Sel.Name == field {
						t.Errorf("%s: %s: give the configuration a CA instead", place(n), field)
					}
				}
			}
			return true
		})
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	documented, where := map[string]bool{}, map[string]string{}
	for _, s := range load(t) {
		if s.test {
			if _, ok := where[s.pkg]; !ok && isOutside(s.pkg) {
				where[s.pkg] = s.path // a folder of tests is a package, too
			}
		} else {
			where[s.pkg] = s.path
		}
		documented[s.pkg] = documented[s.pkg] || s.ast.Doc != nil
	}
	for pkg, file := range where {
		if !documented[pkg] {
			t.Errorf("%s has no package comment (%s is one of its files): say what it is for and what it promises", pkg, file)
		}
	}
}

func TestPackagesAreNamedAfterWhatTheyDo(t *testing.T) {
	for _, s := range load(t) {
		for _, part := range append(strings.Split(s.pkg, "/"), s.ast.Name.Name) {
			if slices.Contains(badNames, part) {
				t.Errorf("%s: a package named %s takes anything: a shared word goes to protocol, a shared tool to internal/<what it does>", s.path, part)
			}
		}
	}
}

// A table that names what is not there any more would hide that a rule is dead.
func TestTablesNameNoPackageTwice(t *testing.T) {
	seen := map[string]int{}
	for _, r := range rows {
		for _, p := range r.packages {
			if other, twice := seen[p]; twice {
				t.Errorf("%s is in row %d and in row %d", p, other, r.number)
			}
			seen[p] = r.number
		}
	}
	prefixes := map[string]bool{}
	for _, h := range homes {
		if prefixes[h.prefix] {
			t.Errorf("%s has two homes in the table", h.prefix)
		}
		prefixes[h.prefix] = true
		for _, p := range h.packages {
			if p != "*" && row(p) == 0 && seen[p] == 0 {
				t.Errorf("the home of %s, %s, is in no row", h.prefix, p)
			}
		}
	}
}

// The rules themselves, on cases that must and must not pass.
func TestRowsDecide(t *testing.T) {
	for _, c := range []struct {
		from, to string
		allowed  bool
	}{
		{"cmd/reagent", "agent", true},
		{"cmd/reagent", "config", true},
		{"cmd/reagent", "messenger", false},
		{"cmd/reagent", "studio", false},
		{"cmd/reagent-studio", "studio/cli", true},
		{"cmd/reagent-studio", "agent", false},
		{"agent", "agent/apps", true},
		{"agent", "config", true},
		{"agent", "studio/store", false},
		{"agent/apps", "persistence/device", true},
		{"agent/apps", "container", true},
		{"agent/apps", "config", false},
		{"agent/apps", "agent/logs", false},
		{"agent/apps", "agent", false},
		{"agent/apps", "studio/store", false},
		{"agent/apps", "internal/backoff", true},
		{"agent/apps", "internal/testenv", false},
		{"studio", "studio/backend", true},
		{"studio", "messenger", true},
		{"studio", "agent/apps", false},
		{"studio/backend", "studio/store", true},
		{"studio/backend", "studio/router", false},
		{"studio/backend", "persistence/device", false},
		{"studio/store", "persistence", true},
		{"persistence/device", "persistence", true},
		{"persistence", "persistence/device", false},
		{"container", "protocol", true},
		{"container", "messenger", false},
		{"protocol", "filesystem", false},
		{"internal/backoff", "protocol", false},
		{"container", "test/rig", false},
	} {
		if why := refused(c.from, c.to); (why == "") != c.allowed {
			t.Errorf("%s imports %s: got %q; want allowed %t", c.from, c.to, why, c.allowed)
		}
	}
}
