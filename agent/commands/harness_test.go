//go:build linux

package commands

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"reagent/protocol"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == lifeToBeCut {
		liveUntilKilled(os.Args[2])
		return
	}
	goleak.VerifyTestMain(m)
}

// newID makes an id as callers do.
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// A life is one life of the agent.
type life struct {
	*Commands
	end func() // of it; waits
}

// live begins a life over the folder dir.
func live(t *testing.T, dir string, change ...func(*Config)) *life {
	t.Helper()
	cfg := Config{
		Dir: dir, Allowed: true, Serial: "sn-1", Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel),
		Grace: 300 * time.Millisecond, Drain: 200 * time.Millisecond,
	}
	for _, c := range change {
		c(&cfg)
	}
	c := New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	end := sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
	})
	t.Cleanup(end)
	return &life{c, end}
}

// shell is a question for a line of the shell.
func shell(line string) Question {
	return Question{Caller: "3", RunCommandArgs: protocol.RunCommandArgs{
		ID: newID(), Shell: line, Timeout: protocol.CommandTimeout, MaxOutput: protocol.CommandOutput,
	}}
}

// do asks and fails the test if there is no answer.
func (l *life) do(t *testing.T, q Question) protocol.CommandEnd {
	t.Helper()
	end, err := l.Do(t.Context(), q)
	if err != nil {
		t.Fatalf("%q: %v", q.Shell, err)
	}
	return end
}

// begin asks on a goroutine of its own; the answer comes to the channel.
func (l *life) begin(ctx context.Context, q Question) <-chan answered {
	answers := make(chan answered, 1)
	go func() {
		end, err := l.Do(ctx, q)
		answers <- answered{end, err}
	}()
	return answers
}

type answered struct {
	end protocol.CommandEnd
	err error
}

// taking is progress that keeps what comes.
type taking struct {
	mu     sync.Mutex
	chunks []protocol.CommandChunk
	first  chan struct{}
}

func newTaking() *taking { return &taking{first: make(chan struct{})} }

func (p *taking) take(_ context.Context, c protocol.CommandChunk) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.chunks) == 0 {
		close(p.first)
	}
	p.chunks = append(p.chunks, c)
	return nil
}

// text is all that came on a stream; the numbers have to be without gap.
func (p *taking) text(t *testing.T, stream string) string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for i, c := range p.chunks {
		if c.Seq != uint64(i) || c.Type != "output" || len(c.Data) > protocol.MaxCommandChunk {
			t.Errorf("part %d: type %q, seq %d, %d bytes", i, c.Type, c.Seq, len(c.Data))
		}
		if c.Stream == stream {
			b.WriteString(c.Data)
		}
	}
	return b.String()
}

func exited(end protocol.CommandEnd, code int) bool {
	return end.State == protocol.CommandExited && end.ExitCode != nil && *end.ExitCode == code
}

func value(s *string) string {
	if s == nil {
		return "(none)"
	}
	return *s
}

// sleepers are the processes "sleep <mark>" that run.
func sleepers(t testing.TB, mark string) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		line, _ := os.ReadFile(file) // it may have ended
		if string(line) == "sleep\x00"+mark+"\x00" {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// newMark is an argument for sleep that nobody else has. What still sleeps so at
// the end of the test is ended.
func newMark(t *testing.T) string {
	var b [4]byte
	rand.Read(b[:])
	mark := strconv.Itoa(1e8 + int(binary.BigEndian.Uint32(b[:])%1e8))
	t.Cleanup(func() {
		for _, pid := range sleepers(t, mark) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return mark
}

// exists tells whether there is a process of this number, be it a zombie.
func exists(pid int) bool { return syscall.Kill(pid, 0) == nil }
