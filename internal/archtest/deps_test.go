package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite deps.txt")

const (
	depsFile = "deps.txt"
	program  = "./cmd/reagent"
)

// A linked package is what go list tells of one.
type linked struct {
	ImportPath string
	Standard   bool
	Module     *struct {
		Path, Version string
		Main          bool
		Replace       *struct{ Path, Version string }
	}
}

// deps lists what the agent's binary links on the platform that most devices
// have. The source and go.mod were read by this process, so the test cache
// notices a change of either.
func deps(t *testing.T) []linked {
	t.Helper()
	load(t)
	top, err := root()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(filepath.Join(top, "go.sum")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Module", program)
	cmd.Dir = top
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0", "GOFLAGS=")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("go list: %v\n%s", err, errs.String())
	}
	var all []linked
	for dec := json.NewDecoder(&out); ; {
		var l linked
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
}

// TestTheAgentLinksWhatIsWrittenDown compares the binary's packages, apart from
// the standard library, with deps.txt: a new one is a line that a reviewer sees.
func TestTheAgentLinksWhatIsWrittenDown(t *testing.T) {
	packages := map[string][]string{} // by module
	for _, l := range deps(t) {
		if l.Standard || l.Module == nil {
			continue
		}
		name := l.Module.Path
		if !l.Module.Main {
			name += " " + l.Module.Version
		}
		if r := l.Module.Replace; r != nil {
			name += " => " + r.Path + " " + r.Version
		}
		packages[name] = append(packages[name], l.ImportPath)
	}
	var modules []string
	for m := range packages {
		modules = append(modules, m)
	}
	slices.Sort(modules)
	var b strings.Builder
	fmt.Fprintln(&b, "# What the agent links for linux/amd64 with CGO_ENABLED=0, the standard library apart.")
	fmt.Fprintln(&b, "# A new line here is code on every device. Rewrite: go test ./internal/archtest -run Links -update")
	for _, m := range modules {
		fmt.Fprintln(&b, m)
		slices.Sort(packages[m])
		for _, p := range packages[m] {
			fmt.Fprintf(&b, "\t%s\n", p)
		}
	}
	got := b.String()
	if *update {
		if err := os.WriteFile(depsFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	written, err := os.ReadFile(depsFile)
	if err != nil {
		t.Fatalf("%v; write it with: go test ./internal/archtest -run Links -update", err)
	}
	want := strings.ReplaceAll(string(written), "\r\n", "\n")
	if got == want {
		return
	}
	have, listed := strings.Split(got, "\n"), strings.Split(want, "\n")
	for _, line := range have {
		if !slices.Contains(listed, line) {
			t.Errorf("new:  %s", strings.TrimSpace(line))
		}
	}
	for _, line := range listed {
		if !slices.Contains(have, line) {
			t.Errorf("gone: %s", strings.TrimSpace(line))
		}
	}
	t.Error("the agent links something else than deps.txt says; if that is meant, run: go test ./internal/archtest -run Links -update")
}

func TestTheAgentLinksNothingThatDoesNotBelongOnADevice(t *testing.T) {
	for _, l := range deps(t) {
		for path, why := range notLinked {
			if within(l.ImportPath, path) && !(path == "testing" && strings.HasPrefix(l.ImportPath, "testing/")) {
				t.Errorf("the agent links %s (%s): go mod why shows who imports it", l.ImportPath, why)
			}
		}
	}
}
