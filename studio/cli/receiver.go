package cli

import (
	"reagent/messenger"
	"reagent/protocol"
)

// A receiver makes one stream of a terminal's output events. An agent that gives
// positions (protocol.TerminalFlow) is asked for what is missing, and what comes
// twice is left out. With any other agent the events are the stream.
type receiver struct {
	container bool // whose output is bytes

	flows bool   // the agent gives positions
	begun bool   // a position is known, …
	next  uint64 // … this one: all before was taken
	plain uint64 // bytes taken without a position
	held  []byte // came without a position while it is open whether they will have one …
	over  bool   // … and so did the end: what a short shell printed may have come before anybody listened
	open  bool   // … which it is

	ended bool
}

// An output is what an event brought.
type output struct {
	data []byte
	lost uint64 // so many bytes before data are gone for good
	ask  bool   // something is missing: ask for what is behind next
}

// mostHeld bounds what is kept while it is open what kind of agent it is.
const mostHeld = 1 << 20

// take takes one event in.
func (r *receiver) take(e messenger.Event) output {
	data, ok := protocol.TerminalBytes(protocol.Arg(e.Args, 0), r.container)
	if !ok || r.ended {
		return output{}
	}
	end := string(data) == protocol.TerminalEOF
	if end {
		data = nil
	}
	if at, ok := protocol.Uint(e.Kwargs[protocol.TerminalOffset]); ok {
		return r.place(data, at, end, e.Kwargs)
	}
	r.held, r.over = append(r.held, data...), end
	if r.open && len(r.held) <= mostHeld {
		return output{}
	}
	return r.settle()
}

// waits tells whether something is held.
func (r *receiver) waits() bool { return r.held != nil || r.over }

// settle says that no position comes for what came without one.
func (r *receiver) settle() output {
	data := r.held
	r.open, r.held = false, nil
	r.ended, r.over = r.over, false
	r.advance(len(data))
	return output{data: data}
}

func (r *receiver) advance(n int) {
	if r.begun {
		r.next += uint64(n)
	} else {
		r.plain += uint64(n)
	}
}

// place takes in data that begins at a position.
func (r *receiver) place(data []byte, at uint64, end bool, kwargs map[string]any) (out output) {
	if !r.flows { // what was held comes again
		r.flows, r.open, r.held, r.over = true, false, nil, false
		if r.container { // nothing of a container's shell comes before its start
			r.begun, r.next = true, r.plain
		}
	}
	if !r.begun {
		r.begun, r.next = true, at
	}
	if kept, ok := protocol.Uint(kwargs[protocol.TerminalKept]); ok && kept > r.next {
		out.lost, r.next = kept-r.next, kept
	}
	if at > r.next {
		out.ask = true
		return out
	}
	if had := r.next - at; had < uint64(len(data)) {
		out.data = data[had:]
		r.next += uint64(len(out.data))
	} else if end && had == 0 {
		r.ended = true
	}
	return out
}
