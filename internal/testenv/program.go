package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// programs are the commands of this module that this test process has built.
var programs struct {
	sync.Mutex
	dir   string
	built map[string]func() (string, error)
}

// Program builds a command of this module, such as ./cmd/reagent, once for all
// tests of the process, and returns its path. race builds it with the race
// detector where the tests are, so that a whole program is watched by it.
//
// RemovePrograms takes what was built away; a TestMain calls it.
func Program(t testing.TB, pkg string, race bool) string {
	t.Helper()
	programs.Lock()
	if programs.built == nil {
		programs.built = map[string]func() (string, error){}
	}
	key := fmt.Sprint(pkg, race)
	build := programs.built[key]
	if build == nil {
		build = sync.OnceValues(func() (string, error) { return buildProgram(pkg, race && raceDetector) })
		programs.built[key] = build
	}
	programs.Unlock()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func buildProgram(pkg string, race bool) (string, error) {
	programs.Lock()
	var err error
	if programs.dir == "" {
		programs.dir, err = os.MkdirTemp("", "reagent-programs-")
	}
	dir := programs.dir
	programs.Unlock()
	if err != nil {
		return "", err
	}
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	args, cgo := []string{"build"}, "0"
	name := filepath.Base(pkg)
	if race {
		args, cgo, name = append(args, "-race"), "1", name+"-race"
	}
	path := filepath.Join(dir, name)
	cmd := exec.Command("go", append(args, "-o", path, pkg)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return path, nil
}

// RemovePrograms removes what Program has built.
func RemovePrograms() {
	programs.Lock()
	defer programs.Unlock()
	if programs.dir != "" {
		_ = os.RemoveAll(programs.dir)
	}
	programs.dir, programs.built = "", nil
}

// ModuleRoot is the folder of the module that the tests run in.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, missing := os.Stat(filepath.Join(dir, "go.mod")); missing == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no go.mod above the working folder")
		}
		dir = parent
	}
	return "", err
}
