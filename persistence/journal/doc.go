// Package journal keeps streams of records that only ever grow at one end and
// lose the oldest at the other: what apps print, who did what.
//
//	<dir>/<name>-<hash>/          one stream; the hash is its name's
//	    <number of the first record, 16 digits>.seg
//
//	segment = header: "rgjrnl1\n"  crc  length  id  name  head
//	          frame…: crc  length  number  record
//
// Records are numbered 1, 2, 3 … for ever. A number is in the record's frame,
// under its checksum, and what numbers are taken is in the name of the newest
// segment, so that a number means one record only, whatever was evicted, cut
// or damaged in between. A jump of numbers is how a reader sees a loss.
//
// Promises:
//   - What [Stream.Flush] wrote survives a kill; with sync, a power cut as well.
//     What was only appended is in memory, for Config.FlushEvery at most while
//     [Journal.Run] runs, and its numbers may be given again after a kill.
//   - Append never fails and never waits for the disk to have something, only
//     now and then for a write into the kernel's cache.
//   - The files of all streams together stay at Config.MaxBytes, give or take a
//     write. Room is made by the stream that holds the most, a whole segment at a
//     time, so that a chatty one eats its own history and no other's.
//   - Memory is bounded: Config.FlushBytes for a stream, Config.BufferBytes for
//     all; a stream to which nothing is appended has no buffer, and no open file.
//   - A damaged file costs the records that were damaged; numbers that it may
//     have held are not given again. An end in the middle of a write costs
//     nothing but what was not flushed.
//   - On a disk that is full, old segments make room, but no more of them than the
//     journal itself fills again, or one in Config.Retry. Where that does not help,
//     or the disk fails, the newest records stay in memory and the oldest of them
//     are lost and counted; writing is tried again from time to time. That is
//     logged once, and once more when it is over.
//   - Files are 0600, folders 0700. No name of a stream leads out of the folder.
//   - Everything may be called from any number of goroutines. Readers see what is
//     there when they begin, without holding up who appends. Two journals must
//     not share a folder.
//
// A record is bytes; what they mean is the owner's. So is the head, a state that
// the owner may put in front of each new segment to find its place again from
// the newest segment alone (see [Stream.AppendAfter]), also after all records were
// evicted (see Config.Carry).
package journal
