package apps

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"reagent/messenger"
	"reagent/persistence/device"
	"reagent/protocol"
)

// A picky studio refuses reports of one state.
type picky struct {
	mu    sync.Mutex
	no    protocol.State
	err   error
	taken []protocol.State
}

func (*picky) Online() bool                                          { return true }
func (*picky) RegistryToken(context.Context, uint64) (string, error) { return "", nil }
func (p *picky) Report(_ context.Context, r map[string]any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	state, _ := protocol.Text(r["state"])
	if protocol.State(state) == p.no {
		return p.err
	}
	p.taken = append(p.taken, protocol.State(state))
	return nil
}

func TestReportThatTheStudioNeverTakesMakesWayAtLast(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want int
	}{
		"refused":         {&messenger.CallError{URI: protocol.ErrorContract}, 2},
		"nobody to ask":   {&messenger.CallError{URI: protocol.ErrorNoSuchProcedure}, 0},
		"broken the link": {messenger.ErrOffline, 0},
	} {
		t.Run(name, func(t *testing.T) {
			store, err := device.Open(filepath.Join(t.TempDir(), "state.bolt"), zerolog.Nop())
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			for _, s := range []protocol.State{protocol.Failed, protocol.Starting, protocol.Running} {
				have := device.Actual{AppKey: 6, Stage: protocol.Prod, AppName: "web", State: s}
				report := protocol.StateReport{AppKey: 6, Stage: protocol.Prod, State: s}
				if err := store.Save(have, device.Outgoing{Report: report, Keep: true}); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Test(t, func(t *testing.T) {
				studio := &picky{no: protocol.Failed, err: c.err}
				r := &reporter{store: store, studio: studio, log: zerolog.Nop(), waits: ProductWaits(), wake: make(chan struct{}, 1)}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { defer close(done); r.run(ctx) }()
				time.Sleep(30 * time.Minute) // of the bubble
				cancel()
				<-done
				if len(studio.taken) != c.want {
					t.Errorf("taken: %v, want %d reports", studio.taken, c.want)
				}
			})
		})
	}
}
