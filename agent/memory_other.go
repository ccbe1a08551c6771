//go:build !linux

package agent

// unmapCode does nothing where a program cannot say which of its pages it will
// not need soon.
func unmapCode() {}
