// Package registry is the studio's image registry: distribution/distribution as
// a library over a folder, and in front of it the token end point of Docker's
// registry protocol, so that devices pull and users push with what they have
// anyway.
//
//	POST/GET /auth/token   Basic login → a bearer token, good for minutes
//	         /v2/…         the registry, for bearer tokens only
//
// A login is one of
//
//	token of get_registry_token   device's secret     (life §5)
//	device's authid, or anything  device's secret
//	account's authid              account's secret
//	anything                      a token of PullToken or PushLogin
//
// A token says who its bearer is and what he asked for. What he may is asked
// of Principals again at each request, so that a device that was removed is out
// at once. Tokens are signed with a key that lies beside the images (0600); they
// survive a restart, which matters to a pull that began before it. Removing the
// key's file takes all tokens back.
//
// A device pulls; it pushes while it is to publish an app, the images of its own
// architecture as that version.
//
// A Registry may be used from any goroutine. Images are on the disk before a
// push is acknowledged. Nothing is ever deleted but uploads that nobody
// finished, and what neither a release nor a push needs (Collect); it may be
// killed while it does. An upload ends when the disk runs full or nothing comes for a while.
// One goroutine of distribution's (its event broadcaster) outlives Close: the
// library offers no way to end it.
package registry
