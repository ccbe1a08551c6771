package agent

import (
	"context"

	"reagent/protocol"
)

// An appRequester takes a wish for an app; when it returns nil, the wish
// survives a power cut.
type appRequester interface {
	Request(ctx context.Context, r protocol.AppRequest) error
}

// requestAppState takes a wish, from the keyword arguments alone (wire §5.4).
// What becomes of it is told in the app's reports.
func requestAppState(apps appRequester) handler {
	return func(ctx context.Context, c Call) (Result, error) {
		r, err := protocol.ParseAppRequest(c.Kwargs)
		if err != nil {
			return Result{}, err
		}
		return Result{}, apps.Request(ctx, r)
	}
}
