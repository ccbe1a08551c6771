package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// table prints r for people, beside old where there is one.
func (r *report) table(out io.Writer, old *report) error {
	fmt.Fprintf(out, "agent %s, %s\n%s\n", r.Agent, r.Taken.Format(time.DateTime), r.Machine)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	// Every line has all cells, or the columns would not stay in line.
	row := func(cells ...string) { fmt.Fprintln(w, strings.Join(cells, "\t")+"\t") }
	head := []string{"", "median", "from – to", "n", "goal"}
	if old != nil {
		fmt.Fprintf(out, "beside agent %s, %s; the ratio is new to old\n", old.Agent, old.Taken.Format(time.DateTime))
		head = append(head, "old", "ratio")
	}
	row(head...)
	part := ""
	for _, f := range r.Figures {
		if p, _, _ := strings.Cut(f.Name, "."); p != part {
			part = p
			row(make([]string, len(head))...)
			row(append([]string{part}, make([]string, len(head)-1)...)...)
		}
		cells := []string{"  " + f.About, number(f.Value) + " " + f.Unit, f.fromTo(), strconv.Itoa(f.N), f.verdict()}
		if old != nil {
			was, ratio := f.beside(old)
			cells = append(cells, was, ratio)
		}
		row(cells...)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, left := range r.Left {
		fmt.Fprintf(out, "\nleft out: %s\n", left)
	}
	return nil
}

func (f figure) fromTo() string {
	if f.N < 2 {
		return ""
	}
	return number(f.Low) + " – " + number(f.High)
}

// verdict is the goal beside the figure.
func (f figure) verdict() string {
	if f.Goal == nil {
		return ""
	}
	sign, limit := "≤", f.Goal.AtMost
	if f.Goal.AtLeast != 0 {
		sign, limit = "≥", f.Goal.AtLeast
	}
	verdict := "missed"
	if f.Goal.met(f.Value) {
		verdict = "met"
	}
	text := fmt.Sprintf("%s %s %s", sign, number(limit), verdict)
	if f.Goal.Why != "" {
		text += " (" + f.Goal.Why + ")"
	}
	return text
}

// beside is the old value and the ratio, where old has the figure.
func (f figure) beside(old *report) (was, ratio string) {
	o, ok := old.find(f.Name)
	if !ok || o.Unit != f.Unit {
		return "–", ""
	}
	if o.Value == 0 {
		return number(o.Value), ""
	}
	return number(o.Value), fmt.Sprintf("%.2f", f.Value/o.Value)
}

// number writes three digits that matter, without an exponent.
func number(v float64) string {
	switch size := math.Abs(v); {
	case math.IsNaN(v):
		return "none"
	case v == math.Trunc(v) && size < 1e9, size >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case size >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case size >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}
