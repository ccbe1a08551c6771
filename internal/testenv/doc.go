// Package testenv holds the real things that tests stand on: a relay that makes
// a good link bad, a Crossbar.io router, Python with Autobahn, a container
// engine. Everything here is started for one test, belongs to it, and ends with
// it. Where a real thing is missing, the test is skipped on a laptop and fails
// where REAGENT_REQUIRE_DOCKER=1 or REAGENT_REQUIRE_CROSSBAR=1 say so.
//
// It is for tests only; nothing of the product may import it.
package testenv
