package commands

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"reagent/filesystem"
	"reagent/internal/proctree"
	"reagent/protocol"
)

// What is on the disk:
//
//	<dir>/<id>.json   a record: the intent, then the result
//	<dir>/<id>.out    what the command printed, in frames (see output)
//	<dir>/reserve     room for records on a full disk
const (
	recordSuffix = ".json"
	outputSuffix = ".out"
	reserveFile  = "reserve"
	reserveSize  = 128 << 10
)

// A record is a command as it is kept. Keys may be added, never renamed.
type record struct {
	ID        string    `json:"id"`
	Caller    string    `json:"caller"`
	Digest    string    `json:"digest"` // of the arguments
	Container string    `json:"container,omitempty"`
	Started   time.Time `json:"started"`
	Exec      string    `json:"exec,omitempty"` // the engine's name for it, in a container
	End       *result   `json:"end,omitempty"`  // nil while it runs
}

// A result is what became of a command.
type result struct {
	State      string    `json:"state"`
	ExitCode   *int      `json:"exit_code,omitempty"`
	Signal     string    `json:"signal,omitempty"`
	Error      string    `json:"error,omitempty"`
	Stdout     uint64    `json:"stdout_bytes"` // printed, kept or not
	Stderr     uint64    `json:"stderr_bytes"`
	DurationMS uint64    `json:"duration_ms"`
	Ended      time.Time `json:"ended"`
}

// end is a record as callers are told it, without output.
func (r record) end() protocol.CommandEnd {
	end := protocol.CommandEnd{Type: "end", ID: r.ID, Started: r.Started.UTC().Format(time.RFC3339Nano)}
	if e := r.End; e != nil {
		end.State, end.ExitCode, end.Signal, end.Error = e.State, e.ExitCode, e.Signal, e.Error
		end.StdoutBytes, end.StderrBytes, end.DurationMS = e.Stdout, e.Stderr, e.DurationMS
	}
	return end
}

// A store keeps records and outputs. It may be used from any goroutine.
type store struct {
	cfg Config
	log zerolog.Logger

	mu    sync.Mutex // guards what follows
	ended map[string]*kept
	bytes int64 // of all outputs, those of commands that run included
	tight bool  // the reserve is in use: what is left of it is for records
}

// kept is a command that has ended.
type kept struct {
	record record
	bytes  int64 // of its output
}

// openStore reads what there is, and ends the records of an earlier life that
// have no end. A damaged record has no other end: nobody knows whether it ran, so
// that it never does again.
func openStore(cfg Config) (s *store, cutOff []record, err error) {
	s = &store{cfg: cfg, log: cfg.Log, ended: map[string]*kept{}}
	if err := filesystem.MakePrivateDir(cfg.Dir); err != nil {
		return nil, nil, err
	}
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		id, isRecord := strings.CutSuffix(e.Name(), recordSuffix)
		if !isRecord || strings.HasPrefix(id, ".") {
			continue
		}
		r, err := s.read(id)
		if err != nil {
			// What is known of it is that its id is used: by nobody who could ask.
			s.log.Warn().Str("file", e.Name()).Err(err).Msg("result of a command is damaged")
			r = record{ID: id, Started: startOf(e)}
		}
		k := &kept{record: r}
		if info, err := os.Stat(s.outputFile(id)); err == nil {
			k.bytes = info.Size()
		}
		if r.End == nil {
			cutOff = append(cutOff, r)
			k.record.End = s.interrupted(r)
			if !errors.Is(err, errUnread) { // else the next life may find it whole
				if err := s.write(k.record); err != nil {
					s.log.Warn().Err(err).Str("id", id).Msg("the end of a command could not be kept")
				}
			}
		}
		s.ended[id] = k
		s.bytes += k.bytes
	}
	for _, e := range entries { // of which the record is gone
		if id, ok := strings.CutSuffix(e.Name(), outputSuffix); ok && s.ended[id] == nil {
			_ = os.Remove(s.outputFile(id))
		}
	}
	s.sweep()
	s.refill()
	return s, cutOff, nil
}

// interrupted is the end of a command that nobody saw.
func (s *store) interrupted(r record) *result {
	end := &result{State: protocol.CommandInterrupted, Ended: r.Started}
	_ = s.frames(r.ID, func(f frame) { // as far as they are whole
		*[2]*uint64{&end.Stdout, &end.Stderr}[f.stream] += uint64(len(f.data))
	})
	for _, file := range []string{s.recordFile(r.ID), s.outputFile(r.ID)} {
		if info, err := os.Stat(file); err == nil && info.ModTime().After(end.Ended) {
			end.Ended = info.ModTime().UTC()
		}
	}
	end.DurationMS = uint64(end.Ended.Sub(r.Started).Milliseconds())
	// From now on it is kept as long as those that have just ended.
	end.Ended = time.Now().UTC()
	return end
}

// errUnread means that nobody knows what a record says.
var errUnread = errors.New("it cannot be read")

func (s *store) read(id string) (r record, err error) {
	text, err := os.ReadFile(s.recordFile(id))
	if err != nil {
		return r, fmt.Errorf("%w: %w", errUnread, err)
	}
	if err = json.Unmarshal(text, &r); err == nil && r.ID != id {
		err = errors.New("it is another's")
	}
	return r, err
}

// startOf is the best guess of when a command began of which the record is damaged.
func startOf(e fs.DirEntry) time.Time {
	info, err := e.Info()
	if err != nil {
		return time.Now().UTC()
	}
	return info.ModTime().UTC()
}

func (s *store) recordFile(id string) string { return filepath.Join(s.cfg.Dir, id+recordSuffix) }
func (s *store) outputFile(id string) string { return filepath.Join(s.cfg.Dir, id+outputSuffix) }

func (s *store) remove(id string) {
	_ = os.Remove(s.recordFile(id))
	_ = os.Remove(s.outputFile(id))
}

// get finds a command that has ended.
func (s *store) get(id string) (record, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.ended[id]
	if k == nil {
		return record{}, false
	}
	return k.record, true
}

// admit makes room for one more record of a caller: in their own share first.
func (s *store) admit(caller string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	theirs := func(k *kept) bool { return k.record.Caller == caller }
	everybodys := func(*kept) bool { return true }
	if err := s.lessThan(s.cfg.KeptOfOne, theirs); err != nil {
		return err
	}
	return s.lessThan(s.cfg.Kept, everybodys)
}

// lessThan forgets the oldest of some until there are less than so many. The caller
// holds mu.
func (s *store) lessThan(most int, of func(*kept) bool) error {
	n := 0
	for _, k := range s.ended {
		if of(k) {
			n++
		}
	}
	if n < most {
		return nil
	}
	for _, k := range s.oldest() {
		switch {
		case n < most:
			return nil
		case !of(k):
			continue
		case s.age(k, time.Now()) < s.cfg.KeepAtLeast:
			return errTooMany
		}
		s.forget(k)
		n--
	}
	return nil
}

// age is how long ago a command has ended. One that ends in the future was run when
// the clock was wrong: nobody knows, and it is as old as can be.
func (s *store) age(k *kept, now time.Time) time.Duration {
	age := now.Sub(k.record.End.Ended)
	if age < -s.cfg.KeepAtLeast {
		return s.cfg.KeepAtMost
	}
	return age
}

// oldest lists those that have ended, the oldest first. The caller holds mu.
func (s *store) oldest() []*kept {
	all := make([]*kept, 0, len(s.ended))
	for _, k := range s.ended {
		all = append(all, k)
	}
	now := time.Now()
	slices.SortFunc(all, func(a, b *kept) int {
		return cmp.Or(cmp.Compare(s.age(b, now), s.age(a, now)), cmp.Compare(a.record.ID, b.record.ID))
	})
	return all
}

func (s *store) forget(k *kept) {
	s.remove(k.record.ID)
	s.bytes -= k.bytes
	delete(s.ended, k.record.ID)
}

// sweep forgets what is older than anybody asks for.
func (s *store) sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.oldest() {
		if s.age(k, time.Now()) >= s.cfg.KeepAtMost {
			s.forget(k)
		}
	}
}

// room tells whether n bytes more of output may be kept, and counts them.
func (s *store) room(n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes+n > s.cfg.KeptBytes {
		for _, k := range s.oldest() {
			if k.bytes == 0 {
				continue
			}
			_ = os.Remove(s.outputFile(k.record.ID))
			s.bytes -= k.bytes
			k.bytes = 0
			if s.bytes+n <= s.cfg.KeptBytes {
				break
			}
		}
	}
	if s.bytes+n > s.cfg.KeptBytes {
		return false
	}
	s.bytes += n
	return true
}

// release takes back what room has counted.
func (s *store) release(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes -= n
}

// begin brings the intent to the disk.
func (s *store) begin(r record) error {
	err := s.write(r)
	if errors.Is(err, syscall.ENOSPC) {
		return &protocol.Error{Code: protocol.CodeDiskFull, Text: "there is no room on the disk for the command's record"}
	}
	return err
}

// note adds by what a program that runs is found after an end of the agent.
func (s *store) note(r record) {
	if err := s.write(r); err != nil {
		s.log.Warn().Err(err).Str("id", r.ID).Msg("a command that runs would not be found again")
	}
}

// finish keeps the result.
func (s *store) finish(r record, o *output) {
	s.mu.Lock()
	s.ended[r.ID] = &kept{record: r, bytes: o.bytes()}
	s.mu.Unlock()
	if err := s.write(r); err != nil {
		s.log.Warn().Err(err).Str("id", r.ID).Msg("the result of a command is kept in memory only")
	}
	s.refill()
}

// write brings a record to the disk, if need be with the help of the reserve.
func (s *store) write(r record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	write := func() error { return filesystem.WritePrivate(s.recordFile(r.ID), text) }
	if err = write(); errors.Is(err, syscall.ENOSPC) {
		s.mu.Lock()
		s.tight = true
		s.mu.Unlock()
		_ = os.Remove(filepath.Join(s.cfg.Dir, reserveFile))
		err = write()
	}
	return err
}

// refill makes the reserve again once it was used, or what there is room for. A
// device with a full disk must still run the command that empties it.
func (s *store) refill() {
	file := filepath.Join(s.cfg.Dir, reserveFile)
	if info, err := os.Stat(file); err == nil && info.Size() == reserveSize {
		return
	}
	err := os.WriteFile(file, make([]byte, reserveSize), 0o600)
	s.mu.Lock()
	s.tight = err != nil
	s.mu.Unlock()
}

// outputFits tells whether outputs may go to the disk.
func (s *store) outputFits() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.tight
}

// answer is the kept result of a command, with all of its output that there still
// is and that fits.
func (s *store) answer(r record, asBase64 bool) protocol.CommandEnd {
	end := r.end()
	end.Replayed = true
	var held uint64
	kept := newAnswer(asBase64)
	_ = s.frames(r.ID, func(f frame) { // as far as they are whole
		held += uint64(len(f.data))
		kept.add(f)
	})
	stdout, stderr := kept.texts()
	end.Stdout, end.Stderr = &stdout, &stderr
	end.DroppedBytes = end.StdoutBytes + end.StderrBytes - min(held, end.StdoutBytes+end.StderrBytes)
	end.Truncated = kept.cut || end.DroppedBytes > 0
	return end
}

// frames reads the kept output of a command that does not run.
func (s *store) frames(id string, visit func(frame)) error {
	file, err := os.Open(s.outputFile(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	in := bufio.NewReaderSize(file, 32<<10)
	for {
		f, _, err := readFrame(in)
		switch {
		case errors.Is(err, errEnd):
			return nil
		case err != nil:
			return err
		}
		visit(f)
	}
}

// endLeftover ends what still runs of a command that an end of the agent cut off.
// An engine that is away is asked again.
func (c *Commands) endLeftover(ctx context.Context, r record) {
	log := c.cfg.Log.With().Str("id", r.ID).Logger()
	if r.Container == "" {
		if err := proctree.EndMarked(ctx, markOf(r.ID), c.cfg.Grace); err != nil && ctx.Err() == nil {
			log.Warn().Err(err).Msg("a command that was cut off goes on")
		}
		return
	}
	for begun := time.Now(); time.Since(begun) < time.Hour; {
		err := c.cfg.Engine.EndMarked(ctx, r.Container, r.ID)
		if err == nil && r.Exec != "" { // it may have changed its environment
			err = c.cfg.Engine.EndExec(ctx, r.Exec)
		}
		if err == nil || ctx.Err() != nil {
			return
		}
		log.Debug().Err(err).Msg("the rest of a command in a container is not ended yet")
		select {
		case <-time.After(c.cfg.AskAgain):
		case <-ctx.Done():
			return
		}
	}
	log.Warn().Msg("a command that was cut off may go on in its container")
}
