//go:build cgo && pcsc

package pcsc

import (
	"errors"
	"fmt"
	"time"

	"github.com/ebfe/scard"
)

// Available says whether this program was built with PC/SC.
const Available = true

func newLibrary() (library, error) { return pcscLite{}, nil }

// pcscLite is libpcsclite by way of scard.
type pcscLite struct{}

// coded makes a code of scard's error.
func coded(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[scard.Error](err); ok {
		return code(e)
	}
	return fmt.Errorf("%w: %w", codeInternal, err)
}

func (pcscLite) establish() (libContext, error) {
	ctx, err := scard.EstablishContext()
	if err != nil {
		return nil, coded(err)
	}
	return liteContext{ctx}, nil
}

type liteContext struct{ ctx *scard.Context }

func (c liteContext) readers() ([]string, error) {
	names, err := c.ctx.ListReaders()
	if errors.Is(err, scard.ErrInsufficientBuffer) { // one was plugged in between asking for the length and the names
		names, err = c.ctx.ListReaders()
	}
	return names, coded(err)
}

func (c liteContext) wait(reader string, known uint32, limit time.Duration) (uint32, []byte, error) {
	s := []scard.ReaderState{{Reader: reader, CurrentState: scard.StateFlag(known)}}
	if err := c.ctx.GetStatusChange(s, limit); err != nil {
		return 0, nil, coded(err)
	}
	return uint32(s[0].EventState), s[0].Atr, nil
}

func (c liteContext) connect(reader string) (libCard, error) {
	card, err := c.ctx.Connect(reader, scard.ShareExclusive, scard.ProtocolAny)
	if err != nil {
		return nil, coded(err)
	}
	if p := card.ActiveProtocol(); p != scard.ProtocolT0 && p != scard.ProtocolT1 { // scard panics at Transmit with any other
		return nil, errors.Join(codeProtocol, coded(card.Disconnect(scard.LeaveCard)))
	}
	return liteCard{card}, nil
}

func (c liteContext) revive(reader string) error {
	card, err := c.ctx.Connect(reader, scard.ShareDirect, scard.ProtocolUndefined)
	if err != nil {
		return coded(err)
	}
	err = card.Reconnect(scard.ShareShared, scard.ProtocolAny, scard.UnpowerCard)
	return coded(errors.Join(err, card.Disconnect(scard.LeaveCard)))
}

func (c liteContext) cancel() error  { return coded(c.ctx.Cancel()) }
func (c liteContext) release() error { return coded(c.ctx.Release()) }

type liteCard struct{ card *scard.Card }

func (c liteCard) begin() error { return coded(c.card.BeginTransaction()) }

func (c liteCard) status() (atr []byte, t0 bool, err error) {
	defer func() { // scard takes the first of the names in the answer, and there may be none
		if recover() != nil {
			err = codeReaderUnavailable
		}
	}()
	s, err := c.card.Status()
	if err != nil {
		return nil, false, coded(err)
	}
	return s.Atr, c.card.ActiveProtocol() == scard.ProtocolT0, nil
}

// transmit needs at least one byte: scard panics on none.
func (c liteCard) transmit(cmd []byte) ([]byte, error) {
	answer, err := c.card.Transmit(cmd)
	return answer, coded(err)
}

func (c liteCard) end() error        { return coded(c.card.EndTransaction(scard.LeaveCard)) }
func (c liteCard) disconnect() error { return coded(c.card.Disconnect(scard.LeaveCard)) }
