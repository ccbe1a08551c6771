// Package telemetry tells the studio how the device is: its status on each
// connection, and then, as a heartbeat, the same status again with the machine's
// figures of the instant (wire §6.1).
//
// A heartbeat never changes the status (design S5), with the contract's one
// exception: CONNECTED reads EMERGENCY for as long as the disk is critical, and
// the studio is told of both changes at once. A heartbeat that the studio answers
// with an error is a heartbeat; only silence counts against the connection, and
// two silences in a row end it. Heartbeats come at no fixed second, so that a
// fleet which was switched on together does not beat together.
//
// A Reporter may be used from any goroutine. It keeps nothing over a restart.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"reagent/internal/backoff"
	"reagent/messenger"
	"reagent/protocol"
)

// A machine measures itself; system.Host is one.
type machine interface {
	Stats(ctx context.Context) protocol.Stats
}

// Config says whose status is told. Device, Machine and BaseURL are needed; a
// zero elsewhere stands for the product's value.
type Config struct {
	Device        func() (swarmKey, deviceKey uint64) // asked each time: a device may be moved
	Machine       machine
	TunnelCapable bool
	Emergency     func() bool  // the disk is critical
	BaseURL       func(string) // told the address of the studio's pages, each time that it is answered
	Log           zerolog.Logger

	Every  time.Duration // between two heartbeats, give or take a tenth; 30 s
	Limit  time.Duration // a report is answered within it, or not at all; 10 s
	Silent int           // so many in a row without an answer, and the connection is lost; 2
}

// A Reporter tells one device's status. Make it with New.
type Reporter struct {
	cfg  Config
	wake chan struct{} // capacity 1

	mu      sync.Mutex
	current protocol.DeviceState // as the greeting has it
	told    protocol.DeviceState // last, on whatever connection
}

// New makes a Reporter that has told nothing yet.
func New(cfg Config) *Reporter {
	if cfg.Emergency == nil {
		cfg.Emergency = func() bool { return false }
	}
	if cfg.Every == 0 {
		cfg.Every = 30 * time.Second
	}
	if cfg.Limit == 0 {
		cfg.Limit = 10 * time.Second
	}
	if cfg.Silent == 0 {
		cfg.Silent = 2
	}
	return &Reporter{cfg: cfg, wake: make(chan struct{}, 1), current: protocol.Configuring}
}

// Changed makes the next heartbeat come at once, where an emergency has begun or
// ended since the studio was told last.
func (r *Reporter) Changed() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Report tells that the device is in state s now, which heartbeats repeat from
// here on whether the studio took it or not.
func (r *Reporter) Report(ctx context.Context, link *messenger.Link, s protocol.DeviceState) error {
	r.mu.Lock()
	r.current = s
	r.mu.Unlock()
	return r.tell(ctx, link, s)
}

// Beat repeats the status at intervals until ctx, the connection's, ends. A
// connection on which nobody answers is given up.
func (r *Reporter) Beat(ctx context.Context, link *messenger.Link) {
	silent := 0
	pause := backoff.Jitter(r.cfg.Every) // anywhere in the first interval
	for r.sleep(ctx, pause) {
		r.mu.Lock()
		s := r.current
		r.mu.Unlock()
		err := r.tell(ctx, link, s)
		var refused *messenger.CallError
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			silent = 0
		case errors.As(err, &refused):
			silent = 0
			r.cfg.Log.Warn().Err(err).Msg("heartbeat refused")
		default:
			silent++
			r.cfg.Log.Warn().Err(err).Int("in_a_row", silent).Msg("heartbeat not answered")
		}
		if silent >= r.cfg.Silent {
			link.Lost(fmt.Errorf("%d heartbeats in a row were not answered", silent))
			return
		}
		pause = r.cfg.Every*9/10 + backoff.Jitter(r.cfg.Every/5)
	}
}

// sleep waits for the next heartbeat; false at the end of ctx.
func (r *Reporter) sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return ctx.Err() == nil
		case <-ctx.Done():
			return false
		case <-r.wake:
			r.mu.Lock()
			news := r.status(r.current) != r.told
			r.mu.Unlock()
			if news {
				return ctx.Err() == nil
			}
		}
	}
}

// status is what the studio is told when the device is in state s.
func (r *Reporter) status(s protocol.DeviceState) protocol.DeviceState {
	if s == protocol.Connected && r.cfg.Emergency() {
		return protocol.Emergency
	}
	return s
}

func (r *Reporter) tell(ctx context.Context, link *messenger.Link, s protocol.DeviceState) error {
	s = r.status(s)
	r.mu.Lock()
	r.told = s
	r.mu.Unlock()
	swarm, device := r.cfg.Device()
	status := protocol.DeviceStatus{
		SwarmKey: swarm, DeviceKey: device, Status: s, WAMPSessionID: link.ID(),
		TunnelCapable: r.cfg.TunnelCapable, Stats: r.cfg.Machine.Stats(ctx),
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Limit)
	defer cancel()
	answer, err := link.Call(ctx, protocol.UpdateDeviceStatus, []any{status.Wire()}, nil)
	if err != nil {
		return fmt.Errorf("report %s: %w", s, err)
	}
	if base := baseURL(answer.Args); base != "" {
		r.cfg.BaseURL(base)
	}
	return nil
}

// baseURL reads the address of the studio's pages in an answer of any shape; ""
// where it holds none that could be one.
func baseURL(args []any) string {
	d, ok := protocol.AsDict(protocol.Arg(args, 0))
	if !ok {
		return ""
	}
	text, _ := protocol.Text(d["reswarmBaseURL"])
	if len(text) > 2048 {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	return text
}
