package cli

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reagent/protocol"
)

// A scene is a deployment that waits, in a bubble of its own time.
type scene struct {
	*desk
	row protocol.AppOnDeviceRow // as the studio knows it
	end chan error
}

// play begins "deploy … --wait" and returns when it waits for the device.
func play(t *testing.T, args ...string) *scene {
	t.Helper()
	s := &scene{desk: newDesk(t), end: make(chan error, 1)}
	s.row = someStates().States[0]
	s.row.State, s.row.Version, s.row.Reported, s.row.TargetVersion = protocol.Removed, "", time.Time{}, "1.1.0"
	s.row.Wished = time.Now()
	s.row.Ports = []protocol.PortRule{{Port: 8080}}
	s.studio.answers[protocol.StudioDeployApp] = give(protocol.Wished{App: s.row, Delivered: true})
	s.studio.answers[protocol.StudioListStates] = func(map[string]any) (any, error) {
		return protocol.StateList{States: []protocol.AppOnDeviceRow{s.row}}, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() { s.end <- s.Run(ctx, append([]string{"deploy", "hello", "press-07", "--wait"}, args...)) }()
	synctest.Wait()
	return s
}

// report is the device's report of a state.
func (s *scene) report(t *testing.T, change func(*protocol.AppOnDeviceRow)) {
	t.Helper()
	time.Sleep(time.Second) // of the bubble: no test waits for it
	s.row.Reported = time.Now()
	change(&s.row)
	s.studio.publish(t, protocol.StudioAppState, protocol.Wire(s.row))
	synctest.Wait()
}

func inState(state protocol.State) func(*protocol.AppOnDeviceRow) {
	return func(r *protocol.AppOnDeviceRow) { r.State = state }
}

func running(version string) func(*protocol.AppOnDeviceRow) {
	return func(r *protocol.AppOnDeviceRow) { r.State, r.Version = protocol.Running, version }
}

func ported(r *protocol.AppOnDeviceRow) { r.Ports = []protocol.PortRule{{Port: 8080, HostPort: 40000}} }

// states are the words that were printed, in order.
func (s *scene) states() string {
	var words []string
	for line := range strings.Lines(s.stdout.String()) {
		if _, text, ok := strings.Cut(strings.TrimSpace(line), "  "); ok {
			words = append(words, text)
		}
	}
	return strings.Join(words, " | ")
}

func TestWaitShowsEachStateAndEndsWhenTheAppRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t)
		for _, change := range []func(*protocol.AppOnDeviceRow){inState(protocol.Downloading), inState(protocol.Downloading), inState(protocol.Present), inState(protocol.Starting), running("1.1.0"), ported} {
			s.report(t, change)
		}
		if err := <-s.end; err != nil {
			t.Errorf("deploy = %v, want nil", err)
		}
		if got, want := s.states(), "DOWNLOADING | PRESENT | STARTING | RUNNING 1.1.0"; got != want {
			t.Errorf("states %q, want %q", got, want)
		}
		if !strings.HasSuffix(s.stdout.String(), "hello 1.1.0 runs on press-07, ports 40000->8080\n") {
			t.Errorf("the end is\n%s", s.stdout.String())
		}
	})
}

func TestWaitDoesNotBelieveAnAppThatFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t)
		s.report(t, func(r *protocol.AppOnDeviceRow) { running("1.1.0")(r); ported(r) })
		s.report(t, func(r *protocol.AppOnDeviceRow) { r.State, r.Error = protocol.Failed, "exited with status code 3" })
		if err := <-s.end; err == nil || !strings.Contains(err.Error(), "status code 3") {
			t.Errorf("deploy = %v, want the failure", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := play(t)
		begun := time.Now()
		s.report(t, func(r *protocol.AppOnDeviceRow) { running("1.1.0")(r); ported(r) })
		if err := <-s.end; err != nil || time.Since(begun) != 3*time.Second {
			t.Errorf("deploy = %v after %v, want nil 2 s after the report", err, time.Since(begun))
		}
	})
}

func TestWaitDoesNotWaitForPortsForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t)
		s.report(t, running("1.1.0"))
		begun := time.Now()
		if err := <-s.end; err != nil || time.Since(begun) != 5*time.Second {
			t.Errorf("deploy = %v after %v, want nil after 5 s", err, time.Since(begun))
		}
	})
}

func TestWaitEndsInAnErrorWhenTheAppFailed(t *testing.T) {
	for _, c := range []struct {
		claim  string
		change func(*protocol.AppOnDeviceRow)
		want   string
	}{
		{"it failed", func(r *protocol.AppOnDeviceRow) { r.State, r.Error = protocol.Failed, "exited with \x1bstatus code 3" }, "hello failed on press-07: exited with  status code 3"},
		{"it was rolled back", func(r *protocol.AppOnDeviceRow) {
			r.State, r.Version, r.UpdateStatus = protocol.Running, "1.0.0", protocol.UpdateCanceled
		}, "1.1.0 did not stay up on press-07: 1.0.0 is back"},
		{"it could not be installed", func(r *protocol.AppOnDeviceRow) {
			running("1.0.0")(r)
			anUpdate(protocol.UpdateFailed, "no such image")(r)
		}, "hello 1.1.0 could not be installed on press-07 (no such image): 1.0.0 runs on"},
		{"it was canceled", func(r *protocol.AppOnDeviceRow) {
			running("1.0.0")(r)
			anUpdate(protocol.UpdateStopped, "")(r)
		}, "was canceled: 1.0.0 runs on"},
		{"somebody else stopped it", func(r *protocol.AppOnDeviceRow) { r.Target = protocol.Present }, "somebody else wants hello PRESENT"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := play(t)
			s.report(t, inState(protocol.Updating))
			s.report(t, c.change)
			if err := <-s.end; err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: deploy = %v, want %q", c.claim, err, c.want)
			}
		})
	}
}

// anUpdate is what the studio makes of reports of one.
func anUpdate(outcome protocol.UpdateOutcome, reason string) func(*protocol.AppOnDeviceRow) {
	return func(r *protocol.AppOnDeviceRow) {
		r.LastUpdate = &protocol.UpdateRow{From: "1.0.0", To: "1.1.0", Outcome: outcome, Reason: reason, Time: r.Reported}
	}
}

func both(first, second func(*protocol.AppOnDeviceRow)) func(*protocol.AppOnDeviceRow) {
	return func(r *protocol.AppOnDeviceRow) { first(r); second(r) }
}

func TestWaitBelievesAnotherVersionAfterItsProbation(t *testing.T) {
	for _, c := range []struct {
		args []string
		want time.Duration
	}{{nil, 35 * time.Second}, {[]string{"--settle", "4s"}, 4 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			s := play(t, c.args...)
			s.report(t, both(inState(protocol.Updating), anUpdate(protocol.UpdateRuns, "")))
			s.report(t, both(inState(protocol.Present), anUpdate(protocol.UpdateDone, "")))
			s.report(t, both(running("1.1.0"), ported))
			begun := time.Now()
			if err := <-s.end; err != nil || time.Since(begun) != c.want {
				t.Errorf("deploy %v = %v after %v, want nil after %v", c.args, err, time.Since(begun), c.want)
			}
		})
	}
}

func TestWaitEndsWhenTheDeviceSaysThatTheProbationIsOver(t *testing.T) {
	for _, c := range []struct {
		args []string
		want time.Duration
	}{{nil, 61 * time.Second}, {[]string{"--settle", "4s"}, 4 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			s := play(t, c.args...)
			s.report(t, both(inState(protocol.Updating), anUpdate(protocol.UpdateRuns, "")))
			s.report(t, both(both(running("1.1.0"), ported), anUpdate(protocol.UpdateRuns, "")))
			begun := time.Now()
			over := time.AfterFunc(59*time.Second, func() {
				synctest.Wait() // nobody reads the row now
				s.row.Reported = time.Now()
				anUpdate(protocol.UpdateDone, "")(&s.row)
				s.studio.publish(t, protocol.StudioAppState, protocol.Wire(s.row))
			})
			defer over.Stop()
			if err := <-s.end; err != nil || time.Since(begun) != c.want {
				t.Errorf("deploy %v = %v after %v, want nil after %v", c.args, err, time.Since(begun), c.want)
			}
		})
	}
}

func TestWaitTellsWhyAVersionWasRolledBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t)
		s.report(t, both(inState(protocol.Updating), anUpdate(protocol.UpdateRuns, "")))
		s.report(t, both(inState(protocol.Present), anUpdate(protocol.UpdateDone, "")))
		s.report(t, running("1.1.0"))
		s.report(t, func(r *protocol.AppOnDeviceRow) { r.State, r.Error = protocol.Failed, "not healthy" })
		s.report(t, both(running("1.0.0"), anUpdate(protocol.UpdateRolledBack, "not healthy")))
		if err := <-s.end; err == nil || err.Error() != "hello 1.1.0 did not stay up on press-07 (not healthy): 1.0.0 is back" {
			t.Errorf("deploy = %v, want that it was rolled back, and why", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := play(t)
		s.report(t, both(inState(protocol.Updating), anUpdate(protocol.UpdateRuns, "")))
		s.report(t, both(func(r *protocol.AppOnDeviceRow) { r.State, r.Error = protocol.Failed, "no such image" }, anUpdate(protocol.UpdateFailed, "no such image")))
		begun := time.Now()
		if err := <-s.end; err == nil || !strings.Contains(err.Error(), "hello failed on press-07: no such image") || time.Since(begun) != 15*time.Second {
			t.Errorf("deploy = %v after %v, want the failure when nothing came back for 15 s", err, time.Since(begun))
		}
	})
}

func TestWaitTakesNoOldNewsForAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t)
		old := s.row
		old.State, old.Version, old.Reported = protocol.Failed, "1.0.0", s.row.Wished.Add(-time.Minute)
		s.studio.publish(t, protocol.StudioAppState, protocol.Wire(old))
		other := s.row
		other.State, other.DeviceKey, other.Reported = protocol.Failed, 99, time.Now()
		s.studio.publish(t, protocol.StudioAppState, protocol.Wire(other))
		s.studio.publish(t, protocol.StudioAppState, "rubbish", 7)
		s.studio.publish(t, protocol.StudioAppState)
		synctest.Wait()
		s.report(t, func(r *protocol.AppOnDeviceRow) { running("1.1.0")(r); ported(r) })
		if err := <-s.end; err != nil {
			t.Errorf("deploy = %v, want nil", err)
		}
	})
}

func TestWaitFindsOutWhatNoEventTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t)
		time.Sleep(time.Second)
		s.studio.mu.Lock() // the row changes, nothing is published
		s.row.State, s.row.Version, s.row.Reported = protocol.Running, "1.1.0", time.Now()
		ported(&s.row)
		s.studio.mu.Unlock()
		begun := time.Now()
		if err := <-s.end; err != nil || time.Since(begun) > 12*time.Second {
			t.Errorf("deploy = %v after %v, want nil soon after the next look", err, time.Since(begun))
		}
	})
}

func TestWaitHasAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t, "--timeout", "90s")
		begun := time.Now()
		err := <-s.end
		if err == nil || !strings.Contains(err.Error(), "hello does not run on press-07 after 1m30s") || time.Since(begun) != 90*time.Second {
			t.Errorf("deploy = %v after %v", err, time.Since(begun))
		}
	})
}

func TestADeviceThatIsOffLineIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		row := someStates().States[0]
		row.Wished, row.Reported, row.Online = time.Now(), time.Now().Add(-time.Hour), false
		d.studio.answers[protocol.StudioDeployApp] = give(protocol.Wished{App: row, Reason: "press-07 is not on-line"})
		ctx, cancel := context.WithCancel(t.Context())
		end := make(chan error, 1)
		go func() { end <- d.Run(ctx, []string{"deploy", "hello", "press-07", "--wait"}) }()
		synctest.Wait()
		if !strings.Contains(d.stderr.String(), "waiting for press-07 to take the wish: press-07 is not on-line") {
			t.Errorf("stderr %q", d.stderr.String())
		}
		cancel()
		if err := <-end; !errors.Is(err, context.Canceled) {
			t.Errorf("deploy = %v, want context.Canceled", err)
		}
	})
}

func TestAWishThatTheDeviceRefusesIsNotWaitedFor(t *testing.T) {
	for _, line := range []string{"deploy hello press-07 --wait", "deploy hello press-07"} {
		d := newDesk(t)
		d.studio.answers[protocol.StudioDeployApp] = give(protocol.Wished{App: someStates().States[0], Refused: true, Reason: "the device did not take the wish: privileged: not allowed"})
		if err := d.run(t, strings.Fields(line)...); err == nil || !strings.Contains(err.Error(), "hello on press-07: the device did not take the wish: privileged: not allowed") {
			t.Errorf("%s = %v, want the refusal", line, err)
		}
	}
}
