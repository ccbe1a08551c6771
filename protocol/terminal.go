package protocol

import (
	"encoding/base64"
	"fmt"
	"math"
	"reflect"
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

// TerminalKept is the keyword argument of an output event that answers a Resume
// of something that is gone: the position of the oldest byte that is still there.
// From a position alone a client could not tell that from an event that got lost.
const TerminalKept = "kept"

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

// RequestTerminalArgs is the argument of request_terminal_session.
type RequestTerminalArgs struct{ ContainerName string }

// ReadArgs reads the arguments of a call.
func (a *RequestTerminalArgs) ReadArgs(args []any) error {
	if len(args) == 0 {
		return invalid("no args found")
	}
	d, ok := AsDict(args[0])
	if !ok {
		return invalid("failed to parse payload")
	}
	if a.ContainerName, ok = Text(d["containerName"]); !ok {
		return invalid("failed to parse containerName")
	}
	return nil
}

// StartTerminalArgs is the argument of start_terminal_session. The registration
// that it names has to be there, and means nothing (wire Appendix A).
type StartTerminalArgs struct{ SessionID string }

// ReadArgs reads the arguments of a call.
func (a *StartTerminalArgs) ReadArgs(args []any) error {
	d, err := readSession(args, &a.SessionID)
	if err != nil {
		return err
	}
	if _, ok := Uint(d["registrationID"]); !ok {
		return invalid("failed to parse registrationID")
	}
	return nil
}

// StopTerminalArgs is the argument of stop_terminal_session.
type StopTerminalArgs struct{ SessionID string }

// ReadArgs reads the arguments of a call.
func (a *StopTerminalArgs) ReadArgs(args []any) error {
	_, err := readSession(args, &a.SessionID)
	return err
}

func readSession(args []any, id *string) (map[string]any, error) {
	if len(args) == 0 {
		return nil, invalid("failed to parse args, payload is missing")
	}
	d, ok := AsDict(args[0])
	if !ok {
		return nil, invalid("failed to parse payload")
	}
	if *id, ok = Text(d["sessionID"]); !ok {
		return nil, invalid("failed to parse sessionID")
	}
	return d, nil
}

// MaxTerminalSize is the greatest height and width of a terminal.
const MaxTerminalSize = math.MaxInt16

// TerminalSize is the argument of a session's resize procedure. A zero in it
// stands for a window that has no size.
type TerminalSize struct{ Height, Width uint16 }

// ReadContainerArgs reads the arguments of a call that is about a container's
// shell, with the contract's texts for that.
func (t *TerminalSize) ReadContainerArgs(args []any) error {
	d, ok := AsDict(Arg(args, 0))
	if !ok {
		return invalid("failed to parse args")
	}
	if which, err := t.readDict(d); err != nil {
		return invalid("failed to parse %s", which)
	}
	return nil
}

// ReadDeviceArgs reads the arguments of a call that is about the device's shell.
func (t *TerminalSize) ReadDeviceArgs(args []any) error {
	if len(args) == 0 {
		return invalid("failed to parse args, payload is missing")
	}
	d, ok := AsDict(args[0])
	if !ok {
		return invalid("failed to parse args")
	}
	if which, err := t.readDict(d); err != nil {
		return invalid("failed to parse %s: %v", which, err)
	}
	return nil
}

func (t *TerminalSize) readDict(d map[string]any) (which string, err error) {
	for _, f := range []struct {
		name string
		to   *uint16
	}{{"height", &t.Height}, {"width", &t.Width}} {
		if *f.to, err = terminalSide(d[f.name]); err != nil {
			return f.name, err
		}
	}
	return "", nil
}

// terminalSide reads a height or a width: a whole number of any numeric type,
// but no text.
func terminalSide(v any) (uint16, error) {
	switch n := reflect.ValueOf(v); {
	case n.CanInt() && (n.Int() < 0 || n.Int() > MaxTerminalSize), n.CanUint() && n.Uint() > MaxTerminalSize,
		n.CanFloat() && !(n.Float() >= 0 && n.Float() <= MaxTerminalSize): // not a number neither
		return 0, fmt.Errorf("out of range: %v", v)
	case n.CanInt():
		return uint16(n.Int()), nil
	case n.CanUint():
		return uint16(n.Uint()), nil
	case n.CanFloat() && n.Float() != math.Trunc(n.Float()):
		return 0, fmt.Errorf("not a whole number: %v", v)
	case n.CanFloat():
		return uint16(n.Float()), nil
	}
	return 0, fmt.Errorf("unexpected type %T", v)
}
