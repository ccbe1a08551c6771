package filesystem

import (
	"io/fs"
	"os"
)

// Windows shows 0666 or 0444 whatever was asked.
const hasModes = false

func keepOwner(*os.File, fs.FileInfo) {}

// Windows cannot sync a folder; NTFS journals the rename.
func syncFolder(*os.Root, string) error { return nil }
