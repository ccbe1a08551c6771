package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// dropFromCache has the next start read the file from the disk, as after a boot.
// A file that was just written lies in the page cache in pieces as large as the
// writes, and a kernel maps such a piece as a whole (seen with 6.18: 13.4 MiB
// instead of 8.2 of a 13 MB binary).
func dropFromCache(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil { // only clean pages go
		return err
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return fmt.Errorf("drop %s from the page cache: %w", path, err)
	}
	return nil
}
