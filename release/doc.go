// Package release knows which agent this is: its version and the machine it was
// built for. Nothing in it changes while the program runs, so everything may be
// used from any goroutine.
package release
