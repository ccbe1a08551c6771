package filesystem

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/windows"
)

func space(path string) (Space, error) {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return Space{}, err
	}
	var s Space
	if err := windows.GetDiskFreeSpaceEx(p, &s.Free, &s.Total, nil); err != nil {
		return Space{}, err
	}
	return s, nil
}

// disk is the volume that holds path; what is mounted into a folder counts as
// its volume's.
func disk(path string) (string, error) { return strings.ToUpper(filepath.VolumeName(path)), nil }
