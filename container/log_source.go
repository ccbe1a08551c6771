package container

import (
	"context"
	"fmt"
	"strings"
)

// A LogSource is one of the containers whose lines make the log of an app.
type LogSource struct {
	ID     string
	Prefix string // before each of its lines, as compose puts it; "" for an app of one container
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
	names := make([]string, len(rows))
	for i, row := range rows {
		names[i] = strings.TrimLeft(strings.TrimPrefix(row.Name, project), "-_")
	}
	sources := make([]LogSource, len(rows))
	for i, prefix := range LogPrefixes(names) {
		sources[i] = LogSource{rows[i].ID, prefix}
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
