// Package cli is the commands of reagent-studio for people and scripts: one file
// a command, one table of them (commands.go) that help is made from.
//
// A command is a client of a studio: it calls re.studio.* over a Session that
// the program hands in, and whatever it may do, the studio decides. What only a
// device knows or does (logs, commands, shells, its audit) it is asked itself, over
// the same session, and decides itself who may. Images are pushed straight into the
// registry.
//
// Logs and commands are not lost with a connection: they are read in calls that
// may be made again, from behind what was printed (follower, runner). A device that
// is away is waited for where something was begun, and is an error else.
//
// Rules of the output: what was asked for goes to stdout, everything said beside
// it (progress, hints, waiting) to stderr. Tables are for people and may change;
// --output json is the studio's or the device's own answer, times in RFC 3339; of
// what goes on and on it is an object a line. What comes from a device or another
// user cannot steer the terminal, but for an app's own log, the output of a command
// and a shell, which are passed on as they are. An error names the thing and, where
// there is one, the way out. Secrets are written to files of mode 0600, never to a
// command line.
//
// A Program runs one command at a time and keeps nothing between two.
package cli
