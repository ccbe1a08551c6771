// Package messenger keeps one WAMP session open: it dials, authenticates,
// reconnects, and lends the session to whoever wants to call, publish, offer a
// procedure or listen to a topic.
//
// A Session is made by New and lives in Run, the only goroutine that dials; so
// there is never more than one connection, and the old socket is closed before
// a new one is opened. Everything else borrows the connection of the moment (a
// Link) or gets ErrOffline. Procedures and topics are declared once with
// Session.Declare and Session.DeclareTopic and come back on each connection, all
// in one flight, when the connection's owner says Link.Apply.
//
// Promises:
//
//   - All methods of Session and Link may be called from any goroutine, before,
//     during and after Run. Each call ends with its context, its deadline or its
//     connection, whichever is first.
//   - Nothing that a router, a caller or a publisher sends ends the process,
//     blocks the session for ever or makes it grow without bound. A procedure
//     that panics answers an error. A message over the limit ends the
//     connection that it came by.
//   - Rejected credentials and a second session of the same device are states
//     (Unauthorized, Duplicate) that are retried slowly, never ends.
//   - TLS is always verified.
//   - Events reach a handler in their order; a handler that is too slow loses
//     the newest ones, which is counted and logged. It never holds up others.
//   - Nothing survives a restart: what has to be delivered at last is kept by
//     the caller (see persistence).
//
// The WAMP client inside is nexus/v3's. It trusts its router more than a device
// in the field may; guard.go is the wall between the two and says what it keeps
// away from it.
package messenger
