package journal

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"reagent/filesystem"
)

// A Stream is one of the sequences of records in a journal.
type Stream struct {
	j   *Journal
	dir string

	syncing sync.Mutex // brings files to the disk; before files
	files   sync.Mutex // reads and writes the newest segment's file; before mu
	loaded  atomic.Bool

	mu       sync.Mutex
	id, name string
	older    []segment // their files do not change any more
	newest   segment
	marks    []mark // of the newest, some 32 KiB apart; only ever appended to
	sealed   bool   // nothing may be added to the newest
	stored   uint64 // all smaller numbers are in files, or nowhere
	next     uint64
	writing  chunk     // on its way into a file …
	buf      chunk     // … and behind it
	unsynced []uint64  // segments whose content may not be on the disk
	unnamed  bool      // nor may their names be
	retry    time.Time // no write before, unless somebody asks for one
	grown    chan struct{}
}

// A chunk is frames that are in no file yet.
type chunk struct {
	frames      []byte
	first, last uint64 // their numbers
	begins      bool   // with these a new segment begins …
	head        []byte // … and this is its head
}

// maxID bounds an ID in a header; ours are shorter.
const maxID = 64

func newStream(j *Journal, folder, name string) *Stream {
	return &Stream{j: j, dir: filepath.Join(j.cfg.Dir, folder), name: name, id: newID(), next: 1, stored: 1}
}

func newID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // it does not fail
	return hex.EncodeToString(b[:])
}

// Name is what the stream is called; "" while a damaged file is all that is
// known of it.
func (s *Stream) Name() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.name
}

// ID is a short text of [0-9a-f] that was made with the stream: it tells one
// that was removed and begun anew from the old one.
func (s *Stream) ID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// Bounds gives the oldest number that is kept and the one that comes next. They
// are the same when there is nothing.
func (s *Stream) Bounds() (oldest, next uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.older) > 0:
		return s.older[0].first, s.next
	case s.newest.first != 0 && s.newest.first < s.stored:
		return s.newest.first, s.next
	case len(s.writing.frames) > 0:
		return s.writing.first, s.next
	case len(s.buf.frames) > 0:
		return s.buf.first, s.next
	}
	return s.next, s.next
}

// Grown is closed by the next Append, or when the stream is removed.
func (s *Stream) Grown() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grown == nil {
		s.grown = make(chan struct{})
	}
	return s.grown
}

// begun tells whether anything was ever appended.
func (s *Stream) begun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest.first != 0 || s.next > 1
}

// Append adds a record and gives its number. The record is copied. One that is
// longer than MaxRecord is lost: its number never comes.
func (s *Stream) Append(record []byte) (seq uint64) { return s.AppendAfter(nil, record) }

// AppendAfter is Append for an owner who has to find its place again after a
// restart. Where a new segment begins, it begins with what head returns, which
// is the state before this record; Head finds it there. head is called in
// AppendAfter or not at all, and must not use the stream.
func (s *Stream) AppendAfter(head func() []byte, record []byte) (seq uint64) {
	cfg := &s.j.cfg
	s.mu.Lock()
	seq = s.next
	s.next++
	if len(record) > MaxRecord {
		s.mu.Unlock()
		s.j.lost.Add(1)
		cfg.Log.Error().Str("stream", s.name).Int("bytes", len(record)).Msg("a record is too long for the journal")
		return seq
	}
	c := &s.buf
	if len(c.frames) == 0 {
		c.first = seq
		limit := s.j.segmentLimit()
		c.begins = s.sealed || s.newest.first == 0 ||
			s.newest.size+min(int64(cfg.FlushBytes), limit/4) > limit
		if c.begins && head != nil {
			if c.head = slices.Clone(head()); len(c.head) > MaxHead {
				cfg.Log.Error().Str("stream", s.name).Int("bytes", len(c.head)).Msg("a head is too long for the journal")
				c.head = nil
			}
		}
	}
	c.frames = appendFrame(c.frames, seq, record)
	c.last = seq
	s.j.buffered.Add(int64(frameSize + len(record)))
	if s.grown != nil {
		close(s.grown)
		s.grown = nil
	}
	failed := !s.retry.IsZero()
	waits := failed && time.Now().Before(s.retry)
	full := len(c.frames) >= cfg.FlushBytes
	if failed && (len(c.frames) >= 2*cfg.FlushBytes || s.j.buffered.Load() > 2*cfg.BufferBytes) {
		s.forget()
	}
	s.mu.Unlock()

	switch {
	case waits:
	case full:
		_ = s.write(false) // it is logged, and the records stay
	case s.j.buffered.Load() > cfg.BufferBytes:
		_ = s.j.flush()
	}
	return seq
}

// Skip leaves out the next n numbers: the owner knows of so many records that
// never will come. Like a record, it is kept by the next flush.
func (s *Stream) Skip(n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next += n
}

// forget drops the older half of what cannot be written. mu is held.
func (s *Stream) forget() {
	scanner := scanMemory(s.buf.frames, 0, s.buf.first, s.next)
	half := int64(len(s.buf.frames) / 2)
	for scanner.off < half {
		if _, _, ok := scanner.next(); !ok {
			break
		}
		s.j.lost.Add(1)
	}
	if scanner.seq > s.buf.last { // it was one long record
		s.j.buffered.Add(-int64(len(s.buf.frames)))
		s.buf = chunk{}
		return
	}
	s.j.buffered.Add(-scanner.off)
	// The rest is copied: readers may have the old one.
	s.buf.frames, s.buf.first = slices.Clone(s.buf.frames[scanner.off:]), scanner.seq
}

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

// bytes is what the files take.
func (s *Stream) bytes() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.older {
		n += blocks(seg.size)
	}
	return n + blocks(s.newest.size)
}

// evictable is what the files take that may go on a full disk.
func (s *Stream) evictable() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.older {
		n += blocks(seg.size)
	}
	return n
}

// dropOldest deletes the oldest segment, unless it is the newest as well.
func (s *Stream) dropOldest() bool {
	s.mu.Lock()
	if len(s.older) == 0 {
		s.mu.Unlock()
		return false
	}
	first := s.older[0].first
	s.older = s.older[1:]
	s.mu.Unlock()
	s.j.removeFile(s.path(first))
	return true
}

// dropAll puts a segment without records in the place of the only one, which
// says what number comes next. The head stays: it is the newest there is.
func (s *Stream) dropAll() bool {
	s.load("")
	s.files.Lock()
	defer s.files.Unlock()
	s.mu.Lock()
	only := s.newest
	empty := len(s.older) > 0 || only.first == 0 || only.first == s.stored
	next := s.stored
	s.mu.Unlock()
	if empty {
		return false
	}
	h, _ := s.header(only.first)
	if err := s.begin(chunk{first: next, last: next - 1, head: h.head}); err != nil {
		s.j.cfg.Log.Warn().Err(err).Msg("the journal's oldest segment cannot be replaced")
		return false
	}
	return s.dropOldest()
}

func (s *Stream) header(first uint64) (h header, err error) {
	f, err := os.Open(s.path(first))
	if err != nil {
		return h, err
	}
	defer f.Close()
	h, _, err = readHeader(f)
	return h, err
}

// Head gives the newest head that is kept and the number of the first record
// behind it. Without one, from is the oldest number.
func (s *Stream) Head() (head []byte, from uint64) {
	s.files.Lock()
	defer s.files.Unlock()
	v := s.look()
	for _, c := range []chunk{v.chunks[1], v.chunks[0]} {
		if len(c.head) > 0 {
			return c.head, c.first
		}
	}
	for i := len(v.segments) - 1; i >= 0; i-- {
		if h, err := s.header(v.segments[i].first); err == nil && len(h.head) > 0 {
			return h.head, v.segments[i].first
		}
	}
	from, _ = s.Bounds()
	return nil, from
}

// remove deletes everything and begins anew.
func (s *Stream) remove() error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	s.files.Lock()
	defer s.files.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove the journal of %q: %w", s.name, err)
	}
	s.j.buffered.Add(-int64(len(s.buf.frames)))
	if !s.retry.IsZero() {
		s.retry = time.Time{}
		s.j.failing.Add(-1)
	}
	s.loaded.Store(true)
	s.id, s.next, s.stored = newID(), 1, 1
	s.older, s.newest, s.marks, s.sealed = nil, segment{}, nil, false
	s.buf, s.unsynced, s.unnamed = chunk{}, nil, false
	if s.grown != nil { // its readers are at another stream now
		close(s.grown)
		s.grown = nil
	}
	return nil
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
