package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// rescan is how often a followed project is asked for containers that it did not
// have before: one that was restarted, or made anew.
const rescan = 2 * time.Second

const projectPrefix = "project:"

// ProjectLog is the name by which AppLogs knows the log of a whole project.
func ProjectLog(project string) string { return projectPrefix + project }

// AppLogs reads the logs of apps: that of a container by its id or name, that of
// a project by what ProjectLog makes.
type AppLogs struct{ Engine *Engine }

// Logs is Engine.Logs. A project's lines begin, after their time, with the
// container that printed them, as compose puts it. Followed, it lasts until none
// of the project's containers runs; else they come one container after another.
func (l AppLogs) Logs(ctx context.Context, id string, o LogOptions, line func(stream string, line []byte)) error {
	project, is := strings.CutPrefix(id, projectPrefix)
	if !is {
		return l.Engine.Logs(ctx, id, o, line)
	}
	rows, err := l.containers(ctx, project)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return wrap("read log of project", project, &engineError{ErrNotFound, fmt.Errorf("it has no containers")})
	}
	if o.Follow {
		return l.follow(ctx, project, rows, o, line)
	}
	for _, row := range rows {
		err := l.Engine.Logs(ctx, row.ID, o, func(stream string, raw []byte) {
			var stamp []byte
			if o.Timestamps {
				stamp, raw, _ = bytes.Cut(raw, []byte{' '})
			}
			line(stream, prefixed(project, row, o.Timestamps, stamp, raw))
		})
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

func (l AppLogs) containers(ctx context.Context, project string) ([]Summary, error) {
	rows, err := l.Engine.List(ctx, map[string]string{LabelProject: project})
	slices.SortFunc(rows, func(a, b Summary) int { return strings.Compare(a.Name, b.Name) })
	return rows, err
}

// prefixed puts the container's name before the text of a line, after the time,
// which is left out unless it is wanted.
func prefixed(project string, row Summary, timestamps bool, stamp, text []byte) []byte {
	name := strings.TrimLeft(strings.TrimPrefix(row.Name, project), "-_")
	out := make([]byte, 0, len(stamp)+len(text)+len(name)+6)
	if timestamps && len(stamp) > 0 {
		out = append(append(out, stamp...), ' ')
	}
	return append(append(append(out, name...), "  | "...), text...)
}

// A printed line waits to be handed over by the goroutine that asked for it.
type printedLine struct {
	stream string
	line   []byte
}

// A reading is what was read of one container so far.
type reading struct {
	active bool
	run    time.Time // when the run began that was read last
	last   time.Time // of the last line; only a reader touches it while it is active
}

// follow hands over what all containers print, each read by a goroutine of its
// own; all have ended when it returns. A container that ran once more between two
// looks is read from where its reader ended.
func (l AppLogs) follow(ctx context.Context, project string, rows []Summary, o LogOptions, line func(string, []byte)) error {
	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	type end struct {
		of  *reading
		err error
	}
	lines, ends := make(chan printedLine), make(chan end)
	readings, active := map[string]*reading{}, 0
	begin := func(row Summary, run time.Time) {
		r, again := readings[row.ID]
		if !again {
			r = &reading{}
			readings[row.ID] = r
		}
		from := o
		from.Timestamps = true // they tell where to go on
		if again {             // all that came since
			from.Since, from.Tail = run, 0
			if !r.last.IsZero() {
				from.Since = r.last.Add(1)
			}
		}
		r.active, r.run = true, run
		active++
		readers.Go(func() {
			err := l.Engine.Logs(ctx, row.ID, from, func(stream string, raw []byte) {
				stamp, text, _ := bytes.Cut(raw, []byte{' '})
				if at, err := time.Parse(time.RFC3339Nano, string(stamp)); err == nil {
					r.last = at
				}
				select {
				case lines <- printedLine{stream, prefixed(project, row, o.Timestamps, stamp, text)}:
				case <-ctx.Done():
				}
			})
			select {
			case ends <- end{r, err}:
			case <-ctx.Done():
			}
		})
	}
	// look begins with what was not read yet.
	look := func(rows []Summary) error {
		for _, row := range rows {
			r := readings[row.ID]
			if r != nil && r.active {
				continue
			}
			c, err := l.Engine.Inspect(ctx, row.ID)
			switch {
			case errors.Is(err, ErrNotFound):
			case err != nil:
				return err
			case r == nil || c.Status == StatusRunning || !c.Started.Equal(r.run):
				begin(row, c.Started)
			}
		}
		return nil
	}
	if err := look(rows); err != nil {
		return err
	}
	tick := time.NewTicker(rescan)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case p := <-lines:
			line(p.stream, p.line)
			continue
		case e := <-ends:
			e.of.active = false
			active--
			if e.err != nil && !errors.Is(e.err, ErrNotFound) {
				return e.err
			}
			if active > 0 {
				continue
			}
		case <-tick.C:
		}
		rows, err := l.containers(ctx, project)
		if err != nil {
			return err
		}
		if err := look(rows); err != nil {
			return err
		}
		if active == 0 {
			return nil
		}
	}
}
