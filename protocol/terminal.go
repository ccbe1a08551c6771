package protocol

import (
	"encoding/base64"
	"strings"
)

// TerminalEOF is what comes last on a terminal's data topic (wire §9): bytes from
// a container's shell, a text from the device's.
const TerminalEOF = "TERMINAL_EOF"

// A TerminalSession is the answer of request_terminal_session and
// init_device_terminal: where its keystrokes go, where its output comes from, and
// the procedure that tells its size.
type TerminalSession struct {
	DataTopic   string `json:"dataTopic"`
	WriteTopic  string `json:"writeTopic"`
	ResizeTopic string `json:"resizeTopic"`
	SessionID   string `json:"sessionID"`
}

// ContainerTerminal names the topics of a shell in a container (wire §9.1).
func ContainerTerminal(serial, containerName, id string) TerminalSession {
	of := "." + containerName + "." + id
	return TerminalSession{
		DataTopic:   Procedure(serial, "term_data"+of),
		WriteTopic:  Procedure(serial, "term_write"+of),
		ResizeTopic: Procedure(serial, "term_resize"+of),
		SessionID:   id,
	}
}

// DeviceTerminal names the topics of a shell of the device (wire §9.2).
func DeviceTerminal(serial, id string) TerminalSession {
	return TerminalSession{
		DataTopic:   Procedure(serial, "data."+id),
		WriteTopic:  Procedure(serial, "term_write."+id),
		ResizeTopic: Procedure(serial, "term_resize."+id),
		SessionID:   id,
	}
}

// TerminalWindow is how much output is sent beyond what a client with flow
// control has received.
const TerminalWindow = 256 << 10

// TerminalOffset is the keyword argument of an output event that says where its
// first byte stands in the session's output, counted from 0 in bytes as they are
// published. TERMINAL_EOF has it too: there it is the length of the output.
const TerminalOffset = "offset"

// TerminalFlow is what a client says of the output that it has got, as keyword
// arguments of an event on the write topic; the text in it may be "". The contract
// does not have it, and whoever never says it gets what the contract says. From
// the first on, output events carry TerminalOffset, and at most TerminalWindow
// bytes are sent beyond Received.
//
// So a slow reader loses nothing, and a lost connection of either side neither: a
// client that finds a gap, or was away, says Resume. For its sake a session that
// ended answers for a minute more, unless its end was received.
type TerminalFlow struct {
	// Received is the position up to which the client needs nothing again.
	Received uint64
	// Resume makes output come again from Received on, as far as it is kept, and
	// the end where that has come.
	Resume bool
	// Tail is for who comes to a session that others have used: with Resume, no more
	// than so many of the bytes that were sent before come again. 0 = no limit.
	Tail uint64
	// Release says that the client goes and nobody will tell a position any more:
	// from now on as without flow control, so that the program is not held up.
	Release bool
}

// Kwargs is the flow as it is published.
func (f TerminalFlow) Kwargs() map[string]any {
	out := map[string]any{"received": f.Received}
	if f.Resume {
		out["resume"] = true
	}
	if f.Tail > 0 {
		out["tail"] = f.Tail
	}
	if f.Release {
		out["release"] = true
	}
	return out
}

// ReadTerminalFlow reads what a client says; ok is false where it says nothing, or
// nothing that can be understood.
func ReadTerminalFlow(kwargs map[string]any) (f TerminalFlow, ok bool) {
	if f.Received, ok = Uint(kwargs["received"]); !ok {
		return TerminalFlow{}, false
	}
	f.Resume, _ = kwargs["resume"].(bool)
	f.Tail, _ = Uint(kwargs["tail"])
	f.Release, _ = kwargs["release"].(bool)
	return f, true
}

// TerminalBytes reads the output in an event (wire §9): text from the device's
// shell, bytes from a container's, which JSON carries as base64, and a router
// that translates with a NUL in front (WAMP's form).
func TerminalBytes(arg any, fromContainer bool) ([]byte, bool) {
	switch v := arg.(type) {
	case []byte:
		return v, true
	case string:
		if !fromContainer {
			return []byte(v), true
		}
		if raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(v, "\x00")); err == nil {
			return raw, true
		}
		return []byte(v), true // the end, from an agent that says it as text everywhere
	}
	return nil, false
}

// TerminalBridge is the keyword argument that tells a bridge to another router
// who may see an event there (wire Appendix A).
const TerminalBridge = "__bridge_eligible_authid__"
