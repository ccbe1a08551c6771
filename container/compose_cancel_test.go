package container_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"reagent/internal/testenv"
)

func TestACancelledBuildEndsOnTheEngineToo(t *testing.T) {
	t.Parallel()
	withEachBackend(t, func(t *testing.T, b *bench) {
		mark := b.docker.Prefix + "-runs"
		b.write(t, "Dockerfile", "FROM "+b.image+"\nRUN [\"/testapp\", \""+mark+"\"]\n")
		b.define(t, map[string]service{"web": {"image": b.docker.Prefix + "/built:1", "build": "."}})
		running := func() bool { return len(processes(t, "cmdline", "/testapp\x00"+mark)) > 0 }
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var said lines
		done := make(chan error, 1)
		go func() { done <- b.Build(ctx, b.project, nil, said.add) }()
		testenv.WaitFor(t, "the build runs its step", running)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled build = %v, want context.Canceled", err)
		}
		testenv.WaitFor(t, "the step has ended on the engine", func() bool { return !running() })
		if strings.Contains(said.all(), "panic") {
			t.Errorf("the output was %q", said.all())
		}
	})
}
