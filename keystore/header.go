package keystore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// File names in the directory of a store.
const (
	dbName  = "keystore.db"
	hdr1    = "keystore.hdr1"
	hdr2    = "keystore.hdr2"
	newName = ".new" // suffix of a file that is being written
)

const (
	headerFormat = 1
	suiteIntl    = "intl" // XChaCha20-Poly1305, HKDF-SHA256; "gm" is reserved
	maxHeader    = 64 << 10
)

// header is the slot header: JSON, then a line with the CRC-32C of all bytes
// before it. It holds nothing secret in clear and is written twice, one copy
// after the other, so that one of them is whole at every moment.
type header struct {
	Format int    `json:"format"`
	Suite  string `json:"suite"`
	Store  string `json:"store"`
	// Serial counts the writings; the copy with the higher one is the newer.
	Serial uint64 `json:"serial"`
	// Epoch is bound into every record. It is 1 until a counter outside the
	// files (a TPM's) can tell an old copy of them from the present one.
	Epoch uint64     `json:"epoch"`
	Slot  headerSlot `json:"slot"`
}

type headerSlot struct {
	Name string `json:"name"`
	Blob []byte `json:"blob"`
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	storeID    = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// aad is what the slot binds the wrapped root key to.
func (h header) aad() []byte {
	return appendBound(nil, []byte("vcckiosk/keystore/root"), []byte(h.Suite), []byte(h.Store), []byte(h.Slot.Name),
		[]byte(fmt.Sprint(h.Epoch)))
}

func (h header) encode() ([]byte, error) {
	b, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode header: %w", err)
	}
	return appendCRC(append(b, '\n')), nil
}

func appendCRC(b []byte) []byte {
	return fmt.Appendf(b, "crc32c %08x\n", crc32.Checksum(b, castagnoli))
}

// decodeHeader reads one copy; it is reached by outside bytes. The error is
// ErrDamaged or ErrNewer.
func decodeHeader(b []byte) (header, error) {
	bad := func(what string) (header, error) { return header{}, fmt.Errorf("%w: %s", ErrDamaged, what) }
	const line = len("crc32c 01234567\n")
	switch {
	case len(b) == 0:
		return bad("empty")
	case len(b) > maxHeader:
		return bad("too long")
	case len(b) < line:
		return bad("cut short")
	}
	body, tail := b[:len(b)-line], b[len(b)-line:]
	if want := fmt.Sprintf("crc32c %08x\n", crc32.Checksum(body, castagnoli)); string(tail) != want {
		return bad("checksum does not fit")
	}
	// The number of the format first: a newer one may have other fields.
	var form struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(body, &form); err != nil {
		return bad("not JSON")
	}
	if form.Format > headerFormat {
		return header{}, fmt.Errorf("%w: header format %d, this program knows %d", ErrNewer, form.Format, headerFormat)
	}
	var h header
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&h); err != nil {
		return bad("not the fields of a header")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return bad("more than one value")
	}
	switch {
	case h.Format != headerFormat:
		return bad(fmt.Sprintf("format %d", h.Format))
	case h.Suite != suiteIntl:
		return header{}, fmt.Errorf("%w: crypto suite %q", ErrNewer, h.Suite)
	case !storeID.MatchString(h.Store), h.Serial == 0, h.Epoch == 0, h.Slot.Name == "", len(h.Slot.Blob) == 0:
		return bad("a field is missing or has a wrong form")
	}
	return h, nil
}

// readHeaders returns the newest whole copy and the names of the copies that
// do not equal it and are to be written again.
func readHeaders(dir string) (h header, repair []string, err error) {
	var (
		copies [2]header
		errs   [2]error
		names  = [2]string{hdr1, hdr2}
	)
	for i, name := range names {
		var b []byte
		if b, errs[i] = readSmall(filepath.Join(dir, name), maxHeader); errs[i] == nil {
			copies[i], errs[i] = decodeHeader(b)
		}
		// Neither may be passed over in favour of the other copy: a newer
		// program's header is the true one, and what others can write is none.
		if errors.Is(errs[i], ErrNewer) || errors.Is(errs[i], ErrPermissions) {
			return header{}, nil, fmt.Errorf("read %s: %w", name, errs[i])
		}
	}
	best := 0
	switch {
	case errs[0] != nil && errs[1] != nil:
		return header{}, nil, fmt.Errorf("%w: both copies of the slot header (%s: %s; %s: %s); without it the stored keys "+
			"cannot be opened: set the keystore aside and provision the kiosk again", ErrDamaged, hdr1, why(errs[0]), hdr2, why(errs[1]))
	case errs[0] != nil:
		best = 1
	case errs[1] == nil:
		if copies[0].Store != copies[1].Store {
			return header{}, nil, fmt.Errorf("%w: %s and %s belong to different stores", ErrDamaged, hdr1, hdr2)
		}
		if copies[1].Serial > copies[0].Serial {
			best = 1
		}
	}
	other := 1 - best
	if errs[other] != nil || copies[other].Serial != copies[best].Serial {
		repair = append(repair, names[other])
	}
	return copies[best], repair, nil
}

func why(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "missing"
	}
	return err.Error()
}

// readSmall reads a regular file of at most limit bytes that nobody but its
// owner may touch.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := openOwn(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read file: %w", err)
	}
	return b, nil
}

// openOwn opens a regular file and refuses one with other than owner rights.
func openOwn(path string, flag int) (*os.File, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() { // a pipe would block the open
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrDamaged, path)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o, others may use it; run chmod 0600 on it", ErrPermissions, path, st.Mode().Perm())
	}
	return os.OpenFile(path, flag, 0)
}

// writeHeaders writes the named copies, each one whole before the next. A cut
// inside leaves the copy not yet renamed as it was, and a file .new that the
// next writing replaces.
func (o Options) writeHeaders(dir string, h header, names ...string) error {
	b, err := h.encode()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := o.replaceFile(dir, name, b); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

func (o Options) replaceFile(dir, name string, b []byte) error {
	path := filepath.Join(dir, name)
	// Never written into: what lies there may be another name of a file that
	// was set aside, or be open to others.
	if err := os.Remove(path + newName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path+newName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	o.step("written " + name)
	if err := os.Rename(path+newName, path); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	o.step("in place " + name)
	return nil
}

// step tells tests that something durable has happened.
func (o Options) step(what string) {
	if o.afterStep != nil {
		o.afterStep(what)
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
