package registry

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// hold keeps a collection of garbage out while a manifest is put in its place:
// between the look whether its layers are there and the link to them nothing may
// go.
func (r *Registry) hold(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodPut && path.Base(path.Dir(req.URL.Path)) == "manifests" {
			r.gate.RLock()
			defer r.gate.RUnlock()
		}
		next.ServeHTTP(w, req)
	})
}

// note says that what somebody asks for who may push is of use: what he finds he
// does not push. It comes before the answer, and waits for a collection to end.
func (r *Registry) note(repository string, req *http.Request) {
	rest, ok := strings.CutPrefix(req.URL.Path, PathImages+repository+"/")
	if !ok {
		return
	}
	kind, name, _ := strings.Cut(rest, "/")
	at := newLayout(r.storage.root)
	var paths []string
	for _, text := range append([]string{name}, slices.Concat(req.URL.Query()["digest"], req.URL.Query()["mount"])...) {
		d, err := digest.Parse(text)
		switch {
		case err == nil && kind == "manifests":
			paths = append(paths, link(at.revisions(repository), d), at.data(d))
		case err == nil && kind == "blobs":
			paths = append(paths, link(at.layers(repository), d), at.data(d))
		case kind == "manifests" && reference.TagRegexp.FindString(text) == text && text != "":
			paths = append(paths, at.tag(repository, text))
		}
	}
	if len(paths) == 0 {
		return
	}
	r.gate.RLock()
	defer r.gate.RUnlock()
	used(paths...)
}

// Has tells whether an image is there, whole. If so it stays for cfg.Settle at
// least, so that the caller can enter it as a release's.
func (r *Registry) Has(_ context.Context, repository, tag string) (bool, error) {
	r.gate.RLock()
	defer r.gate.RUnlock()
	at := newLayout(r.storage.root)
	root, err := readLink(at.tag(repository, tag))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	used(at.tag(repository, tag))
	c := collection{r: r, at: at}
	live, err := c.reach([]digest.Digest{root})
	for d := range live {
		if err == nil {
			_, err = os.Stat(at.data(d))
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		r.cfg.Log.Warn().Err(err).Str("repository", repository).Str("tag", tag).Msg("an image lacks a part")
		return false, nil
	}
	return err == nil, err
}
