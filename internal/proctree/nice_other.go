//go:build !linux

package proctree

// Ordinary does nothing on this system, whose services have no better priority.
func Ordinary(int) {}
