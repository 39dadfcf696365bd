// Package queue is agent.db's only writer and the durable outbox in it.
//
// Writer.Do is the one place that commits: whatever must be atomic across
// packages is a function over *bbolt.Tx called inside one Do. An
// acknowledgement that may be repeated without harm rides on the next commit
// (Writer.Later), which is what keeps a top-up at three commits.
//
// Outbox keeps messages until the platform has acknowledged them. A message is
// settled in the transaction that removes it. Lanes keep the messages of one
// card in order; a lane is never in flight twice, and a parked or failing
// message delays no other lane.
//
// A message that fails waits for its own next try and falls behind those that
// have not been tried; while the endpoint as a whole fails, the backlog slows
// down (full jitter, 1 s to 300 s, two levels less for each success). Attempts
// are stored at 1, 2, 4, 8 ..., so that a new start goes on with the pause.
//
// A spare item (Item.Spare) is delivered only while no other is due, gives way
// as soon as one is, and slows nobody down when it fails.
//
// What an interrupted write leaves: bbolt's previous transaction, whole. What
// a failed write leaves: ErrFull, nothing happened; ErrInDoubt, nobody knows
// until the file is opened again. Space for a commit is allocated before it
// begins, so a full disk is nearly always the former.
//
// bbolt has no checksums on its pages. OpenFile walks the tree by code of its
// own before bbolt may panic over it; the names of the buckets are listed in
// the file and compared; counters never choose a key that exists; and each
// value carries a CRC. What a flipped bit can still do unseen is to lead to an
// older copy of a page: in the journal its chain tells, and an item that came
// back costs a repetition of a message that may be repeated.
//
// Layout: bucket "outbox", key 8-byte big-endian number, value
// "crc32c-hex SP json"; bucket "meta" with lines "crc32c-hex SP text" under
// "schema" (a decimal number) and "buckets" (the names of all buckets).
package queue
