package testenv

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// ComposePrograms are both programs that run compose projects, built from the
// versions that this tree names and installed for nobody.
type ComposePrograms struct {
	Plugins string // the folder with docker-compose, for container.ComposeConfig.Plugins
	Helper  string // the program reagent-compose
}

// Compose gives both programs, built by test/setup when it has not been done
// yet. Where there is no engine for them, the test is skipped or fails as with
// Docker.
func Compose(t testing.TB) ComposePrograms {
	t.Helper()
	dir, err := composeFolder()
	if err != nil {
		missing(t, "compose: %v", err)
	}
	return ComposePrograms{Plugins: filepath.Join(dir, "cli-plugins"), Helper: filepath.Join(dir, "reagent-compose")}
}

var composeFolder = sync.OnceValues(func() (string, error) {
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(filepath.Join(root, "test", "setup"), "compose")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("test/setup compose: %w\n%s", err, said.String())
	}
	_, dir, ok := strings.Cut(said.String(), "setup: compose: ")
	if !ok {
		return "", fmt.Errorf("test/setup compose does not say where: %s", said.String())
	}
	return strings.TrimSpace(dir), nil
})
