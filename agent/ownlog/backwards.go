package ownlog

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	blockSize = 64 << 10  // bytes that are read at once
	maxLine   = 256 << 10 // and that are kept of one line
)

// backwards reads the lines of a file from its end.
type backwards struct {
	file  *os.File
	space []byte // for blocks
	block []byte // what was read and not handed out yet …
	at    int64  // … from here on
	rest  []byte // of the line that block ends in the midst of
	cut   int    // bytes of that line that are not kept
	begun bool
}

func newBackwards(f *os.File) *backwards { return &backwards{file: f, space: make([]byte, blockSize)} }

// next hands out a line, valid until the next call, and how many bytes of it
// were cut off at its end. At the file's beginning it is io.EOF. A file that was
// shortened meanwhile begins there.
func (b *backwards) next() (line []byte, cut int, err error) {
	if !b.begun {
		info, err := b.file.Stat()
		if err != nil {
			return nil, 0, err
		}
		b.at, b.begun = info.Size(), true
	}
	for {
		if i := bytes.LastIndexByte(b.block, '\n'); i >= 0 {
			line = b.take(b.block[i+1:])
			b.block = b.block[:i]
			return line, b.spent(), nil
		}
		b.rest = bytes.Clone(b.take(b.block))
		b.block = nil
		if b.at == 0 {
			if len(b.rest) == 0 {
				return nil, 0, io.EOF
			}
			line = b.take(nil)
			return line, b.spent(), nil
		}
		if err := b.read(); err != nil {
			return nil, 0, err
		}
	}
}

// take joins the beginning of a line with its rest.
func (b *backwards) take(beginning []byte) []byte {
	line := beginning
	if len(b.rest) > 0 {
		line = slices.Concat(beginning, b.rest)
	}
	b.rest = nil
	if len(line) > maxLine {
		b.cut += len(line) - maxLine
		line = line[:maxLine]
	}
	return line
}

func (b *backwards) spent() (cut int) {
	cut, b.cut = b.cut, 0
	return cut
}

// read gets the block before.
func (b *backwards) read() error {
	n := min(blockSize, b.at)
	b.at -= n
	got, err := b.file.ReadAt(b.space[:n], b.at)
	if err != nil && err != io.EOF {
		return err
	}
	b.block = b.space[:got]
	return nil
}

// rotatedTime is how rotation writes its time into a file's name.
const rotatedTime = "2006-01-02T15-04-05.000"

// rotated are the files that rotation left of a log, the newest first.
func rotated(path string) (list []string, err error) {
	ext := filepath.Ext(path)
	prefix := strings.TrimSuffix(filepath.Base(path), ext) + "-"
	names, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		if os.IsNotExist(err) {
			err = nil
		}
		return nil, err
	}
	for _, entry := range names {
		stamp, isOurs := strings.CutPrefix(strings.TrimSuffix(entry.Name(), ext), prefix)
		if _, err := time.Parse(rotatedTime, stamp); isOurs && err == nil && strings.HasSuffix(entry.Name(), ext) {
			list = append(list, filepath.Join(filepath.Dir(path), entry.Name()))
		}
	}
	slices.Sort(list) // by their times
	slices.Reverse(list)
	return list, nil
}
