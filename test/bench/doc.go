// Bench measures a built agent from outside and prints what it found as a table
// and as JSON, so that two builds can be compared:
//
//	go run ./test/bench                         measure this checkout
//	go run ./test/bench -only start,calls       … parts of it
//	go run ./test/bench -compare old.json       … beside an earlier run
//
// The agent is a process of its own, as shipped: static, stripped, with its
// default flags but for the folders. The studio's router lives in this process.
// The procedures that the agent calls are our own: they write down when what
// reached them and answer at once, so that the figures are the agent's and not
// those of a studio's disk. Everything that has a floor (a bare client's echo,
// docker run) is measured in turns with it, in the same run.
//
// A figure never fails a run, whatever its goal says; only something that broke
// does. What is started here carries a serial number of this run, lives in a
// folder of this run and on free ports of the loopback, and is gone at the end,
// also after Ctrl-C.
package main
