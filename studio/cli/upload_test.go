package cli

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"reagent/messenger"
	"reagent/protocol"
)

func TestAnUploadThatBreaksOffIsBegunAnew(t *testing.T) {
	for claim, broken := range map[string]error{
		"the connection was lost":   messenger.ErrOffline,
		"no answer":                 context.DeadlineExceeded,
		"the device went away":      &messenger.CallError{URI: protocol.ErrorNoSuchProcedure},
		"the agent was started":     contractError(protocol.CodeNotFound, "We received a chunk without an active transfer"),
		"the transfer was canceled": contractError(protocol.CodeInternal, "canceled"),
	} {
		b := newBench(t)
		times := 0
		b.broken = func(chunk string) error {
			if len(chunk) > 10 && times < 2 {
				times++
				return broken
			}
			return nil
		}
		if err := b.run(t, "dev", "push", hello(t, someDockerfile), "press-07", "--no-run"); err != nil || b.begun != 3 {
			t.Errorf("%s: dev push = %v after %d transfers, want nil after 3", claim, err, b.begun)
		}
		b.received(t)
	}
}

func TestAnUploadThatIsRefusedIsNotRepeated(t *testing.T) {
	for _, c := range []struct {
		claim, want string
		err         error
	}{
		{"too large", "no room for it", contractError(protocol.CodeTooLarge, "no room for it")},
		{"not allowed", "the right DEVELOP is needed", contractError(protocol.CodeRefused, "insufficient privileges")},
		{"something of its own", "send the archive to press-07: disk on fire", contractError(protocol.CodeInternal, "disk on\x1bfire")},
	} {
		b := newBench(t)
		calls := 0
		b.broken = func(string) error { calls++; return c.err }
		if err := b.run(t, "dev", "push", hello(t, someDockerfile), "press-07"); err == nil || !strings.Contains(err.Error(), c.want) || calls != 1 {
			t.Errorf("%s: dev push = %v after %d calls, want %q after one", c.claim, err, calls, c.want)
		}
	}
	b := newBench(t)
	calls := 0
	b.broken = func(string) error { calls++; return messenger.ErrOffline }
	if err := b.run(t, "dev", "push", hello(t, someDockerfile), "press-07"); err == nil || !strings.Contains(err.Error(), "connection to the studio was lost") || calls != 5 {
		t.Errorf("a link that stays away: %v after %d calls, want an error after 5", err, calls)
	}
}

func TestALargeArchiveGoesInChunksOfAGrowingSize(t *testing.T) {
	b := newBench(t)
	var sizes []int
	b.broken = func(chunk string) error { sizes = append(sizes, len(chunk)/2); return nil }
	content := bytes.Repeat([]byte("0123456789abcdef"), 3<<16)
	c := &Call{Program: &b.Program}
	up := &upload{c: c, serial: "s1", device: "press-07", file: "hello.tgz", container: "dev_6_hello", content: bytes.NewReader(content), size: int64(len(content))}
	if err := up.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.close()
	if !bytes.Equal(b.got.Bytes(), content) {
		t.Errorf("%d bytes arrived, and they are not the %d that were sent", b.got.Len(), len(content))
	}
	if most := slices.Max(sizes); sizes[1] != firstChunk || most <= firstChunk || most > mostChunk {
		t.Errorf("chunks of %v bytes, want them to begin with %d and to grow up to %d", sizes, firstChunk, mostChunk)
	}
}
