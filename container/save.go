package container

import (
	"context"
	"io"
)

// SaveImage writes an image to a stream, in the form of "docker save". It is the
// image that this id or exactly this reference names, alone: asked by name, the
// engine would add all other tags.
func (e *Engine) SaveImage(ctx context.Context, ref string, to io.Writer) error {
	image, err := e.Image(ctx, ref)
	if err != nil {
		return err
	}
	return wrap("save image", ref, e.streaming(ctx, e.cfg.PullIdle, func(ctx context.Context, p *peer, w *watchdog) error {
		body, err := p.ImageSave(ctx, []string{image.ID})
		if err != nil {
			return err
		}
		defer body.Close()
		_, err = io.Copy(writeFunc(func(data []byte) (int, error) {
			w.touch()
			return to.Write(data)
		}), body)
		return err
	}))
}

type writeFunc func([]byte) (int, error)

func (f writeFunc) Write(data []byte) (int, error) { return f(data) }
