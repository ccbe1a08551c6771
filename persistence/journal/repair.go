package journal

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

func (s *Stream) header(first uint64) (h header, err error) {
	f, err := os.Open(s.path(first))
	if err != nil {
		return h, err
	}
	defer f.Close()
	h, _, err = readHeader(f)
	return h, err
}

// find lists the files, and learns the stream's name and ID from one of them.
func (s *Stream) find() bool {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		s.j.cfg.Log.Warn().Err(err).Str("folder", filepath.Base(s.dir)).Msg("a folder of the journal cannot be read")
		return false
	}
	var found []segment
	for _, e := range entries { // in the order of their numbers
		first, ok := parseSegmentName(e.Name())
		info, err := e.Info()
		if !ok || err != nil || !info.Mode().IsRegular() {
			continue
		}
		found = append(found, segment{first, info.Size()})
	}
	if len(found) == 0 {
		return false
	}
	last := len(found) - 1
	s.older, s.newest = found[:last:last], found[last]
	s.next, s.stored = s.newest.first, s.newest.first
	s.recount()
	// Who wrote them need not have synced them, and a power cut need not have come
	// since. To sync what is on the disk already costs next to nothing, and once.
	s.unnamed = true
	for _, seg := range found {
		s.unsynced = append(s.unsynced, seg.first)
	}
	for i := last; i >= 0; i-- {
		if h, err := s.header(found[i].first); err == nil && folderOf(h.name) == filepath.Base(s.dir) {
			s.id, s.name = h.id, h.name
			break
		}
	}
	return true
}

// load reads the newest segment, of a stream that was found, before it is used
// for the first time: what number comes next, and where the file ends that is
// sound.
func (s *Stream) load(name string) {
	if s.loaded.Load() {
		return
	}
	s.files.Lock()
	defer s.files.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.name == "" {
		s.name = name
	}
	if s.loaded.Load() {
		return
	}
	defer s.loaded.Store(true)
	if s.newest.first == 0 {
		return
	}
	if err := s.repair(); err != nil {
		s.sealed = true
		s.j.cfg.Log.Warn().Err(err).Str("stream", s.name).Msg("the newest file of a journal cannot be read; another one is begun")
	}
}

// repair finds the end of the newest segment. Both locks are held.
func (s *Stream) repair() error {
	path := s.path(s.newest.first)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		s.next += uint64(s.newest.size)/frameSize + 1
		return err
	}
	defer f.Close()
	_, start, headerErr := readHeader(f)
	var sc *scanner
	sc, s.marks = survey(f, mark{s.newest.first, start}, s.newest.size, ^uint64(0))
	if sc.err != nil || headerErr != nil {
		s.sealed = true
	}
	s.next, s.stored = sc.seq, sc.seq
	if sc.good == s.newest.size {
		return sc.err
	}
	held, err := uint64(0), error(nil)
	if headerErr == nil || !cutInHeader(f, s.newest.size) {
		held, err = mayHold(f, sc.good, s.newest.size, sc.seq)
	}
	if s.next += held; held > 0 {
		s.j.cfg.Log.Warn().Str("stream", s.name).Uint64("records", held).Msg("the end of a journal is damaged; at most so many are lost")
	}
	if err := errors.Join(sc.err, err, f.Truncate(sc.good)); err != nil {
		return err
	}
	s.newest.size = sc.good
	s.recount()
	return nil
}

// cutInHeader tells whether a file ends before its header does: it never was
// written wholly.
func cutInHeader(f io.ReaderAt, size int64) bool {
	fixed := make([]byte, min(size, int64(headerSize)))
	if _, err := f.ReadAt(fixed, 0); err != nil {
		return false
	}
	if len(fixed) < headerSize {
		return true
	}
	return string(fixed[:len(magic)]) == magic && int64(headerSize)+int64(little.Uint32(fixed[len(magic)+4:])) > size
}

// mayHold tells how many records the end of a file may have held that are not
// to be read. A write that was cut off, or of which only the room came to the
// disk, leaves what never was flushed: those do not count.
func mayHold(f io.ReaderAt, from, to int64, seq uint64) (records uint64, err error) {
	tail := io.NewSectionReader(f, from, to-from)
	var fixed [frameSize]byte
	if to-from < frameSize {
		return 0, nil
	}
	if _, err := tail.ReadAt(fixed[:], 0); err != nil {
		return uint64(to-from) / frameSize, err
	}
	n := int64(little.Uint32(fixed[4:]))
	if little.Uint64(fixed[8:]) >= seq && n <= MaxRecord && frameSize+n > to-from {
		return 0, nil
	}
	buf := make([]byte, window)
	for {
		got, err := tail.Read(buf)
		for _, b := range buf[:got] {
			if b != 0 {
				return uint64(to-from) / frameSize, nil
			}
		}
		if err == io.EOF {
			return 0, nil
		}
		if err != nil {
			return uint64(to-from) / frameSize, err
		}
	}
}
