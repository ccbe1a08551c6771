// Package interop runs whole agents against what they have to get along with:
// the studio as built, Crossbar.io as the router with the studio's backend
// attached to it, and Autobahn|Python as a client that nobody here wrote. It
// proves that an app lives its whole life on either router, that foreign clients
// get the contract's answers and read an app's log, that they and the studio's
// command use shells and lose nothing of them, that a refused device stays up and
// is shown as refused on both sides, and that an app logs in with what it finds in
// its own folder.
//
// Crossbar.io and Autobahn come from the virtual environment that test/setup
// makes.
package interop
