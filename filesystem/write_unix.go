//go:build unix

package filesystem

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// hasModes reports whether a file's permission bits mean what was set.
const hasModes = true

// keepOwner gives the new file the owner of the old one, where we may.
func keepOwner(f *os.File, old fs.FileInfo) {
	if st, ok := old.Sys().(*syscall.Stat_t); ok && (int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid()) {
		_ = f.Chown(int(st.Uid), int(st.Gid))
	}
}

// syncFolder brings a rename to the disk. Some file systems (FUSE, network)
// know no sync of folders; there is nothing more to do on those.
func syncFolder(root *os.Root, folder string) error {
	if folder == "" {
		folder = "."
	}
	d, err := root.Open(folder)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return err
	}
	return nil
}
