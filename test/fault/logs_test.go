package fault

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
	"reagent/test/rig"
)

// A follower reads an app's log as any program would that wants all of it: it
// calls again with the cursor behind what it has processed, whatever happens.
type follower struct {
	session *messenger.Session
	uri, cn string

	cursor string
	seq    uint64 // of the last line
	calls  int
	failed int

	mu    sync.Mutex
	lines []string // what the app printed
	ended string   // why the last call ended
	wrong error
}

// run follows until ctx ends or something is wrong.
func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil && f.problem() == nil {
		in := map[string]any{"container_name": f.cn, "from": "oldest", "max_bytes": 256 << 10, "wait_ms": 500}
		if f.cursor != "" {
			in["cursor"] = f.cursor
		}
		f.calls++
		lost := false // a result; the rest of the call is of no use
		r, err := f.session.CallProgress(ctx, f.uri, []any{in}, nil, func(r messenger.Result) {
			var record protocol.LogRecord
			if err := protocol.Decode(protocol.Arg(r.Args, 0), &record); err != nil {
				f.fail(err)
				return
			}
			lost = lost || !f.process(record)
		})
		if err != nil {
			f.failed++
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		var end protocol.LogRecord
		if err := protocol.Decode(protocol.Arg(r.Args, 0), &end); err != nil {
			f.fail(err)
		}
		f.mu.Lock()
		f.ended = end.Reason
		f.mu.Unlock()
	}
}

// process takes a record in, unless one before it was lost.
func (f *follower) process(r protocol.LogRecord) bool {
	if r.Type == protocol.LogGap {
		f.fail(fmt.Errorf("a gap behind line %d: %+v", f.seq, r.Wire()))
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, line := range r.Lines {
		if line.Seq > f.seq+1 {
			return false
		}
		if line.Seq <= f.seq {
			f.wrong = fmt.Errorf("line %d came again", line.Seq)
			return true
		}
		f.seq = line.Seq
		if line.Stream != protocol.StreamAgent {
			f.lines = append(f.lines, line.Text)
		}
	}
	f.cursor = r.Cursor
	return true
}

func (f *follower) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wrong = err
}

func (f *follower) problem() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wrong
}

// wait waits until the follower has so many lines.
func (f *follower) wait(t testing.TB, want int) {
	t.Helper()
	got := 0
	testenv.Eventually(t, 90*time.Second, func() string { return fmt.Sprintf("%d lines of %d", got, want) }, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		got = len(f.lines)
		return got >= want || f.wrong != nil
	})
	if err := f.problem(); err != nil {
		t.Fatal(err)
	}
}

func TestAFollowerGetsEveryLineOnceWhateverBreaks(t *testing.T) {
	t.Parallel()
	const each = 25_000 // lines of one run of the app, as fast as it can
	s := newSite(t, testenv.Docker(t))
	relay := s.behind()
	app := s.app("chatty")
	s.Release(app, rig.Release{Version: "1.0.0", Image: testenv.App{Env: []string{fmt.Sprintf("TESTAPP_LINES=%d", each)}}})
	agent := s.start(quick(t))
	begun := s.run(app, "1.0.0")

	f := &follower{session: s.Session, uri: protocol.Procedure(s.device.Serial, protocol.FollowAppLogs), cn: s.name(app)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.run(ctx)
	}()
	defer func() {
		cancel()
		<-done
	}()

	f.wait(t, 2_000)
	relay.Cut()
	f.wait(t, 5_000)
	agent.Terminate(syscall.SIGTERM, wellBehaved)
	agent = s.device.Start(t, quick(t))
	f.wait(t, 9_000)
	relay.Cut()
	f.wait(t, 13_000)
	agent.Kill()
	s.device.Start(t, quick(t))
	f.wait(t, 17_000)
	s.studio.Kill()
	s.studio.Start()
	f.wait(t, each+1)
	s.crash(app, begun)
	f.wait(t, each+5_000)
	relay.Cut()
	f.wait(t, 2*each+2)

	// Its end is told as well, to those who wait for more.
	s.Remove(app, s.device.Serial, true)
	testenv.Eventually(t, 60*time.Second, func() string { return "the follower hears that the app is gone" }, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.ended == protocol.EndRemoved || f.wrong != nil
	})

	f.mu.Lock()
	defer f.mu.Unlock()
	if f.wrong != nil {
		t.Fatal(f.wrong)
	}
	// The last line is the app's farewell when it was asked to end.
	if n := len(f.lines) - 1; f.lines[n] == "terminated" {
		f.lines = f.lines[:n]
	} else {
		t.Errorf("the last line is %q, want what it said when it was removed", f.lines[n])
	}
	for i, line := range f.lines {
		want := fmt.Sprintf("line %d", i%(each+1)+1)
		if i%(each+1) == each {
			want = "ready"
		}
		if line != want {
			t.Fatalf("line %d is %q, want %q", i, line, want)
		}
	}
	if len(f.lines) != 2*each+2 {
		t.Errorf("%d lines, want %d", len(f.lines), 2*each+2)
	}
	t.Logf("%d calls, %d of them failed", f.calls, f.failed)
	if f.failed == 0 {
		t.Error("no call failed: nothing broke while it followed")
	}
}
