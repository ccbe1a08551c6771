package filesystem

import "golang.org/x/sys/windows"

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
