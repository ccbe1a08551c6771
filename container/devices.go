package container

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// eachDevice names what is in a folder of devices, for a container that is not
// privileged. The engine walks a folder that is mapped anew at each start, and
// into such a container it would also map the terminals that somebody has open
// just then: runc cannot make these, and the container would not start. A folder
// in the folder is left to the engine, so that what is plugged in later is there
// after the next start.
//
// Where the engine sees other files than the agent, paths stay as they are.
func (e *Engine) eachDevice(ctx context.Context, paths []string) []string {
	socket, local := strings.CutPrefix(e.host, "unix://")
	if !local {
		return paths
	}
	if _, err := listener(ctx, socket); err != nil {
		e.cfg.Log.Debug().Err(err).Msg("devices are not mapped one by one")
		return paths
	}
	var each []string
	for _, path := range paths {
		entries, err := os.ReadDir(path)
		if err != nil { // no folder
			each = append(each, path)
			continue
		}
		for _, entry := range entries {
			inside := filepath.Join(path, entry.Name())
			if !slices.Contains(ownDevices, entry.Name()) && hasDevice(inside) {
				each = append(each, inside)
			}
		}
	}
	return each
}

// ownDevices are those of /dev that each container has of its own, and what other
// managers of containers hide there.
var ownDevices = []string{"console", "fd", "mqueue", "ptmx", "pts", "shm", ".lxc", ".lxd-mounts", ".udev"}

// hasDevice tells whether a path is a device, or a folder with one in it: the
// engine refuses any other folder.
func hasDevice(path string) bool {
	found := false
	_ = filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type()&fs.ModeDevice != 0 {
			found = true
			return fs.SkipAll
		}
		return nil // what cannot be read has none for us
	})
	return found
}

// unplugged reports whether err says that a device is not there (any more).
func unplugged(err error) bool {
	return strings.Contains(err.Error(), "error gathering device information") && !refused(err)
}

// demands gives the error of a start its meaning: ErrDemand when it is about
// something that the container asks for and that Run would ask for no more.
func (p *peer) demands(ctx context.Context, id string, err error) error {
	if err == nil || ctx.Err() != nil || isDisconnect(err) || kindOf(meaning(err)) != nil {
		return err
	}
	in, lookErr := p.ContainerInspect(ctx, id)
	if lookErr != nil || in.ContainerJSONBase == nil || in.HostConfig == nil {
		return err
	}
	asks := in.HostConfig
	switch {
	case unplugged(err) && len(asks.Devices) > 0:
	case refused(err) && (asks.Privileged || len(asks.CapAdd)+len(asks.Devices) > 0):
	case asks.Runtime != "" && asks.Runtime != plainRuntime && strings.Contains(err.Error(), asks.Runtime):
	default:
		return err
	}
	return &engineError{ErrDemand, err}
}

// plainRuntime is the engine's own, which it names in what it says of any
// container.
const plainRuntime = "runc"
