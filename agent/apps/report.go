package apps

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"reagent/internal/backoff"
	"reagent/messenger"
	"reagent/persistence/device"
	"reagent/protocol"
)

// A reporter delivers the outbox: in order for each app, apps side by side, at
// last (design rule 8). A report leaves the outbox when the studio answered it.
type reporter struct {
	store  outbox
	studio Studio
	log    zerolog.Logger
	waits  Waits
	wake   chan struct{} // capacity 1

	mu      sync.Mutex
	refused map[uint64]int // by report: how often a studio that is there said no
}

const (
	// parallelReports bounds the calls under way at once.
	parallelReports = 8
	// maxRefusals is how often one report is offered to a studio that answers it
	// with an error of its own; then it makes way for the app's later ones.
	maxRefusals = 20
)

func (r *reporter) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *reporter) run(ctx context.Context) {
	pause := backoff.Backoff{Min: r.waits.ReportRetry, Max: 30 * time.Second}
	for {
		var retry <-chan time.Time
		if r.studio.Online() {
			if err := r.deliver(ctx); err == nil {
				pause.Reset()
			} else if ctx.Err() == nil && r.studio.Online() {
				wait := pause.Next()
				r.log.Warn().Err(err).Dur("retry_in", wait).Msg("report not delivered")
				retry = time.After(wait)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-retry:
		case <-r.wake:
		}
	}
}

// deliver sends what is in the outbox, once. The error is of one app's report
// that was not taken; the others were sent all the same.
func (r *reporter) deliver(ctx context.Context) error {
	states, ports, err := r.store.Outbox()
	if err != nil {
		return fmt.Errorf("read the outbox: %w", err)
	}
	var order []protocol.AppID
	queues := map[protocol.AppID][]func() error{}
	add := func(id protocol.AppID, send func() error) {
		if queues[id] == nil {
			order = append(order, id)
		}
		queues[id] = append(queues[id], send)
	}
	for _, s := range states {
		add(protocol.AppID{Key: s.State.AppKey, Stage: s.State.Stage}, func() error { return r.sendState(ctx, s) })
	}
	for _, p := range ports {
		add(protocol.AppID{Key: p.Report.AppKey, Stage: p.Report.Stage}, func() error { return r.sendPorts(ctx, p) })
	}
	var (
		group  sync.WaitGroup
		mu     sync.Mutex
		failed error
		slots  = make(chan struct{}, parallelReports)
	)
	for _, id := range order {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			for _, send := range queues[id] {
				if err := send(); err != nil {
					mu.Lock()
					failed = fmt.Errorf("%s: %w", id, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	group.Wait()
	return failed
}

func (r *reporter) sendState(ctx context.Context, s device.Report) error {
	err := r.call(ctx, protocol.Wire(s.State))
	switch {
	case err == nil:
	case r.hopeless(s.ID, err):
		r.log.Error().Err(err).Uint64("app", s.State.AppKey).Str("state", string(s.State.State)).Int("refusals", maxRefusals).Msg("the studio does not take a report; giving it up")
	default:
		return err
	}
	r.mu.Lock()
	delete(r.refused, s.ID)
	r.mu.Unlock()
	return r.store.Confirm(s.ID)
}

// hopeless counts the refusals of a report. A backend that is not there, or a
// link that broke, is none.
func (r *reporter) hopeless(id uint64, err error) bool {
	var answer *messenger.CallError
	if !errors.As(err, &answer) || answer.URI == protocol.ErrorNoSuchProcedure || answer.URI == protocol.ErrorNotAuthorized {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refused == nil {
		r.refused = map[uint64]int{}
	}
	r.refused[id]++
	return r.refused[id] >= maxRefusals
}

func (r *reporter) sendPorts(ctx context.Context, p device.PortsEntry) error {
	if err := r.call(ctx, p.Report.Wire()); err != nil {
		return err
	}
	return r.store.ConfirmPorts(protocol.AppID{Key: p.Report.AppKey, Stage: p.Report.Stage}, p.Seq)
}

func (r *reporter) call(ctx context.Context, report map[string]any) error {
	ctx, cancel := context.WithTimeout(ctx, r.waits.ReportLimit)
	defer cancel()
	return r.studio.Report(ctx, report)
}
