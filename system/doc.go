// Package system knows the machine that the agent runs on: what it is called,
// how loaded it is, which addresses it has, which hardware apps may want.
//
// A Host may be used from any goroutine. It reads and changes nothing (UnmapCode,
// which gives memory back, is of the process and not of the machine), keeps
// nothing over a restart, starts no other program, and never waits to measure
// something: what is a rate is taken between two looks. What cannot be read is
// zero or empty, never an error that stops somebody, because a fact that is
// missing must not cost a device its heartbeat. On systems other than Linux,
// macOS and Windows most facts are missing.
//
// An Upkeep is the exception: it does change the machine, where the device's
// policy says so.
package system
