package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"reagent/protocol"
)

// A project is a folder that an app is built from.
type project struct {
	dir      string
	app      string         // the app's name
	compose  map[string]any // nil: one Dockerfile
	contexts []buildContext
	what     string // what it is built from, for people
}

// projectFlags choose what a folder is.
type projectFlags struct {
	app  string
	file string // the compose file, below the folder
}

// openProject finds out what a folder holds.
func openProject(dir string, f projectFlags) (*project, error) {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, usage("there is no folder %s", dir)
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, usage("%s is not a folder: name the one with the Dockerfile in it", dir)
	}
	p := &project{dir: dir, app: f.app}
	if p.app == "" {
		if p.app, err = folderName(dir); err != nil {
			return nil, err
		}
	}
	if err := protocol.CheckAppName(p.app); err != nil {
		return nil, usage("%v: choose one with --app", err)
	}
	return p, p.inspect(f.file)
}

// inspect finds the compose file or the Dockerfile.
func (p *project) inspect(file string) error {
	candidates := composeFiles
	if file != "" {
		if !filepath.IsLocal(file) {
			return usage("%s is not below %s", file, p.dir)
		}
		if candidates = []string{file}; file == "Dockerfile" {
			candidates = nil
		}
	}
	for _, name := range candidates {
		full := filepath.Join(p.dir, name)
		if _, err := os.Stat(full); errors.Is(err, fs.ErrNotExist) && file == "" {
			continue
		}
		var err error
		if p.compose, err = readCompose(full, p.app); err != nil {
			return err
		}
		p.what = name
		if p.contexts, err = buildContexts(p.dir, p.compose); err != nil {
			return fmt.Errorf("%s: %w", full, err)
		}
		return nil
	}
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if isDockerfile(e.Name()) && !e.IsDir() {
			p.what, p.contexts = "Dockerfile", []buildContext{{root: "."}}
			return nil
		}
	}
	return usage("there is neither a Dockerfile nor a compose.yaml in %s", p.dir)
}

// isDockerfile knows the names under which a device looks for one: that of its
// architecture goes before the one for all.
func isDockerfile(name string) bool {
	return name == "Dockerfile" || strings.HasPrefix(name, "Dockerfile.")
}

// folderName makes an app's name of a folder's.
func folderName(dir string) (string, error) {
	full, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r == ' ':
			return '-'
		}
		return r
	}, filepath.Base(full)), nil
}
