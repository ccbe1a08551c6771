package protocol

import "regexp"

var sessionID = regexp.MustCompile(`([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// Loggable is a text as a log may have it: of the ID of a terminal's session, on
// its own or in a URI, no more than tells it from others. On routers that do not
// disclose who publishes, whoever knows an ID may type there; a log has more
// readers.
func Loggable(text string) string { return sessionID.ReplaceAllString(text, "$1…") }
