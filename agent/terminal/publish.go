package terminal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"reagent/internal/backoff"
	"reagent/messenger"
	"reagent/protocol"
)

// Longest output in one event: of the contract, and for clients with flow control.
const (
	mostText    = 4 << 10
	mostBytes   = 32 << 10
	mostFlowing = 32 << 10
)

// publish brings the output to the router, in order, until all was sent or nobody
// wants it any more.
func (s *session) publish(ctx context.Context) {
	most := mostBytes
	if s.container == "" {
		most = mostText
	}
	for complained := false; ; {
		e, ok := s.out.take(most, mostFlowing)
		if !ok {
			return
		}
		err := s.send(ctx, e)
		var refused *messenger.CallError
		switch {
		case errors.Is(err, messenger.ErrOffline):
			s.out.cut(e.epoch)
			continue
		case errors.As(err, &refused):
			if !complained {
				s.log.Warn().Str(zerolog.ErrorFieldName, protocol.Loggable(err.Error())).Msg("router refuses a terminal's output")
			}
			complained = true
		case err != nil: // perhaps the router is slow, perhaps it is about to be lost
			s.log.Debug().Str(zerolog.ErrorFieldName, protocol.Loggable(err.Error())).Msg("terminal's output not published; trying again")
			if backoff.Sleep(ctx, s.cfg.Retry) != nil {
				return
			}
			continue
		}
		s.out.sent(e)
		if e.eof && e.flow {
			select {
			case s.lingers <- struct{}{}:
			default:
			}
		}
	}
}

// send publishes an event for the owner and the system (wire §9, Appendix A). A
// client with flow control acknowledges by itself, so nobody waits for the
// router's word.
func (s *session) send(ctx context.Context, e event) error {
	var payload any = e.data
	switch {
	case e.eof && s.container != "":
		payload = []byte(protocol.TerminalEOF)
	case e.eof:
		payload = protocol.TerminalEOF
	case e.lost > 0:
		payload = s.form(fmt.Appendf(nil, "\r\n[%d bytes of output were lost while there was no connection]\r\n", e.lost))
	default:
		payload = s.form(e.data)
	}
	eligible, kwargs := []any{s.owner, protocol.AuthIDSystem}, map[string]any{protocol.TerminalBridge: []any{s.owner}}
	if s.owner == protocol.AuthIDSystem {
		eligible, kwargs = eligible[1:], map[string]any{}
	}
	if e.flow {
		kwargs[protocol.TerminalOffset] = e.at
	}
	if e.gone {
		kwargs[protocol.TerminalKept] = e.kept
	}
	options := map[string]any{"eligible_authid": eligible}
	if !e.flow || e.eof {
		options["acknowledge"] = true
	}
	return s.cfg.Link.Publish(ctx, s.names.DataTopic, options, []any{payload}, kwargs)
}

// form is output as the contract has it: bytes of a container, text of the device.
func (s *session) form(output []byte) any {
	if s.container != "" {
		return output
	}
	return string(output)
}

// watch ends a session that was never started, or that nobody watches or uses.
func (s *session) watch(ctx context.Context) {
	unstarted := time.NewTimer(s.cfg.NotStarted)
	defer unstarted.Stop()
	select {
	case <-s.started:
	case <-unstarted.C:
		s.stop("it was never started")
		return
	case <-s.stopping:
		return
	}
	look := time.NewTicker(s.cfg.Look)
	defer look.Stop()
	var alone time.Time // since then, as far as is known
	for {
		select {
		case <-look.C:
		case <-s.stopping:
			return
		}
		if time.Since(s.began)-time.Duration(s.used.Load()) >= s.cfg.Idle {
			s.stop("it was idle")
			return
		}
		if s.forbidden(ctx) {
			s.stop("its owner may not have it any more")
			return
		}
		switch nobody := s.unwatched(ctx); {
		case !nobody:
			alone = time.Time{}
		case alone.IsZero():
			alone = time.Now()
		case time.Since(alone) >= s.cfg.Unwatched:
			s.stop("nobody watches it")
			return
		}
	}
}

// forbidden tells that the owner has lost the privilege meanwhile.
func (s *session) forbidden(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallLimit)
	defer cancel()
	may, err := s.cfg.Allowed(ctx, s.by, s.container == "")
	return err == nil && !may
}

// unwatched tells that nobody subscribes to the output. Routers that do not tell,
// or tell something odd, have somebody.
func (s *session) unwatched(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallLimit)
	defer cancel()
	r, err := s.cfg.Link.Call(ctx, protocol.SubscriptionMatch, []any{s.names.DataTopic}, nil)
	if err != nil || len(r.Args) == 0 {
		return false
	}
	list, isList := protocol.AsList(r.Args[0])
	return r.Args[0] == nil || isList && len(list) == 0
}
