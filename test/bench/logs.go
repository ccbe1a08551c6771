package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	nexus "github.com/gammazero/nexus/v3/client"
	"github.com/gammazero/nexus/v3/wamp"

	"reagent/protocol"
)

// chatters are how fast apps print in the measurement of logs.
var chatters = []struct {
	name, about string
	lines, rate int // rate a second; 0 = as fast as it goes
}{
	{"1000", "1,000 lines/s for 10 s", 10_000, 1_000},
	{"20000", "20,000 lines/s for 10 s", 200_000, 20_000},
	{"most", "500,000 lines as fast as they go", 500_000, 0},
}

// silence is how long no line comes before those that are missing are lost.
const silence = 15 * time.Second

// logs measures what reaches a viewer of an app that prints lines of 100 bytes:
// by the contract's topic, which drops what is too much, and by the log that
// loses nothing. Somebody else calls the device meanwhile.
func (l *lab) logs(t *stage) []figure {
	y := l.openYard(t)
	d := l.newDevice(t, l.router.addr, y.registry.Host)
	a := l.connect(t, d)
	defer a.stop()
	viewer, err := l.router.join(t.ctx, protocol.AuthIDSystem)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = viewer.Close() })

	calls := l.callMeanwhile(t, d.Serial)
	l.rest(t, l.load)
	calm := calls()
	figures := []figure{ofMany("logs.quiet.p99", "a call while nobody prints, p99", "ms", calm.quantile(0.99), calm)}
	for _, c := range chatters {
		one := y.newApp(t, 0, fmt.Sprintf("TESTAPP_CHATTER=%d", c.lines), fmt.Sprintf("TESTAPP_RATE=%d", c.rate))
		mark := l.witness.mark()
		y.want(t, d, one, protocol.Running)
		l.await(t, mark, one.reported(protocol.Running))
		for _, way := range []struct {
			name, about string
			view        func(t *stage, viewer *nexus.Client, serial string, one app, seen *tally) (leave func())
		}{
			{"topic", "by topic", viewTopic},
			{"follow", "by follow_app_logs", viewFollowing},
		} {
			l.progress.say("logs, %s, %s", c.about, way.about)
			seen := newTally(c.lines)
			leave := way.view(t, viewer, d.Serial, one, seen)
			tick := time.NewTicker(glance)
			peak := watchPeak(a.PID(), tick.C)
			calls := l.callMeanwhile(t, d.Serial)
			before, begun := look(t, a.PID()).ticks, time.Now()
			err := y.engine.API.ContainerKill(t.ctx, one.container, "SIGUSR1")
			if err == nil {
				seen.wait(t.ctx)
			}
			highest, called := peak(), calls()
			tick.Stop()
			leave()
			if err != nil {
				t.Fatal(err)
			}
			r := seen.result()
			name := func(what string) string { return "logs." + way.name + "." + what + "." + c.name }
			about := c.about + ", " + way.about + ": "
			figures = append(figures,
				single(name("rate"), about+"arrived", "lines/s", float64(r.got)/r.last.Sub(begun).Seconds()),
				single(name("lost"), about+"lost", "%", 100*float64(c.lines-r.got)/float64(c.lines)),
				single(name("twice"), about+"came twice", "lines", float64(r.twice)),
				single(name("anonymous"), about+"highest anonymous memory", "MiB", highest.anonymous),
				single(name("cpu"), about+"CPU", "ticks", highest.ticks-before),
				ofMany(name("p99"), about+"another's call meanwhile, p99", "ms", called.quantile(0.99), called))
			if way.name == "follow" {
				figures = append(figures, single(name("gaps"), about+"losses that were told", "gaps", float64(r.gaps)))
			}
		}
		mark = l.witness.mark()
		y.want(t, d, one, protocol.Removed)
		l.await(t, mark, one.reported(protocol.Removed))
	}
	return figures
}

// callMeanwhile has somebody call the device again and again until what it
// returns is called: that tells how long each call took.
func (l *lab) callMeanwhile(t *stage, serial string) func() sample {
	caller, err := l.router.join(t.ctx, protocol.AuthIDSystem)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.ctx)
	var took sample
	var group sync.WaitGroup
	group.Go(func() {
		for tick := time.NewTicker(glance / 5); ctx.Err() == nil; {
			begun := time.Now()
			if _, err := caller.Call(ctx, protocol.Procedure(serial, protocol.DeviceHandshake), nil, nil, nil, nil); err == nil {
				took.add(time.Since(begun))
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				tick.Stop()
			}
		}
	})
	return func() sample {
		cancel()
		group.Wait()
		_ = caller.Close()
		return took
	}
}

// viewTopic listens to the contract's topic.
func viewTopic(t *stage, viewer *nexus.Client, serial string, one app, seen *tally) (leave func()) {
	topic := protocol.LogTopic(serial, one.container)
	err := viewer.Subscribe(topic, func(e *wamp.Event) {
		text, _ := protocol.Text(protocol.Arg(e.Arguments, 0))
		for line := range strings.SplitSeq(text, "\n") {
			seen.came(line)
		}
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The device has to hear of it.
	select {
	case <-time.After(time.Second):
	case <-t.ctx.Done():
	}
	return func() { _ = viewer.Unsubscribe(topic) }
}

// viewFollowing follows the log that loses nothing, from now on.
func viewFollowing(t *stage, viewer *nexus.Client, serial string, one app, seen *tally) (leave func()) {
	ctx, cancel := context.WithCancel(t.ctx)
	ask := func(ctx context.Context, args wamp.Dict) (cursor string, err error) {
		args["container_name"], args["max_bytes"] = one.container, protocol.MaxFollowBytes
		take := func(r *wamp.Result) {
			d, _ := protocol.AsDict(protocol.Arg(r.Arguments, 0))
			lines, _ := protocol.AsList(d["lines"])
			for _, l := range lines {
				line, _ := protocol.AsDict(l)
				text, _ := protocol.Text(line["text"])
				seen.came(text)
			}
			if d["type"] == protocol.LogGap {
				seen.gap()
			}
			cursor, _ = protocol.Text(d["cursor"])
		}
		end, err := viewer.Call(ctx, protocol.Procedure(serial, protocol.FollowAppLogs), nil, wamp.List{args}, nil, take)
		if err != nil {
			return "", err
		}
		take(end)
		return cursor, nil
	}
	cursor, err := ask(ctx, wamp.Dict{"wait_ms": 0})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for ctx.Err() == nil {
			next, err := ask(ctx, wamp.Dict{"cursor": cursor})
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("follow: %v", err)
				}
				return
			}
			cursor = next
		}
	})
	return func() { cancel(); group.Wait() }
}

// A tally counts the lines that came, each once.
type tally struct {
	lines int
	news  chan struct{}

	mu   sync.Mutex
	seen map[int]struct{}
	so   result
}

// A result is what came so far.
type result struct {
	got, twice int       // lines that came, and that came again
	gaps       int       // losses that were told
	last       time.Time // when the last line came
}

func newTally(lines int) *tally {
	return &tally{lines: lines, news: make(chan struct{}, 1), seen: make(map[int]struct{}, lines)}
}

// came takes in a line, which may be one of the agent's.
func (y *tally) came(line string) {
	var n int
	if _, err := fmt.Sscanf(line, "chatter %d ", &n); err != nil {
		return
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	if _, again := y.seen[n]; again {
		y.so.twice++
		return
	}
	y.seen[n] = struct{}{}
	y.so.got, y.so.last = len(y.seen), time.Now()
	select {
	case y.news <- struct{}{}:
	default:
	}
}

func (y *tally) gap() {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.so.gaps++
}

func (y *tally) result() result {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.so
}

// wait returns when all lines came, or none for too long.
func (y *tally) wait(ctx context.Context) {
	quiet := time.NewTimer(silence)
	defer quiet.Stop()
	for y.result().got < y.lines {
		select {
		case <-y.news:
			quiet.Reset(silence)
		case <-quiet.C:
			return
		case <-ctx.Done():
			return
		}
	}
}
