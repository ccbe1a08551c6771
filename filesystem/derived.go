package filesystem

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteDerived writes files that can be made again at any time, such as what an
// app reads of the agent's knowledge: each is replaced at once, so that no
// reader sees half of one, but none is brought to the disk, which would cost
// more than everything else. names are plain names in folder, which lies below
// root and is made (0700). Like [WriteBelow] it does not follow links that an
// app laid there, and it leaves alone what is there already.
func WriteDerived(root, folder string, files map[string][]byte, mode fs.FileMode) error {
	r, err := os.OpenRoot(root)
	if err != nil {
		return fmt.Errorf("write below %s: %w", root, err)
	}
	defer r.Close()
	if err := r.MkdirAll(folder, PrivateDir); err != nil {
		return fmt.Errorf("make %s below %s: %w", folder, root, err)
	}
	if hasModes {
		if err := r.Chmod(folder, PrivateDir); err != nil && !os.IsPermission(err) {
			return fmt.Errorf("make %s below %s: %w", folder, root, err)
		}
	}
	for name, data := range files {
		if name != filepath.Base(name) || !filepath.IsLocal(name) || name == "." {
			return fmt.Errorf("%q is no name of a file", name)
		}
		if err := writeDerived(r, filepath.Join(folder, name), filepath.Join(folder, tempName(name)), data, mode); err != nil {
			return fmt.Errorf("write %s below %s: %w", filepath.Join(folder, name), root, err)
		}
	}
	return nil
}

func writeDerived(r *os.Root, path, temp string, data []byte, mode fs.FileMode) error {
	if info, err := r.Lstat(path); err == nil && info.Mode().IsRegular() && info.Size() == int64(len(data)) && (info.Mode().Perm() == mode || !hasModes) {
		if old, err := r.ReadFile(path); err == nil && bytes.Equal(old, data) {
			return nil
		}
	}
	if err := r.RemoveAll(temp); err != nil {
		return err
	}
	f, err := r.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = r.Rename(temp, path)
	}
	return err
}

// RemoveBelow deletes files of folder below root for which drop says so; a
// folder that is not there has none.
func RemoveBelow(root, folder string, drop func(name string) bool) error {
	r, err := os.OpenRoot(root)
	if err != nil {
		return fmt.Errorf("clean %s: %w", root, err)
	}
	defer r.Close()
	dir, err := r.Open(folder)
	if err != nil {
		if os.IsNotExist(err) {
			return nil
		}
		return fmt.Errorf("clean %s below %s: %w", folder, root, err)
	}
	names, err := dir.Readdirnames(-1)
	_ = dir.Close()
	if err != nil {
		return fmt.Errorf("clean %s below %s: %w", folder, root, err)
	}
	for _, name := range names {
		if drop(name) {
			if err := r.Remove(filepath.Join(folder, name)); err != nil && !os.IsNotExist(err) {
				return fmt.Errorf("clean %s below %s: %w", folder, root, err)
			}
		}
	}
	return nil
}
