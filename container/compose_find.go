package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrNoCompose means that this device has nothing that could run a project.
var ErrNoCompose = errors.New("docker compose is not installed")

// helperName is what the program is called that stands in for the plugin.
var helperName = "reagent-compose" + exeSuffix

var exeSuffix = map[bool]string{true: ".exe"}[runtime.GOOS == "windows"]

// A candidate is a program that may be there.
type candidate struct {
	path     string
	commands func(operation) [][]string
	kit      func() bool // tells whether it builds with BuildKit
}

// A backend is a program that works.
type backend struct {
	candidate
	version string
	extras  []string // folders in which it shall look for further plugins
}

// candidates lists the programs in the order of preference: plugins, which the
// distribution keeps new, before the helper.
func candidates(plugins []string, helper string) []candidate {
	buildx := func() bool {
		return slices.ContainsFunc(plugins, func(folder string) bool {
			_, ok := look(filepath.Join(folder, "docker-buildx"+exeSuffix))
			return ok
		})
	}
	var all []candidate
	for _, folder := range plugins {
		all = append(all, candidate{filepath.Join(folder, "docker-compose"+exeSuffix), pluginCommands, buildx})
	}
	return append(all, candidate{helper, helperCommands, func() bool { return true }})
}

// pluginFolders are where Docker's command looks for plugins, those of the user
// that runs this process first.
func pluginFolders(getenv func(string) string) []string {
	var folders []string
	if config := getenv("DOCKER_CONFIG"); config != "" {
		folders = append(folders, filepath.Join(config, "cli-plugins"))
	} else if home, err := os.UserHomeDir(); err == nil {
		folders = append(folders, filepath.Join(home, ".docker", "cli-plugins"))
	}
	switch runtime.GOOS {
	case "windows":
		for _, root := range []string{"ProgramData", "ProgramFiles"} {
			if dir := getenv(root); dir != "" {
				folders = append(folders, filepath.Join(dir, "Docker", "cli-plugins"))
			}
		}
		return folders
	case "darwin":
		folders = append(folders, "/opt/homebrew/lib/docker/cli-plugins", "/Applications/Docker.app/Contents/Resources/cli-plugins")
	}
	return append(folders,
		"/usr/local/lib/docker/cli-plugins", "/usr/local/libexec/docker/cli-plugins",
		"/usr/lib/docker/cli-plugins", "/usr/libexec/docker/cli-plugins")
}

// A finder finds the program to use. What it found out about one counts until
// the file changes; that one does not work, for a while only: it may have been
// in the midst of its installation.
type finder struct {
	candidates []candidate
	helper     string
	probe      func(context.Context, candidate) (version string, err error)
	recheck    time.Duration

	busy  chan struct{} // holds a token while somebody looks; guards known
	known map[seen]verdict
}

// A seen is a file as it was when it was tried.
type seen struct {
	path  string
	size  int64
	mtime time.Time
}

// look tells whether there is a program, and which.
func look(path string) (seen, bool) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return seen{}, false
	}
	return seen{path, info.Size(), info.ModTime()}, true
}

type verdict struct {
	version string
	err     error
	at      time.Time
}

// installed is the first program that is there.
func (f *finder) installed() string {
	for _, c := range f.candidates {
		if _, ok := look(c.path); ok {
			return c.path
		}
	}
	return ""
}

// find gives the first program that works; to build, the first of those that
// have BuildKit, if any has.
func (f *finder) find(ctx context.Context, build bool) (backend, error) {
	select {
	case f.busy <- struct{}{}:
		defer func() { <-f.busy }()
	case <-ctx.Done():
		return backend{}, ctx.Err()
	}
	missing := &noComposeError{helper: f.helper}
	var without *backend
	for _, c := range f.candidates {
		key, ok := look(c.path)
		if !ok {
			continue
		}
		v, ok := f.known[key]
		if !ok || v.err != nil && time.Since(v.at) >= f.recheck {
			v.version, v.err = f.probe(ctx, c)
			if ctx.Err() != nil {
				return backend{}, ctx.Err()
			}
			v.at = time.Now()
			f.remember(key, v)
		}
		if v.err == nil {
			b := backend{candidate: c, version: v.version, extras: f.folders()}
			if !build || c.kit() {
				return b, nil
			}
			if without == nil {
				without = &b
			}
			continue
		}
		missing.broken = append(missing.broken, fmt.Sprintf("%s does not work: %v", c.path, v.err))
	}
	if without != nil {
		return *without, nil
	}
	return backend{}, missing
}

// remember notes a verdict and forgets those about earlier files of that path.
func (f *finder) remember(key seen, v verdict) {
	for old := range f.known {
		if old.path == key.path {
			delete(f.known, old)
		}
	}
	f.known[key] = v
}

// folders are those of all candidates, where buildx may lie too.
func (f *finder) folders() []string {
	var all []string
	for _, c := range f.candidates {
		all = append(all, filepath.Dir(c.path))
	}
	return slices.Compact(all)
}

// A noComposeError says what to do. It is an ErrNoCompose.
type noComposeError struct {
	helper string
	broken []string
}

func (e *noComposeError) Error() string {
	text := ErrNoCompose.Error() + ": install its plugin, version 2 or newer (docker-compose-plugin, docker-compose-v2 or docker-compose, as the distribution calls it)"
	if e.helper != "" {
		text += ", or put the program " + helperName + " of this agent's release at " + e.helper
	}
	if len(e.broken) > 0 {
		text += "; " + strings.Join(e.broken, "; ")
	}
	return text
}

func (e *noComposeError) Is(target error) bool { return target == ErrNoCompose }

// probeLimit is generous: the first start reads the program from a slow card.
const probeLimit = 30 * time.Second

var versionWord = regexp.MustCompile(`\bv?(\d+)\.\d+\.\d+\S*`)

// version asks a program for its version. The first generation of compose, in
// Python, had the same name and made other containers of the same definition.
func (c *Compose) version(ctx context.Context, p candidate) (string, error) {
	limited, cancel := context.WithTimeoutCause(ctx, probeLimit, ErrTimeout)
	defer cancel()
	var word []string
	err := c.run(limited, p.path, []string{"version", "--short"}, &room{}, func(line string) {
		if word == nil {
			word = versionWord.FindStringSubmatch(line)
		}
	})
	switch {
	case limited.Err() != nil:
		return "", context.Cause(limited)
	case err != nil:
		return "", err
	case word == nil:
		return "unknown", nil // built from source
	}
	if major, err := strconv.Atoi(word[1]); err == nil && major < 2 {
		return "", fmt.Errorf("version %s is too old", word[0])
	}
	return strings.TrimPrefix(word[0], "v"), nil
}
