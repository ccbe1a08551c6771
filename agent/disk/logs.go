package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"reagent/container"
)

// A containerLister tells which containers carry labels; container.Engine is one.
type containerLister interface {
	List(ctx context.Context, labels map[string]string) ([]container.Summary, error)
}

// longLog is from how many bytes on a log is cut. Those that the agent bounds
// never get there; the services of compose apps, and containers of an older
// agent, may where the engine sets no limit.
const longLog = 50 << 20

// cutLogs empties the long logs of our containers, as the engine keeps them in
// files of JSON below its folder. Who follows such a log hears nothing until the
// container starts again or has written as much anew, so this comes last.
func cutLogs(ctx context.Context, engine containerLister, root string, ours map[string]string) (won uint64, err error) {
	if root == "" || len(ours) == 0 {
		return 0, nil
	}
	containers, err := engine.List(ctx, ours)
	if err != nil {
		return 0, err
	}
	folder, err := os.OpenRoot(filepath.Join(root, "containers"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("logs of containers: %w", err)
	}
	defer folder.Close()
	for _, c := range containers {
		n, cutErr := cutLog(folder, filepath.Join(c.ID, c.ID+"-json.log"))
		won += n
		err = errors.Join(err, cutErr)
	}
	return won, err
}

func cutLog(folder *os.Root, name string) (won uint64, err error) {
	info, err := folder.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (!info.Mode().IsRegular() || info.Size() <= longLog) {
		return 0, nil
	}
	if err == nil {
		var f *os.File
		if f, err = folder.OpenFile(name, os.O_WRONLY, 0); err == nil {
			err = errors.Join(f.Truncate(0), f.Close())
		}
	}
	if err != nil {
		return 0, fmt.Errorf("cut the log: %w", err)
	}
	return uint64(info.Size()), nil
}
