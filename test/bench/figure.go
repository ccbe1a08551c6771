package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"
)

// A figure is one line of the table.
type figure struct {
	Name  string  `json:"name"` // measurement and what of it; the same from build to build
	About string  `json:"about"`
	Unit  string  `json:"unit"`
	Value float64 `json:"value"` // the median, where there are several
	Low   float64 `json:"low,omitempty"`
	High  float64 `json:"high,omitempty"`
	N     int     `json:"n"`
	Goal  *goal   `json:"goal,omitempty"`
}

// single is a figure that was measured once.
func single(name, about, unit string, value float64) figure {
	return figure{Name: name, About: about, Unit: unit, Value: value, N: 1}
}

// median is a figure that was measured often.
func median(name, about, unit string, s sample) figure {
	low, high := s.spread()
	return figure{Name: name, About: about, Unit: unit, Value: s.median(), Low: low, High: high, N: len(s)}
}

// ofMany is a figure that is another value than the median of what was measured.
func ofMany(name, about, unit string, value float64, s sample) figure {
	f := median(name, about, unit, s)
	f.Value = value
	return f
}

// A goal is what a figure should be.
type goal struct {
	AtMost  float64 `json:"at_most,omitempty"`
	AtLeast float64 `json:"at_least,omitempty"`
	Why     string  `json:"why,omitempty"`
}

func (g goal) met(value float64) bool {
	switch {
	case math.IsNaN(value):
		return false
	case g.AtLeast != 0:
		return value >= g.AtLeast
	}
	return value <= g.AtMost
}

// referenceConnected is how long the reference agent took from its start to
// CONNECTED in a fresh folder, on the machine where it was measured.
const referenceConnected = 189.0

// goals are what the agent is to reach, by the names of the figures.
var goals = map[string]goal{
	"size.binary":                    {AtMost: 20},
	"start.connected.fresh":          {AtMost: referenceConnected / 3, Why: "a third of the reference's 189 ms"},
	"start.connected.far":            {AtMost: 1500, Why: "seven round trips of 200 ms are the floor"},
	"idle.pss.five":                  {AtMost: 14, Why: "aim: 12"},
	"idle.anonymous.five":            {AtMost: 6},
	"calls.latency.ratio":            {AtMost: 1.10, Why: "of the floor"},
	"calls.rate.ratio":               {AtLeast: 0.90, Why: "of the floor"},
	"reconnect.cut.registered":       {AtMost: 300, Why: "each from a fresh back-off"},
	"apps.run.ratio":                 {AtMost: 1.15, Why: "of docker run"},
	"logs.follow.lost.20000":         {AtMost: 0.001, Why: "none"},
	"logs.follow.twice.most":         {AtMost: 0.001, Why: "none"},
	"twenty.anonymous.peak":          {AtMost: 12, Why: "flat: what is pulled goes through the engine"},
	"terminals.host.echo.ratio":      {AtMost: 2, Why: "the reference: 2.5"},
	"terminals.container.echo.ratio": {AtMost: 3, Why: "the reference: 3.6"},
	"terminals.host.lost":            {AtMost: 0.001, Why: "none"},
	"terminals.container.lost":       {AtMost: 0.001, Why: "none"},
}

// A report is a whole run.
type report struct {
	Taken   time.Time `json:"taken"`
	Machine machine   `json:"machine"`
	Agent   string    `json:"agent"` // version
	Figures []figure  `json:"figures"`
	Left    []string  `json:"left_out,omitempty"` // measurements that this machine cannot make, with the reason
}

// add takes figures in and puts their goals beside them. One that is no number
// was not measured, and is said to be left out.
func (r *report) add(figures ...figure) {
	for _, f := range figures {
		if math.IsNaN(f.Value) || math.IsInf(f.Value, 0) {
			r.Left = append(r.Left, f.Name+": nothing was measured")
			continue
		}
		if g, ok := goals[f.Name]; ok {
			f.Goal = &g
		}
		r.Figures = append(r.Figures, f)
	}
}

func (r *report) find(name string) (figure, bool) {
	for _, f := range r.Figures {
		if f.Name == name {
			return f, true
		}
	}
	return figure{}, false
}

// save writes the report as JSON, with the folders that lead to it.
func (r *report) save(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

func loadReport(path string) (*report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(report)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s is no report of this program: %w", path, err)
	}
	return r, nil
}
