// Package persistence keeps records in one bbolt file that survives power cuts,
// damage and changes of its layout.
//
//	<path>                    the file: buckets of JSON records
//	<path>.lock               held while the file is open; names the holder
//	<path>.v<N>.bak           copy from before the migration away from schema N
//	<path>.damaged-<time>     a file that could not be trusted any more
//
//	meta                      schema, and small values by name
//	quarantine/<seq>          records that could not be read
//	…                         whatever the owner keeps: see [Bucket]
//
// Promises:
//   - When [DB.Update] returns nil, what it wrote is on the disk: every commit is
//     synced, and an update that changed nothing does not touch the disk at all.
//   - A file is checked page by page before it is used, so that damage is found
//     at the start and never as a crash in the middle. A damaged file is set
//     aside, reported, and a new one begins; it is not repaired.
//   - What is not ours (an SQLite file, another program's bbolt file) is refused
//     and left as it is, and so is a file of a schema newer than ours.
//   - On a disk that somebody else filled, changes succeed for as long as the
//     room lasts that [DB.Reserve] made inside the file.
//   - A record that cannot be read is moved to quarantine and reported; the
//     others are not affected. Keys of a record that this program does not know
//     survive a rewrite.
//   - File, lock and copies are 0600, folders that are made are 0700.
//   - Sizes are bounded: a record to [MaxRecord], quarantine, copies and damaged
//     files to a fixed number.
//   - A DB may be used by any number of goroutines; updates happen one after the
//     other. Inside the function given to Update or View no other one may be
//     begun.
package persistence
