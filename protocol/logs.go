package protocol

import (
	"strconv"
	"strings"
)

// LoggerClear is the text of an agent message that tells viewers of a log to
// clear what they show (wire §8).
const LoggerClear = "LOGGER_CLEAR"

// AgentMessage is the argument of an event on a log topic by which the agent
// itself says something.
func AgentMessage(text string) map[string]any {
	return map[string]any{"type": "build", "chunk": text}
}

// TransferProgress is the argument of an event on a log topic that tells how far
// an upload came. The spelling of its status is the contract's.
func TransferProgress(file string, percent float64) map[string]any {
	return map[string]any{"id": file, "status": "Transfer Progress:", "progress": strconv.FormatFloat(percent, 'f', 3, 64) + "%"}
}

// TopicMatches reports whether a subscription to uri gets the events of topic.
// match is the policy that routers name: "exact", "prefix" or "wildcard"; where
// it is empty, a uri that cannot be a topic (an empty part) counts as a pattern
// of either kind.
func TopicMatches(topic, uri, match string) bool {
	switch match {
	case "exact":
		return topic == uri
	case "prefix":
		return strings.HasPrefix(topic, uri)
	case "wildcard":
		return wildcardMatches(topic, uri)
	case "":
		return topic == uri ||
			strings.HasSuffix(uri, ".") && strings.HasPrefix(topic, uri) ||
			wildcardMatches(topic, uri)
	}
	return false
}

func wildcardMatches(topic, uri string) bool {
	parts, pattern := strings.Split(topic, "."), strings.Split(uri, ".")
	if len(parts) != len(pattern) {
		return false
	}
	for i, p := range pattern {
		if p != "" && p != parts[i] {
			return false
		}
	}
	return true
}

// AppLogArgs is the argument of get_app_log_history (wire §5.7).
type AppLogArgs struct {
	ContainerName string
}

// ReadDict reads the argument with the contract's texts for what is wrong. The
// name goes to the container engine, so nothing but a name of the contract's
// form passes.
func (a *AppLogArgs) ReadDict(d map[string]any) error {
	name, ok := Text(d["containerName"])
	if !ok {
		return invalid("invalid value for containerName")
	}
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		return invalid("container name is empty")
	}
	if parts := strings.SplitN(name, "_", 3); len(parts) == 3 {
		if _, err := strconv.ParseUint(parts[1], 10, 64); err != nil {
			return invalid("%v", err)
		}
	}
	_, _, app, ok := ParseContainerName(name)
	if !ok || CheckAppName(app) != nil {
		return invalid("invalid container name")
	}
	a.ContainerName = name
	return nil
}
