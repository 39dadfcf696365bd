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
// What an interrupted write leaves: bbolt's previous transaction, whole. What
// a failed write leaves: ErrFull, nothing happened; ErrInDoubt, nobody knows
// until the file is opened again.
//
// Layout: bucket "outbox", key 8-byte big-endian number, value
// "crc32c-hex SP json"; bucket "meta" with key "schema" (4 bytes big endian).
package queue
