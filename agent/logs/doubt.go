package logs

import (
	"context"
	"errors"
	"time"

	"reagent/internal/backoff"
	"reagent/messenger"
	"reagent/protocol"
)

// A router need not tell who listens: it may lack the meta API or keep it from
// devices. Then an app's lines are published although perhaps nobody gets them,
// so much of them as a metered link bears all day: a burst, such as the last
// words of an app that crashes, and a trickle.
const (
	doubtFlush   = time.Second // lines are sent together, so often
	doubtLine    = 16 << 10    // bytes, at which a line is cut
	doubtEvent   = 200         // bytes, that an event takes beside its text
	doubtApp     = 2 << 10     // bytes a second …
	doubtAppMost = 64 << 10    // … and at once, of one app
	doubtAll     = 8 << 10     // and of all apps of the device
	doubtAllMost = 256 << 10
)

// An allowance is what may be sent: so many bytes a second, gathered up to most.
type allowance struct {
	rate, most float64
	left       float64
	at         time.Time // of left; zero = never asked
}

// bytes is what may be sent now.
func (a *allowance) bytes(now time.Time) int {
	if a.at.IsZero() {
		a.left = a.most
	} else if passed := now.Sub(a.at); passed > 0 {
		a.left = min(a.most, a.left+a.rate*passed.Seconds())
	}
	a.at = now
	return max(0, int(a.left))
}

// spend takes from it; what is spent above it is missing later.
func (a *allowance) spend(bytes int) { a.left -= float64(bytes) }

// inDoubt reports whether nobody knows if somebody listens to an app.
func (l *Logs) inDoubt(t *topic) bool {
	return l.online && len(t.listeners) == 0 && (t.doubt || l.deaf)
}

// heard reports whether an app's lines are to be published.
func (l *Logs) heard(t *topic) bool {
	return l.online && (len(t.listeners) > 0 || l.inDoubt(t))
}

// spare is what an app may publish in doubt.
func (l *Logs) spare(t *topic, now time.Time) int {
	return min(t.allowance.bytes(now), l.allowance.bytes(now))
}

func (l *Logs) spend(t *topic, bytes int) {
	t.allowance.spend(bytes)
	l.allowance.spend(bytes)
}

// doubts begins to publish an app's lines unasked.
func (l *Logs) doubts(t *topic) {
	l.hear(t)
	t.doubt = true
}

// noChanges notes that the router does not tell who comes and goes.
func (l *Logs) noChanges(err error) {
	l.sayDoubt(err)
	for _, t := range l.topics {
		l.hear(t)
	}
	l.deaf = true
	l.poke()
}

func (l *Logs) sayDoubt(err error) {
	if l.saidDoubt {
		return
	}
	l.saidDoubt = true
	l.cfg.Log.Warn().Err(err).Msg("router does not tell who listens to logs: they are published unasked, within narrow limits; let devices call " +
		protocol.SubscriptionMatch + ", and subscribe to " + protocol.SubscriptionOnCreate + " and " + protocol.SubscriptionOnDelete)
}

// subscribed makes sure that the router tells who comes and goes.
func (l *Logs) subscribed(ctx context.Context, connection int) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.CallLimit)
	defer cancel()
	err := l.cfg.Session.Settle(ctx, protocol.SubscriptionOnCreate, protocol.SubscriptionOnDelete)
	l.mu.Lock()
	defer l.mu.Unlock()
	if refused := new(messenger.CallError); errors.As(err, &refused) && connection == l.connection && l.online {
		l.noChanges(err)
	}
}

// unanswered sees to it that a question is asked again, later each time, and
// much later where the router refused to answer. Until then the app is in doubt.
func (l *Logs) unanswered(t *topic, err error) {
	refused := new(messenger.CallError)
	switch {
	case errors.Is(err, messenger.ErrOffline):
		return
	case errors.As(err, &refused):
		l.sayDoubt(err)
		t.askPause = l.cfg.AskRefused
	default:
		l.cfg.Log.Warn().Err(err).Str("container", t.cn).Msg("router does not tell who listens to a log; asking again")
		t.askPause = min(max(2*t.askPause, l.cfg.MinRetry), l.cfg.MaxRetry)
	}
	t.askAt = l.soon(t.askPause)
	l.doubts(t)
	if l.deaf { // those whom it named may be gone
		t.listeners = nil
	}
}

// soon is a time after a pause, not in step with other devices.
func (l *Logs) soon(pause time.Duration) time.Time {
	return time.Now().Add(pause/2 + backoff.Jitter(pause/2))
}
