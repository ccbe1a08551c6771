// Package protocol holds the words that agent and studio share: states,
// procedure and topic names, payload structs (a file a family), error codes,
// and the names that both sides derive from an app's identity.
//
// Everything here is a value or a pure function; nothing keeps state, so all of
// it may be used from any goroutine. Wire spellings exist in this package only.
// Whatever comes over the wire is read with the functions of decode.go, which
// accept any numeric type that a WAMP serialisation may produce and never panic.
package protocol
