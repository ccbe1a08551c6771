// Package logs publishes what apps print and what the agent says about them, on
// each app's log topic, and answers for their recent past.
//
// Container output is followed and published only while somebody listens; an
// idle device follows nothing. Messages of the agent are always published. The
// router is asked once per connection who listens to an app, and tells each
// change by its meta events; all subscriptions of an app are kept apart, so that
// one listener who leaves silences nobody else.
//
//	Created, Deleted, Online ─► listeners ─┐
//	Attach, Detach ─► container ───────────┴─► follow ─► window ─► publisher ─► router
//	Agent, Clear ──────────────────────────────────────► events ──┘
//
// Promises:
//
//   - All methods may be called from any goroutine, before, during and after Run.
//     None but Online and History waits for anything, so nobody who listens, or
//     fails to, slows an app down.
//   - What piles up is bounded: a window of 256 KiB per app and 200 ms. What does
//     not fit is dropped, and the window's last line says how much. A line of any
//     length and any bytes passes: it is cut at 256 KiB, which its end says.
//   - Where the router does not tell who listens, lines are published unasked, 2 KiB
//     a second of an app and 8 KiB of all, after a burst of 64 and 256 KiB.
//   - Two logs are read back at once, each within 30 s and in 32 MiB of memory.
//   - Nothing is replayed to a listener who comes. Lines that a short loss of the
//     connection kept back are sent after it.
//   - The recent past is the engine's own record of the container, mixed with the
//     agent's messages by time. Nothing is written to the disk, and the messages
//     do not survive a restart of the agent.
package logs
