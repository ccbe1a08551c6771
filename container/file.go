package container

import (
	"context"
	"errors"
)

// HasFile tells whether there is a file or a link of this path in a container,
// without running anything in it. What a link leads to is not looked at.
func (e *Engine) HasFile(ctx context.Context, idOrName, path string) (there bool, err error) {
	if err = checkContainer(idOrName); err == nil {
		err = e.call(ctx, e.cfg.Timeout, func(ctx context.Context, p *peer) error {
			c, err := p.inspect(ctx, idOrName) // the engine tells a missing container and a missing file alike
			if err != nil {
				return err
			}
			switch stat, err := p.ContainerStatPath(ctx, c.ID, path); {
			case err == nil:
				there = !stat.Mode.IsDir()
			case !errors.Is(translate(ctx, err), ErrNotFound):
				return err
			}
			return nil
		})
	}
	return there, wrap("look into container", idOrName, err)
}
