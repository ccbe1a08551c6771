//go:build !linux

package container

import (
	"context"
	"errors"
)

// listener and boundingSet need Linux: elsewhere the engine runs in a virtual machine.
func listener(context.Context, string) (int, error) { return 0, errors.ErrUnsupported }

func boundingSet(context.Context, string) (uint64, error) {
	return 0, errors.ErrUnsupported
}
