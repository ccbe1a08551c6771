//go:build !linux

package system

// UnmapCode does nothing where a program cannot say which of its pages it will
// not need soon.
func UnmapCode() {}
