package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"go.etcd.io/bbolt"

	"vcckiosk/agent/audit"
	"vcckiosk/agent/media"
	"vcckiosk/protocol"
	"vcckiosk/queue"
)

// mediaKind is the outbox's word for an upload; its reference is the file's id.
const mediaKind = "media"

// ErrNoMedia: this kiosk keeps no files.
var ErrNoMedia = errors.New("no folder for files to upload")

// SendMedia takes a file in and has it uploaded when nothing else is to be
// told. It returns once the file cannot be lost: its content is on the disk and
// its message in the outbox. The same content again is the same file, uploaded
// once; its entry may have its mediaId already.
//
// A protocol.FieldError says that the platform would not take it, media.ErrFull
// that too much waits, media.ErrTooLarge what it says: in all these cases
// nothing is kept.
func (a *Agent) SendMedia(ctx context.Context, e media.Entry, content io.Reader) (media.Entry, error) {
	if a.media == nil {
		return media.Entry{}, ErrNoMedia
	}
	st, err := a.media.Stage(e.Type, content)
	if err != nil {
		return media.Entry{}, err
	}
	defer st.Discard()
	if err := a.client.CheckFile(protocol.File{
		Type: e.Type, Name: e.Name, ContentType: e.ContentType, Size: st.Size, Open: st.Content,
	}); err != nil {
		return media.Entry{}, err
	}
	a.mediaTurn.Lock() // one at a time from here: the bounds hold
	defer a.mediaTurn.Unlock()
	if known, ok := a.media.Usable(st.ID); ok {
		return known, nil
	}
	e.ID, e.Size, e.Created, e.MediaID, e.Done = st.ID, st.Size, st.Created, "", time.Time{}
	if err := st.Keep(); err != nil {
		return media.Entry{}, err
	}
	// Just before: content nobody refers to, swept at the next start. Just after:
	// entry and message are there together, and the content is older than both.
	err = a.writer.Do(context.WithoutCancel(ctx), func(tx *bbolt.Tx) error {
		if err := a.media.Put(tx, e); err != nil {
			return err
		}
		if _, err := a.outbox.Put(tx, queue.Item{Kind: mediaKind, Ref: e.ID, Lane: mediaKind, Spare: true, Created: e.Created}); err != nil {
			return err
		}
		return audit.Append(tx, time.Now(), audit.MediaTaken, map[string]string{"media": e.ID[:8], "name": e.Name, "purpose": e.Purpose})
	})
	if err != nil {
		if !errors.Is(err, queue.ErrInDoubt) { // then it may be needed
			err = errors.Join(err, a.media.Remove(e.ID))
		}
		return media.Entry{}, err
	}
	return e, nil
}

// MediaFile is a file and how far it has come.
type MediaFile struct {
	media.Entry
	Tries  int    `json:"tries"`
	Why    string `json:"why,omitempty"` // it waits: what the last try said
	Parked string `json:"parked,omitempty"`
}

// MediaFiles are the files that wait and those delivered lately, newest first.
func (a *Agent) MediaFiles() []MediaFile {
	if a.media == nil {
		return nil
	}
	var out []MediaFile
	for _, e := range a.media.List() {
		f := MediaFile{Entry: e}
		if it, waits := a.outbox.Find(mediaKind, e.ID); waits {
			f.Tries, f.Why, f.Parked = it.Attempts, it.LastError, it.Parked
		}
		out = append(out, f)
	}
	return out
}

// DropMedia gives a file up: it is uploaded no more and its content removed.
func (a *Agent) DropMedia(ctx context.Context, id, who string) error {
	if a.media == nil {
		return ErrNoMedia
	}
	a.mediaTurn.Lock()
	defer a.mediaTurn.Unlock()
	e, ok := a.media.Get(id)
	if !ok {
		return media.ErrUnknown
	}
	err := a.writer.Do(ctx, func(tx *bbolt.Tx) error {
		if it, waits := a.outbox.Find(mediaKind, id); waits {
			if err := a.outbox.Remove(tx, it.ID); err != nil {
				return err
			}
		}
		if err := a.media.Drop(tx, id); err != nil {
			return err
		}
		return audit.Append(tx, time.Now(), audit.OperatorMedia, map[string]string{"who": who, "media": id[:8], "name": e.Name})
	})
	if err != nil {
		return err
	}
	return a.media.Remove(id) // left behind, it is swept at the next start
}

// deliverMedia uploads one file. An upload whose answer was lost is repeated:
// the platform then has a copy that nobody refers to.
func (a *Agent) deliverMedia(ctx context.Context, it queue.Item) queue.Outcome {
	park := func(reason string) queue.Outcome {
		return queue.Outcome{Settle: func(tx *bbolt.Tx, it queue.Item) error { return a.parkMedia(tx, it, reason) }}
	}
	if a.media == nil {
		return park(ErrNoMedia.Error())
	}
	e, ok := a.media.Get(it.Ref)
	if !ok {
		return park(media.ErrUnknown.Error())
	}
	if e.MediaID == "" {
		if err := a.media.Verify(e); errors.Is(err, fs.ErrNotExist) || errors.Is(err, media.ErrDamaged) {
			return park(err.Error())
		} else if err != nil {
			return retry(err)
		}
		m, err := a.client.Upload(ctx, protocol.File{
			Type: e.Type, Name: e.Name, ContentType: e.ContentType, Size: e.Size,
			Open: func() (io.ReadCloser, error) { return a.media.Content(e.ID) },
		})
		switch {
		case errors.Is(err, protocol.ErrAuth):
			return queue.Outcome{Retry: &queue.Retry{Err: err, After: max(protocol.RetryAfter(err), time.Minute)}}
		case errors.Is(err, protocol.ErrBusiness), errors.Is(err, protocol.ErrPermanent):
			return park("refused: " + err.Error())
		case err != nil:
			return queue.Outcome{Retry: &queue.Retry{Err: err, After: protocol.RetryAfter(err)}}
		}
		e.MediaID = m.ID
	}
	return queue.Outcome{Settle: func(tx *bbolt.Tx, it queue.Item) error {
		// Just before: the file is uploaded again. Just after: it has its name and
		// its message is gone; content left over is swept at the next start.
		if err := a.media.Delivered(tx, e.ID, e.MediaID, time.Now()); err != nil {
			return err
		}
		if err := a.outbox.Remove(tx, it.ID); err != nil {
			return err
		}
		tx.OnCommit(func() {
			err := a.media.Remove(e.ID)
			a.log.Info("file uploaded", "media", e.ID[:8], "type", e.Type, "bytes", e.Size, "removed", err == nil)
		})
		return nil
	}}
}

// parkMedia keeps a file that cannot be delivered, and says why. It delays
// nobody and is no result of a card.
func (a *Agent) parkMedia(tx *bbolt.Tx, it queue.Item, reason string) error {
	if err := a.outbox.Park(tx, it.ID, reason); err != nil {
		return err
	}
	tx.OnCommit(func() { a.alarms.raise(string(audit.MediaParked)) })
	return audit.Append(tx, time.Now(), audit.MediaParked, map[string]string{"media": fmt.Sprintf("%.8s", it.Ref), "reason": reason})
}
