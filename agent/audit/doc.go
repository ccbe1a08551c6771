// Package audit keeps who did what on this device: each call that changes
// something or opens a shell, and each that was refused, in a bounded journal
// that query_audit reads.
//
// Promises:
//   - When [Log.Record] returns, the entry is in the file and outlives the
//     process; a synced one outlives a power cut, too. On a disk that is full or
//     broken it stays in memory, as far as the journal's buffer goes, and the call
//     goes on: a device that cannot write must still be repairable.
//   - Nobody washes away what others did. Each account has a stream of its own, the
//     system has one, and all who are no account share one; the journal makes room
//     where the most is. Entries are numbered over all of them, so a jump of
//     numbers is entries that are gone.
//   - Refusals are cheap to provoke. Of each stream, Config.Refusals of them are
//     written in a Config.Window; the others are counted, and the last of them
//     stands for all as one entry with that count when the window is over (or at
//     the end of Run; a kill loses the count).
//   - No secret is kept: values of environments and whatever is called password,
//     token or the like is "***". Texts, lists and the whole of an entry's arguments
//     are cut to fixed sizes.
//   - Everything may be called from any number of goroutines.
package audit
