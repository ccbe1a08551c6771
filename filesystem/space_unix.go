//go:build unix

package filesystem

import "syscall"

func space(path string) (Space, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return Space{}, err
	}
	block := uint64(st.Bsize) // int64 here, uint32 there
	return Space{Total: uint64(st.Blocks) * block, Free: uint64(st.Bavail) * block}, nil
}

// disk is the number of the file system that holds path.
func disk(path string) (uint64, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return 0, err
	}
	return uint64(st.Dev), nil // int32 elsewhere
}
