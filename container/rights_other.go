//go:build !linux

package container

import (
	"context"
	"errors"
)

// boundingSet needs Linux: elsewhere the engine runs in a virtual machine.
func boundingSet(context.Context, string) (uint64, error) {
	return 0, errors.ErrUnsupported
}
