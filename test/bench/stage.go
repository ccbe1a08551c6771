package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A stage is where the real parts of testenv stand outside of "go test": it
// takes their clean-ups and ends what runs on it when one of them fails. Only
// what is written out below may be called of a testing.TB.
//
// As with tests, what runs on a stage has a goroutine of its own, and only that
// one may call Fatal and Skip.
type stage struct {
	testing.TB
	name   string
	parent context.Context
	ctx    context.Context // ends when do has returned, or with parent

	mu       sync.Mutex // guards what follows
	cleanups []func()
	faults   []error
	said     []string
	skipped  string
}

// errSkipped means that this machine lacks what a measurement needs.
var errSkipped = errors.New("not possible here")

// perform runs do on a stage of its own, and then its clean-ups, the last first.
// It returns what failed; errSkipped with the reason if do gave up.
func perform(ctx context.Context, name string, do func(t *stage)) error {
	t := &stage{name: name, parent: ctx}
	var cancel context.CancelFunc
	t.ctx, cancel = context.WithCancel(ctx)
	t.apart(func() { do(t) })
	cancel()
	for {
		t.mu.Lock()
		last := len(t.cleanups) - 1
		if last < 0 {
			t.mu.Unlock()
			break
		}
		clean := t.cleanups[last]
		t.cleanups = t.cleanups[:last]
		t.mu.Unlock()
		t.apart(clean)
	}
	switch {
	case len(t.faults) > 0:
		return errors.Join(append(t.faults, errors.New(strings.Join(t.said, "\n")))...)
	case t.skipped != "":
		return fmt.Errorf("%w: %s", errSkipped, t.skipped)
	}
	return ctx.Err()
}

// apart runs f on a goroutine that Fatal and Skip may end.
func (t *stage) apart(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if r := recover(); r != nil {
				t.Errorf("panic: %v\n%s", r, debug.Stack())
			}
		}()
		f()
	}()
	<-done
}

func (t *stage) Helper()                          {}
func (t *stage) Name() string                     { return t.name }
func (t *stage) Context() context.Context         { return t.ctx }
func (t *stage) Log(args ...any)                  { t.say(fmt.Sprintln(args...)) }
func (t *stage) Logf(format string, args ...any)  { t.say(fmt.Sprintf(format, args...)) }
func (t *stage) Error(args ...any)                { t.fault(fmt.Sprintln(args...)) }
func (t *stage) Errorf(f string, args ...any)     { t.fault(fmt.Sprintf(f, args...)) }
func (t *stage) Fatal(args ...any)                { t.Error(args...); t.FailNow() }
func (t *stage) Fatalf(f string, args ...any)     { t.Errorf(f, args...); t.FailNow() }
func (t *stage) FailNow()                         { runtime.Goexit() }
func (t *stage) Skip(args ...any)                 { t.skip(fmt.Sprintln(args...)) }
func (t *stage) Skipf(format string, args ...any) { t.skip(fmt.Sprintf(format, args...)) }

func (t *stage) Cleanup(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleanups = append(t.cleanups, f)
}

func (t *stage) Failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.faults) > 0
}

func (t *stage) TempDir() string {
	dir, err := os.MkdirTemp("", "reagent-bench-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fault notes what failed. After the context has ended everything fails, and
// only the end is worth telling.
func (t *stage) fault(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	err := errors.New(strings.TrimSpace(text))
	if t.parent.Err() != nil {
		err = t.parent.Err()
	}
	if !slices.ContainsFunc(t.faults, func(f error) bool { return f.Error() == err.Error() }) {
		t.faults = append(t.faults, err)
	}
}

// say keeps what is of use only if something fails.
func (t *stage) say(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.said = append(t.said, strings.TrimSpace(text))
}

func (t *stage) skip(reason string) {
	t.mu.Lock()
	t.skipped = strings.TrimSpace(reason)
	t.mu.Unlock()
	runtime.Goexit()
}
