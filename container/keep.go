package container

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
)

// An engine that gives up a pull throws away what it has unpacked of it: on a bad
// link, a large image would begin anew each time and never arrive. It keeps the
// layers that an image has. So while a pull takes long, a keeper makes an image
// of the layers that are there so far: it costs a file of a few hundred bytes,
// has no tag, and goes when the pull has succeeded, or with the next clean-up of
// dangling images.
type keeper struct {
	e     *Engine
	p     *peer
	ref   string
	cred  *Credential
	whole chan int // capacity 1: how many layers are there, as last told
}

// labelKept marks such an image, with the reference whose layers it has.
const labelKept = "reagent.unfinished"

// keep begins to keep layers; end ends that.
func (e *Engine) keep(ctx context.Context, p *peer, ref string, cred *Credential) (k *keeper, end func(error)) {
	k = &keeper{e: e, p: p, ref: ref, cred: cred, whole: make(chan int, 1)}
	running, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := k.run(running); err != nil && running.Err() == nil {
			// Of use to who wonders why a download began anew; no more than that.
			e.cfg.Log.Debug().Err(err).Str("image", ref).Msg("unpacked layers are not kept")
		}
	}()
	return k, func(pulled error) {
		stop()
		<-done
		k.end(ctx, pulled)
	}
}

// told is how many layers there are. It does not block.
func (k *keeper) told(n int) {
	select {
	case <-k.whole:
	default:
	}
	k.whole <- n
}

func (k *keeper) run(ctx context.Context) error {
	began := time.NewTimer(k.e.cfg.KeepAfter)
	defer began.Stop()
	select { // most pulls are over before it is worth it
	case <-began.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	engine, err := k.p.Info(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(engine.DriverStatus, func(s [2]string) bool { return s[1] == "io.containerd.snapshotter.v1" }) {
		return nil // containerd's own store takes no image of which it has no files, and keeps what it fetched for a while
	}
	_, layers, err := k.p.look(ctx, k.ref, k.cred)
	if err != nil {
		return err
	}
	for kept := 0; ; {
		select {
		case n := <-k.whole:
			if n <= kept || n >= len(layers) { // all of them: the image itself is next
				continue
			}
			id, err := k.p.hold(ctx, k.ref, layers[:n])
			if err != nil {
				return err
			}
			kept = n
			if err := k.p.letGo(ctx, k.ref, id); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hold makes an image of layers that the engine has.
func (p *peer) hold(ctx context.Context, ref string, layers []string) (id string, err error) {
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config":       map[string]any{"Labels": map[string]string{labelKept: ref}},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": layers},
	})
	if err != nil {
		return "", err
	}
	files := make([]string, len(layers)) // are not looked for where the engine has the layer
	for i := range layers {
		files[i] = fmt.Sprintf("%d/layer.tar", i)
	}
	manifest, err := json.Marshal([]any{map[string]any{"Config": "config.json", "RepoTags": nil, "Layers": files}})
	if err != nil {
		return "", err
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for name, content := range map[string][]byte{"config.json": config, "manifest.json": manifest} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			return "", err
		}
		if _, err := w.Write(content); err != nil {
			return "", err
		}
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	answer, err := p.ImageLoad(ctx, &archive, client.ImageLoadWithQuiet(true))
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(io.LimitReader(answer.Body, maxRecord))
	if err != nil {
		return "", err
	}
	if bytes.Contains(said, []byte(`"error"`)) {
		return "", errors.New(string(said))
	}
	sum := sha256.Sum256(config)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// letGo removes the images that keep layers for a reference, all but one.
func (p *peer) letGo(ctx context.Context, ref, but string) error {
	rows, err := p.ImageList(ctx, image.ListOptions{Filters: filters.NewArgs(filters.Arg("label", labelKept+"="+ref))})
	if err != nil {
		return err
	}
	for _, row := range rows {
		if row.ID == but || len(realTags(row.RepoTags)) > 0 {
			continue
		}
		if _, err := p.ImageRemove(ctx, row.ID, image.RemoveOptions{}); err != nil && kindOf(meaning(err)) != ErrNotFound {
			return err
		}
	}
	return nil
}

// end decides on what is kept. It stays where another attempt may come: the link
// or the engine was lost, or the agent ends. After a success it is part of the
// image, and a refusal is final.
func (k *keeper) end(ctx context.Context, pulled error) {
	cause := context.Cause(ctx)
	if errors.Is(pulled, ErrNetwork) || errors.Is(cause, errIdle) || errors.Is(cause, context.Canceled) || isDisconnect(pulled) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.e.cfg.Short)
	defer cancel()
	if err := k.p.letGo(ctx, k.ref, ""); err != nil {
		k.e.cfg.Log.Debug().Err(err).Str("image", k.ref).Msg("kept layers stay until dangling images are removed")
	}
}
