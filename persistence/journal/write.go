package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"reagent/filesystem"
)

// Flush writes what was appended so far into the file, where it survives the end
// of the process, and with sync to the disk, where it survives a power cut. On
// an error the records stay, and it is tried again.
func (s *Stream) Flush(sync bool) error {
	if err := s.write(true); err != nil || !sync {
		return err
	}
	return s.sync()
}

// write writes the buffer into the files. Unless it is asked for, it leaves
// alone what another goroutine writes already.
func (s *Stream) write(asked bool) error {
	s.files.Lock()
	s.mu.Lock()
	c, next := s.buf, s.next
	if next == s.stored || !asked && len(c.frames) < s.j.cfg.FlushBytes {
		s.mu.Unlock()
		s.files.Unlock()
		return nil
	}
	s.writing, s.buf = c, chunk{}
	s.mu.Unlock()

	err := s.put(c, next)

	s.mu.Lock()
	failed := !s.retry.IsZero()
	s.writing, s.retry = chunk{}, time.Time{}
	if err != nil {
		s.retry = time.Now().Add(s.j.cfg.Retry)
	}
	switch {
	case len(c.frames) == 0:
	case c.last < s.stored:
		s.j.buffered.Add(-int64(len(c.frames)))
	default: // back in front of what came meanwhile
		if len(s.buf.frames) > 0 {
			c.frames, c.last = slices.Concat(c.frames, s.buf.frames), s.buf.last
		}
		s.buf = c
	}
	name := s.name
	s.mu.Unlock()
	s.files.Unlock()

	s.j.went(name, failed, err)
	s.j.evict()
	if err != nil {
		return fmt.Errorf("write the journal of %q: %w", name, err)
	}
	return nil
}

// put writes a chunk, and a segment without records where numbers were left out
// behind it. files is held.
func (s *Stream) put(c chunk, next uint64) error {
	if len(c.frames) > 0 {
		put := s.extend
		if c.begins || s.newest.first == 0 || s.sealed {
			put = s.begin
		}
		if err := put(c); err != nil {
			return err
		}
	}
	if s.stored < next {
		return s.begin(chunk{first: next, last: next - 1})
	}
	return nil
}

// extend adds to the newest segment.
func (s *Stream) extend(c chunk) error {
	at := s.newest
	err := s.retryOnFullDisk(func() error { return s.writeAt(at, c.frames, os.O_WRONLY) })
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := s.marks[len(s.marks)-1]; at.size-last.off >= window {
		s.marks = append(s.marks, mark{c.first, at.size})
	}
	s.newest.size += int64(len(c.frames))
	s.stored = c.last + 1
	s.wrote(at.first, at.size, len(c.frames))
	return nil
}

// begin makes a new segment. It takes the place of one of the same number, which
// has no records.
func (s *Stream) begin(c chunk) error {
	if err := s.folder(); err != nil {
		return err
	}
	s.mu.Lock()
	data := header{id: s.id, name: s.name[:min(len(s.name), maxName)], head: c.head}.encode()
	s.mu.Unlock()
	start := int64(len(data))
	data = append(data, c.frames...)
	seg := segment{first: c.first}
	err := s.retryOnFullDisk(func() error { return s.writeAt(seg, data, os.O_WRONLY|os.O_CREATE|os.O_TRUNC) })
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if s.newest.first == c.first {
			s.sealed = true // its header may be gone; its name says what counts
		} else {
			s.j.removeFile(s.path(c.first))
		}
		return err
	}
	s.j.files.Add(1)
	switch last := s.newest; {
	case last.first == 0 || last.first == c.first:
	case last.first == s.stored && !s.sealed: // it has no records
		s.j.removeFile(s.path(last.first))
	default:
		s.older = append(s.older, last)
	}
	seg.size = int64(len(data))
	s.newest, s.marks, s.sealed, s.unnamed = seg, []mark{{c.first, start}}, false, true
	s.stored = c.last + 1
	s.wrote(c.first, 0, len(data))
	return nil
}

// wrote notes that a file grew. mu is held.
func (s *Stream) wrote(first uint64, from int64, n int) {
	if !slices.Contains(s.unsynced, first) {
		s.unsynced = append(s.unsynced, first)
	}
	s.recount()
	s.j.wrote.Add(int64(n))
	s.j.pages.Add(uint64((blocks(from+int64(n)) - from/block*block) / block))
}

func (s *Stream) path(first uint64) string { return filepath.Join(s.dir, segmentName(first)) }

// folder makes the folder when it is not there. files is held.
func (s *Stream) folder() error {
	if _, err := os.Lstat(s.dir); err == nil {
		return nil
	}
	return filesystem.MakePrivateDir(s.dir)
}

// writeAt writes behind what a file has, and cuts off again what was not written
// wholly.
func (s *Stream) writeAt(at segment, data []byte, flags int) error {
	f, err := os.OpenFile(s.path(at.first), flags, filesystem.PrivateFile)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(data, at.size); err != nil {
		_ = f.Truncate(at.size)
		return err
	}
	return nil
}

func (s *Stream) retryOnFullDisk(write func() error) error {
	err := write()
	if isFull(err) && s.j.makeRoom() {
		err = write()
	}
	return err
}

// sync brings what is in the files to the disk. Writers are not held up.
func (s *Stream) sync() error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	s.mu.Lock()
	dirty, unnamed := s.unsynced, s.unnamed
	s.unsynced, s.unnamed = nil, false
	s.mu.Unlock()
	err := s.syncFiles(dirty, unnamed)
	if err != nil {
		s.mu.Lock()
		s.unsynced, s.unnamed = append(dirty, s.unsynced...), s.unnamed || unnamed
		s.mu.Unlock()
		return fmt.Errorf("sync the journal of %q: %w", s.Name(), err)
	}
	return nil
}

func (s *Stream) syncFiles(firsts []uint64, names bool) error {
	for _, first := range firsts {
		f, err := os.OpenFile(s.path(first), os.O_WRONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue // evicted meanwhile
		}
		if err != nil {
			return err
		}
		err = f.Sync()
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return err
		}
	}
	if !names {
		return nil
	}
	return errors.Join(filesystem.SyncFolder(s.dir), filesystem.SyncFolder(s.j.cfg.Dir))
}
