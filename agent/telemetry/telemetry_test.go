package telemetry

import (
	"context"
	"errors"
	"io"
	stdlog "log"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gammazero/nexus/v3/client"
	"github.com/gammazero/nexus/v3/router"
	"github.com/gammazero/nexus/v3/transport"
	"github.com/gammazero/nexus/v3/wamp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"reagent/messenger"
	"reagent/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A studio is a real router in this process with a backend that is told the
// device's status.
type studio struct {
	router router.Router
	mu     sync.Mutex
	told   []report
	answer func(n int) client.InvokeResult // to the nth report
}

type report struct {
	at     time.Time
	status map[string]any
}

var silence = client.InvokeResult{Err: wamp.ErrCanceled, Args: wamp.List{"silent"}} // in the answer: say nothing

func newStudio(t *testing.T) *studio {
	t.Helper()
	quiet := stdlog.New(io.Discard, "", 0)
	r, err := router.NewRouter(&router.Config{RealmConfigs: []*router.RealmConfig{{URI: "realm1", AnonymousAuth: true}}}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	s := &studio{router: r, answer: func(int) client.InvokeResult { return client.InvokeResult{} }}
	backend, err := client.ConnectLocal(r, client.Config{Realm: "realm1", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { backend.Close() })
	err = backend.Register(protocol.UpdateDeviceStatus, func(ctx context.Context, inv *wamp.Invocation) client.InvokeResult {
		d, _ := protocol.AsDict(protocol.Arg(inv.Arguments, 0))
		s.mu.Lock()
		s.told = append(s.told, report{time.Now(), d})
		answer := s.answer(len(s.told))
		s.mu.Unlock()
		if reflect.DeepEqual(answer, silence) {
			<-ctx.Done()
		}
		return answer
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *studio) reports() []report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]report(nil), s.told...)
}

// connect runs a session until the test ends; online is the device's part.
func (s *studio) connect(t *testing.T, online func(ctx context.Context, link *messenger.Link) error) {
	t.Helper()
	session, err := messenger.New(messenger.Config{
		Realm: "realm1", Log: zerolog.New(zerolog.NewTestWriter(t)),
		Dial: func(context.Context) (wamp.Peer, error) {
			device, theirs := transport.LinkedPeers()
			go s.router.Attach(theirs)
			return device, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- session.Run(ctx, online) }()
	t.Cleanup(func() { cancel(); <-done })
}

type fixedMachine protocol.Stats

func (m fixedMachine) Stats(context.Context) protocol.Stats { return protocol.Stats(m) }

func config(t *testing.T) Config {
	return Config{
		Device:  func() (uint64, uint64) { return 7, 42 },
		Machine: fixedMachine{CPUCount: 4, CPUUsage: 2, MemoryTotal: 1 << 33},
		BaseURL: func(string) {},
		Log:     zerolog.New(zerolog.NewTestWriter(t)),
	}
}

func TestReportHasTheContractsKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := newStudio(t), New(config(t))
		var id uint64
		s.connect(t, func(ctx context.Context, link *messenger.Link) error {
			id = link.ID()
			return r.Report(ctx, link, protocol.Configuring)
		})
		synctest.Wait()
		told := s.reports()
		if len(told) != 1 {
			t.Fatalf("%d reports, want 1", len(told))
		}
		want := map[string]any{
			"swarm_key": int64(7), "device_key": int64(42), "status": "CONFIGURING", "wamp_session_id": int64(id), "tunnel_capable": false,
			"stats": map[string]any{
				"cpu_count": int64(4), "cpu_usage": 2.0, "memory_total": int64(1 << 33), "memory_used": int64(0), "memory_available": int64(0),
				"storage_total": int64(0), "storage_used": int64(0), "storage_free": int64(0),
				"docker_apps_total": int64(0), "docker_apps_used": int64(0), "docker_apps_free": int64(0), "docker_apps_mounted": false,
			},
		}
		if !reflect.DeepEqual(told[0].status, want) {
			t.Errorf("report %#v\nwant %#v", told[0].status, want)
		}
	})
}

func TestHeartbeatRepeatsTheStatusThatWasTold(t *testing.T) {
	for _, state := range []protocol.DeviceState{protocol.Configuring, protocol.Connected, protocol.Emergency} {
		synctest.Test(t, func(t *testing.T) {
			s, r := newStudio(t), New(config(t))
			s.connect(t, func(ctx context.Context, link *messenger.Link) error {
				err := r.Report(ctx, link, state)
				r.Beat(ctx, link)
				return err
			})
			time.Sleep(10 * time.Minute)
			told := s.reports()
			if len(told) < 18 || len(told) > 23 {
				t.Errorf("%d reports in 10 minutes, want about 20", len(told))
			}
			for _, b := range told {
				if b.status["status"] != string(state) {
					t.Fatalf("a heartbeat says %v, want %v", b.status["status"], state)
				}
			}
		})
	}
}

func TestAnEmergencyIsToldAtOnceAndItsEndToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		s, cfg := newStudio(t), config(t)
		cfg.Emergency = full.Load
		cfg.Every = time.Hour
		r := New(cfg)
		s.connect(t, func(ctx context.Context, link *messenger.Link) error {
			_ = r.Report(ctx, link, protocol.Configuring)
			err := r.Report(ctx, link, protocol.Connected)
			r.Beat(ctx, link)
			return err
		})
		for _, now := range []bool{false, true, true, false} {
			full.Store(now)
			r.Changed() // also where nothing did
			time.Sleep(time.Second)
		}
		var told []any
		for _, b := range s.reports() {
			told = append(told, b.status["status"])
		}
		if want := []any{"CONFIGURING", "CONNECTED", "EMERGENCY", "CONNECTED"}; !reflect.DeepEqual(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
	})
}

func TestADeviceThatComesUpInAnEmergencySaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, cfg := newStudio(t), config(t)
		cfg.Emergency = func() bool { return true }
		r := New(cfg)
		s.connect(t, func(ctx context.Context, link *messenger.Link) error {
			_ = r.Report(ctx, link, protocol.Configuring)
			return r.Report(ctx, link, protocol.Connected)
		})
		synctest.Wait()
		told := s.reports()
		if len(told) != 2 || told[0].status["status"] != "CONFIGURING" || told[1].status["status"] != "EMERGENCY" {
			t.Errorf("told %v, want CONFIGURING, then EMERGENCY", told)
		}
	})
}

func TestHeartbeatsHaveNoFixedSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := newStudio(t), New(config(t))
		s.connect(t, func(ctx context.Context, link *messenger.Link) error {
			r.Beat(ctx, link)
			return ctx.Err()
		})
		time.Sleep(time.Hour)
		told := s.reports()
		seconds := map[int]bool{}
		for i, b := range told {
			seconds[b.at.Second()] = true
			if i == 0 {
				continue
			}
			if pause := b.at.Sub(told[i-1].at); pause < 27*time.Second || pause > 33*time.Second {
				t.Errorf("heartbeat after %v, want 30 s give or take a tenth", pause)
			}
		}
		if len(seconds) < 20 {
			t.Errorf("%d heartbeats come at %d different seconds of the minute only", len(told), len(seconds))
		}
	})
}

func TestTwoSilencesInARowEndTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := newStudio(t), New(config(t))
		s.answer = func(n int) client.InvokeResult {
			if n == 2 || n == 4 || n == 5 { // one, then two in a row
				return silence
			}
			return client.InvokeResult{}
		}
		var mu sync.Mutex
		var ended []int // reports told when a connection ended
		s.connect(t, func(ctx context.Context, link *messenger.Link) error {
			r.Beat(ctx, link)
			mu.Lock()
			defer mu.Unlock()
			ended = append(ended, len(s.reports()))
			return ctx.Err()
		})
		time.Sleep(5 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if len(ended) != 1 || ended[0] != 5 {
			t.Errorf("connections ended after reports %v, want one after the fifth", ended)
		}
		if n := len(s.reports()); n < 6 {
			t.Errorf("%d reports, want more on the next connection", n)
		}
	})
}

func TestErrorOfALiveRouterIsAHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := newStudio(t), New(config(t))
		s.answer = func(int) client.InvokeResult { return client.InvokeResult{Err: "wamp.error.runtime_error"} }
		connections := 0
		s.connect(t, func(ctx context.Context, link *messenger.Link) error {
			connections++
			var refused *messenger.CallError
			if err := r.Report(ctx, link, protocol.Connected); !errors.As(err, &refused) {
				t.Errorf("Report = %v, want the router's error", err)
			}
			r.Beat(ctx, link)
			return ctx.Err()
		})
		time.Sleep(10 * time.Minute)
		if n := len(s.reports()); connections != 1 || n < 15 {
			t.Errorf("%d connections, %d reports; want one that goes on", connections, n)
		}
	})
}

func TestBaseURLIsLearntFromAnyAnswer(t *testing.T) {
	dict := func(v any) []any { return []any{map[string]any{"reswarmBaseURL": v}} }
	for name, c := range map[string]struct {
		args []any
		want string
	}{
		"as it should be": {dict("https://studio.example"), "https://studio.example"},
		"with a path":     {dict("http://127.0.0.1:8020/a"), "http://127.0.0.1:8020/a"},
		"no args":         {nil, ""},
		"null":            {[]any{nil}, ""},
		"text":            {[]any{"https://studio.example"}, ""},
		"lists":           {[]any{[]any{[]any{}}}, ""},
		"no key":          {[]any{map[string]any{}}, ""},
		"null key":        {dict(nil), ""},
		"nil as text":     {dict("<nil>"), ""},
		"empty":           {dict(""), ""},
		"number":          {dict(5), ""},
		"no host":         {dict("https://"), ""},
		"script":          {dict("javascript:alert(1)"), ""},
		"huge":            {dict("https://" + string(make([]byte, 1<<20))), ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, cfg, got := newStudio(t), config(t), ""
				cfg.BaseURL = func(u string) { got = u }
				s.answer = func(int) client.InvokeResult { return client.InvokeResult{Args: c.args} }
				r := New(cfg)
				s.connect(t, func(ctx context.Context, link *messenger.Link) error {
					return r.Report(ctx, link, protocol.Connected)
				})
				synctest.Wait()
				if got != c.want {
					t.Errorf("learnt %q, want %q", got, c.want)
				}
			})
		})
	}
}

func TestProductValues(t *testing.T) {
	if r := New(Config{}); r.cfg.Every != 30*time.Second || r.cfg.Limit != 10*time.Second || r.cfg.Silent != 2 {
		t.Errorf("every %v, limit %v, silent %d; want the contract's 30 s, 10 s and 2", r.cfg.Every, r.cfg.Limit, r.cfg.Silent)
	}
}
