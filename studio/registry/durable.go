package registry

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	filedriver "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

// durableName is how distribution finds the storage of a Registry; it comes as
// an option.
const durableName = "durable"

func init() { factory.Register(durableName, durableFactory{}) }

type durableFactory struct{}

func (durableFactory) Create(_ context.Context, options map[string]any) (driver.StorageDriver, error) {
	d, ok := options["driver"].(*durable)
	if !ok {
		return nil, errors.New("no storage is given")
	}
	return d, nil
}

// A durable is distribution's folder of files, with a promise that it lacks:
// what was moved or put in place is there after a power cut too. The library
// brings content to the disk, but not the folders that name it; a push that was
// acknowledged could be gone, while the studio knows the version.
type durable struct {
	driver.StorageDriver
	root string
}

func newDurable(root string) *durable {
	return &durable{filedriver.New(filedriver.DriverParameters{RootDirectory: root, MaxThreads: 100}), root}
}

// Move implements driver.StorageDriver.
func (d *durable) Move(ctx context.Context, from, to string) error {
	if err := d.StorageDriver.Move(ctx, from, to); err != nil {
		return err
	}
	return d.settle(to)
}

// PutContent implements driver.StorageDriver.
func (d *durable) PutContent(ctx context.Context, path string, content []byte) error {
	if err := d.StorageDriver.PutContent(ctx, path, content); err != nil {
		return err
	}
	return d.settle(path)
}

// settle brings the folders above a file to the disk, any of which may be new.
func (d *durable) settle(path string) error {
	for folder := filepath.Dir(filepath.Join(d.root, path)); len(folder) >= len(d.root); folder = filepath.Dir(folder) {
		if err := syncFolder(folder); err != nil {
			return fmt.Errorf("bring %s to the disk: %w", folder, err)
		}
	}
	return nil
}
