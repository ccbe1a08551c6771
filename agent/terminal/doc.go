// Package terminal gives shells to those who may: of the device, and of its
// containers (wire §9, docs/terminals.md).
//
//	keystrokes ─► write topic ─► input ─► shell ─► output ─► publisher ─► data topic
//	                                │                ▲
//	                                └── flow control ┘
//
// A Manager has the sessions. Each session has one owner goroutine, which lives
// from the shell's start until its end was published, and three that it waits
// for: one reads the shell, one writes to it, one publishes.
//
// Promises:
//
//   - A session belongs to who asked for it, its owner. Nobody else may start,
//     stop or resize it; its output is published for the owner and the system
//     alone, and keystrokes count only if they come from these two, or from a
//     router that does not tell who publishes, and has not told it in this
//     session before. There, its ID is what nobody else knows; no log has it. Whether somebody may have a
//     session at all is the caller's business (the agent's table of procedures).
//   - All methods may be called from any goroutine. Sessions outlive the call and
//     the connection that they came by, and end with Run.
//   - Output comes in order and, while the connection holds, whole. It is read as
//     fast as it is taken: publications are acknowledged, one at a time, or for
//     a client with flow control sent no further than a window beyond what it
//     has processed. What piles up is bounded: 256 KiB of output, and 1 MiB of
//     keystrokes that the shell does not read.
//   - Without a connection the program goes on: the newest 1 MiB is kept, and a
//     line says how much was lost before it. With flow control nothing is lost;
//     the program waits when the window is full. Then, all is sent in order.
//   - A session ends with its shell, when it is stopped, when nobody started it,
//     watches it or uses it for long, when its owner has lost the right to it, and
//     with Run. Everything that was started
//     in it ends too, what was started with nohup not excepted: HUP and TERM,
//     KILL two seconds later. What made a session of its own and outlived its
//     parents (setsid, daemons) is not its any more and stays.
//   - TERMINAL_EOF is published once, after the last output (and again for a
//     client with flow control that asks for what it missed). If there is no
//     connection, it waits for one for some minutes.
//   - Nothing survives the agent: shells end with it, also when it is killed
//     (those of containers when their input is closed).
package terminal
