package agent

import "context"

type containerLister interface {
	// Summaries lists all containers under Docker's own key names.
	Summaries(ctx context.Context) ([]map[string]any, error)
}

func listContainers(engine containerLister) func(context.Context, nothing) ([]map[string]any, error) {
	return func(ctx context.Context, _ nothing) ([]map[string]any, error) { return engine.Summaries(ctx) }
}
