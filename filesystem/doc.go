// Package filesystem writes files so that a power cut cannot tear them, takes
// locks that end with their process, unpacks archives of strangers within
// limits, and keeps names that strangers chose below
// a folder that we chose.
//
// Promises:
//   - A write is atomic: a reader, and the machine after a power cut, sees the
//     old content or the new one, never a mixture and never nothing. The new
//     content is on the disk when the function returns.
//   - [Write], [WritePrivate] and [WriteIfChanged] follow symbolic links and
//     replace what the link points to, because on flashed images the device file
//     is a link onto another partition. [WriteBelow] is for folders that others
//     write to as well: it never follows a link out of its root.
//   - A file system without modes or owners (vfat) is no error.
//   - An interrupted write leaves at most one temporary file per target, with a
//     known name, and the next write removes it.
//   - Everything may be called from any goroutine. Two processes that write the
//     same file must agree between themselves, for example by a [Lock].
//
// Nothing here keeps state between calls.
package filesystem

import "io/fs"

// Modes of what only the agent's own user may read.
const (
	PrivateFile fs.FileMode = 0o600
	PrivateDir  fs.FileMode = 0o700
)
