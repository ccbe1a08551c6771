package container

import (
	"context"
	"errors"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
)

// Push sends an image to the registry that its reference names and hands each
// record of progress on, as Pull does. Layers that the registry has are not sent
// again. record may be nil.
func (e *Engine) Push(ctx context.Context, ref string, cred *Credential, record func([]byte)) error {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return wrap("push", ref, &engineError{ErrNotFound, err})
	}
	if _, ok := named.(reference.Digested); ok {
		return wrap("push", ref, errors.New("a digest cannot be pushed, only a tag"))
	}
	if cred == nil {
		cred = &Credential{} // engines before 28 insist on a login, if an empty one
	}
	auth, err := login(cred)
	if err != nil {
		return wrap("push", ref, err)
	}
	err = e.streaming(ctx, e.cfg.PullIdle, func(ctx context.Context, p *peer, w *watchdog) error {
		body, err := p.ImagePush(ctx, ref, image.PushOptions{RegistryAuth: auth})
		if err != nil {
			return ofRegistry(err)
		}
		defer body.Close()
		said := false
		err = readProgress("push", body, func(at PullProgress) {
			w.touch()
			said = true
			if record != nil {
				record(at.Record)
			}
		})
		if err == nil && !said {
			return errors.New("the engine said nothing about it")
		}
		return err
	})
	return wrap("push", ref, err)
}
