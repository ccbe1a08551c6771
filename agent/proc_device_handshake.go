package agent

import (
	"context"
	"time"
)

// deviceHandshake says who this is, and what time it thinks it is.
func deviceHandshake(serial string) handler {
	return func(context.Context, Call) (Result, error) {
		return Result{Kwargs: map[string]any{"utp": time.Now().Format(time.RFC3339), "id": serial}}, nil
	}
}
