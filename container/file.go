package container

import (
	"context"
	"errors"
)

// FirstFile tells which of these paths is that of a file or a link in a container,
// the first that is; "" where none is. Nothing is run in the container, and what a
// link leads to is not looked at.
func (e *Engine) FirstFile(ctx context.Context, idOrName string, paths ...string) (first string, err error) {
	if err = checkContainer(idOrName); err == nil {
		err = e.call(ctx, e.cfg.Timeout, func(ctx context.Context, p *peer) error {
			c, err := p.inspect(ctx, idOrName) // the engine tells a missing container and a missing file alike
			if err != nil {
				return err
			}
			for _, path := range paths {
				switch stat, err := p.ContainerStatPath(ctx, c.ID, path); {
				case err == nil && !stat.Mode.IsDir():
					first = path
					return nil
				case err != nil && !errors.Is(translate(ctx, err), ErrNotFound):
					return err
				}
			}
			return nil
		})
	}
	return first, wrap("look into container", idOrName, err)
}
