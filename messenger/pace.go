package messenger

import (
	"errors"
	"time"

	"reagent/internal/backoff"
)

// pace decides when to dial again and how long a dial may take (design S1). It
// only remembers what it is told.
type pace struct {
	cfg       *Config
	ordinary  backoff.Backoff
	duplicate backoff.Backoff
	connect   time.Duration // limit of the next dial; 0 = none
	rejoined  bool          // the last session ended to begin anew, without a pause
}

func newPace(cfg *Config) *pace {
	p := &pace{
		cfg:      cfg,
		ordinary: backoff.Backoff{Min: cfg.MinRetry, Max: cfg.MaxRetry},
		// A ghost of ourselves is gone within seconds, a real twin may never be.
		duplicate: backoff.Backoff{Min: cfg.MinRetry, Max: cfg.UnauthorizedRetry},
	}
	p.reset()
	return p
}

func (p *pace) reset() {
	p.ordinary.Reset()
	p.duplicate.Reset()
	p.connect = p.cfg.ConnectTimeout
	p.rejoined = false
}

// An ending is how one attempt ended.
type ending struct {
	err    error
	late   bool          // the dial ran out of its time
	lasted time.Duration // since the session was joined; 0 if it never was
}

// after takes an ending in and says what state that is and how long to pause.
func (p *pace) after(e ending) (State, time.Duration) {
	if e.lasted >= p.cfg.GoodAfter {
		p.reset()
	}
	if e.late {
		p.connect = max(p.connect, min(2*p.connect, longestConnect))
	}
	var refused *refusal
	switch {
	case errors.As(e.err, &refused) && refused.credentials():
		return Unauthorized, backoff.Jitter(p.cfg.UnauthorizedRetry)
	case errors.Is(e.err, ErrDuplicate):
		return Duplicate, p.duplicate.Next()
	case errors.Is(e.err, ErrRejoin) && !p.rejoined:
		// Once: a studio that says so each time must not get a storm.
		p.rejoined = true
		return Offline, 0
	}
	return Offline, p.ordinary.Next()
}

// longestConnect is where the doubling of Config.ConnectTimeout stops.
const longestConnect = 30 * time.Second
