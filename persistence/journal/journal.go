package journal

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"reagent/filesystem"
)

// Config says where a journal is and how large it may become. Zero values stand
// for the defaults in brackets.
type Config struct {
	Dir          string
	MaxBytes     int64         // of all files together [64 MiB]
	SegmentBytes int           // of one file; smaller where there are many streams [1 MiB]
	FlushBytes   int           // a stream's buffer is written when it has so much [64 KiB]
	BufferBytes  int64         // all buffers are written when they have so much together [512 KiB]
	FlushEvery   time.Duration // and all from time to time [1 h]
	Retry        time.Duration // a write that failed is tried again after [10 s]
	Log          zerolog.Logger

	// Carry moves a head (see [Stream.AppendAfter]; empty = there is none) over the
	// records that follow it and are about to be evicted. It is called at any time
	// and must not use the journal. Without it a head goes with the last of them.
	Carry func(head []byte, records iter.Seq2[uint64, []byte]) []byte
}

// DefaultFlush is a pause that flash stands: a page and the file system's own
// business, once each time for all streams. What an engine keeps, too, is not lost
// by a power cut in between.
const DefaultFlush = time.Hour

func (c Config) withDefaults() Config {
	c.MaxBytes = cmp.Or(c.MaxBytes, 64<<20)
	c.SegmentBytes = cmp.Or(c.SegmentBytes, 1<<20)
	c.FlushBytes = cmp.Or(c.FlushBytes, 64<<10)
	c.BufferBytes = cmp.Or(c.BufferBytes, 512<<10)
	c.FlushEvery = cmp.Or(c.FlushEvery, DefaultFlush)
	c.Retry = cmp.Or(c.Retry, 10*time.Second)
	return c
}

// A Journal is a folder of streams. Make one with Open.
type Journal struct {
	cfg Config

	mu      sync.Mutex
	streams map[string]*Stream // by folder

	evicting sync.Mutex   // one at a time makes room; before any lock of a stream
	held     atomic.Int64 // bytes that the files of all streams take
	buffered atomic.Int64 // bytes that are in no file yet
	lost     atomic.Uint64
	wrote    atomic.Int64
	pages    atomic.Uint64
	files    atomic.Uint64
	failing  atomic.Int64 // streams that cannot be written now

	room room
}

// Open finds the streams in a folder. It does not fail: what cannot be read or
// written is logged, and tried again when it is needed.
func Open(c Config) *Journal {
	j := &Journal{cfg: c.withDefaults(), streams: map[string]*Stream{}}
	if err := filesystem.MakePrivateDir(c.Dir); err != nil {
		j.cfg.Log.Error().Err(err).Msg("the journal has no folder; what it takes is kept in memory only")
		return j
	}
	folders, err := os.ReadDir(c.Dir)
	if err != nil {
		j.cfg.Log.Error().Err(err).Msg("the journal cannot be read")
	}
	for _, f := range folders {
		if !f.IsDir() {
			continue
		}
		s := newStream(j, f.Name(), "")
		if s.find() {
			j.streams[f.Name()] = s
		}
	}
	return j
}

// Run writes what was appended to the files from time to time, until ctx ends.
func (j *Journal) Run(ctx context.Context) error {
	// The first pause is a random part, so that a fleet's devices, and a device's
	// journals, do not write in step.
	next := time.NewTimer(rand.N(j.cfg.FlushEvery))
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			j.flush()
			return ctx.Err()
		case <-next.C:
			j.flush()
			next.Reset(j.cfg.FlushEvery)
		}
	}
}

// Close writes what was appended to the files. There is nothing else to close:
// a journal that is used afterwards works.
func (j *Journal) Close() error {
	return j.flush()
}

// flush writes all buffers. What cannot be written stays, and is logged where
// it failed.
func (j *Journal) flush() error {
	var errs []error
	for _, s := range j.all() {
		errs = append(errs, s.write(true))
	}
	return errors.Join(errs...)
}

// Stream gives the stream of that name, for whoever appends to it. It is on the
// disk from its first flush on.
func (j *Journal) Stream(name string) *Stream {
	folder := folderOf(name)
	j.mu.Lock()
	s := j.streams[folder]
	if s == nil {
		s = newStream(j, folder, name)
		j.streams[folder] = s
	}
	j.mu.Unlock()
	s.load(name)
	return s
}

// Lookup gives the stream of that name if it was ever appended to: for
// questions of strangers, which must not make streams.
func (j *Journal) Lookup(name string) (*Stream, bool) {
	j.mu.Lock()
	s := j.streams[folderOf(name)]
	j.mu.Unlock()
	if s == nil || !s.begun() {
		return nil, false
	}
	s.load(name)
	return s, true
}

// Streams are the names of all streams that were appended to, in their order.
func (j *Journal) Streams() []string {
	var names []string
	for _, s := range j.all() {
		if name := s.Name(); name != "" && s.begun() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Remove forgets a stream. One that is begun anew under its name has another
// ID, and numbers from 1.
func (j *Journal) Remove(name string) error {
	j.evicting.Lock()
	defer j.evicting.Unlock()
	j.mu.Lock()
	s := j.streams[folderOf(name)]
	j.mu.Unlock()
	if s == nil {
		return nil
	}
	return s.remove()
}

// Stats says what a journal holds, and what it did since Open.
type Stats struct {
	Bytes    int64  // on the disk, in whole blocks
	Buffered int64  // bytes in memory
	Lost     uint64 // records that came into no file
	Pages    uint64 // of 4 KiB that were written
	Files    uint64 // that were made
}

// Stats counts.
func (j *Journal) Stats() Stats {
	return Stats{Bytes: j.held.Load(), Buffered: j.buffered.Load(), Lost: j.lost.Load(), Pages: j.pages.Load(), Files: j.files.Load()}
}

func (j *Journal) all() []*Stream {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := make([]*Stream, 0, len(j.streams))
	for _, s := range j.streams {
		all = append(all, s)
	}
	return all
}

// went notes how a stream's write went, and says so when that is news for all.
func (j *Journal) went(name string, failed bool, err error) {
	switch {
	case err != nil && !failed && j.failing.Add(1) == 1:
		j.cfg.Log.Error().Err(err).Str("stream", name).Msg("the journal cannot be written; the newest records are kept in memory")
	case err == nil && failed && j.failing.Add(-1) == 0:
		j.cfg.Log.Info().Uint64("lost", j.lost.Load()).Msg("the journal is written again")
	}
}

// folderOf makes a folder's name of any text: readable where it can be, unique
// always.
func folderOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	readable := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return '_'
	}, name[:min(len(name), 40)])
	return readable + "-" + hex.EncodeToString(sum[:8])
}

// block is what a file system gives at least to a file.
const block = 4 << 10

func blocks(size int64) int64 { return (size + block - 1) / block * block }

// removeFile deletes a file that may be gone already.
func (j *Journal) removeFile(path string) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		j.cfg.Log.Warn().Err(err).Str("file", filepath.Base(path)).Msg("a file of the journal cannot be deleted")
	}
}
