// Package archtest holds the rules that the source of this project keeps, as
// tables, and the tests that enforce them: who may import whom, where a
// third-party module lives, where a process may be ended or started, and what
// the agent's binary links.
//
// There is nothing in it to import. The tests read the source of the whole
// module themselves, for every operating system at once, so that the test cache
// knows when they have to run again. Each row of a table carries its reason; who
// has a better one changes the row in the same commit as the code.
package archtest
