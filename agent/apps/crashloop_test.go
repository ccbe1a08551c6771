package apps

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/persistence/device"
	"reagent/protocol"
)

// A datedLog keeps what is said of an app, and when.
type datedLog struct {
	logDouble
	mu   sync.Mutex
	said []saying
}

type saying struct {
	at   time.Time
	text string
}

func (l *datedLog) Agent(_, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, saying{time.Now(), text})
}

// of are the sayings that begin in a certain way.
func (l *datedLog) of(prefix string) (list []saying) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.said {
		if strings.HasPrefix(s.text, prefix) {
			list = append(list, s)
		}
	}
	return list
}

// A bubbleEngine is a small engine that nothing cuts off.
type bubbleEngine struct{ *smallEngine }

func newBubbleEngine(prints map[string]blueprint) *bubbleEngine {
	e := &bubbleEngine{newSmallEngine()}
	e.prints = prints
	return e
}

func (e *bubbleEngine) Run(ctx context.Context, s container.Spec) (id, note string, err error) {
	if id, err = e.Create(ctx, s); err == nil {
		err = e.Start(ctx, id)
	}
	return id, "", err
}

// inTheBubble runs the apps of a device on a small engine, with the product's
// waits, until the test ends.
func inTheBubble(t *testing.T, e engine, log AppLog) *Apps {
	t.Helper()
	store, err := device.Open(filepath.Join(t.TempDir(), "state.bolt"), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	apps, err := New(Config{
		AppsDir: t.TempDir(), Arch: "amd64", Facts: testFacts, LANIP: func() string { return "" },
		GPU: func() bool { return false }, HostPaths: func() []string { return nil },
		Store: store, Engine: e, Studio: newStudio(), AppLog: log, Log: zerolog.Nop(), Waits: ProductWaits(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = apps.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return apps
}

func wanted(version string, change func(*protocol.AppRequest)) protocol.AppRequest {
	r := protocol.AppRequest{AppKey: 6, AppName: "web", Stage: protocol.Prod, Target: protocol.Running, PresentVersion: version, NewestVersion: version}
	if change != nil {
		change(&r)
	}
	return r
}

func TestTheLogTellsTheTruePauseOfACrashLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, log := newBubbleEngine(map[string]blueprint{"1": {pull: time.Second, ends: 3 * time.Second, exit: 3}}), &datedLog{}
		if err := inTheBubble(t, e, log).Request(t.Context(), wanted("1", nil)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		pauses, starts := log.of("Entered a crashloop"), log.of("Starting web")
		if len(pauses) < 4 || len(starts) <= 4 {
			t.Fatalf("%d pauses and %d starts in five minutes", len(pauses), len(starts))
		}
		for n := range 4 {
			var nth, said string
			if _, err := fmt.Sscanf(pauses[n].text, "Entered a crashloop (%s attempt), retrying in %s", &nth, &said); err != nil || nth != ordinal(n+1) {
				t.Fatalf("pause %d is told as %q (%v)", n+1, pauses[n].text, err)
			}
			told, err := time.ParseDuration(said)
			if err != nil {
				t.Fatal(err)
			}
			ideal := time.Duration(5*(n+1)*(n+1)) * time.Second
			real := starts[n+1].at.Sub(pauses[n].at)
			if real < ideal*8/10 || real > ideal*12/10 || (real-told).Abs() > 100*time.Millisecond {
				t.Errorf("pause %d lasted %s, told was %s, the contract's is %s ± 20 %%", n+1, real, told, ideal)
			}
		}
	})
}

func TestARunThatLastsEndsACrashLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, log := newBubbleEngine(map[string]blueprint{"1": {ends: 3 * time.Second, exit: 3}}), &datedLog{}
		if err := inTheBubble(t, e, log).Request(t.Context(), wanted("1", nil)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		before := len(log.of("Entered a crashloop"))
		e.mu.Lock()
		for id := range e.does {
			e.does[id] = blueprint{ends: 11 * time.Minute, exit: 3} // its next start lasts
		}
		e.mu.Unlock()
		time.Sleep(13 * time.Minute)
		synctest.Wait()
		pauses := log.of("Entered a crashloop")
		if before < 2 || len(pauses) != before+1 || !strings.HasPrefix(pauses[before].text, "Entered a crashloop (1st attempt)") {
			t.Errorf("after a run of 11 minutes: %v, want one that begins anew (%d before)", pauses, before)
		}
	})
}

// slowPull holds every pull up until it is told how it ends.
type slowPull struct {
	*bubbleEngine
	begun chan struct{}
	ends  chan error
}

func (e *slowPull) Pull(ctx context.Context, _ string, _ *container.Credential, _ func(container.PullProgress)) error {
	e.begun <- struct{}{}
	select {
	case err := <-e.ends:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestAWishThatArrivesDuringAnAttemptWaitsForNoPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &slowPull{newBubbleEngine(nil), make(chan struct{}), make(chan error)}
		log := &datedLog{}
		apps := inTheBubble(t, e, log)
		if err := apps.Request(t.Context(), wanted("1", nil)); err != nil {
			t.Fatal(err)
		}
		<-e.begun
		newer := wanted("1", func(r *protocol.AppRequest) {
			r.Environment = map[string]any{"A": map[string]any{"value": "2"}}
		})
		if err := apps.Request(t.Context(), newer); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		e.ends <- errors.New("manifest unknown")
		<-e.begun
		if wait := time.Since(begun); wait != 0 {
			t.Errorf("the newer wish was followed after %s, want at once", wait)
		}
		if pauses := log.of("Entered a crashloop"); len(pauses) != 0 {
			t.Errorf("a pause was told that there was not: %v", pauses)
		}
		e.ends <- errors.New("manifest unknown")
		synctest.Wait()
		if pauses := log.of("Entered a crashloop (1st attempt)"); len(pauses) != 1 {
			t.Errorf("pauses after the newer wish's own failure: %v, want the first", pauses)
		}
	})
}
