package logs

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"reagent/container"
)

func TestDrainTakesWhatIsLeftOfAnEndedContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, "c1")
		d.life(true, func(l *Logs) {
			l.Attach(web, "c1")
			synctest.Wait()
			l.Detach(web)
			d.print("c1", "shutting down")
			d.engine.end("c1")
			l.Drain(t.Context(), web, container.Container{ID: "c1"})
			d.engine.remove("c1")
			expect(t, "lines", kept(t, l), []string{"shutting down"})
		})
		d.engine.containers["c2"] = &fakeContainer{changed: make(chan struct{})}
		d.life(true, func(l *Logs) {
			l.Attach(web, "c2")
			synctest.Wait()
			begun := time.Now()
			l.Drain(t.Context(), web, container.Container{ID: "c2"}) // it does not end
			if took := time.Since(begun); took != 5*time.Second {
				t.Errorf("a container that does not end is waited for %v, want 5s", took)
			}
		})
	})
}

// When the container is removed, ours is the only copy. That a file is synced
// shows where it cannot be: a folder is in its place.
func TestDrainedLogIsSafeFromAPowerCutBeforeItsContainerGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, "c1")
		var said bytes.Buffer
		d.log = zerolog.New(&said)
		d.life(true, func(l *Logs) {
			l.Attach(web, "c1")
			d.print("c1", "last words")
			synctest.Wait()
			d.engine.end("c1")
			stream := l.cfg.Journal.Stream(web)
			if err := stream.Flush(false); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(d.dir, "*", "*.seg"))
			if err != nil || len(files) != 1 {
				t.Fatalf("the log is in %q, %v; want one file", files, err)
			}
			away := filepath.Join(t.TempDir(), "away")
			if err := errors.Join(os.Rename(files[0], away), os.Mkdir(files[0], 0o700)); err != nil {
				t.Fatal(err)
			}
			l.Drain(t.Context(), web, container.Container{ID: "c1"})
			if !strings.Contains(said.String(), "power cut") {
				t.Errorf("where its file cannot be synced, the agent's log has %q; want that it was tried", &said)
			}
			said.Reset()
			if err := errors.Join(os.Remove(files[0]), os.Rename(away, files[0])); err != nil {
				t.Fatal(err)
			}
			l.Drain(t.Context(), web, container.Container{ID: "c1"})
			if said.Len() > 0 {
				t.Errorf("where its file can be synced, the agent's log has %s", &said)
			}
		})
	})
}

func TestLogThatIsNotReadBeforeItsContainerGoesIsAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, "c1")
		d.life(true, func(l *Logs) {
			l.Attach(web, "c1")
			d.print("c1", "one")
			synctest.Wait()
			l.Detach(web)
			d.engine.fail(errors.New("engine is busy"))
			d.engine.breakOff("c1")
			synctest.Wait()
			d.print("c1", "nobody ever reads this")
			d.engine.end("c1")
			l.Drain(t.Context(), web, container.Container{ID: "c1"})
			d.engine.remove("c1")
			d.engine.fail(nil)
			expect(t, "lines", kept(t, l), []string{"one", "[2-2 engine]"})
			l.Drain(t.Context(), web, container.Container{ID: "c1"}) // gone: nothing is missing that was not
			expect(t, "lines", kept(t, l), []string{"one", "[2-2 engine]"})
		})
	})
}

func TestDrainDoesNotWaitForWhoeverTriesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, "c1")
		d.life(true, func(l *Logs) {
			d.engine.fail(errors.New("engine is busy"))
			l.Attach(web, "c1")
			time.Sleep(5 * time.Minute) // its pauses are long by now
			d.engine.fail(nil)
			d.print("c1", "last words")
			d.engine.end("c1")
			begun := time.Now()
			l.Drain(t.Context(), web, container.Container{ID: "c1"})
			if took := time.Since(begun); took != 0 {
				t.Errorf("the rest of a log came after %v, want at once", took)
			}
			time.Sleep(time.Minute)
			expect(t, "lines", kept(t, l), []string{"last words"})
		})
	})
}
