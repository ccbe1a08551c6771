package disk

import (
	"context"
	"time"

	"reagent/container"
)

// Sources are what the steps of the product work on.
type Sources struct {
	Images Pruner
	// Containers, Root and Labels say whose logs may be cut, and where: those of
	// containers with these labels, below the engine's folder on this machine.
	Containers containerLister
	Root       func(context.Context) (string, error)
	Labels     func() map[string]string
	// Appliance tells whether this machine carries the registry, and is to ask
	// for its collection now; CollectGarbage does.
	Appliance      func() bool
	CollectGarbage func(context.Context) error
	// Managed tells whether the device's policy lets the agent clean up what is
	// the machine's own; Clean does.
	Managed bool
	Clean   func(context.Context) error
}

// Steps are the product's, in the contract's order (life §10.3), without what
// would touch somebody else's. No volume is removed: a container's anonymous ones
// go with it, a compose app's with the app, and of any other nobody can prove
// that it is ours.
func Steps(s Sources) []Step {
	const (
		list   = 2 * time.Minute
		prune  = 5 * time.Minute
		clean  = 2 * time.Minute
		remote = 5 * time.Minute
	)
	return []Step{
		{Name: "unreferenced layers of the appliance's registry", Limit: remote, Every: 15 * time.Minute, When: s.Appliance,
			Free: unmeasured(s.CollectGarbage)},
		{Name: "dangling images", Limit: prune, Free: measured(s.Images.Images.PruneDangling)},
		{Name: "build cache", Limit: prune, Free: measured(s.Images.Images.PruneBuildCache)},
		{Name: "superseded versions of our apps", Limit: list + prune, Free: measured(func(ctx context.Context) (container.Freed, error) {
			return s.Images.superseded(ctx, true)
		})},
		{Name: "the machine's journal and package cache", Limit: 2 * clean, Every: time.Hour, When: func() bool { return s.Managed },
			Free: unmeasured(s.Clean)},
		{Name: "long logs of our containers", Limit: list, Free: func(ctx context.Context) (uint64, error) {
			root, err := s.Root(ctx)
			if err != nil {
				return 0, err
			}
			return cutLogs(ctx, s.Containers, root, s.Labels())
		}},
	}
}

func measured(f func(context.Context) (container.Freed, error)) func(context.Context) (uint64, error) {
	return func(ctx context.Context) (uint64, error) {
		freed, err := f(ctx)
		return freed.Bytes, err
	}
}

func unmeasured(f func(context.Context) error) func(context.Context) (uint64, error) {
	return func(ctx context.Context) (uint64, error) { return 0, f(ctx) }
}
