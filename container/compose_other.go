//go:build !linux

package container

import (
	"errors"
	"os"
)

func inMemory(string, []byte) (*os.File, error) { return nil, errors.ErrUnsupported }
