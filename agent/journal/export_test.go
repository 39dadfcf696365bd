package journal

import "go.etcd.io/bbolt"

// What tests need to play a bad disk.
var Decode = decode

// AppendLine puts any line into the journal's chain.
func AppendLine(tx *bbolt.Tx, body []byte) (uint64, error) { return lines.Append(tx, body) }
