package backoff

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestCeilingDoublesUpToMax(t *testing.T) {
	b := Backoff{Min: 500 * time.Millisecond, Max: 30 * time.Second}
	want := []time.Duration{500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000}
	for i, ms := range want {
		if got := b.Ceiling(); got != ms*time.Millisecond {
			t.Errorf("ceiling of pause %d = %v, want %v", i, got, ms*time.Millisecond)
		}
		if got := b.Next(); got < 0 || got > ms*time.Millisecond {
			t.Errorf("pause %d = %v, want it in [0, %v]", i, got, ms*time.Millisecond)
		}
	}
	b.Reset()
	if got := b.Ceiling(); got != b.Min {
		t.Errorf("ceiling after a reset = %v, want %v", got, b.Min)
	}
}

// A fleet of a thousand that is thrown off at one instant must come back spread
// over the whole interval, from the first pause on and also at the cap.
func TestPausesSpreadOverTheWholeInterval(t *testing.T) {
	const fleet, slots = 10000, 10
	for name, skip := range map[string]int{"first pause": 0, "at the cap": 20} {
		var count [slots]int
		for range fleet {
			b := Backoff{Min: time.Second, Max: 30 * time.Second}
			for range skip {
				b.Next()
			}
			d := b.Ceiling()
			count[min(slots-1, int(slots*b.Next()/d))]++
		}
		for i, n := range count {
			if n < fleet/slots*8/10 || n > fleet/slots*12/10 {
				t.Errorf("%s: tenth %d holds %d of %d, want about %d", name, i, n, fleet, fleet/slots)
			}
		}
	}
}

func TestZeroValueDoesNotPause(t *testing.T) {
	var b Backoff
	if got := b.Next(); got != 0 {
		t.Errorf("pause = %v, want 0", got)
	}
	if got := (&Backoff{Min: time.Minute, Max: time.Second}).Ceiling(); got != time.Second {
		t.Errorf("ceiling with Min above Max = %v, want 1s", got)
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := Sleep(t.Context(), 3*time.Second); err != nil {
			t.Errorf("Sleep = %v, want nil", err)
		}
		if got := time.Since(start); got != 3*time.Second {
			t.Errorf("slept %v, want 3s", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := Sleep(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Sleep = %v, want the context's error", err)
		}
	})
}
