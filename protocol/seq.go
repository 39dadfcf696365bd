package protocol

import (
	"context"
	"errors"
	"sync"

	"go.etcd.io/bbolt"
)

// SeqBlocks is a SeqSource over the bucket "seq".
type SeqBlocks struct {
	// Reserve runs one durable transaction.
	Reserve func(ctx context.Context, fn func(*bbolt.Tx) error) error

	mu sync.Mutex
}

// Next returns the next serial.
func (s *SeqBlocks) Next(ctx context.Context) (uint64, error) { return 0, errors.New("todo") }
