package config

import (
	"io"
	"os"
	"path/filepath"
)

// State is where the agent keeps what has to survive an update of the operating
// system, beside the apps' data (design S8).
func (c *Config) State() string { return state(c.AppsDir) }

func state(appsDir string) string { return filepath.Join(appsDir, ".reagent") }

// database decides where the agent's database is (design S8). Without a path it
// lies below the apps folder, which survives an update of the operating system.
// A path that holds the reference agent's database is not ours: a roll-back to
// that agent needs it.
func database(given, appsDir string) string {
	if given == "" {
		return filepath.Join(state(appsDir), "state.bolt")
	}
	beside := given + ".bolt"
	if isSQLite(given) {
		return beside
	}
	// Somebody removed the reference agent's file after we had begun beside it.
	if !exists(given) && exists(beside) {
		return beside
	}
	return given
}

func isSQLite(path string) bool {
	const magic = "SQLite format 3\x00"
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, len(magic))
	_, err = io.ReadFull(f, head)
	return err == nil && string(head) == magic
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
