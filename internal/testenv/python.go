package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// crossbarVersion is the release that test/setup installs; change both.
const crossbarVersion = "26.10.1"

// Python is a command that runs a script in the virtual environment that
// test/setup makes, in which Autobahn with all its serializations is installed.
// script is the text of the program, args are its sys.argv[1:]. The command is
// killed at the end of the test.
func Python(t testing.TB, script string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), environment(t, "python"), append([]string{"-u", "-c", script}, args...)...)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	return cmd
}

// environment is the path of a program in the virtual environment.
func environment(t testing.TB, program string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	venv := filepath.Join(cache, "reagent", "venv-"+crossbarVersion)
	if _, err := os.Stat(filepath.Join(venv, "ready")); err != nil {
		if os.Getenv("REAGENT_REQUIRE_CROSSBAR") == "1" {
			t.Fatalf("Crossbar.io is not installed (run test/setup): %v", err)
		}
		t.Skipf("Crossbar.io is not installed (run test/setup): %v", err)
	}
	return filepath.Join(venv, "bin", program)
}
