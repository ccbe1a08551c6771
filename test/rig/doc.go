// Package rig is what tests of whole programs stand on besides testenv: a studio
// as a process that can be killed and come back, sessions that survive that,
// and an operator who does through re.studio.* what people do, and waits for
// what the studio is told in return. It looks at the product from outside only.
package rig
