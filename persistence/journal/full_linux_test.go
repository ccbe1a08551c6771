package journal_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"reagent/persistence/journal"
)

// smallDisk is a disk of a few megabytes.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a disk of one's own needs root")
	}
	dir := t.TempDir()
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m,mode=0700"))
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes the rest of a disk.
func fill(t *testing.T, dir string) (path string) {
	t.Helper()
	path = filepath.Join(dir, "fill")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must(t, err)
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4<<10))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
	return path
}

func TestOnAFullDiskTheOldestGivesRoom(t *testing.T) {
	dir := smallDisk(t)
	j := open(t, journal.Config{Dir: filepath.Join(dir, "j"), SegmentBytes: 32 << 10, FlushBytes: 4 << 10})
	chatty, quiet := j.Stream("chatty"), j.Stream("quiet")
	add(chatty, 8000)
	add(quiet, 100)
	must(t, j.Close())
	fill(t, dir)
	add(chatty, 3000)
	add(quiet, 10)
	must(t, j.Close())
	oldest, next := chatty.Bounds()
	if oldest < 2 || next != 11001 || j.Stats().Lost != 0 {
		t.Errorf("chatty holds %d to %d, %d lost; want the newest, and only old ones gone", oldest, next-1, j.Stats().Lost)
	}
	wantNumbers(t, "chatty", read(t, chatty, 0), upTo(oldest, 11000))
	wantNumbers(t, "quiet", read(t, quiet, 0), upTo(1, 110))
}

func TestADiskThatOthersFilledCostsRecordsAndNothingElse(t *testing.T) {
	dir := smallDisk(t)
	c := journal.Config{Dir: filepath.Join(dir, "j"), SegmentBytes: 1 << 20, FlushBytes: 4 << 10, Retry: time.Nanosecond}
	j := open(t, c)
	s := j.Stream("a")
	add(s, 100)
	must(t, s.Flush(true))
	// There is nothing to evict: what comes stays in memory, the newest of it.
	filling := fill(t, dir)
	add(s, 5000)
	if err := s.Flush(false); err == nil {
		t.Fatal("Flush found room on a full disk")
	}
	st := j.Stats()
	if st.Lost == 0 || st.Buffered > 16<<10 {
		t.Errorf("stats %+v; want some lost, and a small buffer", st)
	}
	want := append(upTo(1, 100), upTo(101+st.Lost, 5100)...)
	got := read(t, s, 0)
	if len(got) < 150 {
		t.Errorf("got %s; want the newest", short(got))
	}
	// The first of them may have filled the file's last block.
	wantNumbers(t, "the newest", got[len(got)-50:], want[len(want)-50:])
	must(t, os.Remove(filling))
	add(s, 10)
	must(t, s.Flush(true))
	got = append(got, upTo(5101, 5110)...)
	wantNumbers(t, "when there is room", read(t, s, 0), got)
	wantNumbers(t, "opened again", read(t, open(t, c).Stream("a"), 0), got)
}

func TestRoomThatOthersTakeIsNotMadeForEver(t *testing.T) {
	dir := smallDisk(t)
	j := open(t, journal.Config{Dir: filepath.Join(dir, "j"), SegmentBytes: 32 << 10, FlushBytes: 4 << 10, Retry: time.Hour})
	s := j.Stream("a")
	add(s, 8000)
	must(t, s.Flush(true))
	segments := j.Stats().Bytes / (32 << 10)
	for range 50 {
		fill(t, dir)
		add(s, 10)
		_ = s.Flush(true)
	}
	oldest, _ := s.Bounds()
	if gone := float64(oldest-1) / 8000 * float64(segments); oldest < 2 || gone > 3 {
		t.Errorf("about %.1f of %d segments are gone; want one", gone, segments)
	}
	got := read(t, s, 8450)
	wantNumbers(t, "the newest", got, upTo(8450, 8500))
}
