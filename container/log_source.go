package container

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const projectPrefix = "project:"

// ProjectLog is the name by which AppLogs knows the log of a whole project.
func ProjectLog(project string) string { return projectPrefix + project }

// AppLogs reads the logs of apps: that of a container, or those of a project's
// containers.
type AppLogs struct{ *Engine }

// A LogSource is one of the containers whose lines make the log of an app.
type LogSource struct {
	ID string

	// Of a project's containers only.
	Name    string    // that of compose without the project's, such as "web-1"
	Service string    // such as "web"
	Prefix  string    // what compose puts before each line
	Running bool      // when it was listed
	Started time.Time // of one that did not run: when it did
}

// SourceOf is a container as part of its app's log; the prefix is left out.
func SourceOf(c Container) LogSource {
	s := sourceOf(c.ID, c.Name, c.Labels, c.Status)
	s.Started = c.Started
	return s
}

func sourceOf(id, name string, labels map[string]string, status Status) LogSource {
	s := LogSource{ID: id, Running: status == StatusRunning || status == StatusRestarting}
	if project := labels[LabelProject]; project != "" {
		s.Name = strings.TrimLeft(strings.TrimPrefix(name, project), "-_")
		s.Service = labels[LabelService]
	}
	return s
}

// Sources are the containers whose lines make a log: those of a project that
// ProjectLog named, in the order of their names; else the container itself, which
// may turn out not to be there.
func (l AppLogs) Sources(ctx context.Context, id string) ([]LogSource, error) {
	project, is := strings.CutPrefix(id, projectPrefix)
	if !is {
		return []LogSource{{ID: id}}, nil
	}
	rows, err := l.List(ctx, map[string]string{LabelProject: project})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(rows, func(a, b Summary) int { return strings.Compare(a.Name, b.Name) })
	var sources []LogSource
	var names []string
	for _, row := range rows {
		s := sourceOf(row.ID, row.Name, row.Labels, row.Status)
		if !s.Running {
			c, err := l.Inspect(ctx, row.ID)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			s.Started = c.Started
		}
		sources, names = append(sources, s), append(names, s.Name)
	}
	if len(sources) == 0 {
		return nil, wrap("read log of project", project, &engineError{ErrNotFound, fmt.Errorf("it has no containers")})
	}
	for i, prefix := range LogPrefixes(names) {
		sources[i].Prefix = prefix
	}
	return sources, nil
}

// LogPrefixes are what compose puts before the lines of containers that are
// shown together: their names, padded to the longest, and a bar.
func LogPrefixes(names []string) []string {
	width := 0
	for _, name := range names {
		width = max(width, len(name))
	}
	prefixes := make([]string, len(names))
	for i, name := range names {
		prefixes[i] = fmt.Sprintf("%-*s  | ", width, name)
	}
	return prefixes
}
