// Package apps brings the apps of a device from what they are to what is wanted
// of them, and keeps them there.
//
// Desired and actual state are separate records of the store. One worker
// goroutine per app (key and stage) compares them and takes one step at a time;
// the newest wish wins, wishes in between coalesce, and a step that the newest
// wish makes pointless is cancelled. The engine's events wake the workers, a
// periodic look at everything corrects what an event did not tell.
//
//	wish (request_app_state, wish list)        engine's events, full look
//	        │                                        │
//	        ▼                                        ▼
//	  store: wanted ──────► worker: observe → correct → plan → step ──► engine
//	                          │
//	                          └─ setState: store: actual + history + outbox ──► reporter ──► studio
//
// A developer's app (stage DEV) is built here from an archive that was uploaded,
// and published from here. It is never tried again by itself: what was asked for
// once is done once.
//
// An app is one container, or a compose project of several (form). A project runs
// while none of its services has crashed: one that ended with 0 has done its work,
// as have all services of a batch of jobs, which stays RUNNING and is run again
// when the system starts. What a project keeps is in its named volumes, which only
// a removal deletes. Its definition is a stranger's: what it may ask for is decided
// before anything of it is fetched (projectPolicy).
//
// What survives a restart: wishes, states, host ports, the marker of a running
// update and reports that the studio has not confirmed. What does not: the
// pauses of the crash loop, which begin anew, uploads that were under way, and
// the logins that came with a wish for a build, which then says so.
//
// A worker lives under the agent's context, not the connection's: a lost link
// cancels nothing, and ending the agent ends no container. Only containers that
// carry our labels, or that were adopted with a record, are ever touched.
package apps
