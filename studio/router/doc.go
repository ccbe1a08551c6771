// Package router is the studio's WAMP router: nexus' realms behind a gate of our
// own.
//
//	HTTP ── upgrade ── login ── peer ──► gate ──► nexus realm1, realm-<app>…
//	                                 ◄── gate ◄──
//	backend ─────── pipe ────── peer ──► gate ──►
//
// nexus routes, and trusts what it is given: an option of an odd type, a second
// message with a number that is in use, or a subscriber that reads slowly can
// stop or end the process that it is part of. So every session, ours too, goes
// through a [peer] that never blocks nexus, and a [gate] that lets in only
// messages whose options are known and of the right type, decides by the rules of
// rules.go who may say what, and adds who says it.
//
// Promises:
//   - Nobody is in who did not prove an identity by WAMP-CRA. Whether a name
//     exists cannot be told from the answers.
//   - Callers and publishers are always disclosed, whatever they asked for.
//   - A message over the limit ends its sender's session, and no other.
//   - What waits for a slow session is bounded: events and progressive results
//     are dropped (and counted in the log), then the session is.
//   - A session ends as soon as its principal is not what it was when it joined
//     ([Router.Recheck]).
//   - A device that comes back is not kept out by its own dead session.
//   - An app's realm is there while somebody entitled is in it.
//
// A Router may be used from any goroutine. Nothing of it is on the disk.
package router
