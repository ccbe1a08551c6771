package disk

import (
	"context"
	"time"

	"reagent/container"
)

// Sources are what the steps of the product work on.
type Sources struct {
	Images Pruner
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
// would touch somebody else's: volumes and logs of foreign containers stay, and
// ours need no clean-up. A container's anonymous volumes go with it, a compose
// app's volumes with the app, and our containers' logs are bounded from their
// making.
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
