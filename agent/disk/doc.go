// Package disk keeps a device's disks from filling up until nothing works any
// more (life §10).
//
// A Guard watches the file system that the engine keeps images, containers and
// volumes on, and those of the apps' files and the agent's state where they are
// others. It knows three levels:
//
//	enough      nothing is done
//	low         what is superfluous goes, step by step, until there is enough
//	critical    nothing may grow; on the engine's disk our apps stop, too, and
//	            the device reports EMERGENCY, until there is a good deal again
//
// The figures are the contract's, 3 GiB, 1 GiB and 3 GiB, and on a disk of less
// than 16 GiB the same shares of it: a device with 4 GB of eMMC is low below 750
// MB and critical below 250 MB. A look costs microseconds, so it is taken the
// sooner the less is left: nothing that writes 20 MB a second gets from enough to
// full between two looks.
//
// What is to grow asks first (AdmitImage, AdmitFile) and gets a refusal of code
// disk_full, which says how much is free and how much is needed, where it would
// not leave what critical begins with. A refusal is remembered: Changed is told
// when there is room for it. Whoever grows all the same, because nobody knew how
// much, finds the disk refused on the way.
//
// What is reclaimed is dangling, or ours by S6: no foreign image, container or
// volume ever goes, and no foreign container ever stops.
//
// All methods but Run may be called from any goroutine and do not block. A disk
// whose figures cannot be read counts as having enough, and that is said once.
// Nothing is kept over a restart: the first look, before any app starts, tells
// everything again.
package disk
