package main

import "os"

// size is the binary as it is shipped, in the megabytes that its goal is in.
func (l *lab) size(t *stage) []figure {
	info, err := os.Stat(l.binary)
	if err != nil {
		t.Fatal(err)
	}
	return []figure{single("size.binary", "stripped static binary", "MB", float64(info.Size())/1e6)}
}
