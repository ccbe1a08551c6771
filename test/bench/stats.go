package main

import (
	"math"
	"slices"
	"time"
)

// A sample is what one measurement saw, a number a round.
type sample []float64

// add takes a duration in, as milliseconds.
func (s *sample) add(d time.Duration) { *s = append(*s, float64(d)/float64(time.Millisecond)) }

// quantile is the value that the share q of the sample does not exceed, between
// neighbours by their distance. Of nothing it is NaN.
func (s sample) quantile(q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	at := q * float64(len(sorted)-1)
	low := int(math.Floor(at))
	if low+1 == len(sorted) {
		return sorted[low]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}

func (s sample) median() float64 { return s.quantile(0.5) }

// spread is the smallest and the largest of the sample.
func (s sample) spread() (low, high float64) { return s.quantile(0), s.quantile(1) }

// over is the ratio to a floor that was measured by turns with the sample: what
// else the machine does comes and goes for both.
func (s sample) over(floor sample) sample {
	ratios := make(sample, min(len(s), len(floor)))
	for i := range ratios {
		ratios[i] = s[i] / floor[i]
	}
	return ratios
}
