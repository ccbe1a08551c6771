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
		err := l.Engine.Logs(ctx, row.ID, o, func(stream string, raw []byte) { line(stream, prefixed(project, row, o, raw)) })
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

// prefixed puts the container's name before the text of a line, which its time
// precedes.
func prefixed(project string, row Summary, o LogOptions, raw []byte) []byte {
	name := strings.TrimLeft(strings.TrimPrefix(row.Name, project), "-_")
	stamp, text, stamped := bytes.Cut(raw, []byte{' '})
	if !o.Timestamps || !stamped {
		stamp, text = nil, raw
	}
	out := make([]byte, 0, len(raw)+len(name)+4)
	if stamp != nil {
		out = append(append(out, stamp...), ' ')
	}
	return append(append(append(out, name...), "  | "...), text...)
}

// A printed line waits to be handed over by the goroutine that asked for it.
type printedLine struct {
	stream string
	line   []byte
}

// follow hands over what all containers print, each read by a goroutine of its
// own; all have ended when it returns.
func (l AppLogs) follow(ctx context.Context, project string, rows []Summary, o LogOptions, line func(string, []byte)) error {
	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	type end struct {
		id  string
		err error
	}
	lines, ends := make(chan printedLine), make(chan end)
	active, since := map[string]bool{}, map[string]time.Time{}
	begin := func(row Summary) {
		o := o
		if from, again := since[row.ID]; again {
			o.Since, o.Tail = from, 0
		}
		active[row.ID] = true
		readers.Go(func() {
			err := l.Engine.Logs(ctx, row.ID, o, func(stream string, raw []byte) {
				select {
				case lines <- printedLine{stream, prefixed(project, row, o, raw)}:
				case <-ctx.Done():
				}
			})
			select {
			case ends <- end{row.ID, err}:
			case <-ctx.Done():
			}
		})
	}
	for _, row := range rows {
		begin(row)
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
			delete(active, e.id)
			since[e.id] = time.Now()
			if e.err != nil && !errors.Is(e.err, ErrNotFound) {
				return e.err
			}
			if len(active) > 0 {
				continue
			}
		case <-tick.C:
		}
		rows, err := l.containers(ctx, project)
		if err != nil {
			return err
		}
		for _, row := range rows {
			_, known := since[row.ID]
			if !active[row.ID] && (row.Status == StatusRunning || !known) {
				begin(row)
			}
		}
		if len(active) == 0 {
			return nil
		}
	}
}
