package container

import (
	"context"
	"fmt"
	"strings"
)

// A LogSource is one of the containers whose lines make the log of an app.
type LogSource struct {
	ID      string
	Name    string // of a project's: that of compose without the project's, such as "web-1"
	Service string // of a project's
	Prefix  string // of a project's: what compose puts before each line
	Running bool   // of a project's, when it was listed
}

// SourceOf is a container as part of its app's log; the prefix is left out.
func SourceOf(c Container) LogSource { return sourceOf(c.ID, c.Name, c.Labels, c.Status) }

func sourceOf(id, name string, labels map[string]string, status Status) LogSource {
	s := LogSource{ID: id, Running: status == StatusRunning || status == StatusRestarting}
	if project := labels[LabelProject]; project != "" {
		s.Name = strings.TrimLeft(strings.TrimPrefix(name, project), "-_")
		s.Service = labels[LabelService]
	}
	return s
}

// Sources are the containers whose lines make a log, by what Logs takes: those
// of a project in the order of their names; else the container itself, which may
// turn out not to be there.
func (l AppLogs) Sources(ctx context.Context, id string) ([]LogSource, error) {
	project, is := strings.CutPrefix(id, projectPrefix)
	if !is {
		return []LogSource{{ID: id}}, nil
	}
	rows, err := l.containers(ctx, project)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, wrap("read log of project", project, &engineError{ErrNotFound, fmt.Errorf("it has no containers")})
	}
	sources, names := make([]LogSource, len(rows)), make([]string, len(rows))
	for i, row := range rows {
		sources[i] = sourceOf(row.ID, row.Name, row.Labels, row.Status)
		names[i] = sources[i].Name
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
