// Package fault runs whole agents, as built, and breaks what they stand on:
// the router, the link, the engine, the database, the device file, the agent's
// own process, and the messages that come over the wire. It proves the rules of
// the design's part "what always holds" from outside: after each fault the
// device ends up as it is wanted, without a human.
//
// Engines that are stopped or hung are the tests' own. What runs on the
// machine's engine carries the mark of its test and goes with it. The random
// kills are the same in every run; REAGENT_SOAK=n makes n more of them with
// seeds of their own (make soak).
package fault
