package apps

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"reagent/container"
)

// engineTrouble is not the app's failure: its state stays, and it is looked at
// again when the engine may answer.
func (w *worker) engineTrouble(err error) (bool, time.Duration, error) {
	if !engineGone(err) {
		return false, 0, err
	}
	w.a.cfg.Log.Warn().Err(err).Stringer("app", w.id).Msg("engine does not answer")
	return false, jitter(w.a.cfg.Waits.EngineRetry), nil
}

func engineGone(err error) bool {
	return errors.Is(err, container.ErrUnavailable) || errors.Is(err, container.ErrTimeout)
}

// overdue says whose failure it is that an operation met its time limit. The
// engine's, if nothing else comes from it either. Else what the engine waited for
// did not come: that is why, and an ordinary failure. Taken for the engine's it
// would be none, and the operation would be begun again without end.
func (w *worker) overdue(ctx context.Context, why, err error) error {
	if !errors.Is(err, container.ErrTimeout) || ctx.Err() != nil {
		return err
	}
	if _, silent := w.a.cfg.Engine.List(ctx, map[string]string{labelKey: strconv.FormatUint(w.id.Key, 10)}); engineGone(silent) || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w: %v", why, err)
}
