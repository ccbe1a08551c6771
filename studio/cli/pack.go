package cli

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// Bounds of an archive that an app is built from. The size is also what a device
// takes unless it is set otherwise.
const (
	mostPacked = 2 << 30
	mostFiles  = 200_000
)

// A packed folder is an archive on the disk. The same folder gives the same bytes.
type packed struct {
	file  *os.File
	size  int64
	files int      // all entries but folders
	left  []string // what could not be packed, and why
}

// Close removes the archive.
func (p *packed) Close() {
	_ = p.file.Close()
	_ = os.Remove(p.file.Name())
}

// pack writes the folder of a project to an archive. most bounds its size.
func pack(ctx context.Context, dir string, contexts []buildContext, most int64) (*packed, error) {
	rules, err := readRules(dir, contexts)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp("", "reagent-studio-*.tgz")
	if err != nil {
		return nil, err
	}
	p := &packed{file: f}
	if err := p.write(ctx, dir, rules, most); err != nil {
		p.Close()
		return nil, fmt.Errorf("pack %s: %w", dir, err)
	}
	return p, nil
}

func (p *packed) write(ctx context.Context, dir string, rules *rules, most int64) error {
	out := &limited{to: p.file, left: most}
	zip := gzip.NewWriter(out)
	w := &packer{packed: p, root: os.DirFS(dir), tar: tar.NewWriter(zip), byTop: map[string]int64{}}
	err := fs.WalkDir(w.root, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case name == ".":
			return nil
		}
		switch keep, enter := rules.decide(name, entry.IsDir()); {
		case keep:
			return w.add(filepath.Join(dir, filepath.FromSlash(name)), name, entry)
		case entry.IsDir() && !enter:
			return fs.SkipDir
		}
		return nil
	})
	for _, end := range []func() error{w.tar.Close, zip.Close} {
		if err == nil {
			err = end()
		}
	}
	if errors.Is(err, errTooLarge) {
		return fmt.Errorf("the archive is larger than %s; name what the build does not need in .dockerignore (most of it is in %s)", size(most), w.largest())
	}
	p.size = most - out.left
	return err
}

// A packer adds files to an archive.
type packer struct {
	*packed
	root  fs.FS
	tar   *tar.Writer
	byTop map[string]int64 // bytes below each entry of the folder
}

func (w *packer) add(file, name string, entry fs.DirEntry) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	var link string
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		if link, err = os.Readlink(file); err != nil {
			return err
		}
		link = filepath.ToSlash(link)
	case !info.Mode().IsRegular() && !info.IsDir():
		w.left = append(w.left, fmt.Sprintf("%s is neither a file nor a folder nor a link", name))
		return nil
	}
	head, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	head.Name = name
	if info.IsDir() {
		head.Name += "/"
	} else if w.files++; w.files > mostFiles {
		return fmt.Errorf("there are more than %d files; name what the build does not need in .dockerignore", mostFiles)
	}
	// Whose the files are here and when somebody looked at them means nothing
	// there, and would only make archives of the same folder differ.
	head.Uid, head.Gid, head.Uname, head.Gname = 0, 0, "", ""
	head.ModTime, head.AccessTime, head.ChangeTime = info.ModTime().Truncate(time.Second), time.Time{}, time.Time{}
	if runtime.GOOS == "windows" { // knows no such bit, and an entry point needs it
		head.Mode |= 0o111
	}
	if err := w.tar.WriteHeader(head); err != nil || !info.Mode().IsRegular() {
		return err
	}
	in, err := w.root.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	n, err := io.CopyN(w.tar, in, head.Size)
	top, _, _ := strings.Cut(name, "/")
	w.byTop[top] += n
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s became shorter while it was read", name)
	}
	return err
}

// largest names the entries of the folder that are most of it.
func (w *packer) largest() string {
	names := make([]string, 0, len(w.byTop))
	for name := range w.byTop {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := w.byTop[b] - w.byTop[a]; d != 0 {
			return int(max(min(d, 1), -1))
		}
		return strings.Compare(a, b)
	})
	return strings.Join(names[:min(len(names), 3)], ", ")
}

var errTooLarge = errors.New("too large")

// limited is a writer that takes so much and no more.
type limited struct {
	to   io.Writer
	left int64
}

func (l *limited) Write(p []byte) (int, error) {
	if int64(len(p)) > l.left {
		return 0, errTooLarge
	}
	l.left -= int64(len(p))
	return l.to.Write(p)
}

// rules are the .dockerignore files that count: that of each build context, and
// that of the folder for what no build has in its context.
type rules struct {
	folder   *ignored
	contexts []*ignored
}

// A buildContext is a folder of the project that an image is built from; both
// names are clean and have slashes.
type buildContext struct {
	root       string // "." = the project's folder
	dockerfile string // below root, "" = the usual one
}

// An ignored is one .dockerignore file.
type ignored struct {
	buildContext
	matcher *patternmatcher.PatternMatcher // nil: there is no such file
}

// readRules reads them.
func readRules(dir string, contexts []buildContext) (*rules, error) {
	r := &rules{}
	for _, c := range contexts {
		i, err := readIgnored(dir, c)
		if err != nil {
			return nil, err
		}
		r.contexts = append(r.contexts, i)
	}
	var err error
	r.folder, err = readIgnored(dir, buildContext{root: "."})
	return r, err
}

func readIgnored(dir string, c buildContext) (*ignored, error) {
	name := filepath.Join(dir, filepath.FromSlash(c.root), ".dockerignore")
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return &ignored{buildContext: c}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	patterns, err := ignorefile.ReadAll(io.LimitReader(f, 1<<20))
	if err == nil {
		var m *patternmatcher.PatternMatcher
		if m, err = patternmatcher.New(patterns); err == nil {
			return &ignored{c, m}, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", name, err)
}

// decide tells whether something goes into the archive and, for a folder that
// does not, whether something in it may.
func (r *rules) decide(name string, folder bool) (keep, enter bool) {
	inside := false
	for _, c := range r.contexts {
		if below(c.root, name) {
			enter = enter || folder
			keep = keep || name == c.root && folder
		}
		if !below(name, c.root) || name == c.root {
			continue
		}
		inside = true
		k, e := c.decide(name)
		keep, enter = keep || k, enter || e
	}
	if !inside {
		k, e := r.folder.decide(name)
		keep, enter = keep || k, enter || e
	}
	return keep, enter
}

// below tells whether the folder root holds name, or is it.
func below(name, root string) bool {
	return root == "." || name == root || strings.HasPrefix(name, root+"/")
}

// decide answers for a name below its root.
func (i *ignored) decide(name string) (keep, enter bool) {
	if i.matcher == nil {
		return true, true
	}
	if i.root != "." {
		name = strings.TrimPrefix(name, i.root+"/")
	}
	out, err := i.matcher.MatchesOrParentMatches(filepath.FromSlash(name))
	if err != nil || !out || i.needs(name) { // New has tried the patterns
		return true, true
	}
	return false, i.matcher.Exclusions() || below(i.dockerfile, name)
}

// needs tells which files a build reads itself, whatever is ignored.
func (i *ignored) needs(name string) bool {
	return name == ".dockerignore" || name == i.dockerfile || isDockerfile(name) && !strings.Contains(name, "/")
}

// size is a number of bytes as people say it.
func size(n int64) string {
	for _, u := range []struct {
		unit int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.unit {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.unit), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}
