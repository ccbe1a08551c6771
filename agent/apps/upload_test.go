package apps

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"reagent/protocol"
)

// An inbox is uploads into a folder of a test's own.
type inbox struct {
	*uploads
	t      *testing.T
	log    *logDouble
	failed []protocol.AppID
}

func newInbox(t *testing.T) *inbox {
	in := &inbox{t: t, log: &logDouble{}}
	waits := ProductWaits()
	in.uploads = newUploads(Config{AppLog: in.log, Log: zerolog.Nop(), Waits: waits, MaxUpload: 1 << 20},
		filepath.Join(t.TempDir(), "build"), func(id protocol.AppID, _ string) { in.failed = append(in.failed, id) })
	in.room = func(int64) error { return nil }
	return in
}

func chunk(what string, total int, id string) protocol.WriteDataArgs {
	return protocol.WriteDataArgs{Chunk: what, File: "web.tgz", Container: "dev_6_web", Total: int64(total), ID: id}
}

func (in *inbox) must(c protocol.WriteDataArgs) {
	in.t.Helper()
	if err := in.take(c); err != nil {
		in.t.Fatal(err)
	}
}

// files is what lies in the build folder.
func (in *inbox) files() map[string]string {
	out := map[string]string{}
	entries, _ := os.ReadDir(in.folder)
	for _, e := range entries {
		raw, _ := os.ReadFile(filepath.Join(in.folder, e.Name()))
		out[e.Name()] = string(raw)
	}
	return out
}

func (in *inbox) only(what string, want map[string]string) {
	in.t.Helper()
	if got := in.files(); fmt.Sprint(got) != fmt.Sprint(want) {
		in.t.Errorf("%s: the build folder holds %q, want %q", what, got, want)
	}
}

func TestAnUploadIsSeenWhenItIsWhole(t *testing.T) {
	in := newInbox(t)
	data := []byte("0123456789")
	in.must(chunk("BEGIN", len(data), "a"))
	in.must(chunk(hex.EncodeToString(data[:4]), len(data), "a"))
	if _, there := in.files()["web.tgz"]; there {
		t.Error("half an archive has the name of a whole one")
	}
	in.must(chunk(strings.ToUpper(hex.EncodeToString(data[4:])), len(data), "a"))
	in.must(chunk("END", len(data), "a"))
	in.only("after END", map[string]string{"web.tgz": string(data)})
	if want := []string{"dev_6_web web.tgz 40.000%", "dev_6_web web.tgz 100.000%"}; !slices.Equal(in.log.transfers, want) {
		t.Errorf("progress %q, want %q", in.log.transfers, want)
	}
	if want := []string{"dev_6_web: Received first package on device!", "dev_6_web: File transfer has finished, starting build..."}; !slices.Equal(in.log.lines, want) {
		t.Errorf("log %q, want %q", in.log.lines, want)
	}
	if len(in.failed) != 0 {
		t.Errorf("a good upload is reported as failed: %v", in.failed)
	}
}

func TestAnUploadThatFailsLeavesWhatWasThere(t *testing.T) {
	for name, c := range map[string]struct {
		chunks []string
		want   string
	}{
		"no hexadecimal digits": {[]string{"30", "zz"}, "invalid byte"},
		"half a byte":           {[]string{"303"}, "unexpected EOF"},
		"more than announced":   {[]string{"303132", "33"}, "more data than the 3 bytes"},
		"less than announced":   {[]string{"3031", "END"}, "incomplete: 2 of 3 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			in := newInbox(t)
			in.must(chunk("BEGIN", 1, "old"))
			in.must(chunk("78", 1, "old"))
			in.must(chunk("END", 1, "old"))
			in.must(chunk("BEGIN", 3, "a"))
			var err error
			for _, piece := range c.chunks {
				if err = in.take(chunk(piece, 3, "a")); err != nil {
					break
				}
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			in.only("after the failure", map[string]string{"web.tgz": "x"})
			if want := (protocol.AppID{Key: 6, Stage: protocol.Dev}); !slices.Equal(in.failed, []protocol.AppID{want}) {
				t.Errorf("told to have failed: %v, want %v", in.failed, want)
			}
			if err := in.take(chunk("30", 3, "a")); err == nil || err.Error() != "We received a chunk without an active transfer" {
				t.Errorf("a chunk after the failure: %v", err)
			}
			in.must(chunk("BEGIN", 1, "b"))
			in.must(chunk("79", 1, "b"))
			in.must(chunk("END", 1, "b"))
			in.only("begun anew", map[string]string{"web.tgz": "y"})
		})
	}
}

func TestTheLastBeginWins(t *testing.T) {
	in := newInbox(t)
	in.must(chunk("BEGIN", 2, "a"))
	in.must(chunk("6161", 2, "a"))
	in.must(chunk("BEGIN", 1, "b"))
	in.must(chunk("6161", 2, "a"))
	in.must(chunk("END", 2, "a"))
	in.must(chunk("62", 1, "b"))
	in.must(chunk("END", 1, "b"))
	in.only("in the end", map[string]string{"web.tgz": "b"})
	if len(in.failed) != 0 {
		t.Errorf("stale chunks are reported as failures: %v", in.failed)
	}
}

func TestAnUploadIsGivenUpWhenNothingIsHeardOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newInbox(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); in.run(ctx) }()
		in.must(chunk("BEGIN", 2, "a"))
		time.Sleep(in.idle - time.Second)
		in.must(chunk("61", 2, "a"))
		time.Sleep(in.idle - time.Second)
		synctest.Wait()
		if len(in.files()) != 1 {
			t.Errorf("a slow upload is given up: %v", in.files())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		in.only("after the silence", map[string]string{})
		if len(in.failed) != 1 {
			t.Errorf("told to have failed %d times, want once", len(in.failed))
		}
		other := chunk("BEGIN", 2, "b")
		in.must(other)
		cancel()
		<-done
		in.only("after the agent's end", map[string]string{})
	})
}

func TestAnUploadThatDoesNotFitIsRefusedBeforeItsFirstByte(t *testing.T) {
	in := newInbox(t)
	in.most = 100
	var refused *protocol.Error
	if err := in.take(chunk("BEGIN", 101, "a")); !errors.As(err, &refused) || refused.Code != protocol.CodeTooLarge {
		t.Errorf("an archive over the limit: %v", err)
	}
	var asked int64
	in.room = func(bytes int64) error { asked = bytes; return errors.New("full") }
	if err := in.take(chunk("BEGIN", 60, "a")); err == nil || err.Error() != "full" {
		t.Errorf("an archive that does not fit: %v", err)
	}
	in.room = func(bytes int64) error { asked = bytes; return nil }
	in.must(chunk("BEGIN", 60, "a"))
	next := chunk("BEGIN", 30, "b")
	next.Container = "dev_7_other"
	in.must(next)
	if asked != 90 {
		t.Errorf("asked for room for %d bytes, want 90: both are still to come", asked)
	}
	for i := range maxTransfers {
		next.Container = fmt.Sprintf("dev_%d_many", i+10)
		next.Total = 0
		if err := in.take(next); (err == nil) != (i < maxTransfers-2) {
			t.Errorf("upload %d: %v", i+3, err)
		}
	}
	if len(in.failed) != 4 {
		t.Errorf("%d refusals are told, want 4", len(in.failed))
	}
}

func TestLeftoversOfAnEndedAgentAreSwept(t *testing.T) {
	in := newInbox(t)
	in.must(chunk("BEGIN", 2, "a"))
	if len(in.files()) != 1 {
		t.Fatalf("no draft: %v", in.files())
	}
	next := newUploads(Config{AppLog: in.log, Log: zerolog.Nop()}, in.folder, nil)
	in.only("after the next start", map[string]string{})
	if err := next.take(chunk("30", 2, "a")); err == nil {
		t.Error("a chunk for the former agent was taken")
	}
}

// Whatever the calls are, nothing lands outside the folder, and a file under a
// name of its own has the size that was announced.
func FuzzUploads(f *testing.F) {
	f.Add([]byte("BEGIN\x00web.tgz\x00dev_6_web\x002\x00a\x01" + "3031\x00web.tgz\x00dev_6_web\x002\x00a\x01" + "END\x00web.tgz\x00dev_6_web\x002\x00a"))
	f.Add([]byte("BEGIN\x00../x\x00dev_6_web\x001\x00a\x01END\x00..\x00dev_6_web\x000\x00"))
	f.Fuzz(func(t *testing.T, script []byte) {
		in := newInbox(t)
		sizes := map[string]int64{}
		for _, line := range bytes.Split(script, []byte{1}) {
			var args []any
			for i, part := range bytes.Split(line, []byte{0}) {
				if i == 3 {
					args = append(args, len(part))
					continue
				}
				args = append(args, string(part))
			}
			var c protocol.WriteDataArgs
			if c.ReadArgs(args) != nil {
				continue
			}
			was := in.active[c.Container]
			if err := in.take(c); err == nil && c.Chunk == protocol.TransferEnd && was != nil && was.ID == c.ID {
				sizes[was.File] = was.Total
			}
		}
		for name, content := range in.files() {
			if want, whole := sizes[name]; !strings.HasPrefix(name, ".draft-") && (!whole || int64(len(content)) != want) {
				t.Errorf("%q has %d bytes, want %d (whole: %t)", name, len(content), want, whole)
			}
		}
		if outside, _ := filepath.Glob(filepath.Join(filepath.Dir(in.folder), "*")); len(outside) > 1 {
			t.Errorf("files beside the build folder: %q", outside)
		}
	})
}
