package disk

import "reagent/protocol"

// Limits are how much has to be free, in bytes.
type Limits struct {
	Warn  uint64 // below it, a disk is low
	Enter uint64 // below it, critical
	Leave uint64 // critical it stays up to here
	// Whole is the size of a disk from which on these figures hold. A smaller
	// one is held to the same shares of its size.
	Whole uint64
}

// ProductLimits are the contract's (life §10.1).
func ProductLimits() Limits {
	const GiB = 1 << 30
	return Limits{Warn: 3 * GiB, Enter: GiB, Leave: 3 * GiB, Whole: 16 * GiB}
}

// on gives the limits that hold for a disk of a size.
func (l Limits) on(total uint64) Limits {
	if total >= l.Whole {
		return l
	}
	share := float64(total) / float64(l.Whole)
	scale := func(v uint64) uint64 { return uint64(share * float64(v)) }
	return Limits{Warn: scale(l.Warn), Enter: scale(l.Enter), Leave: scale(l.Leave), Whole: total}
}

// level judges a disk with so much free, which was judged was before.
func (l Limits) level(was protocol.DiskLevel, free uint64) protocol.DiskLevel {
	switch {
	case free < l.Enter, was == protocol.DiskCritical && free < l.Leave:
		return protocol.DiskCritical
	case free < l.Warn:
		return protocol.DiskLow
	}
	return protocol.DiskEnough
}

// goal is how much shall be free at least.
func (l Limits) goal(level protocol.DiskLevel) uint64 {
	if level == protocol.DiskCritical {
		return max(l.Warn, l.Leave)
	}
	return l.Warn
}

// kept is what nobody who grows may take.
func (l Limits) kept(level protocol.DiskLevel) uint64 {
	if level == protocol.DiskCritical {
		return max(l.Enter, l.Leave)
	}
	return l.Enter
}
