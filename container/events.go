package container

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/events"
)

// actions are the events that are asked for. What a health check does inside a
// container (exec_create, exec_start, exec_die, each time) is not among them.
var actions = []string{
	"create", "start", "restart", "pause", "unpause", "kill", "stop", "die", "oom",
	"rename", "update", "destroy", "health_status",
}

// eventDetails are the attributes that the engine adds to a container's labels.
var eventDetails = []string{"image", "name", "oldName", "exitCode", "signal", "execDuration"}

// Events hands over what happens to containers, in order and from the calling
// goroutine, until ctx ends or the stream breaks, which is an error. up is
// called when the stream has begun: what happened before it was missed, and is
// for a look at the list to find out. Nothing that happens after it is missed,
// but a slow event function may make the engine drop some.
func (e *Engine) Events(ctx context.Context, up func(), event func(Event)) error {
	// The engine subscribes only after it has answered. Asking for the events
	// since now closes that gap.
	query := url.Values{
		"since":   {seconds(time.Now())},
		"filters": {eventFilter},
	}
	err := e.streaming(ctx, e.cfg.Timeout, func(ctx context.Context, p *peer, w *watchdog) error {
		answer, err := p.get(ctx, "/events", query)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		w.rest()
		up()
		for lines := bufio.NewReader(answer.Body); ; {
			line, err := readRecord(lines)
			if err != nil {
				return err // also at an orderly end: it means that the engine ends
			}
			if len(line) == 0 {
				continue
			}
			var m events.Message
			if err := json.Unmarshal(line, &m); err != nil {
				return fmt.Errorf("the engine's event is not readable: %w", err)
			}
			event(toEvent(m))
		}
	})
	return fmt.Errorf("follow container events: %w", err)
}

var eventFilter = func() string {
	filter, err := json.Marshal(map[string][]string{"type": {"container"}, "event": actions})
	if err != nil {
		panic(err) // a map of strings
	}
	return string(filter)
}()

func toEvent(m events.Message) Event {
	about := m.Actor.Attributes
	exit, _ := strconv.Atoi(about["exitCode"]) // there with a die only
	ev := Event{
		Action:   string(m.Action),
		ID:       m.Actor.ID,
		Name:     about["name"],
		OldName:  strings.TrimPrefix(about["oldName"], "/"),
		ExitCode: exit,
		Time:     time.Unix(0, m.TimeNano),
		Labels:   maps.Clone(about),
	}
	maps.DeleteFunc(ev.Labels, func(key, _ string) bool { return slices.Contains(eventDetails, key) })
	return ev
}

// seconds is a time as the engine's API takes it.
func seconds(t time.Time) string {
	return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond())
}
