// Package logs keeps what apps print and what the agent says about them,
// publishes it on each app's log topic, and answers for it.
//
// Each running container is followed at all times, by a goroutine of its own,
// into the app's tape: a stream of a journal on the disk. Everything else reads
// the tape: the topic while somebody listens, followers, the history, and queries
// about a container that is gone.
//
//	Attach, Detach, Drain ─► collection ─► pass (engine) ─┐
//	Agent ────────────────────────────────────────────────┴─► tape ─┬─► Follow, History, Query
//	Created, Deleted, Online ─► listeners ──────────────────────────┴─► window ─► publisher ─► router
//	Agent, Clear ─────────────────────────────────────────────────────► events ──┘
//
// Promises of what is kept:
//
//   - Each line is taken once, over restarts of the agent, the container and the
//     engine, over a kill, and whatever the clock does: a container's log is read
//     on from its last line in the tape, which is known by its time and by how
//     many lines of that time there were. What the engine dropped before it was
//     read is a gap.
//   - Numbers grow by one per name, for ever. A line is shown to followers when it
//     is safe from a power cut; while the disk takes nothing they see it as well,
//     with a cursor that ends with the agent.
//   - What containers print is not written at once: the engine has it. It is, at
//     most every 100 ms, while somebody follows. What the agent says is always,
//     and so is the rest of a container that is about to be removed: that is safe
//     from a power cut before the engine's copy goes.
//   - The store is bounded (Journal), the oldest lines of the longest log go first.
//     An app's tape outlives it, and the next app of its name goes on in it.
//   - An app that prints too fast costs the engine's files, not memory: what there
//     is is read in one go, and followed only as long as that can be trusted.
//
// Promises of what is published:
//
//   - The router is asked once per connection who listens to an app, and tells each
//     change by its meta events; all subscriptions of an app are kept apart, so
//     that one listener who leaves silences nobody else. Messages of the agent are
//     always published.
//   - What piles up is bounded: a window of 256 KiB per app and 200 ms. What does
//     not fit is dropped, and the window's last line says how much. A line of any
//     length and any bytes passes: it is cut at 256 KiB, which its end says.
//   - Where the router does not tell who listens, lines are published unasked, 2 KiB
//     a second of an app and 8 KiB of all, after a burst of 64 and 256 KiB. Where it
//     tells that, but not who comes and goes, it is asked again each minute.
//   - Nothing is replayed to a listener who comes. Lines that a short loss of the
//     connection kept back are sent after it.
//
// All methods may be called from any goroutine, before, during and after Run. None
// but Online, Drain and those that answer waits for a network or an engine, so
// nobody who listens, or fails to, slows an app down. At most 32 followers are
// served at once, and two logs read back, each within 30 s and in 32 MiB.
package logs
